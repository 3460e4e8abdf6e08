//! Simulated cards, run by `quorate card`.

use super::Stage;
use super::process::Running;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const CARD_LIMIT: Duration = Duration::from_secs(150);

impl Stage {
    /// A fresh card of that model; the same seed gives every store the same card.
    pub(crate) fn card(&self, model: &str) -> Result<Card<'_>> {
        self.card_of("card", model, self.seed)
    }

    /// A card for each of three members, all different.
    pub(crate) fn three_cards(&self, model: &str) -> Result<[Card<'_>; 3]> {
        Ok([self.card_number(1, model)?, self.card_number(2, model)?, self.card_number(3, model)?])
    }

    /// The card of the member with that number, from 1.
    pub(crate) fn card_number(&self, number: u64, model: &str) -> Result<Card<'_>> {
        self.card_of(&format!("card{number}"), model, self.seed.wrapping_add(number - 1))
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
pub(crate) struct Card<'a> {
    stage: &'a Stage,
    folder: PathBuf,
    running: Running,
}

impl Card<'_> {
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn mount(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    fn ctl(&self, words: &[&str]) -> Result<String> {
        let folder = self.folder.to_string_lossy();
        self.stage.run(&[&["card", "ctl", &folder], words].concat(), Duration::from_secs(30))
    }

    pub(crate) fn set_model(&self, model: &str) -> Result<()> {
        self.ctl(&["set", &format!("model={model}")]).map(drop)
    }

    /// Changes figures: `model=bad`, `flush-median=5ms` …
    pub(crate) fn change(&self, changes: &[&str]) -> Result<()> {
        self.ctl(&[&["set"], changes].concat()).map(drop)
    }

    /// Nothing moves on it for this long.
    pub(crate) fn stall(&self, length: Duration) -> Result<()> {
        self.ctl(&["stall", &format!("{}ms", length.as_millis())]).map(drop)
    }

    /// Cuts the power: unflushed sectors are kept or lost at random, and all I/O fails from now on.
    pub(crate) fn cut(&self) -> Result<String> {
        self.ctl(&["cut"])
    }

    /// Power on again; whoever used the card must have ended.
    pub(crate) fn revive(&self) -> Result<()> {
        self.ctl(&["revive"]).map(drop)
    }

    /// The card's own counters.
    pub(crate) fn stats(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ctl(&["stats", "--json"])?)?)
    }
}

/// What a durable 4 KiB costs on a card with no store at all: each append's milliseconds, in a zero-filled file. The
/// card has that model from then on.
pub(crate) fn bare_sync(card: &Card<'_>, model: &str, appends: usize) -> Result<Vec<f64>> {
    const BLOCK: [u8; 4096] = [0xa5; 4096];
    let file = OpenOptions::new().create_new(true).write(true).open(card.mount().join("bare"))?;
    let offsets = || (0..).step_by(BLOCK.len()).take(appends);
    for offset in offsets() {
        file.write_all_at(&[0; BLOCK.len()], offset)?;
    }
    file.sync_all()?;
    card.set_model(model)?;
    let mut times = Vec::new();
    for offset in offsets() {
        let begun = Instant::now();
        file.write_all_at(&BLOCK, offset)?;
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(times)
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
