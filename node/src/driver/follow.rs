//! What follows when consensus says something new of roles and members.

use super::{Driver, DriverEnd};
use crate::background::Job;
use crate::forward::Forward;
use core::time::Duration;
use prometheus_client::metrics::gauge::Gauge;
use quorate_api::{CardState, PeerStatus, Refusal};
use quorate_raft::{Card, PeerProgress, Role};
use quorate_types::limits::MEMBER_COUNT_MAX;
use quorate_types::{Member, Membership, NodeId, Term};
use std::collections::{BTreeMap, BTreeSet};

/// Between two offers of a changed address.
const DESCRIBE_INTERVAL: Duration = Duration::from_secs(5);

/// What was seen of consensus last.
#[derive(Default)]
pub(super) struct Seen {
    leader: Option<NodeId>,
    term: Term,
    role: Option<Role>,
    membership: Membership,
    linked: Membership,
    /// Of the committed memberships other members told of, the newest beyond this node's own.
    told: Option<Membership>,
    /// Version of what this node told last.
    version_told: u64,
    is_removed: bool,
    reachable: BTreeSet<NodeId>,
    starts: u64,
    card_hand_overs: u64,
    describe_next: Duration,
}

impl Seen {
    /// Whether this node is known to be no member any more.
    pub(super) fn is_removed(&self) -> bool {
        self.is_removed
    }
}

impl Driver {
    /// Acts on what changed since the last turn.
    pub(super) fn follow_core(&mut self) {
        self.follow_change();
        let (leader, term, role) = (self.core.leader(), self.core.term(), self.core.role());
        let seen = &mut self.work.seen;
        let has_new_leader = (seen.leader, seen.term) != (leader, term);
        let was_leader = seen.role == Some(Role::Leader);
        if has_new_leader && leader.is_some() && leader != seen.leader {
            self.metrics.leader_changes.inc();
            tracing::info!(leader = %leader.unwrap_or(NodeId(0)), %term, "a leader is known");
        }
        seen.leader = leader;
        seen.term = term;
        seen.role = Some(role);
        if was_leader && (role != Role::Leader || has_new_leader) {
            self.lead_no_more();
        }
        if has_new_leader {
            self.asks_follow_leader();
        }
        self.follow_guard();
        self.follow_membership();
        self.follow_joins();
        self.follow_starts();
        self.follow_stale();
    }

    /// Consensus hands over because of this node's card.
    fn follow_guard(&mut self) {
        let count = self.core.card_hand_overs();
        if count == self.work.seen.card_hand_overs {
            return;
        }
        self.work.seen.card_hand_overs = count;
        self.metrics.card_hand_overs.inc();
        let state = match self.core.card() {
            Card::StandsStill => "stands still".to_owned(),
            Card::Takes(ms) => format!("takes {ms} ms a write, a member's much less"),
            Card::Unknown => "is slow".to_owned(),
        };
        tracing::warn!("this node's card {state}: leadership goes to a member with a healthier one");
    }

    /// What a leader had in work goes to the next one, or its outcome is unknown.
    fn lead_no_more(&mut self) {
        tracing::info!(term = %self.core.term(), "leading no more");
        self.work.growth_unapplied = 0;
        self.work.is_raising_alarm = false;
        self.leases_lost();
        self.joins_lost();
        self.change_lost();
    }

    /// A link came up or went down.
    pub(super) fn reachable(&mut self, peer: NodeId, is_up: bool) {
        if is_up {
            self.work.seen.reachable.insert(peer);
            self.send_forward(peer, Forward::Members(self.core.membership_committed().clone()));
        } else {
            self.work.seen.reachable.remove(&peer);
        }
    }

    /// Tells the others when more is committed of who belongs.
    fn tell_members(&mut self) {
        let members = self.core.membership_committed();
        if members.version > self.work.seen.version_told {
            self.work.seen.version_told = members.version;
            let members = members.clone();
            for peer in self.work.seen.reachable.clone() {
                self.send_forward(peer, Forward::Members(members.clone()));
            }
        }
    }

    /// A member tells who belongs. It decides nothing here; it says whom to listen to until the log has come there.
    pub(super) fn told_members(&mut self, told: Membership) {
        let newest = self.work.seen.told.as_ref().map_or(0, |told| told.version);
        let is_news = told.version > newest.max(self.core.membership().version);
        let is_sound = told.members.len() <= MEMBER_COUNT_MAX
            && told.members.iter().all(|member| member.excess().is_none());
        if is_news && is_sound {
            self.work.seen.told = Some(told);
        }
    }

    fn follow_membership(&mut self) {
        self.tell_members();
        let membership = self.core.membership();
        if *membership != self.work.seen.membership {
            tracing::info!(
                version = membership.version,
                voters = %ids(&membership.voters),
                learners = %ids(&membership.learners),
                "members changed"
            );
            self.status.set_membership(membership);
            self.work.seen.membership = membership.clone();
        }
        let linked = self.linked();
        if linked != self.work.seen.linked {
            self.links.set_members(&linked);
            self.work.seen.linked = linked;
        }
        if self.core.is_removed() && !self.work.seen.is_removed {
            self.removed();
        }
    }

    /// Whom links lead to: the members in force, those of the committed membership, for what is not committed may
    /// yet be void, those just removed who have not heard of it, and those of newer members that others told of. Strangers are judged by what is committed.
    fn linked(&self) -> Membership {
        let committed = self.core.membership_committed();
        let mut linked = self.core.membership().clone();
        let farewell: Vec<NodeId> = self.core.progress().map(|peer| peer.node).collect();
        let before = self.work.seen.linked.members.iter().filter(|member| farewell.contains(&member.id));
        let told = self.work.seen.told.as_ref().filter(|told| told.version > linked.version);
        let told: &[Member] = told.map_or(&[], |told| &told.members);
        for member in committed.members.iter().chain(before).chain(told) {
            if !linked.is_member(member.id) {
                linked = linked.with_learner(member.clone());
            }
        }
        linked.version = committed.version;
        linked
    }

    fn removed(&mut self) {
        self.work.seen.is_removed = true;
        let words = "this node was removed from its cluster: it serves and votes no more. To take it in again, empty \
                     its folder and join it with a new token from `quorate invite`";
        tracing::error!("{words}");
        self.status.update(|status| {
            status.removed = true;
            status.errors.push(words.to_owned());
        });
        self.work.pending.refuse_all(Refusal::Removed);
        self.refuse_reads(Refusal::Removed);
        self.refuse_asks(Refusal::Removed);
    }

    /// A member says that this node is none, by a newer membership than this node has.
    pub(super) fn told_no_member(&mut self, version: u64) {
        let known = self.core.membership();
        let is_newer =
            version > known.version || (version == known.version && !known.is_member(self.identity.node));
        if is_newer && !self.work.seen.is_removed {
            self.removed();
        }
    }

    fn follow_starts(&mut self) {
        let changes = self.core.seen_changes();
        if changes != self.work.seen.starts {
            self.work.seen.starts = changes;
            drop(self.background.send(Job::Seen(self.core.seen().clone())));
        }
    }

    /// Peers know a later or another life of this node: its card is an older copy (protocol.md rule 12).
    fn follow_stale(&mut self) {
        if let Some(later) = self.core.stale()
            && self.end().is_none()
        {
            let words = format!(
                "the other members have seen start {} of this node, which this card does not know: it is an older copy, \
                 or one of two. It may have forgotten votes and acknowledged writes, so it must not go on. Remove the \
                 member, empty the folder, and join it anew",
                later.count
            );
            self.fail(&words, DriverEnd::OlderCopy(later));
        }
    }

    /// Tells the leader when this node is reached elsewhere than the members believe.
    pub(super) fn describe_if_changed(&mut self) {
        let now = self.clock.now();
        let Some(known) = self.core.membership().member(self.identity.node) else { return };
        let is_same = *known == self.described;
        if is_same
            || now < self.work.seen.describe_next
            || self.core.leader().is_none()
            || self.is_describing()
        {
            return;
        }
        self.work.seen.describe_next = now + DESCRIBE_INTERVAL;
        self.ask_describe();
    }

    pub(super) fn publish_status(&mut self) {
        self.publish_metrics();
        let (role, is_learner) = self.role_word();
        self.status.update(|status| {
            status.leader = self.core.leader().map_or(0, |leader| leader.0);
            status.role = role;
            status.term = self.core.term().0;
            status.committed = self.core.committed().0;
            status.applied = self.store.applied().0;
            status.revision = self.store.revision();
            status.bytes_total = self.store.bytes_total();
            status.bytes_in_use = self.store.bytes_total();
            status.alarms = self.store.alarms();
            status.is_learner = is_learner;
        });
    }

    fn role_word(&self) -> (&'static str, bool) {
        let is_learner = self.work.seen.membership.is_learner(self.identity.node);
        let word = match self.core.role() {
            Role::Leader => "leader",
            Role::Candidate => "candidate",
            Role::PreCandidate => "pre-candidate",
            Role::Follower if is_learner => "learner",
            Role::Follower => "follower",
        };
        (word, is_learner)
    }

    /// The other members as they are seen from here; looked at rarely, for people.
    pub(super) fn publish_peers(&mut self) {
        let Seen { membership, reachable, .. } = &self.work.seen;
        let leads = self.core.role() == Role::Leader;
        let last = self.core.last().index.0;
        let progress: BTreeMap<NodeId, PeerProgress> =
            self.core.progress().map(|progress| (progress.node, progress)).collect();
        let peer = |member: &Member| {
            let progress = progress.get(&member.id).filter(|_| leads);
            PeerStatus {
                id: member.id,
                name: member.name.clone(),
                is_active: progress
                    .map(|progress| progress.is_active)
                    .or_else(|| (!reachable.contains(&member.id)).then_some(false)),
                lag_entries: progress.map(|progress| last.saturating_sub(progress.persisted.0)),
                is_learner: membership.is_learner(member.id),
                is_voter: membership.voters.contains(&member.id),
                card: progress
                    .filter(|progress| progress.is_active)
                    .map_or(CardState::Unknown, |progress| card_state(progress.card)),
                address: member.peer_addresses.first().cloned().unwrap_or_default(),
            }
        };
        let others = membership.members.iter().filter(|member| member.id != self.identity.node);
        let peers: Vec<PeerStatus> = others.map(peer).collect();
        let card = card_state(self.core.card());
        self.metrics.show_card(card);
        self.status.update(|status| {
            status.card = card;
            status.peers = peers;
            status.voters.clone_from(&membership.voters);
            status.learners.clone_from(&membership.learners);
        });
    }

    fn publish_metrics(&self) {
        let committed = self.core.committed().0;
        let applied = self.store.applied().0;
        let bytes = self.store.bytes_total();
        let gauge = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let metrics = &self.metrics;
        gauge(&metrics.has_leader, u64::from(self.core.leader().is_some()));
        gauge(&metrics.is_leader, u64::from(self.core.role() == Role::Leader));
        gauge(&metrics.is_learner, u64::from(self.role_word().1));
        gauge(&metrics.pending, count(self.work.pending.count()));
        gauge(&metrics.committed, committed);
        gauge(&metrics.applied, applied);
        gauge(&metrics.bytes_total, bytes);
        gauge(&metrics.bytes_in_use, bytes);
        metrics.revision.set(self.store.revision().0);
        metrics.compacted.set(self.store.compacted().0);
        gauge(&metrics.keys, count(self.store.key_count()));
        gauge(&metrics.watch_streams, count(self.work.streams.len()));
        let (watchers, lagging) = self.work.hub.watcher_counts();
        gauge(&metrics.watchers, count(watchers));
        gauge(&metrics.watchers_slow, count(lagging));
    }
}

/// In the words of whoever asks.
fn card_state(card: Card) -> CardState {
    match card {
        Card::Unknown => CardState::Unknown,
        Card::Takes(ms) => CardState::Takes { ms },
        Card::StandsStill => CardState::StandsStill,
    }
}

/// Ids as people see them everywhere else.
fn ids(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<String>>().join(" ")
}
