//! `quorated`: the store node. Reads its settings and hands over to the hall.
#![forbid(unsafe_code)]

use clap::Parser;
use quorated::config::Settings;
use quorated::run::{ExitReason, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let settings = Settings::parse();
    let config = match settings.with_file().and_then(Settings::check) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("quorated: {error}");
            return ExitReason::BadSettings.code();
        }
    };
    run(&config).code()
}
