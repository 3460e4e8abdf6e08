//! Other programs on the same card: an orchestrator beside the store pulls images, a database syncs.

use super::aim::Aims;
use super::field::{Field, PUT, elections};
use super::row::Outcome;
use crate::stage::Stage;
use crate::stage::card::Card;
use crate::stage::sides::side_by_side;
use anyhow::Result;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PIECE_BYTES: usize = 2 << 20;
/// It goes round in so much of the card.
const PIECES: u64 = 32;
const PERIOD: Duration = Duration::from_secs(1);

/// Writes and syncs 2 MiB a second on a card; it ends with this.
struct Neighbour {
    is_over: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Neighbour {
    /// `phase` is when in its second it writes: neighbours of three cards do not write together.
    fn move_in(folder: &Path, phase: Duration) -> Result<Neighbour> {
        let file = File::create(folder.join("neighbour"))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let writer = std::thread::spawn(move || {
            if let Err(error) = write_on(&file, phase, &told) {
                eprintln!("  the neighbour: {error}");
            }
        });
        Ok(Neighbour { is_over, writer: Some(writer) })
    }
}

fn write_on(file: &File, phase: Duration, is_over: &AtomicBool) -> std::io::Result<()> {
    let piece = vec![0x5a; PIECE_BYTES];
    let mut due = Instant::now() + phase;
    for number in 0_u64.. {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        file.write_all_at(&piece, number % PIECES * (2 << 20))?;
        file.sync_all()?;
        // On a card that is too slow for it, it writes as fast as the card lets it.
        due = Instant::now().max(due + PERIOD);
    }
    Ok(())
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // A writer that panicked has said so.
        drop(self.writer.take().map(JoinHandle::join));
    }
}

fn beside<'a>(cards: impl IntoIterator<Item = &'a Card<'a>>) -> Result<Vec<Neighbour>> {
    let phases = [0, 333, 667].map(Duration::from_millis);
    cards.into_iter().zip(phases).map(|(card, phase)| Neighbour::move_in(&card.mount(), phase)).collect()
}

/// What a bare fdatasync suffers under the same neighbour, seven times a second: p50 and p99 in milliseconds, measured
/// from the moment each was meant to begin.
fn bare(stage: &Stage, seconds: u64) -> Result<[f64; 2]> {
    const BLOCK: [u8; 4096] = [0xa5; 4096];
    const GAP: Duration = Duration::from_nanos(1_000_000_000 / 7);
    let card = stage.card("free")?;
    let file = OpenOptions::new().create_new(true).write(true).open(card.mount().join("bare"))?;
    let offsets = (0..).step_by(BLOCK.len()).take(usize::try_from(seconds * 7)?);
    for offset in offsets.clone() {
        file.write_all_at(&[0; BLOCK.len()], offset)?;
    }
    file.sync_all()?;
    card.set_model("ordinary")?;
    let _neighbours = beside([&card])?;
    let mut due = Instant::now();
    let mut times = Vec::new();
    for offset in offsets {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        file.write_all_at(&BLOCK, offset)?;
        file.sync_data()?;
        times.push(due.elapsed().as_secs_f64() * 1_000.0);
        due += GAP;
    }
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(f64::NAN);
    Ok([at(50), at(99)])
}

pub(super) fn neighbour(stage: &Stage) -> Result<Outcome> {
    let (seconds, length) = stage.pick((60, "60s"), (8, "8s"));
    let [bare_p50, bare_p99] = bare(stage, seconds)?;
    let figures = side_by_side(stage, |kind| {
        let field = Field::open(stage, kind, &["model=ordinary"])?;
        let _neighbours = beside(&field.cards)?;
        let load = field.load(&[&PUT[..], &["--rate", "7", "--duration", length]].concat())?;
        Ok([load.latencies(), vec![load.failures(), elections(&field)?]].concat())
    })?;
    let aims = Aims::new()
        .limit("p50", bare_p50)
        .most("p50", 1.3 * bare_p50)
        .limit("p99", bare_p99)
        .most("p99", 1.3 * bare_p99)
        .most("failed puts", 0.0)
        .most("elections and hand-overs", 0.0);
    let did = format!(
        "ordinary cards, on each of which a neighbour writes and syncs 2 MiB a second; 7 puts/s of 256 bytes, evenly spaced, \
         {length}; the limit is a bare fdatasync of 4 KiB under the same neighbour"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}
