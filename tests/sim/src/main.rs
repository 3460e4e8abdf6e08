//! `quorate-sim`: one seed told, a span of seeds counted, or hours of them. `cargo xtask sim` starts it.

use quorate_sim::report::{run_guarded, run_many};
use quorate_sim::{Failure, Options};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: quorate-sim --seed N [--verbose] [--messages]   tell the story of one seed
       quorate-sim --seeds A..B [--all]     run those; with --all each situation must be reached
       quorate-sim --hours H                run on with new seeds until one fails
options:
       --threads N                          at once (2)
";

/// What was asked for.
enum Wish {
    One(u64),
    Span(u64, u64),
    Hours(f64),
}

fn main() -> ExitCode {
    let Some((wish, settings)) = parse() else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let (sum, failure) = match wish {
        Wish::One(seed) => return one(seed, &settings),
        Wish::Span(from, to) => run_many(settings.threads, Options::default(), |number| {
            Some(from + number).filter(|seed| *seed < to)
        }),
        Wish::Hours(hours) => {
            let end = began + Duration::from_secs_f64(hours * 3_600.0);
            let first = fresh_seed();
            println!("seeds from {first} on");
            run_many(settings.threads, Options::default(), |number| {
                (Instant::now() < end).then(|| first.wrapping_add(number))
            })
        }
    };
    print!("{}", sum.print());
    println!("{:.1} s", began.elapsed().as_secs_f64());
    if let Some(failure) = failure {
        return report(&failure);
    }
    let missing: Vec<&str> = sum.situations.missing().map(quorate_sim::Situation::words).collect();
    if settings.wants_all && !missing.is_empty() {
        println!("FAILED: never reached: {}", missing.join("; "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[cfg_attr(
    not(feature = "mutants"),
    expect(clippy::needless_update, reason = "the feature has one field more")
)]
fn one(seed: u64, settings: &Settings) -> ExitCode {
    if settings.is_verbose {
        // What the nodes say of themselves, between the lines of the story.
        tracing_subscriber::fmt()
            .without_time()
            .with_target(false)
            .with_max_level(tracing::Level::INFO)
            .init();
    }
    let tells_messages = settings.tells_messages;
    match run_guarded(seed, Options { tells: true, tells_messages, ..Options::default() }) {
        Ok(told) => {
            println!(
                "seed {seed} is fine: {} elections, {} entries, {} operations, {} virtual ms, trace {:016x}",
                told.elections, told.committed, told.operations, told.virtual_ms, told.trace
            );
            ExitCode::SUCCESS
        }
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    let Failure { seed, at_ms, words, story } = failure;
    println!(
        "FAILED: seed {seed} at {at_ms} ms: {words}\n{story}\nagain: cargo xtask sim --seed {seed} --verbose"
    );
    ExitCode::FAILURE
}

struct Settings {
    is_verbose: bool,
    tells_messages: bool,
    wants_all: bool,
    threads: usize,
}

fn parse() -> Option<(Wish, Settings)> {
    let mut arguments = std::env::args().skip(1);
    let mut settings = Settings { is_verbose: false, tells_messages: false, wants_all: false, threads: 2 };
    let mut wish = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seed" => wish = Some(Wish::One(arguments.next()?.parse().ok()?)),
            "--seeds" => {
                let span = arguments.next()?;
                let (from, to) = span.split_once("..")?;
                wish = Some(Wish::Span(from.parse().ok()?, to.parse().ok()?));
            }
            "--hours" => wish = Some(Wish::Hours(arguments.next()?.parse().ok()?)),
            "--threads" => settings.threads = arguments.next()?.parse().ok()?,
            "--verbose" => settings.is_verbose = true,
            "--messages" => settings.tells_messages = true,
            "--all" => settings.wants_all = true,
            _ => return None,
        }
    }
    Some((wish?, settings))
}

/// A seed nobody ran yesterday.
fn fresh_seed() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
