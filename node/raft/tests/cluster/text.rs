//! A core's words as text, short enough to read a story by.

use quorate_raft::{Append, AppendAnswer, Body, Card, LogChange, Message, Raft, Role};
use quorate_types::{Entry, EntryKind, Membership, NodeId, Position};

pub fn position(position: Position) -> String {
    format!("{}/{}", position.index, position.term)
}

fn ids(ids: &[NodeId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

pub fn membership(membership: &Membership) -> String {
    let mut text = format!("voters {}", ids(&membership.voters));
    if !membership.voters_outgoing.is_empty() {
        text += &format!(" and {}", ids(&membership.voters_outgoing));
    }
    if !membership.learners.is_empty() {
        text += &format!(", learners {}", ids(&membership.learners));
    }
    text
}

pub fn entry(entry: &Entry) -> String {
    let what = match entry.kind {
        EntryKind::Noop => "noop".to_owned(),
        EntryKind::Command => String::from_utf8_lossy(&entry.payload).into_owned(),
        EntryKind::Membership => {
            quorate_raft::decode_membership(entry).map_or_else(String::new, |m| membership(&m))
        }
    };
    format!("{} {what}", position(entry.position))
}

pub fn entries(entries: &[Entry]) -> String {
    entries.iter().map(entry).collect::<Vec<_>>().join(", ")
}

pub fn append(append: &Append) -> String {
    let mut parts = Vec::new();
    if let Some(hard_state) = append.hard_state {
        let vote = hard_state.vote.map_or_else(|| "none".to_owned(), |vote| vote.to_string());
        parts.push(format!("term {} vote {vote}", hard_state.term));
    }
    if let Some(committed) = &append.membership {
        parts.push(format!("committed {}", membership(committed)));
    }
    match append.change {
        LogChange::None => {}
        LogChange::Truncate { last, .. } => parts.push(format!("truncate after {}", position(last))),
        LogChange::Reset { position: at } => parts.push(format!("reset to {}", position(at))),
    }
    if !append.entries.is_empty() {
        parts.push(entries(&append.entries));
    }
    format!("#{} {}", append.number.0, parts.join("; "))
}

/// Nothing, while there is nothing to say.
fn card(card: Card) -> String {
    match card {
        Card::Unknown => String::new(),
        Card::Takes(ms) => format!(" card {ms} ms"),
        Card::StandsStill => " card stands still".to_owned(),
    }
}

pub fn message(message: &Message) -> String {
    let body = match &message.body {
        Body::PreVoteRequest(request) => format!("pre-vote? last {}", position(request.last)),
        Body::PreVoteAnswer { granted } => format!("pre-vote {}", if *granted { "yes" } else { "no" }),
        Body::VoteRequest(request) => {
            let hand_over = if request.is_hand_over { " hand-over" } else { "" };
            format!("vote? last {}{hand_over}", position(request.last))
        }
        Body::VoteAnswer { granted } => format!("vote {}", if *granted { "yes" } else { "no" }),
        Body::Heartbeat(heartbeat) => {
            format!("heartbeat round {} committed {}", heartbeat.round, heartbeat.committed)
        }
        Body::HeartbeatAnswer(answer) => {
            format!(
                "heard round {} verified {} persisted {}{}",
                answer.round,
                answer.verified,
                answer.persisted,
                card(answer.card)
            )
        }
        Body::AppendEntries(append) => format!(
            "append after {} [{}] committed {}",
            position(append.previous),
            entries(&append.entries),
            append.committed
        ),
        Body::AppendAnswer(AppendAnswer::Taken { verified, persisted }) => {
            format!("taken verified {verified} persisted {persisted}")
        }
        Body::AppendAnswer(AppendAnswer::Rejected { previous, hint }) => {
            format!("rejected after {previous} hint {}", position(*hint))
        }
        Body::AppendAnswer(AppendAnswer::Full) => "full".to_owned(),
        Body::ReadRequest { .. } => "read?".to_owned(),
        Body::ReadAnswer { index, .. } => {
            index.map_or_else(|| "read refused".to_owned(), |index| format!("read at {index}"))
        }
        Body::CampaignNow => "campaign now".to_owned(),
        Body::StaleStart { seen } => format!("stale start: start {} was seen", seen.count),
    };
    format!("term {} {body}", message.term)
}

pub fn role(raft: &Raft) -> String {
    let term = raft.term();
    match (raft.role(), raft.leader()) {
        (Role::Follower, Some(leader)) => format!("follows {leader} in term {term}"),
        (Role::Follower, None) => format!("waits for a leader in term {term}"),
        (Role::PreCandidate, _) => format!("asks for pre-votes in term {term}"),
        (Role::Candidate, _) => format!("stands for term {term}"),
        (Role::Leader, _) => format!("leads term {term}"),
    }
}
