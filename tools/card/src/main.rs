//! `quorate-card`: what `quorate card` does, without the rest; small enough for any test machine.
#![forbid(unsafe_code)]
use clap::Parser;
use quorate_card::cli::{CardArgs, run};

#[derive(Debug, Parser)]
#[command(name = "quorate-card", version, about)]
struct Arguments {
    #[command(flatten)]
    card: CardArgs,
}

fn main() -> anyhow::Result<()> {
    run(Arguments::parse().card)
}
