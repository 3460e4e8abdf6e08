//! A member's side of the join door: any key may knock, few at a time, and only a proof is passed on.

use super::proof::{Knock, Statement};
use super::{JOIN_ANSWER_MAX, JoinRefusal, JoinRequest};
use crate::frame::{self, FrameError, Kind};
use crate::goodbye::Goodbye;
use crate::hall::Hall;
use crate::roster::Core;
use crate::stream::{StreamError, WORD_MAX, read_raw_head, write_head};
use crate::token::invite_hash;
use crate::wire::{AreYouThere, VERSION, WireKnock, WireWelcome};
use quinn::{Connection, SendStream};
use quorate_types::{ClusterId, PeerKey};
use std::sync::atomic::Ordering;
use tokio::time::timeout;

/// Hears one knock, or answers one dial back.
pub(crate) async fn serve<H: Hall>(core: &Core, hall: &H, connection: &Connection, joiner: PeerKey) {
    let permit = core.knocks.try_acquire();
    if permit.is_err() || !core.may_knock() {
        core.knocks_refused.fetch_add(1, Ordering::Relaxed);
        return Goodbye::Busy.say(connection);
    }
    let ended = tokio::select! {
        ended = hear(core, hall, connection, joiner) => ended,
        error = connection.closed() => Err(error.into()),
    };
    match ended {
        // The joiner ends the connection when it has read the answer.
        Ok(()) => drop(timeout(WORD_MAX, connection.closed()).await),
        Err(error) => {
            core.knocks_refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(why = %error, address = %connection.remote_address(), "a knock led to nothing");
            error.close(connection);
        }
    }
}

async fn hear<H: Hall>(
    core: &Core,
    hall: &H,
    connection: &Connection,
    joiner: PeerKey,
) -> Result<(), StreamError> {
    let accepted = timeout(WORD_MAX, connection.accept_bi()).await.map_err(|_| StreamError::TooSlow)?;
    let (mut send, mut receive) = accepted?;
    let (kind, head) = read_raw_head(&mut receive, WORD_MAX).await?;
    if kind == Kind::AreYouThere {
        return i_am_here(&mut send, connection, &head, core.identity.cluster).await;
    }
    if kind != Kind::Knock {
        return Err(FrameError::Kind(kind as u8).into());
    }
    let knock = Knock::decode(&head)?;
    let said: WireKnock = frame::decode_open_head(knock.said)?;
    if said.version != VERSION {
        Goodbye::Mismatch(format!("protocol version {} there, {VERSION} here", said.version)).say(connection);
        return Ok(());
    }
    let statement = Statement::new(connection, core.key, joiner, knock.said);
    if !statement.is_some_and(|statement| knock.is_proven(&statement)) {
        Goodbye::Mismatch("the proof does not fit the invite".into()).say(connection);
        return Err(StreamError::Ended);
    }
    let answer = decide(core, hall, connection, joiner, &knock, said).await;
    write_head(&mut send, Kind::KnockAnswer, &answer).await?;
    send.finish().map_err(|_| StreamError::Ended)
}

/// Asks the hall, unless the request cannot be right.
async fn decide<H: Hall>(
    core: &Core,
    hall: &H,
    connection: &Connection,
    joiner: PeerKey,
    knock: &Knock<'_>,
    said: WireKnock,
) -> Result<WireWelcome, JoinRefusal> {
    if said.cluster != core.identity.cluster {
        return Err(JoinRefusal::OtherCluster);
    }
    check_lengths(&said)?;
    let request = JoinRequest {
        invite_hash: invite_hash(&knock.invite),
        key: joiner,
        seen_at: connection.remote_address().ip().to_canonical(),
        name: said.name,
        peer_addresses: said.peer_addresses,
        client_urls: said.client_urls,
        stays_learner: said.stays_learner,
    };
    let answer = timeout(JOIN_ANSWER_MAX, hall.join(request)).await;
    let answer =
        answer.unwrap_or_else(|_| Err(JoinRefusal::NotNow("the cluster did not answer in time".into())))?;
    Ok(WireWelcome::new(answer.cluster, answer.node, answer.at, &answer.membership))
}

/// Answers a dial back for that cluster.
pub(super) async fn i_am_here(
    send: &mut SendStream,
    connection: &Connection,
    head: &[u8],
    cluster: ClusterId,
) -> Result<(), StreamError> {
    let asked: AreYouThere = frame::decode_head(head)?;
    let own = AreYouThere { version: VERSION, cluster };
    if asked != own {
        let words = format!(
            "asked for cluster {} with protocol {}, this is cluster {cluster} with protocol {VERSION}",
            asked.cluster, asked.version
        );
        Goodbye::Mismatch(words).say(connection);
        return Ok(());
    }
    write_head(send, Kind::AreYouThere, &own).await?;
    send.finish().map_err(|_| StreamError::Ended)
}

/// A membership is sent around and kept: no member may fill it alone.
pub(crate) fn check_lengths(said: &WireKnock) -> Result<(), JoinRefusal> {
    if said.name.len() > NAME_BYTES_MAX {
        return Err(JoinRefusal::Other(format!("the name is longer than {NAME_BYTES_MAX} bytes")));
    }
    if said.peer_addresses.is_empty() {
        return Err(JoinRefusal::Other("no peer address is advertised".into()));
    }
    let texts = said.peer_addresses.iter().chain(&said.client_urls);
    match texts.into_iter().find(|text| text.len() > ADDRESS_BYTES_MAX) {
        Some(long) => {
            let head: String = long.chars().take(40).collect();
            Err(JoinRefusal::Other(format!("an address is longer than {ADDRESS_BYTES_MAX} bytes: {head}…")))
        }
        None => Ok(()),
    }
}

const NAME_BYTES_MAX: usize = 256;
const ADDRESS_BYTES_MAX: usize = 512;
