//! The members as people look at them: a table, and what their number means.

use quorate_proto::quorate::{Member, MembersResponse};
use serde::Serialize;

/// The cluster as one node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ClusterView {
    pub(crate) cluster_id: String,
    /// The node that was asked.
    pub(crate) node_id: String,
    /// Absent if it knows none.
    pub(crate) leader_id: Option<String>,
    pub(crate) term: u64,
    /// What the node that was asked is at the moment.
    pub(crate) role: String,
    /// The node that was asked was removed from the cluster.
    pub(crate) removed: bool,
    pub(crate) change_under_way: bool,
    pub(crate) members: Vec<MemberView>,
}

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct MemberView {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) role: &'static str,
    pub(crate) votes: bool,
    /// Answers its peers; absent if the node that was asked cannot know.
    pub(crate) active: Option<bool>,
    /// Log entries behind; only the leader knows.
    pub(crate) lag_entries: Option<u64>,
    /// What its card takes until a write is durable, the median of late; each node knows its own, the leader all.
    pub(crate) card_write_ms: Option<u32>,
    /// Its card has work and makes none of it durable.
    pub(crate) card_stands_still: bool,
    pub(crate) peer_addresses: Vec<String>,
    pub(crate) client_urls: Vec<String>,
}

impl ClusterView {
    /// By name: ids are random.
    pub(crate) fn new(seen: &MembersResponse) -> ClusterView {
        let mut members: Vec<MemberView> =
            seen.members.iter().map(|member| MemberView::new(member, seen.leader)).collect();
        members.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        ClusterView {
            cluster_id: print_id(seen.cluster_id),
            node_id: print_id(seen.node_id),
            leader_id: (seen.leader != 0).then(|| print_id(seen.leader)),
            term: seen.term,
            role: seen.role.clone(),
            removed: seen.removed,
            change_under_way: seen.change_under_way,
            members,
        }
    }

    /// The table, and below it what is to be known or done.
    pub(crate) fn print(&self) -> String {
        let mut rows = vec![["NAME", "ID", "ROLE", "STATE", "CARD", "PEERS", "CLIENTS"].map(str::to_owned)];
        rows.extend(self.members.iter().map(MemberView::row));
        let mut lines = align(&rows);
        lines.push(String::new());
        lines.extend(self.sentences());
        lines.join("\n")
    }

    /// What the members' number means, and what stands in the way.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if self.removed {
            sentences.push("This node was removed from the cluster; what it knows is old.".to_owned());
        }
        let voters = self.members.iter().filter(|member| member.votes).count();
        sentences.push(print_tolerance(voters));
        let silent = self.names(|member| member.votes && member.active == Some(false));
        sentences.extend(silent.map(|names| format!("Voters that do not answer: {names}.")));
        let still = self.names(|member| member.card_stands_still);
        sentences.extend(still.map(|names| format!("Cards that stand still: {names}.")));
        if self.change_under_way {
            sentences.push("A change of voters is under way.".to_owned());
        }
        match self.leader() {
            None => sentences.push("No leader is known: nothing can be written.".to_owned()),
            Some(leader) if leader.id != self.node_id => {
                sentences.push(format!("How far the others are, the leader knows: ask {}.", leader.name));
            }
            Some(_) => {}
        }
        sentences
    }

    /// The names of some; nothing of none.
    fn names(&self, are_meant: impl Fn(&MemberView) -> bool) -> Option<String> {
        let meant = self.members.iter().filter(|member| are_meant(member));
        let names: Vec<&str> = meant.map(|member| member.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    pub(crate) fn leader(&self) -> Option<&MemberView> {
        self.members.iter().find(|member| Some(&member.id) == self.leader_id.as_ref())
    }
}

impl MemberView {
    fn new(member: &Member, leader: u64) -> MemberView {
        let role = match (member.is_voter, member.stays_learner) {
            _ if member.id == leader => "leader",
            (true, _) => "voter",
            (false, false) => "standby learner",
            (false, true) => "learner for good",
        };
        MemberView {
            name: member.name.clone(),
            id: print_id(member.id),
            role,
            votes: member.is_voter,
            active: member.is_active,
            lag_entries: member.lag_entries,
            card_write_ms: member.card_write_ms,
            card_stands_still: member.card_stands_still,
            peer_addresses: member.peer_addresses.clone(),
            client_urls: member.client_urls.clone(),
        }
    }

    /// Whether it answers and how far it is.
    pub(crate) fn state(&self) -> String {
        let active = match self.active {
            Some(true) => "active",
            Some(false) => "silent",
            None => "unknown",
        };
        match self.lag_entries {
            None => active.into(),
            Some(0) => format!("{active}, in step"),
            Some(lag) => format!("{active}, {lag} behind"),
        }
    }

    /// How its card does; nothing if that is not known.
    fn card(&self) -> Option<String> {
        if self.card_stands_still {
            return Some("stands still".to_owned());
        }
        self.card_write_ms.map(|ms| format!("{ms} ms"))
    }

    /// As any server of etcd's API tells it.
    pub(crate) fn of_etcd(member: quorate_proto::etcdserverpb::Member) -> MemberView {
        MemberView {
            name: member.name,
            id: print_id(member.id),
            role: if member.is_learner { "learner" } else { "voter" },
            votes: !member.is_learner,
            active: None,
            lag_entries: None,
            card_write_ms: None,
            card_stands_still: false,
            peer_addresses: member.peer_ur_ls,
            client_urls: member.client_ur_ls,
        }
    }

    /// In one line, for the status of a node.
    pub(crate) fn line(&self) -> String {
        let state = if self.active.is_some() { format!(", {}", self.state()) } else { String::new() };
        let card = self.card().map_or_else(String::new, |card| format!(", card {card}"));
        format!("{} {}, {}{state}{card}; {}", self.name, self.id, self.role, self.client_urls.join(","))
    }

    fn row(&self) -> [String; 7] {
        [
            self.name.clone(),
            self.id.clone(),
            self.role.into(),
            self.state(),
            self.card().unwrap_or_default(),
            self.peer_addresses.join(","),
            self.client_urls.join(","),
        ]
    }
}

/// How many may fail. An even number is said to be no better than one less.
fn print_tolerance(voters: usize) -> String {
    let losses = voters.saturating_sub(1) / 2;
    let may_fail = match losses {
        0 => "none may fail".to_owned(),
        losses => format!("{losses} may fail"),
    };
    let plural = if voters == 1 { "" } else { "s" };
    if voters > 0 && voters.is_multiple_of(2) {
        let odd = voters - 1;
        return format!(
            "{voters} voters: {may_fail}, no more than with {odd}, and each write waits for one card more."
        );
    }
    format!("{voters} voter{plural}: {may_fail}.")
}

pub(crate) fn print_id(id: u64) -> String {
    format!("{id:x}")
}

/// Columns as wide as their widest cell, two spaces apart, nothing at the ends of lines.
pub(crate) fn align<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    rows.iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, is_voter: bool) -> Member {
        Member {
            id,
            name: name.into(),
            peer_addresses: vec![format!("10.0.0.{id}:2380")],
            client_urls: vec![format!("http://10.0.0.{id}:2379")],
            is_voter,
            is_learner: !is_voter,
            stays_learner: false,
            is_active: Some(true),
            lag_entries: None,
            address: String::new(),
            card_write_ms: None,
            card_stands_still: false,
        }
    }

    fn cluster() -> MembersResponse {
        let mut members = vec![member(1, "n1", true), member(2, "n2", true), member(3, "n3", true)];
        members.push(Member { lag_entries: Some(12), ..member(4, "kitchen", false) });
        members.push(Member { stays_learner: true, is_active: None, ..member(5, "n5", false) });
        (members[1].is_active, members[1].lag_entries) = (Some(false), Some(0));
        (members[0].card_write_ms, members[1].card_stands_still) = (Some(42), true);
        MembersResponse {
            cluster_id: 0xc1,
            node_id: 1,
            leader: 1,
            term: 7,
            role: "leader".into(),
            removed: false,
            change_under_way: false,
            members,
        }
    }

    #[test]
    fn the_table_names_roles_and_how_members_fare() {
        let expected = "\
NAME     ID  ROLE              STATE             CARD          PEERS          CLIENTS
kitchen  4   standby learner   active, 12 behind               10.0.0.4:2380  http://10.0.0.4:2379
n1       1   leader            active            42 ms         10.0.0.1:2380  http://10.0.0.1:2379
n2       2   voter             silent, in step   stands still  10.0.0.2:2380  http://10.0.0.2:2379
n3       3   voter             active                          10.0.0.3:2380  http://10.0.0.3:2379
n5       5   learner for good  unknown                         10.0.0.5:2380  http://10.0.0.5:2379

3 voters: 1 may fail.
Voters that do not answer: n2.
Cards that stand still: n2.";
        let text = ClusterView::new(&cluster()).print();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&text), words(expected), "{text}");
        let starts: Vec<_> =
            text.lines().take(6).map(|line| line.find("10.0").or(line.find("PEERS"))).collect();
        assert!(starts.iter().all(|start| *start == starts[0]), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    }

    #[test]
    fn what_the_number_of_voters_means_is_said() {
        for (voters, words) in [
            (1, "1 voter: none may fail."),
            (2, "2 voters: none may fail, no more than with 1,"),
            (3, "3 voters: 1 may fail."),
            (4, "4 voters: 1 may fail, no more than with 3,"),
            (5, "5 voters: 2 may fail."),
        ] {
            assert!(print_tolerance(voters).starts_with(words), "{}", print_tolerance(voters));
        }
    }

    #[test]
    fn what_stands_in_the_way_is_said() {
        let seen = MembersResponse { node_id: 2, removed: true, change_under_way: true, ..cluster() };
        let sentences = ClusterView::new(&seen).sentences().join("\n");
        for words in ["was removed", "under way", "ask n1"] {
            assert!(sentences.contains(words), "{sentences}");
        }
        let sentences = ClusterView::new(&MembersResponse { leader: 0, ..cluster() }).sentences().join("\n");
        assert!(sentences.contains("No leader"), "{sentences}");
    }
}
