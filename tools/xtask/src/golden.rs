//! Rewriting `tests/golden`: texts and layouts that a test prints and compares.

use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// What the golden tests look at: when set, they write what they print instead of comparing it.
const REWRITE_VARIABLE: &str = "QUORATE_GOLDEN_REWRITE";

/// Runs every test whose name holds `golden` with rewriting on; whether all passed.
pub(crate) fn rewrite(root: &Path) -> Result<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["test", "--workspace", "--lib", "--tests", "--", "golden"])
        .env(REWRITE_VARIABLE, "1")
        .current_dir(root)
        .status()
        .context("cargo test did not start")?;
    Ok(status.success())
}
