//! The node at a glance, for whoever asks, without asking the driver; and its last words.

use quorate_api::NodeStatus;
use quorate_types::Membership;
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// The driver's end: it publishes what changed.
#[derive(Debug)]
pub struct StatusSource {
    status: watch::Sender<NodeStatus>,
    membership: watch::Sender<Membership>,
}

/// Anybody's end.
#[derive(Debug, Clone)]
pub struct StatusView {
    status: watch::Receiver<NodeStatus>,
    membership: watch::Receiver<Membership>,
}

/// Both ends, from that beginning.
#[must_use]
pub fn channel(status: NodeStatus, membership: Membership) -> (StatusSource, StatusView) {
    let (status_in, status) = watch::channel(status);
    let (membership_in, membership) = watch::channel(membership);
    (StatusSource { status: status_in, membership: membership_in }, StatusView { status, membership })
}

impl StatusSource {
    /// Changes what is seen.
    pub fn update(&self, change: impl FnOnce(&mut NodeStatus)) {
        self.status.send_modify(change);
    }

    /// The members have changed.
    pub fn set_membership(&self, membership: &Membership) {
        self.membership.send_replace(membership.clone());
    }
}

impl StatusView {
    /// A copy of it.
    #[must_use]
    pub fn get(&self) -> NodeStatus {
        self.status.borrow().clone()
    }

    /// The members as this node has them in force.
    #[must_use]
    pub fn membership(&self) -> Membership {
        self.membership.borrow().clone()
    }
}

/// What a node said before it stopped for good, kept for its next start.
#[derive(Debug, Clone)]
pub struct LastWords(PathBuf);

impl LastWords {
    /// In that folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> LastWords {
        LastWords(folder.join("last-words"))
    }

    /// Writes them if the card still can, on a thread of its own: a card that failed may also hang.
    pub fn say(&self, words: &str) {
        let (path, words) = (self.0.clone(), words.to_owned());
        let spawned = std::thread::Builder::new().name("last-words".into()).spawn(move || {
            drop(std::fs::write(path, words));
        });
        drop(spawned);
    }

    /// Reads and removes what the last start left.
    #[must_use]
    pub fn take(&self) -> Option<String> {
        let words = std::fs::read_to_string(&self.0).ok()?;
        drop(std::fs::remove_file(&self.0));
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_heard_once() {
        let folder = tempfile::tempdir().unwrap();
        let words = LastWords::in_folder(folder.path());
        assert_eq!(words.take(), None);
        std::fs::write(folder.path().join("last-words"), "the card failed").unwrap();
        assert_eq!(words.take().as_deref(), Some("the card failed"));
        assert_eq!(words.take(), None);
    }
}
