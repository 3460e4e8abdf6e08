//! What a test does to single nodes: started, killed, stopped, sent on.

use super::{Cluster, WayIn};
use std::process::ExitStatus;

impl Cluster {
    /// Gives a place of ours a token and flags of its own, without starting it or counting on it.
    pub fn admit(&mut self, number: usize, token: String, flags: &[&str]) {
        let node = self.node_mut(number);
        node.way_in = WayIn::Token(token);
        node.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// From now on the node is meant to be a member.
    pub fn count_in(&mut self, number: usize) {
        self.node_mut(number).is_member = true;
    }

    /// Ends a node that may have ended by itself.
    pub fn end(&mut self, number: usize) {
        let process = &mut self.node_mut(number).process;
        if !process.is_running() {
            return;
        }
        if process.try_wait().is_some() {
            process.wait_exit();
        } else {
            process.kill();
        }
    }

    /// Starts a node again where it was, without waiting.
    ///
    /// # Panics
    /// If it still runs.
    pub fn spawn(&mut self, number: usize) {
        let command = self.command(number);
        self.node_mut(number).process.spawn(command);
    }

    /// Kills a node: SIGKILL, and gone when this returns.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self, number: usize) {
        self.node_mut(number).is_paused = false;
        self.node_mut(number).process.kill();
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Panics
    /// If it does not run or does not end.
    pub fn stop(&mut self, number: usize) -> ExitStatus {
        self.node_mut(number).process.terminate()
    }

    /// Waits until a node ends by itself.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_exit(&mut self, number: usize) -> ExitStatus {
        self.node_mut(number).process.wait_exit()
    }

    /// SIGTERM, waits for its end, and starts it again; returns when it serves.
    ///
    /// # Panics
    /// If it does not end or does not come back.
    pub async fn restart(&mut self, number: usize) {
        self.stop(number);
        self.spawn(number);
        self.wait_serves(number).await;
    }

    /// SIGSTOP.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&mut self, number: usize) {
        self.node_mut(number).is_paused = true;
        self.node(number).process.pause();
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// If it does not run.
    pub fn resume(&mut self, number: usize) {
        self.node_mut(number).is_paused = false;
        self.node(number).process.resume();
    }

    /// From now on the node is not meant to be a member; its process is left alone.
    pub fn forget(&mut self, number: usize) {
        self.node_mut(number).is_member = false;
    }
}
