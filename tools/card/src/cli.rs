//! The command line: `quorate card …`, and the same by itself as `quorate-card …`.
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::bytes::{format_bytes, parse_bytes};
use crate::card::{Card, CardOptions, launch};
use crate::control::{Control, Ready};
use crate::figures::{Figures, Model};
use crate::serve::serve;
use crate::table::{Appends, TableOptions, measure_table};

/// A simulated SD card (Linux, root): a FUSE file under a loop device with ext4.
#[derive(Debug, Args)]
pub struct CardArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a card and mount it; it runs until Ctrl-C or `card stop`.
    Start(StartArgs),
    /// Ask something of a running card.
    Ctl {
        /// The card's folder.
        dir: PathBuf,
        #[command(subcommand)]
        verb: CtlVerb,
    },
    /// Stop a card and unmount everything, also after it crashed.
    Stop {
        /// The card's folder.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Measure durable 4 KiB appends to growing, fallocated and zero-filled files.
    Table(TableArgs),
    /// Be a card (started by the others).
    #[command(hide = true)]
    Serve { options: String },
    /// Be a card for as long as the starter lives.
    #[command(hide = true)]
    ServeKept { options: String },
}

#[derive(Debug, Args)]
struct StartArgs {
    /// The card's folder: control socket, image, log.
    #[arg(long)]
    dir: PathBuf,
    /// Where to mount it [default: DIR/mnt].
    #[arg(long)]
    mount: Option<PathBuf>,
    /// Size, 8MiB to 64GiB. Memory is taken for what is written only.
    #[arg(long, default_value = "1GiB", value_parser = parse_bytes)]
    size: u64,
    /// Seed of flush times, pauses and cuts [default: drawn].
    #[arg(long)]
    seed: Option<u64>,
    /// Leave it running in the background.
    #[arg(long)]
    background: bool,
    #[command(flatten)]
    figures: FigureArgs,
}

/// A model, and what differs from it.
#[derive(Debug, Args)]
struct FigureArgs {
    /// ordinary, bad or free.
    #[arg(long, default_value = "ordinary")]
    model: Model,
    /// Median time of a flush, e.g. 40ms.
    #[arg(long, value_name = "TIME")]
    flush_median: Option<String>,
    /// σ of the flush time's logarithm, 0 to 3.
    #[arg(long, value_name = "NUMBER")]
    flush_sigma: Option<String>,
    /// Bytes a second, e.g. 10MB/s; 0: no limit.
    #[arg(long, value_name = "RATE")]
    bandwidth: Option<String>,
    /// Extra time of a write that does not continue the last one.
    #[arg(long, value_name = "TIME")]
    seek: Option<String>,
    /// Length of a garbage-collection pause.
    #[arg(long, value_name = "TIME")]
    pause: Option<String>,
    /// Bytes written between two pauses; 0: none.
    #[arg(long, value_name = "BYTES")]
    pause_every: Option<String>,
}

impl FigureArgs {
    fn figures(&self) -> Result<Figures> {
        let mut figures = self.model.figures();
        for (name, value) in [
            ("flush-median", &self.flush_median),
            ("flush-sigma", &self.flush_sigma),
            ("bandwidth", &self.bandwidth),
            ("seek", &self.seek),
            ("pause", &self.pause),
            ("pause-every", &self.pause_every),
        ] {
            if let Some(value) = value {
                figures.change(name, value).map_err(anyhow::Error::msg)?;
            }
        }
        Ok(figures)
    }
}

#[derive(Debug, Subcommand)]
enum CtlVerb {
    /// Do nothing for this long, e.g. 10s.
    Stall {
        /// How long.
        #[arg(value_parser = humantime::parse_duration)]
        length: Duration,
    },
    /// Change figures: flush-median=80ms bandwidth=4MB/s model=bad …
    Set {
        /// NAME=VALUE.
        #[arg(required = true, value_parser = parse_change)]
        changes: Vec<(String, String)>,
    },
    /// Cut the power: each unflushed sector is kept or lost, all I/O fails until `revive`.
    Cut {
        /// Decides which [default: drawn from the card's seed].
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Power on again: attach and mount what survived.
    Revive,
    /// Counters.
    Stats {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stop the card and unmount everything.
    Stop,
}

fn parse_change(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("`{text}` is not NAME=VALUE"))
}

#[derive(Debug, Args)]
struct TableArgs {
    /// Appends to each file.
    #[arg(long, default_value_t = 200)]
    appends: usize,
    /// Seed of the card [default: drawn].
    #[arg(long)]
    seed: Option<u64>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    figures: FigureArgs,
}

/// Runs one `card` command to its end.
///
/// # Errors
/// A reason for a person.
pub fn run(args: CardArgs) -> Result<()> {
    match args.verb {
        Verb::Start(start) => run_start(start),
        Verb::Ctl { dir, verb } => run_ctl(&Control::of(&dir), verb),
        Verb::Stop { dir } => Control::of(&dir).stop(),
        Verb::Table(table) => run_table(&table),
        Verb::Serve { options } => run_serve(&options, false),
        Verb::ServeKept { options } => run_serve(&options, true),
    }
}

fn run_start(args: StartArgs) -> Result<()> {
    let options = CardOptions {
        mount: args.mount,
        size: args.size,
        seed: args.seed,
        figures: args.figures.figures()?,
        ..CardOptions::new(args.dir)
    }
    .checked()?;
    if args.background {
        let (ready, _runs_on) = launch(&options, false)?;
        return say(&describe(&ready, options.figures));
    }
    serve(&options, false, |ready| {
        // Whoever closed our output may still use the card.
        drop(say(&describe(ready, options.figures)));
    })
}

fn describe(ready: &Ready, figures: Figures) -> String {
    format!(
        "mount   {}\nsocket  {}\ndevice  {}\npid     {}\nseed    {}\ncosts   {figures}",
        ready.mount.display(),
        ready.socket.display(),
        ready.device.display(),
        ready.pid,
        ready.seed,
    )
}

fn run_serve(options: &str, kept: bool) -> Result<()> {
    let options: CardOptions = serde_json::from_str(options).context("options of a card")?;
    serve(&options.checked()?, kept, |ready| {
        if let Ok(line) = serde_json::to_string(ready) {
            // The starter is gone: its end of standard input says so to a kept card.
            drop(say(&line));
        }
    })
}

fn run_ctl(control: &Control, verb: CtlVerb) -> Result<()> {
    match verb {
        CtlVerb::Stall { length } => control.stall(length),
        CtlVerb::Set { changes } => {
            control.change(&changes)?;
            say(&control.figures()?.to_string())
        }
        CtlVerb::Cut { seed } => {
            let report = control.cut(seed)?;
            say(&format!(
                "power cut, seed {}: {} sectors kept, {} lost",
                report.seed, report.kept, report.lost
            ))
        }
        CtlVerb::Revive => control.revive(),
        CtlVerb::Stats { json } => {
            let stats = control.stats()?;
            if json {
                return say(&serde_json::to_string(&stats)?);
            }
            say(&format!(
                "writes   {} ({})\nflushes  {}\nreads    {} ({})\npauses   {}\ndiscards {}\ncuts     {}\n\
                 errors   {}\nbusy     {:.3} s\nunflushed sectors {}, waiting {}, memory {}",
                stats.writes,
                format_bytes(stats.bytes_written),
                stats.flushes,
                stats.reads,
                format_bytes(stats.bytes_read),
                stats.pauses,
                stats.discards,
                stats.cuts,
                stats.errors,
                Duration::from_micros(stats.busy_micros).as_secs_f64(),
                stats.unflushed_sectors,
                stats.waiting,
                format_bytes(stats.resident_bytes),
            ))
        }
        CtlVerb::Stop => control.stop(),
    }
}

fn run_table(args: &TableArgs) -> Result<()> {
    let figures = args.figures.figures()?;
    let dir = std::env::temp_dir().join(format!("quorate-card-table-{}", std::process::id()));
    let card = Card::start(&CardOptions { seed: args.seed, ..CardOptions::new(&dir) })?;
    let rows = measure_table(&card, TableOptions { appends: args.appends, figures }, |kind| {
        if !args.json {
            eprintln!("{} appends to a {} file …", args.appends, kind.name());
        }
    });
    let seed = card.ready().seed;
    card.stop()?;
    std::fs::remove_dir_all(&dir)?;
    let rows = rows?;
    if args.json {
        return say(&serde_json::to_string_pretty(&rows)?);
    }
    say(&render(&rows, figures, seed))
}

fn render(rows: &[Appends], figures: Figures, seed: u64) -> String {
    let mut text = format!(
        "4 KiB appends, each followed by fdatasync; {figures}; seed {seed}\n\
         {:<12} {:>10} {:>10} {:>10} {:>9} {:>9} {:>7}",
        "file", "p50", "p99", "longest", "flushes", "bytes", "pauses"
    );
    for row in rows {
        let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        text.push_str(&format!(
            "\n{:<12} {:>10} {:>10} {:>10} {:>9.2} {:>9.0} {:>7}",
            row.kind.name(),
            milliseconds(row.p50),
            milliseconds(row.p99),
            milliseconds(row.longest),
            row.flushes_per_append,
            row.bytes_per_append,
            row.pauses,
        ));
    }
    text
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}
