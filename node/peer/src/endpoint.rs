//! The one socket: dialled from, listened at.

use crate::error::{DialError, DialFailure, PeerError};
use crate::goodbye::Goodbye;
use crate::key::{NodeKey, random};
use crate::quiet::QuietRuntime;
use crate::tls::{Purpose, Tls};
use quinn::{
    ConnectError, Connection, ConnectionError, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig,
    TransportErrorCode,
};
use quorate_types::PeerKey;
use ring::hmac;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Dials nodes by their key.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    pub(crate) endpoint: Endpoint,
    tls: Tls,
}

impl Dialer {
    /// Opens the socket for both ways.
    pub(crate) fn open(key: &NodeKey, socket: UdpSocket) -> Result<Dialer, PeerError> {
        let tls = Tls::new(key)?;
        // The key for resets stays the same over restarts: a peer that still writes to the life before is told
        // at once, instead of waiting for its idle timeout.
        let reset = hmac::Key::new(hmac::HMAC_SHA256, &key.reset_secret());
        let mut config = EndpointConfig::new(Arc::new(reset));
        config.cid_generator(|| Box::new(RandomIds));
        let server = tls.server()?;
        let endpoint =
            Endpoint::new(config, Some(server), socket, Arc::new(QuietRuntime)).map_err(PeerError::Socket)?;
        Ok(Dialer { endpoint, tls })
    }

    /// Dials all of it, one a little after the other, and takes the first that proves the key.
    pub(crate) async fn race(
        &self,
        names: &[String],
        learned: Option<SocketAddr>,
        key: PeerKey,
        purpose: Purpose,
    ) -> Result<Connection, DialError> {
        let mut dials = JoinSet::new();
        if let Some(address) = learned {
            let dialer = self.clone();
            dials.spawn(async move { dialer.dial(address, format!("{address} (seen)"), key, purpose).await });
        }
        let mut delay = if learned.is_some() { STAGGER } else { Duration::ZERO };
        for name in names.iter().take(NAME_COUNT_MAX) {
            let (dialer, name, wait) = (self.clone(), name.clone(), delay);
            dials.spawn(async move {
                sleep(wait).await;
                dialer.dial_name(&name, key, purpose).await
            });
            delay += STAGGER;
        }
        first(dials).await
    }

    /// Names are resolved at every dial: an address may have changed since.
    async fn dial_name(&self, name: &str, key: PeerKey, purpose: Purpose) -> Result<Connection, DialError> {
        let resolved = match tokio::net::lookup_host(name).await {
            Ok(addresses) => addresses.take(NAME_COUNT_MAX).collect::<Vec<_>>(),
            Err(error) => return Err(failed(name, DialFailure::NotResolved(error.to_string()))),
        };
        let mut dials = JoinSet::new();
        let mut delay = Duration::ZERO;
        for address in &resolved {
            let text = address.to_string();
            let label = if text == name { text } else { format!("{name} ({text})") };
            let (dialer, address, wait) = (self.clone(), *address, delay);
            dials.spawn(async move {
                sleep(wait).await;
                dialer.dial(address, label, key, purpose).await
            });
            delay += STAGGER;
        }
        if resolved.is_empty() {
            return Err(failed(name, DialFailure::NotResolved("no address".into())));
        }
        first(dials).await
    }

    async fn dial(
        &self,
        address: SocketAddr,
        label: String,
        key: PeerKey,
        purpose: Purpose,
    ) -> Result<Connection, DialError> {
        self.connect(address, key, purpose).await.map_err(|failure| failed(&label, failure))
    }

    async fn connect(
        &self,
        address: SocketAddr,
        key: PeerKey,
        purpose: Purpose,
    ) -> Result<Connection, DialFailure> {
        let (config, seen) =
            self.tls.client(key, purpose).map_err(|error| DialFailure::Broken(error.to_string()))?;
        let connecting = self.endpoint.connect_with(config, address, SERVER_NAME).map_err(not_dialled)?;
        match timeout(HANDSHAKE_MAX, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                Err(seen.get().map_or_else(|| not_connected(&error), |&key| DialFailure::OtherKey(key)))
            }
            Err(_) => Err(DialFailure::NoAnswer),
        }
    }
}

/// Connection ids that any life of the node answers for. quinn's own carry a mark made with a key of the life,
/// and what lacks it is dropped in silence: then no reset is ever sent for the life before.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&random::<ID_BYTES>().expect("the key was made from the same randomness"))
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

const ID_BYTES: usize = 8;

/// The first that succeeds, or all failures. The rest is dropped, which ends it.
async fn first(mut dials: JoinSet<Result<Connection, DialError>>) -> Result<Connection, DialError> {
    let mut tried = Vec::new();
    while let Some(done) = dials.join_next().await {
        match done {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => tried.extend(error.tried),
            Err(_) => {} // The runtime is going down.
        }
    }
    Err(DialError { tried })
}

fn failed(address: &str, failure: DialFailure) -> DialError {
    DialError { tried: vec![(address.to_owned(), failure)] }
}

#[expect(clippy::needless_pass_by_value, reason = "the form map_err asks for")]
fn not_dialled(error: ConnectError) -> DialFailure {
    match error {
        ConnectError::InvalidRemoteAddress(address) => {
            DialFailure::Broken(format!("this node's peer port does not reach addresses like {address}"))
        }
        ConnectError::EndpointStopping => DialFailure::Broken("this node stops".into()),
        ConnectError::CidsExhausted
        | ConnectError::InvalidServerName(_)
        | ConnectError::NoDefaultClientConfig
        | ConnectError::UnsupportedVersion => DialFailure::Broken(error.to_string()),
    }
}

fn not_connected(error: &ConnectionError) -> DialFailure {
    let of_code = |code: TransportErrorCode| {
        if code == TransportErrorCode::CONNECTION_REFUSED {
            DialFailure::Refused(Goodbye::Busy.words())
        } else if u64::from(code) >> 8 == 1 {
            // An alert of TLS: other protocols, other kinds of keys.
            DialFailure::NotQuorate
        } else {
            DialFailure::Broken(error.to_string())
        }
    };
    match error {
        ConnectionError::TimedOut => DialFailure::NoAnswer,
        ConnectionError::VersionMismatch => DialFailure::NotQuorate,
        ConnectionError::TransportError(transport) => of_code(transport.code),
        ConnectionError::ConnectionClosed(close) => of_code(close.error_code),
        ConnectionError::ApplicationClosed(_) => {
            DialFailure::Refused(Goodbye::heard(error).map_or_else(String::new, |goodbye| goodbye.words()))
        }
        ConnectionError::Reset | ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            DialFailure::Broken(error.to_string())
        }
    }
}

/// Not sent and not checked: keys say who is who.
const SERVER_NAME: &str = "quorate";

/// Longest handshake; a lost packet is repeated several times within it.
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(3);

/// Before the next address is dialled too: the first one that lives wins, and dead ones cost no waiting.
const STAGGER: Duration = Duration::from_millis(150);

/// Names dialled, and addresses of one name.
const NAME_COUNT_MAX: usize = 8;
