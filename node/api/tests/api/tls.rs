//! TLS: who gets in, and that new files are taken up.

use crate::admin::{address_of_its_own, may_invite};
use crate::node::{Served, put};
use quorate_api::{Tls, TlsError, TlsFiles};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::kv_client::KvClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Status};

/// An authority and a folder with what it signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, folder }
    }

    /// Certificate and key for `localhost`, as PEM.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn write_server(&self) -> TlsFiles {
        let (cert, key) = self.sign();
        let at = |name: &str| self.folder.path().join(name);
        fs::write(at("cert.pem"), cert).unwrap();
        fs::write(at("key.pem"), key).unwrap();
        TlsFiles { cert: at("cert.pem"), key: at("key.pem"), trusted_ca: None, client_cert_auth: false }
    }
}

async fn put_over_tls(
    served: &Served,
    trusted: &Authority,
    identity: Option<&Authority>,
) -> Result<pb::PutResponse, Status> {
    let channel = channel_over_tls(served, trusted, identity);
    KvClient::new(channel).put(put("a", "1")).await.map(tonic::Response::into_inner)
}

fn channel_over_tls(served: &Served, trusted: &Authority, identity: Option<&Authority>) -> Channel {
    let mut config = ClientTlsConfig::new()
        .domain_name("localhost")
        .ca_certificate(Certificate::from_pem(trusted.issuer.pem()));
    if let Some(authority) = identity {
        let (cert, key) = authority.sign();
        config = config.identity(Identity::from_pem(cert, key));
    }
    let endpoint = Channel::from_shared(format!("https://{}", served.address)).unwrap();
    endpoint.tls_config(config).unwrap().connect_lazy()
}

#[tokio::test]
async fn only_the_right_authority_gets_in() {
    let ours = Authority::new();
    let theirs = Authority::new();
    let files = ours.write_server();
    let files =
        TlsFiles { trusted_ca: Some(ours.folder.path().join("ca.pem")), client_cert_auth: true, ..files };
    let served = Served::start_with(Some(Tls::open(files).unwrap())).await;
    put_over_tls(&served, &ours, Some(&ours)).await.unwrap();
    put_over_tls(&served, &ours, None).await.expect_err("no certificate");
    put_over_tls(&served, &ours, Some(&theirs)).await.expect_err("a stranger's certificate");
    put_over_tls(&served, &theirs, Some(&ours)).await.expect_err("the client does not know this server");
    assert_eq!(served.node.state().proposals, 1);
}

#[tokio::test]
async fn a_certificate_from_far_away_may_change_the_cluster() {
    let Some(ip) = address_of_its_own().await else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let ours = Authority::new();
    let open = ours.write_server();
    let certified = TlsFiles {
        trusted_ca: Some(ours.folder.path().join("ca.pem")),
        client_cert_auth: true,
        ..open.clone()
    };
    let served = Served::start_on(&format!("{ip}:0"), Some(Tls::open(certified).unwrap())).await;
    may_invite(channel_over_tls(&served, &ours, Some(&ours))).await.expect("it proved who it is");
    // Encrypted, but nobody in particular: the node asks for no certificates, so one that is shown is not seen.
    let served = Served::start_on(&format!("{ip}:0"), Some(Tls::open(open).unwrap())).await;
    for identity in [None, Some(&ours)] {
        let status = may_invite(channel_over_tls(&served, &ours, identity)).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
    }
}

#[tokio::test]
async fn replaced_files_are_in_force_and_broken_ones_are_not() {
    let first = Authority::new();
    let second = Authority::new();
    let files = first.write_server();
    let served = Served::start_with(Some(Tls::open(files.clone()).unwrap())).await;
    put_over_tls(&served, &first, None).await.unwrap();
    fs::write(&files.cert, "half a certificate").unwrap();
    put_over_tls(&served, &first, None).await.expect("the old one stays in force");
    let (cert, key) = second.sign();
    fs::write(&files.cert, cert).unwrap();
    fs::write(&files.key, key).unwrap();
    put_over_tls(&served, &second, None).await.expect("the new one is taken up");
    put_over_tls(&served, &first, None).await.expect_err("the old one is gone");
}

#[test]
fn files_that_do_not_do_are_named() {
    let authority = Authority::new();
    let files = authority.write_server();
    let missing = TlsFiles { key: Path::new("/nowhere/key.pem").to_owned(), ..files.clone() };
    let Err(TlsError::File { path, .. }) = Tls::open(missing) else { panic!("there is no such file") };
    assert_eq!(path, Path::new("/nowhere/key.pem"));
    let no_authority = TlsFiles { client_cert_auth: true, ..files };
    let error = Tls::open(no_authority).expect_err("whose certificates?");
    assert!(error.to_string().contains("--trusted-ca-file"), "{error}");
}
