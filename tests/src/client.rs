//! Clients of either server: the services by name, over one connection.

use quorate_proto::etcdserverpb as pb;
use tonic::transport::{Channel, Endpoint};

pub use pb::cluster_client::ClusterClient;
pub use pb::kv_client::KvClient;
pub use pb::lease_client::LeaseClient;
pub use pb::maintenance_client::MaintenanceClient;
pub use pb::watch_client::WatchClient;

/// Everything a test asks of a server. Cloning shares the connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// The connection itself.
    pub channel: Channel,
    /// Keys.
    pub kv: KvClient<Channel>,
    /// Watch streams.
    pub watch: WatchClient<Channel>,
    /// Leases.
    pub lease: LeaseClient<Channel>,
    /// Members.
    pub cluster: ClusterClient<Channel>,
    /// Status, alarms, hashes, snapshots.
    pub maintenance: MaintenanceClient<Channel>,
}

impl Client {
    /// Dials.
    ///
    /// # Errors
    /// What the transport says.
    pub async fn connect(endpoint: &str) -> Result<Client, tonic::transport::Error> {
        let channel = Endpoint::from_shared(endpoint.to_owned())?.tcp_nodelay(true).connect().await?;
        Ok(Client::over(channel))
    }

    /// Dials with the first call, and again whenever the connection is lost.
    ///
    /// # Errors
    /// An endpoint that is no URL.
    pub fn lazy(endpoint: &str) -> Result<Client, tonic::transport::Error> {
        let channel = Endpoint::from_shared(endpoint.to_owned())?.tcp_nodelay(true).connect_lazy();
        Ok(Client::over(channel))
    }

    /// Over a connection; answers may be as large as servers make them.
    #[must_use]
    pub fn over(channel: Channel) -> Client {
        Client {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            channel,
        }
    }

    /// Puts and gives the revision of it.
    ///
    /// # Errors
    /// What the server says.
    pub async fn put(
        &mut self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> Result<i64, tonic::Status> {
        let put = pb::PutRequest { key: key.into().into(), value: value.into().into(), ..Default::default() };
        Ok(revision(self.kv.put(put).await?.into_inner().header))
    }

    /// The value of one key; none if it is not there.
    ///
    /// # Errors
    /// What the server says.
    pub async fn get(&mut self, key: impl Into<Vec<u8>>) -> Result<Option<Vec<u8>>, tonic::Status> {
        let range = pb::RangeRequest { key: key.into().into(), ..Default::default() };
        let answer = self.kv.range(range).await?.into_inner();
        Ok(answer.kvs.into_iter().next().map(|kv| kv.value.to_vec()))
    }
}

/// The revision in a header; 0 without one.
#[must_use]
pub fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}
