//! `quorate status`: a node at a glance.

use crate::members::{ClusterView, MemberView};
use crate::metrics::Metrics;
use crate::reach::{Reach, ask};
use crate::say::say;
use crate::wear::WearView;
use anyhow::Result;
use clap::Args;
use quorate_bench::EndpointArgs;
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;
use quorate_proto::etcdserverpb::cluster_client::ClusterClient;
use quorate_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_proto::etcdserverpb::{AlarmRequest, AlarmType, MemberListRequest, StatusRequest};
use quorate_proto::quorate::MembersRequest;
use quorate_proto::quorate::admin_client::AdminClient;
use serde::Serialize;
use std::time::{Duration, SystemTime};
use tonic::transport::Channel;

const EXAMPLES: &str = "\
Examples:
  quorate --data-dir /var/lib/quorate status
  quorate status --endpoints node1:2379,node2:2379,node3:2379
  quorate status --json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// Longest wait for one answer
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "TIME")]
    command_timeout: Duration,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// One node, as it describes itself. What it does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct NodeView {
    endpoint: String,
    /// Why nothing else is known.
    error: Option<String>,
    name: Option<String>,
    member_id: String,
    cluster_id: String,
    release: String,
    role: String,
    term: u64,
    index: u64,
    applied: u64,
    revision: i64,
    data_bytes: i64,
    quota_bytes: Option<i64>,
    members: Vec<MemberView>,
    /// What the members' number means, and what stands in the way.
    quorum: Vec<String>,
    alarms: Vec<String>,
    /// What the node says is wrong.
    errors: Vec<String>,
    card: CardView,
    wear: WearView,
    resident_bytes: Option<f64>,
    uptime_seconds: Option<f64>,
    /// What could not be asked, and why.
    notes: Vec<String>,
}

/// What the node counts of its card.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct CardView {
    syncs: Option<f64>,
    bytes_written: Option<f64>,
    sync_p50_ms: Option<f64>,
    sync_p99_ms: Option<f64>,
}

/// Asks the socket or every endpoint and prints; whether all answered.
pub(crate) async fn run(args: &StatusArgs, reach: &Reach) -> Result<bool> {
    let views = if reach.socket_of.is_some() {
        let connected = reach.connect(&args.endpoint).await;
        vec![look(args, &reach.print(&args.endpoint), None, connected).await]
    } else {
        // One after the other: a person asks a handful of nodes, and the dead ones are bounded by timeouts.
        let mut views = Vec::new();
        for url in args.endpoint.urls()? {
            let connected = args.endpoint.connect_to(&url).await;
            views.push(look(args, &url, Some(&url), connected).await);
        }
        views
    };
    if args.json {
        say(serde_json::to_string_pretty(&views)?)?;
    } else {
        for view in &views {
            say(view.print().trim_end())?;
        }
    }
    Ok(views.iter().all(|view| view.error.is_none()))
}

/// `way` is what the view is headed with; `url` there is none for the local socket.
async fn look(args: &StatusArgs, way: &str, url: Option<&str>, connected: Result<Channel>) -> NodeView {
    let mut view = NodeView { endpoint: way.to_owned(), ..NodeView::default() };
    let asked = async {
        let channel = connected?;
        ask_status(args, &channel, &mut view).await?;
        anyhow::Ok(channel)
    };
    let channel = match asked.await {
        Ok(channel) => channel,
        Err(error) => {
            view.error = Some(format!("{error:#}"));
            return view;
        }
    };
    if let Err(error) = ask_members(args, &channel, &mut view).await {
        view.notes.push(format!("members: {error:#}"));
    }
    if let Err(error) = ask_alarms(args, &channel, &mut view).await {
        view.notes.push(format!("alarms: {error:#}"));
    }
    match Metrics::fetch(url, channel, args.command_timeout).await {
        Ok(metrics) => view.take_metrics(&metrics),
        Err(error) => view.notes.push(format!("metrics: {error:#}")),
    }
    view
}

async fn ask_status(args: &StatusArgs, channel: &Channel, view: &mut NodeView) -> Result<()> {
    let mut client = MaintenanceClient::new(channel.clone());
    let status = ask(args.command_timeout, client.status(StatusRequest {})).await?;
    let header = status.header.unwrap_or_default();
    view.member_id = format!("{:x}", header.member_id);
    view.cluster_id = format!("{:x}", header.cluster_id);
    view.role = match status.leader {
        0 => "no leader known",
        leader if leader == header.member_id => "leader",
        _ if status.is_learner => "learner",
        _ => "follower",
    }
    .into();
    view.release = status.version;
    (view.term, view.index, view.applied) = (status.raft_term, status.raft_index, status.raft_applied_index);
    view.data_bytes = status.db_size;
    view.quota_bytes = (status.db_size_quota > 0).then_some(status.db_size_quota);
    view.revision = header.revision;
    view.errors = status.errors;
    Ok(())
}

/// From quorated with how they fare; from any other server of etcd's API who they are.
async fn ask_members(args: &StatusArgs, channel: &Channel, view: &mut NodeView) -> Result<()> {
    let mut admin = AdminClient::new(channel.clone());
    if let Ok(seen) = ask(args.command_timeout, admin.members(MembersRequest::default())).await {
        view.take_cluster(ClusterView::new(&seen));
        return Ok(());
    }
    let mut client = ClusterClient::new(channel.clone());
    let request = MemberListRequest { linearizable: false };
    let answer = ask(args.command_timeout, client.member_list(request)).await?;
    for member in answer.members {
        let member = MemberView::of_etcd(member);
        if member.id == view.member_id {
            view.name = Some(member.name.clone());
        }
        view.members.push(member);
    }
    Ok(())
}

async fn ask_alarms(args: &StatusArgs, channel: &Channel, view: &mut NodeView) -> Result<()> {
    let mut client = MaintenanceClient::new(channel.clone());
    let request =
        AlarmRequest { action: AlarmAction::Get.into(), member_id: 0, alarm: AlarmType::None.into() };
    let answer = ask(args.command_timeout, client.alarm(request)).await?;
    view.alarms = answer
        .alarms
        .iter()
        .map(|alarm| {
            let kind = AlarmType::try_from(alarm.alarm).map_or("unknown", |kind| kind.as_str_name());
            format!("{kind} on {:x}", alarm.member_id)
        })
        .collect();
    Ok(())
}

impl NodeView {
    fn take_cluster(&mut self, cluster: ClusterView) {
        self.quorum = cluster.sentences();
        // A candidate says more than "no leader known"; both are worth knowing.
        if cluster.leader_id.is_none() && !cluster.role.is_empty() {
            self.role = format!("{}, no leader known", cluster.role);
        }
        let own = cluster.members.iter().find(|member| member.id == self.member_id);
        self.name = own.map(|member| member.name.clone());
        self.members = cluster.members;
    }

    fn take_metrics(&mut self, metrics: &Metrics) {
        const SYNC: &str = "etcd_disk_wal_fsync_duration_seconds";
        let to_ms = |quantile| metrics.quantile(SYNC, quantile).map(|seconds| seconds * 1_000.0);
        self.card = CardView {
            syncs: metrics.value("quorate_syncs_total").or_else(|| metrics.value(&format!("{SYNC}_count"))),
            bytes_written: metrics.value("quorate_written_bytes_total"),
            sync_p50_ms: to_ms(0.5),
            sync_p99_ms: to_ms(0.99),
        };
        self.wear = WearView::new(metrics);
        self.resident_bytes = metrics.value("process_resident_memory_bytes");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let started = metrics.value("process_start_time_seconds");
        self.uptime_seconds = started.map(|started| (now - started).max(0.0));
        if self.quota_bytes.is_none() {
            self.quota_bytes = metrics.value("etcd_server_quota_backend_bytes").and_then(to_whole);
        }
    }

    fn print(&self) -> String {
        let mut lines = Vec::new();
        if let Some(error) = &self.error {
            return format!("{}  no status: {error}\n", self.endpoint);
        }
        let name = self.name.as_deref().unwrap_or("?");
        lines.push(format!(
            "{}  {name}, member {} of cluster {}: {}",
            self.endpoint, self.member_id, self.cluster_id, self.role
        ));
        let uptime = self.uptime_seconds.map_or_else(String::new, |seconds| {
            let whole = Duration::from_secs(to_whole(seconds).and_then(|s| s.try_into().ok()).unwrap_or(0));
            format!(", up {}", humantime::format_duration(whole))
        });
        lines.push(format!("  release   {}{uptime}", self.release));
        lines.push(format!(
            "  log       term {}, index {}, applied {}; revision {}",
            self.term, self.index, self.applied, self.revision
        ));
        lines.push(format!("  data      {}", self.print_data()));
        lines.push(format!("  card      {}", self.card.print()));
        lines.extend(self.wear.lines().iter().map(|line| format!("  wear      {line}")));
        if let Some(bytes) = self.resident_bytes {
            lines.push(format!("  memory    {} resident", print_bytes(bytes)));
        }
        lines.extend(self.quorum.iter().map(|sentence| format!("  quorum    {sentence}")));
        lines.extend(self.members.iter().map(|member| format!("  member    {}", member.line())));
        lines.extend(self.alarms.iter().map(|alarm| format!("  ALARM     {alarm}")));
        lines.extend(self.errors.iter().map(|error| format!("  ERROR     {error}")));
        lines.extend(self.notes.iter().map(|note| format!("  unknown   {note}")));
        lines.join("\n") + "\n"
    }

    fn print_data(&self) -> String {
        let bytes = self.data_bytes as f64;
        match self.quota_bytes {
            Some(quota) => {
                let quota = quota as f64;
                format!("{} of {} ({:.0} %)", print_bytes(bytes), print_bytes(quota), bytes * 100.0 / quota)
            }
            None => print_bytes(bytes),
        }
    }
}

impl CardView {
    fn print(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.syncs.map(|syncs| format!("{syncs:.0} syncs")));
        parts.extend(self.bytes_written.map(|bytes| format!("{} written", print_bytes(bytes))));
        parts.extend(self.sync_p50_ms.map(|ms| format!("sync p50 {ms:.1} ms")));
        parts.extend(self.sync_p99_ms.map(|ms| format!("p99 {ms:.1} ms")));
        if parts.is_empty() { "nothing known".into() } else { parts.join(", ") }
    }
}

/// The whole part of a figure Prometheus gave as a float; nothing if it is none an i64 can hold.
fn to_whole(value: f64) -> Option<i64> {
    format!("{:.0}", value.floor()).parse().ok()
}

/// A number of bytes for people.
pub(crate) fn print_bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1_024.0 {
            break;
        }
        value /= 1_024.0;
        unit = next;
    }
    if unit == UNITS[0] { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::quorate::{Member, MembersResponse};

    #[test]
    fn a_node_is_shown_with_what_is_known() {
        let view = NodeView {
            endpoint: "http://a:1".into(),
            name: Some("n1".into()),
            member_id: "8e".into(),
            cluster_id: "cd".into(),
            role: "leader".into(),
            release: "3.5.24".into(),
            data_bytes: 1_536,
            quota_bytes: Some(15_360),
            alarms: vec!["NOSPACE on 8e".into()],
            card: CardView { syncs: Some(12.0), sync_p50_ms: Some(40.25), ..CardView::default() },
            uptime_seconds: Some(3_661.7),
            ..NodeView::default()
        };
        let text = view.print();
        for part in [
            "http://a:1  n1, member 8e of cluster cd: leader",
            "up 1h 1m 1s",
            "1.5 KiB of 15.0 KiB (10 %)",
            "12 syncs, sync p50 40.2 ms",
            "ALARM     NOSPACE on 8e",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("memory"));
    }

    #[test]
    fn what_a_node_writes_is_summed_over_what_it_writes() {
        let page = "quorate_written_bytes_total{what=\"log\"} 4096\nquorate_written_bytes_total{what=\"zeros\"} 512\n\
                    quorate_per_day_window_seconds 3600\nquorate_written_bytes_per_day 1e+09\n";
        let mut view = NodeView::default();
        view.take_metrics(&Metrics::of(page));
        assert_eq!(view.card.bytes_written, Some(4_608.0));
        let text = view.print();
        assert!(
            text.contains("  wear      writes 1 GB a day to its card, at the rate of the last hour\n"),
            "{text}"
        );
    }

    #[test]
    fn the_quorum_stands_in_the_view() {
        let member = |id, name: &str, is_active| Member {
            id,
            name: name.into(),
            is_voter: true,
            is_active,
            client_urls: vec![format!("http://{name}:2379")],
            card_write_ms: (id == 0x8e).then_some(42),
            card_stands_still: id == 0x8f,
            ..Member::default()
        };
        let members =
            vec![member(0x8e, "n1", Some(true)), member(0x8f, "n2", Some(false)), member(0x90, "n3", None)];
        let seen = MembersResponse { node_id: 0x8e, leader: 0x8e, members, ..MembersResponse::default() };
        let mut view = NodeView { member_id: "8e".into(), role: "leader".into(), ..NodeView::default() };
        view.take_cluster(ClusterView::new(&seen));
        let text = view.print();
        for part in [
            "n1, member 8e of cluster : leader\n",
            "quorum    3 voters: 1 may fail.\n",
            "quorum    Voters that do not answer: n2.\n",
            "quorum    Cards that stand still: n2.\n",
            "member    n1 8e, leader, active, card 42 ms; http://n1:2379\n",
            "member    n2 8f, voter, silent, card stands still; http://n2:2379\n",
            "member    n3 90, voter; http://n3:2379\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let lost = MembersResponse { leader: 0, role: "candidate".into(), ..seen };
        view.take_cluster(ClusterView::new(&lost));
        assert!(view.print().contains(": candidate, no leader known\n"));
    }

    #[test]
    fn an_error_is_the_whole_view() {
        let view =
            NodeView { endpoint: "http://a:1".into(), error: Some("refused".into()), ..NodeView::default() };
        assert_eq!(view.print(), "http://a:1  no status: refused\n");
    }

    #[test]
    fn whole_numbers_come_from_floats_or_not_at_all() {
        assert_eq!(to_whole(2_147_483_648.9), Some(2_147_483_648));
        assert_eq!(to_whole(f64::NAN), None);
        assert_eq!(to_whole(1e300), None);
    }
}
