//! The rows: what is done to each store, and what is noted down.

use super::three;
use crate::stage::card::{Card, bare_sync};
use crate::stage::figure::{Figure, Unit};
use crate::stage::sides::{LOAD_LIMIT, Outcome, Seen, median, number, seen, side_by_side, speed};
use crate::stage::{Kind, Stage, Store};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

/// One row; its `run` gives one list of figures for each store, or for what else it measures.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) run: fn(&Stage) -> Result<Outcome>,
}

pub(super) const ROWS: &[Row] = &[
    Row { name: "put1", what: "one client on an ordinary card", run: put1 },
    Row { name: "put64", what: "64 clients on an ordinary card", run: put64 },
    Row { name: "rest", what: "10 puts/s of 1 KiB: what a card lives through", run: rest },
    Row { name: "free64", what: "64 clients on this machine's disk", run: free64 },
    Row { name: "memory", what: "resident memory, 10,000 keys of 256 bytes", run: memory },
    Row { name: "kube", what: "resident memory, 50 MB of objects and 64 watch streams", run: kube },
    Row { name: "start", what: "start-up time with 100,000 keys", run: start },
    Row { name: "overwrite", what: "bytes written per byte of payload, compacted", run: overwrite },
    Row { name: "three", what: "64 clients on three members, free storage", run: three::load },
    Row {
        name: "three-memory",
        what: "resident memory of three members after that load",
        run: three::memory,
    },
    Row {
        name: "three-idle",
        what: "processor and memory of three members that do nothing",
        run: three::idle,
    },
    Row { name: "three-kill", what: "time without a write when the leader is killed", run: three::kill },
    Row { name: "three-power", what: "site power-on of three members to the first write", run: three::power },
    Row { name: "size", what: "bytes of the programs", run: size },
];

/// The card that died, and what it had been written by then.
const CARD_LIFE_GIGABYTES: f64 = 823.0;
/// A closed loop of 256-byte values on an ordinary card, once the store has settled and been warmed up.
fn put_on_card(stage: &Stage, kind: Kind, clients: &str, seconds: &str) -> Result<Vec<Seen>> {
    // Free until the store has settled: that is waited for, not measured.
    let card = stage.card("free")?;
    let store = stage.store(kind, &card.mount(), &[])?;
    store.settle()?;
    card.set_model("ordinary")?;
    let load = ["put", "--clients", clients, "--value-size", "256", "--duration"];
    store.bench(&[&load[..], &[stage.pick("5s", "2s")]].concat(), LOAD_LIMIT)?;
    let zeroed = store.zeroed_bytes()?;
    let folder = card.folder().to_string_lossy();
    let report = store.bench(&[&load[..], &[seconds, "--card", &folder]].concat(), LOAD_LIMIT)?;
    let mut figures = speed(&report)?;
    figures.push(seen("flushes per put", Unit::Times, number(&report, "/device/flushes_per_request")?));
    figures.push(seen("bytes per put", Unit::Bytes, number(&report, "/device/bytes_per_request")?));
    let zeroing = (store.zeroed_bytes()? - zeroed) / number(&report, "/done")?;
    figures.push(seen("of them first zeroing", Unit::Bytes, zeroing));
    Ok(figures)
}

fn put1(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("40s", "8s");
    let bare = median(bare_sync(&stage.card("free")?, "ordinary", stage.pick(400, 100))?);
    let mut figures = side_by_side(stage, |kind| {
        let mut figures = put_on_card(stage, kind, "1", seconds)?;
        let p50 = figures.iter().find(|(what, ..)| what == "p50").map_or(f64::NAN, |(.., p50)| *p50);
        figures.push(seen("p50 ÷ the bare card's", Unit::Times, p50 / bare));
        Ok(figures)
    })?;
    let what = "the bare card: p50 of 4 KiB + fdatasync, zero-filled file".to_owned();
    let both = Some(bare);
    figures.push(Figure { what, unit: Unit::Milliseconds, quorate: both, etcd: both, compared: false });
    let did = format!(
        "ordinary simulated card, 1 client in a closed loop, 256-byte values, 10,000 keys, {seconds} after a warm-up"
    );
    Ok(Outcome { did, figures })
}

fn put64(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("30s", "8s");
    let figures = side_by_side(stage, |kind| put_on_card(stage, kind, "64", seconds))?;
    let did = format!(
        "ordinary simulated card, 64 clients in closed loops, 256-byte values, 10,000 keys, {seconds} after a warm-up"
    );
    Ok(Outcome { did, figures })
}

fn rest(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("120s", "15s");
    let figures = side_by_side(stage, |kind| {
        let card = stage.card("free")?;
        let store = stage.store(kind, &card.mount(), &[])?;
        store.settle()?;
        card.set_model("ordinary")?;
        let folder = card.folder().to_string_lossy();
        let load = ["put", "--rate", "10", "--arrival", "poisson", "--value-size", "1024", "--keys", "1000"];
        let more = ["--compact-every", "300s", "--duration", seconds, "--card", &folder];
        let report = store.bench(&[&load[..], &more].concat(), LOAD_LIMIT)?;
        let [_, p50, p99] = speed(&report)?.try_into().ok().context("three figures of speed")?;
        let days = number(&report, "/elapsed_seconds")? / 86_400.0;
        let gigabytes = number(&report, "/device/counts/bytes")? / 1e9 / days;
        let flushes = number(&report, "/device/counts/flushes")? / 1e6 / days;
        Ok(vec![
            seen("written", Unit::GigabytesADay, gigabytes),
            seen("flushes", Unit::MillionsADay, flushes),
            seen("an 8 GB card lives", Unit::Years, CARD_LIFE_GIGABYTES / gigabytes / 365.0),
            p50,
            p99,
        ])
    })?;
    let did = format!(
        "ordinary simulated card, 10 puts/s of 1 KiB at random moments (poisson) to 1,000 keys, {seconds}, counted on \
         the card and taken for a day; the card lives {CARD_LIFE_GIGABYTES} GB, as one did; snapshots come too seldom \
         to fall into the time"
    );
    Ok(Outcome { did, figures })
}

fn free64(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("20s", "4s");
    let figures = side_by_side(stage, |kind| {
        let store = stage.store(kind, &stage.plain_folder()?, &[])?;
        store.settle()?;
        let load = ["put", "--clients", "64", "--value-size", "256", "--duration"];
        store.bench(&[&load[..], &[stage.pick("5s", "1s")]].concat(), LOAD_LIMIT)?;
        speed(&store.bench(&[&load[..], &[seconds]].concat(), LOAD_LIMIT)?)
    })?;
    let did = format!(
        "this machine's disk, no card, 64 clients in closed loops, 256-byte values, 10,000 keys, {seconds} after a \
         warm-up; clients and store share the machine"
    );
    Ok(Outcome { did, figures })
}

/// Time for a store to give memory back after a load.
const CALM: Duration = Duration::from_secs(3);

/// Writes keys of their own, never overwritten.
fn fill(store: &Store<'_>, total: &str, value_size: &str, prefix: &str) -> Result<()> {
    let load = ["put", "--clients", "64", "--keys", "0", "--key-size", "64", "--prefix", prefix];
    let report =
        store.bench(&[&load[..], &["--total", total, "--value-size", value_size]].concat(), LOAD_LIMIT)?;
    speed(&report).map(drop)
}

fn memory(stage: &Stage) -> Result<Outcome> {
    let figures = side_by_side(stage, |kind| {
        let store = stage.store(kind, &stage.plain_folder()?, &[])?;
        store.settle()?;
        let empty = store.resident_mebibytes()?;
        fill(&store, "10000", "256", "quorate-bench/")?;
        std::thread::sleep(CALM);
        let filled = store.resident_mebibytes()?;
        // Overwritten once more on average, so that there is history to compact.
        let again = ["put", "--clients", "64", "--total", "10000", "--keys", "10000", "--key-size", "64"];
        store.bench(&[&again[..], &["--compact-every", "1h"]].concat(), LOAD_LIMIT)?;
        std::thread::sleep(CALM);
        let compacted = store.resident_mebibytes()?;
        Ok(vec![
            seen("resident, no keys", Unit::Mebibytes, empty),
            seen("resident, 10,000 keys", Unit::Mebibytes, filled),
            seen("resident, overwritten and compacted", Unit::Mebibytes, compacted),
        ])
    })?;
    let did = "this machine's disk; VmRSS 3 s after 64 clients wrote 10,000 keys of 64 bytes with 256-byte values, and \
               after 10,000 more puts to these keys and a compaction"
        .to_owned();
    Ok(Outcome { did, figures })
}

fn kube(stage: &Stage) -> Result<Outcome> {
    let figures = side_by_side(stage, |kind| {
        let store = stage.store(kind, &stage.plain_folder()?, &[])?;
        store.settle()?;
        fill(&store, "12000", "4096", "/registry/pods/default/")?;
        std::thread::sleep(CALM);
        let filled = store.resident_mebibytes()?;
        let watch = [
            "watch",
            "--streams",
            "64",
            "--prefix",
            "/registry/leases/",
            "--rate",
            "5",
            "--connections",
            "8",
        ];
        let mut watching = store.bench_in_background(
            "bench",
            &[&watch[..], &["--value-size", "512", "--duration", "10s"]].concat(),
        )?;
        std::thread::sleep(Duration::from_secs(7));
        watching.check_alive()?;
        let watched = store.resident_mebibytes()?;
        let status = watching.wait(LOAD_LIMIT)?;
        ensure!(status.success(), "the watchers missed something ({status})");
        Ok(vec![
            seen("resident, 50 MB", Unit::Mebibytes, filled),
            seen("resident, with 64 watch streams", Unit::Mebibytes, watched),
        ])
    })?;
    let did = "this machine's disk; VmRSS after 12,000 objects of 4 KiB under /registry/pods, then with 64 watch streams \
               that get 5 events a second of 512 bytes each"
        .to_owned();
    Ok(Outcome { did, figures })
}

fn start(stage: &Stage) -> Result<Outcome> {
    let rounds = stage.pick(5, 3);
    let figures = side_by_side(stage, |kind| {
        let mut store = stage.store(kind, &stage.plain_folder()?, &[])?;
        fill(&store, "100000", "256", "quorate-bench/")?;
        let (mut terminated, mut killed) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            store.terminate()?;
            terminated.push(store.restart()?);
            store.kill()?;
            killed.push(store.restart()?);
        }
        Ok(vec![
            seen("start after SIGTERM", Unit::Seconds, median(terminated)),
            seen("start after kill -9", Unit::Seconds, median(killed)),
        ])
    })?;
    let did = format!(
        "this machine's disk, its cache warm; 100,000 keys of 64 bytes with 256-byte values; from the start of the \
         process to the answer of a linearizable get, median of {rounds}"
    );
    Ok(Outcome { did, figures })
}

fn overwrite(stage: &Stage) -> Result<Outcome> {
    // 400 MiB, or a fifth of it.
    let total = stage.pick("102400", "20480");
    let figures = side_by_side(stage, |kind| {
        let card = stage.card("free")?;
        let store = stage.store(kind, &card.mount(), &[])?;
        store.settle()?;
        let before = (counts(&store, kind)?, bytes_when_still(&card)?);
        let load = ["put", "--clients", "64", "--keys", "1000", "--value-size", "4096", "--total", total];
        let report = store.bench(&[&load[..], &["--compact-every", "10s"]].concat(), LOAD_LIMIT)?;
        let [puts, _, p99] = speed(&report)?.try_into().ok().context("three figures of speed")?;
        let payload = number(&report, "/done")? * 4096.0;
        // The image that the load began belongs to it.
        let written = bytes_when_still(&card)? - before.1;
        let now = counts(&store, kind)?;
        let [zeroed, log, images, image_count] = [0, 1, 2, 3].map(|at| now[at] - before.0[at]);
        let mut figures =
            vec![seen("written per byte of payload", Unit::Times, (written - zeroed) / payload)];
        if kind == Kind::Quorate {
            figures.push(seen("of it log", Unit::Times, log / payload));
            figures.push(seen("of it images", Unit::Times, images / payload));
            figures.push(seen("first zeroing, not counted above", Unit::Times, zeroed / payload));
            figures.push(seen("images begun and finished", Unit::Count, image_count));
        }
        let longest = seen("longest put", Unit::Milliseconds, number(&report, "/latency/max_ms")?);
        figures.extend([puts, p99, longest]);
        Ok(figures)
    })?;
    let did = format!(
        "free simulated card (bytes count, not times); {total} puts of 4 KiB by 64 clients to 1,000 keys, compacted \
         every 10 s to the newest revision; counted until the card is still again; first zeroing of the log left out"
    );
    Ok(Outcome { did, figures })
}

/// The card's bytes, once nothing more is written to it: so that what was begun is counted whole.
fn bytes_when_still(card: &Card<'_>) -> Result<f64> {
    const STILL: Duration = Duration::from_secs(6);
    let begun = Instant::now();
    let (mut bytes, mut since) = (number(&card.stats()?, "/bytes_written")?, Instant::now());
    while since.elapsed() < STILL {
        ensure!(begun.elapsed() < LOAD_LIMIT, "the card is never still");
        std::thread::sleep(Duration::from_millis(250));
        let now = number(&card.stats()?, "/bytes_written")?;
        // A heartbeat of a store that does nothing is a block or two; an image or zeros are megabytes.
        if now > bytes + 65_536.0 {
            since = Instant::now();
        }
        bytes = now;
    }
    Ok(bytes)
}

/// Bytes of zeros, of the log and of images, and the number of images; etcd counts no such things.
fn counts(store: &Store<'_>, kind: Kind) -> Result<[f64; 4]> {
    match kind {
        Kind::Quorate => Ok([
            store.zeroed_bytes()?,
            store.metric("quorate_wal_written_bytes_total")?,
            store.metric("quorate_image_written_bytes_total")?,
            store.metric("quorate_images_total")?,
        ]),
        Kind::Etcd => Ok([0.0; 4]),
    }
}

fn size(stage: &Stage) -> Result<Outcome> {
    let (quorated, etcd) = stage.programs();
    let bytes = |path: &Path| -> Result<f64> {
        let length = std::fs::metadata(path).with_context(|| format!("no {}", path.display()))?.len();
        Ok(length as f64)
    };
    let of = |what: &str, quorate, etcd| Figure {
        what: what.to_owned(),
        unit: Unit::Bytes,
        quorate,
        etcd,
        compared: true,
    };
    let mut figures = vec![of("this machine's", Some(bytes(quorated)?), etcd.map(bytes).transpose()?)];
    let mut did = "bytes of the program files".to_owned();
    match super::board_program() {
        Some(program) => {
            figures.push(of("static, aarch64", Some(bytes(&program)?), None));
            did.push_str(&format!("; static: {}", program.display()));
        }
        None => did.push_str("; no static aarch64 program was built"),
    }
    Ok(Outcome { did, figures })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_unique() {
        for (at, row) in ROWS.iter().enumerate() {
            assert!(row.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            assert!(ROWS[at + 1..].iter().all(|other| other.name != row.name));
        }
    }
}
