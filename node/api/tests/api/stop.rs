//! A stop: streams end with a word, calls under way are answered, ports are free.

use crate::node::Served;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::lease_client::LeaseClient;
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

#[tokio::test]
async fn streams_are_told_and_the_port_is_free() {
    let served = Served::start().await;
    let mut leases = LeaseClient::new(served.channel().await);
    let asked = tokio_stream::pending::<pb::LeaseKeepAliveRequest>();
    let mut answers = leases.lease_keep_alive(asked).await.unwrap().into_inner();
    // A connection that says nothing does not hold the stop up for its whole time.
    let silent = TcpStream::connect(served.address).await.unwrap();
    let Served { address, stop, serving, .. } = served;
    stop.send(()).unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: server stopped"));
    drop(leases);
    serving.await.unwrap();
    drop(silent);
    TcpListener::bind(address).await.expect("the port is free");
}
