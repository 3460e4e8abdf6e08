//! Simulated cards, run by `quorate card`.

use super::process::Running;
use super::stage::Stage;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) const CARD_LIMIT: Duration = Duration::from_secs(150);

impl Stage {
    /// A fresh card of that model; the same seed gives every store the same card.
    pub(super) fn card(&self, model: &str) -> Result<Card<'_>> {
        self.card_of("card", model, self.seed)
    }

    /// A card for each of three members, all different.
    pub(super) fn three_cards(&self, model: &str) -> Result<[Card<'_>; 3]> {
        let seed = |member: u64| self.seed.wrapping_add(member);
        Ok([
            self.card_of("card1", model, seed(0))?,
            self.card_of("card2", model, seed(1))?,
            self.card_of("card3", model, seed(2))?,
        ])
    }

    fn card_of(&self, name: &str, model: &str, seed: u64) -> Result<Card<'_>> {
        let folder = self.folder().join(name);
        let seed = seed.to_string();
        let mut command = self.quorate();
        command.args(["card", "start", "--size", "4GiB", "--model", model, "--seed", &seed, "--dir"]);
        // Not in the background: so Ctrl-C ends the card as it ends us.
        let running = Running::start(command.arg(&folder), name, self.folder())?;
        let mut card = Card { stage: self, folder, running };
        let begun = Instant::now();
        while card.stats().is_err() {
            card.running.check_alive().context("simulated cards need Linux, root, FUSE and loop devices")?;
            ensure!(begun.elapsed() < CARD_LIMIT, "the card is not ready after {CARD_LIMIT:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(card)
    }
}

/// A card that is mounted; it ends with this.
pub(super) struct Card<'a> {
    stage: &'a Stage,
    folder: PathBuf,
    running: Running,
}

impl Card<'_> {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn mount(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    fn ctl(&self, words: &[&str]) -> Result<String> {
        let folder = self.folder.to_string_lossy();
        self.stage.run(&[&["card", "ctl", &folder], words].concat(), Duration::from_secs(30))
    }

    pub(super) fn set_model(&self, model: &str) -> Result<()> {
        self.ctl(&["set", &format!("model={model}")]).map(drop)
    }

    /// The card's own counters.
    pub(super) fn stats(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ctl(&["stats", "--json"])?)?)
    }
}

impl Drop for Card<'_> {
    fn drop(&mut self) {
        let folder = self.folder.to_string_lossy();
        // Asked first: only the card itself can unmount what it mounted.
        let stopped = self.stage.run(&["card", "stop", "--dir", &folder], CARD_LIMIT);
        let ended = stopped.and_then(|_| self.running.wait(CARD_LIMIT));
        if let Err(error) = ended {
            eprintln!("the card in {folder}: {error:#}");
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}
