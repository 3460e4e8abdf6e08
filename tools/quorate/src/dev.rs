//! `quorate dev`: a cluster of real nodes on this machine, joined as boards would be: by invites.

mod plan;
mod process;

use crate::members::{ClusterView, align};
use crate::reach::{Reach, ask, connect_local};
use crate::say::say;
use anyhow::{Context, Result, bail};
use clap::Args;
use plan::{Beginning, Home, NodePlan, plan, voters_expected};
use process::NodeProcess;
use quorate_proto::quorate::admin_client::AdminClient;
use quorate_proto::quorate::{InviteRequest, MembersRequest, MembersResponse};
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

const EXAMPLES: &str = "\
Examples:
  quorate dev                               three nodes in temporary folders, gone after Ctrl-C
  quorate dev --nodes 5 --base-port 12379
  quorate dev --data-dir my-cluster         the folders stay; the same line starts the cluster again";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DevArgs {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// The first node's port for clients; its peers' is the next one; each further node's are ten higher
    #[arg(long, default_value_t = 2379, value_parser = clap::value_parser!(u16).range(1..=65_000), value_name = "PORT")]
    base_port: u16,
    /// The node's program [default: quorated beside this tool, then in PATH]
    #[arg(long, value_name = "FILE")]
    quorated: Option<PathBuf>,
}

/// Longest wait for one step: a node that starts, joins or is promoted, on a slow card.
const STEP_TIME_MAX: Duration = Duration::from_secs(60);

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Longest wait for one answer of a node.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Starts the nodes, waits for the end, stops them; whether all was well.
pub(crate) async fn run(args: &DevArgs, reach: &Reach) -> Result<bool> {
    let program = plan::find_program(args.quorated.as_deref())?;
    let mut stop = StopSignals::new()?;
    let home = Home::open(reach.data_dir_given.as_deref())?;
    let plans = plan(home.path(), args.nodes, args.base_port);
    let mut cluster = Cluster { nodes: Vec::new() };
    let outcome = async {
        plan::check_ports(&plans)?;
        tokio::select! {
            started = cluster.start(&program, plans) => started?,
            () = stop.heard() => return Ok(()),
        }
        cluster.print()?;
        cluster.watch_over(&mut stop).await
    };
    let outcome = outcome.await;
    // Whatever happened: no node outlives this command.
    let told = say("stopping the nodes");
    process::stop_all(&mut cluster.nodes).await;
    let closed = home.close();
    outcome.and(told).and(closed).map(|()| true)
}

/// Ctrl-C, a kill, or the terminal closed.
struct StopSignals([Signal; 3]);

impl StopSignals {
    fn new() -> Result<StopSignals> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        Ok(StopSignals([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn heard(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// The nodes, in the order of their names.
struct Cluster {
    nodes: Vec<NodeProcess>,
}

impl Cluster {
    /// Those that belonged to it already come first: without them there may be no quorum to join.
    async fn start(&mut self, program: &std::path::Path, plans: Vec<NodePlan>) -> Result<()> {
        let (known, new): (Vec<_>, Vec<_>) =
            plans.into_iter().partition(|plan| plan.index == 0 || plan.has_joined());
        for plan in known {
            let beginning = if plan.index == 0 { Beginning::Found } else { Beginning::GoOn };
            self.nodes.push(NodeProcess::start(program, plan, &beginning)?);
        }
        self.until("the first node leads or follows", |seen| seen.leader != 0).await?;
        for plan in new {
            say(format_args!("{} joins", plan.name))?;
            let token = self.invite().await?;
            let name = plan.name.clone();
            self.nodes.push(NodeProcess::start(program, plan, &Beginning::Join(token))?);
            let is_member = |seen: &MembersResponse| seen.members.iter().any(|member| member.name == name);
            self.until(&format!("{name} is a member"), is_member).await?;
            self.nodes.last().context("it was just started")?.plan.note_joined()?;
        }
        let voters = |seen: &MembersResponse| seen.members.iter().filter(|member| member.is_voter).count();
        let are_settled = |seen: &MembersResponse| {
            voters(seen) >= voters_expected(seen.members.len()) && !seen.change_under_way
        };
        let seen = self.until("all that shall vote are voters", are_settled).await?;
        say(format_args!("\n{}", ClusterView::new(&seen).sentences().join("\n")))
    }

    /// Asks the first node until it answers what is waited for, or a node ends, or the time is over.
    async fn until(
        &mut self,
        what: &str,
        is_so: impl Fn(&MembersResponse) -> bool,
    ) -> Result<MembersResponse> {
        let deadline = Instant::now() + STEP_TIME_MAX;
        loop {
            for node in &mut self.nodes {
                if let Some(end) = node.ended()? {
                    bail!(
                        "{} ended ({end}) before {what}. Its log ends with:\n{}",
                        node.plan.name,
                        node.plan.log_tail()
                    );
                }
            }
            let last = match self.look().await {
                Ok(seen) if is_so(&seen) => return Ok(seen),
                Ok(seen) => format!("it sees {} members, leader {:x}", seen.members.len(), seen.leader),
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() >= deadline {
                let log =
                    self.nodes.last().map(|node| node.plan.log().display().to_string()).unwrap_or_default();
                bail!(
                    "waited {} s until {what}; of the first node: {last}. See {log}",
                    STEP_TIME_MAX.as_secs()
                );
            }
            sleep(LOOK_PAUSE).await;
        }
    }

    async fn admin(&self) -> Result<AdminClient<tonic::transport::Channel>> {
        let first = self.nodes.first().context("there is a first node")?;
        Ok(AdminClient::new(connect_local(&first.plan.data_dir(), ANSWER_TIME_MAX).await?))
    }

    async fn look(&self) -> Result<MembersResponse> {
        ask(ANSWER_TIME_MAX, self.admin().await?.members(MembersRequest::default())).await
    }

    async fn invite(&self) -> Result<String> {
        let request = InviteRequest { ttl_seconds: STEP_TIME_MAX.as_secs() };
        let invite = ask(ANSWER_TIME_MAX, self.admin().await?.invite(request)).await;
        Ok(invite.context("no invite is to be had")?.token)
    }

    fn print(&self) -> Result<()> {
        let mut rows = vec![["NODE", "PROCESS", "CLIENTS", "DATA"].map(str::to_owned)];
        rows.extend(self.nodes.iter().map(|node| {
            let plan = &node.plan;
            [
                plan.name.clone(),
                node.id().to_string(),
                plan.client().to_string(),
                plan.data_dir().display().to_string(),
            ]
        }));
        say(format_args!("\n{}\n", align(&rows).join("\n")))?;
        let endpoints: Vec<String> = self.nodes.iter().map(|node| node.plan.client().to_string()).collect();
        say(format_args!("export ETCDCTL_API=3\nexport ETCDCTL_ENDPOINTS={}\n", endpoints.join(",")))?;
        if let Some(node) = self.nodes.first() {
            say(format_args!("Kill one: kill -9 {}", node.id()))?;
        }
        if std::io::stdin().is_terminal() {
            say("Enter starts those again that ended.")?;
        }
        say("Ctrl-C stops all.")
    }

    /// Tells of nodes that end, starts them again when asked to; until the end.
    async fn watch_over(&mut self, stop: &mut StopSignals) -> Result<()> {
        let mut wishes = wishes();
        loop {
            tokio::select! {
                () = stop.heard() => return Ok(()),
                Some(()) = wishes.recv() => {
                    for node in self.nodes.iter_mut().filter(|node| !node.is_running()) {
                        node.start_again()?;
                        say(format_args!("{} runs again, process {}", node.plan.name, node.id()))?;
                    }
                }
                () = sleep(LOOK_PAUSE) => {
                    for node in self.nodes.iter_mut().filter(|node| node.is_running()) {
                        if let Some(end) = node.ended()? {
                            say(format_args!("{} ended: {end}", node.plan.name))?;
                        }
                    }
                }
            }
        }
    }
}

/// One for each time Enter is pressed; none if nobody is there to press it.
fn wishes() -> mpsc::Receiver<()> {
    let (sender, wishes) = mpsc::channel(1);
    if std::io::stdin().is_terminal() {
        // A thread of its own: reading a terminal cannot be given up. It ends with the process.
        std::thread::spawn(move || {
            let mut lines = std::io::stdin().lock().lines();
            while lines.next().is_some_and(|line| line.is_ok()) && sender.blocking_send(()).is_ok() {}
        });
    }
    wishes
}

/// Waits a bounded time for something that will be so.
async fn within(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let wait = async {
        while !is_so() {
            sleep(LOOK_PAUSE).await;
        }
    };
    timeout(limit, wait).await.is_ok()
}
