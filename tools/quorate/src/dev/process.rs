//! One node's process: started, looked after, stopped by its id.

use super::plan::{Beginning, NodePlan};
use super::within;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A node that runs, or ran.
#[derive(Debug)]
pub(super) struct NodeProcess {
    pub(super) plan: NodePlan,
    program: PathBuf,
    child: Child,
    /// Its process is gone, and its id may be another's.
    is_over: bool,
}

impl NodeProcess {
    pub(super) fn start(program: &Path, plan: NodePlan, beginning: &Beginning) -> Result<NodeProcess> {
        fs::create_dir_all(plan.data_dir())
            .with_context(|| format!("{} cannot be made", plan.folder.display()))?;
        let child = spawn(program, &plan, beginning)?;
        Ok(NodeProcess { plan, program: program.to_owned(), child, is_over: false })
    }

    /// Once more, on the same folder.
    pub(super) fn start_again(&mut self) -> Result<()> {
        self.child = spawn(&self.program, &self.plan, &Beginning::GoOn)?;
        self.is_over = false;
        Ok(())
    }

    /// The process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn is_running(&self) -> bool {
        !self.is_over
    }

    /// How it ended, in words; none while it runs.
    pub(super) fn ended(&mut self) -> Result<Option<String>> {
        let end =
            self.child.try_wait().with_context(|| format!("{} cannot be looked after", self.plan.name))?;
        self.is_over = end.is_some();
        Ok(end.map(print_end))
    }

    /// Sends a signal, unless the process is gone. A failure means just that.
    fn signal(&mut self, signal: Signal) {
        if self.ended().is_ok_and(|end| end.is_none()) {
            let _is_there = kill_process(Pid::from_child(&self.child), signal).is_ok();
        }
    }
}

fn spawn(program: &Path, plan: &NodePlan, beginning: &Beginning) -> Result<Child> {
    let log = File::options().create(true).append(true).open(plan.log());
    let log = log.with_context(|| format!("{} cannot be written", plan.log().display()))?;
    let mut command = Command::new(program);
    command.args(plan.arguments(beginning));
    // What the environment says of a node is meant for another one.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORATE_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // A group of its own: Ctrl-C is for this tool, which then stops the nodes in its own way.
    command.process_group(0);
    command.spawn().with_context(|| format!("{} does not start", program.display()))
}

/// Longest a node may take to stop by itself: what its own stop waits for a card, and some more.
const STOP_TIME_MAX: Duration = Duration::from_secs(35);

/// Asks all to stop, waits, and ends those that do not.
pub(super) async fn stop_all(nodes: &mut [NodeProcess]) {
    for node in nodes.iter_mut() {
        node.signal(Signal::TERM);
    }
    if all_over_within(STOP_TIME_MAX, nodes).await {
        return;
    }
    for node in nodes.iter_mut() {
        node.signal(Signal::KILL);
    }
    // Killed processes are reaped; one that hangs in the kernel is left to it.
    let _are_reaped = all_over_within(Duration::from_secs(5), nodes).await;
}

async fn all_over_within(limit: Duration, nodes: &mut [NodeProcess]) -> bool {
    let are_over = || nodes.iter_mut().all(|node| node.ended().is_ok_and(|end| end.is_some()));
    within(limit, are_over).await
}

fn print_end(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("killed by signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    /// A program that does what that line of the shell does, whatever it is told.
    fn program(folder: &Path, line: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join("quorated");
        fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn start(folder: &Path, line: &str) -> NodeProcess {
        let plan = plan(folder, 1, 1).remove(0);
        NodeProcess::start(&program(folder, line), plan, &Beginning::Found).unwrap()
    }

    #[tokio::test]
    async fn a_node_is_told_its_place_and_asked_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let mut node = start(folder.path(), "echo \"$@\"; exec sleep 600");
        let words = |node: &NodeProcess| fs::read_to_string(node.plan.log()).unwrap_or_default();
        assert!(within(Duration::from_secs(20), || words(&node).contains("--new-cluster\n")).await);
        assert_eq!(node.ended().unwrap(), None);
        stop_all(std::slice::from_mut(&mut node)).await;
        assert_eq!(node.ended().unwrap().as_deref(), Some("killed by signal 15"));
        assert!(!node.is_running());
        node.start_again().unwrap();
        assert!(node.is_running());
        assert!(within(Duration::from_secs(20), || words(&node).lines().count() == 2).await);
        assert!(!words(&node).lines().last().unwrap().contains("--new-cluster"), "it belongs to one now");
        stop_all(std::slice::from_mut(&mut node)).await;
    }

    #[tokio::test]
    async fn how_a_node_ended_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut node = start(folder.path(), "echo no room >&2; exit 3");
        let mut end = None;
        within(Duration::from_secs(20), || {
            end = node.ended().unwrap();
            end.is_some()
        })
        .await;
        assert_eq!(end.as_deref(), Some("exit code 3"));
        assert_eq!(node.plan.log_tail(), "  no room");
    }
}
