//! `cargo xtask sim`: builds the simulator in its own profile and hands it the arguments.

use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// Runs it; whether it found nothing.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--locked", "--profile", "sim", "--package", "quorate-sim", "--"])
        .args(arguments)
        .current_dir(root)
        .status()
        .context("cargo did not start")?;
    Ok(status.success())
}
