//! The joiner's side: knock, prove, be there for the leader's dial back.

use super::answer::i_am_here;
use super::proof::{Knock, Statement};
use super::{JOIN_ANSWER_MAX, JoinAnswer, JoinDetails, JoinRefusal};
use crate::endpoint::Dialer;
use crate::error::{DialError, DialFailure, JoinError};
use crate::frame::{self, FrameError, Kind};
use crate::goodbye::Goodbye;
use crate::key::NodeKey;
use crate::receive::{HANDSHAKES_MAX, admit, shake_hands};
use crate::stream::{StreamError, WORD_MAX, read_head, read_raw_head};
use crate::tls::Purpose;
use crate::token::Token;
use crate::wire::{ADDRESS_COUNT_MAX, VERSION, WireKnock, WireWelcome};
use quinn::{Connection, Endpoint, Incoming};
use quorate_types::{ClusterId, Index};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Joins the cluster the token is of: knocks at its issuer, proves the secret, answers the leader's dial back
/// on the same socket meanwhile. The socket is the one peers shall reach this node at; a clone of it
/// (`UdpSocket::try_clone`) is for `Peers::open` afterwards.
///
/// # Errors
/// A sentence for people; `JoinError::is_passing` tells what may simply be tried again.
///
/// # Panics
/// Called outside a tokio runtime.
pub async fn join(
    key: &NodeKey,
    socket: UdpSocket,
    token: &Token,
    details: &JoinDetails,
) -> Result<JoinAnswer, JoinError> {
    let dialer = Dialer::open(key, socket).map_err(JoinError::Room)?;
    let joined = tokio::select! {
        joined = knock(&dialer, key, token, details) => joined,
        never = answer_dial_backs(&dialer.endpoint, token.cluster) => match never {},
    };
    dialer.endpoint.close(0_u32.into(), b"");
    // What is still said to this endpoint shall not reach the next one on the socket.
    drop(timeout(WORD_MAX, dialer.endpoint.wait_idle()).await);
    joined
}

async fn knock(
    dialer: &Dialer,
    key: &NodeKey,
    token: &Token,
    details: &JoinDetails,
) -> Result<JoinAnswer, JoinError> {
    let dialled = dialer.race(&token.addresses, None, token.issuer, Purpose::Join).await;
    let connection = dialled.map_err(|error| not_reached(error, &token.addresses))?;
    let answer = exchange(&connection, key, token, details).await;
    Goodbye::Done.say(&connection);
    let welcome = answer.map_err(turned_away)?.map_err(JoinError::Refused)?;
    let (cluster, node, at) = (welcome.cluster, welcome.node, welcome.at);
    Ok(JoinAnswer { cluster, node, membership: welcome.into_membership(), at })
}

async fn exchange(
    connection: &Connection,
    key: &NodeKey,
    token: &Token,
    details: &JoinDetails,
) -> Result<Result<WireWelcome, JoinRefusal>, StreamError> {
    let said = WireKnock {
        version: VERSION,
        cluster: token.cluster,
        name: details.name.clone(),
        peer_addresses: first(&details.peer_addresses),
        client_urls: first(&details.client_urls),
        stays_learner: details.stays_learner,
    };
    let said = postcard::to_allocvec(&said).map_err(|_| FrameError::Head)?;
    let statement =
        Statement::new(connection, token.issuer, key.public(), &said).ok_or(StreamError::Ended)?;
    let invite = token.invite_key();
    let knock = Knock { invite: invite.public(), signature: statement.sign(&invite), said: &said };
    let frame = frame::encode_raw_head(Kind::Knock, &knock.encode()).ok_or(FrameError::TooLong)?;
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&frame).await?;
    read_head(&mut receive, Kind::KnockAnswer, JOIN_ANSWER_MAX + ANSWER_SPARE).await
}

/// As many as a member may have.
fn first(texts: &[String]) -> Vec<String> {
    texts.iter().take(ADDRESS_COUNT_MAX).cloned().collect()
}

/// What to tell a person when no address led to the issuer.
fn not_reached(error: DialError, addresses: &[String]) -> JoinError {
    let all =
        |is: fn(&DialFailure) -> bool| !error.tried.is_empty() && error.tried.iter().all(|(_, why)| is(why));
    let is_other_key = |why: &DialFailure| matches!(why, DialFailure::OtherKey(_));
    let is_unresolved = |why: &DialFailure| matches!(why, DialFailure::NotResolved(_));
    let is_silent = |why: &DialFailure| matches!(why, DialFailure::NoAnswer);
    let turned_away = error.tried.iter().find_map(|(_, why)| match why {
        DialFailure::Refused(words) => Some(words.clone()),
        DialFailure::NotResolved(_)
        | DialFailure::NoAnswer
        | DialFailure::OtherKey(_)
        | DialFailure::NotQuorate
        | DialFailure::Broken(_) => None,
    });
    if let Some(words) = turned_away {
        return JoinError::TurnedAway(words);
    }
    if all(is_silent) {
        JoinError::NoAnswer { addresses: addresses.to_vec() }
    } else if all(is_unresolved) {
        JoinError::NotResolved(error)
    } else if error.tried.iter().any(|(_, why)| is_other_key(why)) {
        JoinError::OtherKey(error)
    } else {
        JoinError::NotReached(error)
    }
}

fn turned_away(error: StreamError) -> JoinError {
    let goodbye = match &error {
        StreamError::Lost(error) => Goodbye::heard(error),
        StreamError::Ended | StreamError::Malformed(_) | StreamError::TooSlow => None,
    };
    match goodbye {
        Some(Goodbye::Busy | Goodbye::Mismatch(_) | Goodbye::Malformed(_) | Goodbye::NotAMember(..)) => {
            JoinError::TurnedAway(error.to_string())
        }
        Some(Goodbye::Superseded | Goodbye::Done | Goodbye::Unknown(_)) | None => {
            JoinError::Broken(error.to_string())
        }
    }
}

/// Never: the type of a task that is ended from outside.
enum Never {}

/// While a node joins it is nobody's peer: it says that it is there, and nothing else.
async fn answer_dial_backs(endpoint: &Endpoint, cluster: ClusterId) -> Never {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut answered = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            Some(_) = answered.join_next() => continue,
        };
        let Some(incoming) = incoming else { std::future::pending().await };
        if let Some((incoming, permit)) = admit(incoming, &handshakes) {
            answered.spawn(async move {
                answer_dial_back(incoming, cluster).await;
                drop(permit);
            });
        }
    }
}

async fn answer_dial_back(incoming: Incoming, cluster: ClusterId) {
    let Some((connection, _, purpose)) = shake_hands(incoming).await else { return };
    if purpose != Purpose::Join {
        return Goodbye::NotAMember(Index(0), 0).say(&connection);
    }
    let answering = async {
        let (mut send, mut receive) = connection.accept_bi().await?;
        match read_raw_head(&mut receive, WORD_MAX).await? {
            (Kind::AreYouThere, head) => i_am_here(&mut send, &connection, &head, cluster).await,
            (kind, _) => Err(FrameError::Kind(kind as u8).into()),
        }
    };
    match timeout(WORD_MAX, answering).await.unwrap_or(Err(StreamError::TooSlow)) {
        Ok(()) => drop(timeout(WORD_MAX, connection.closed()).await),
        Err(error) => error.close(&connection),
    }
}

/// Beyond the hall's own time: what it says at its end shall still be heard.
const ANSWER_SPARE: Duration = Duration::from_secs(5);
