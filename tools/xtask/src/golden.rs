//! Rewriting what tests print and compare: layouts in `tests/golden`, the generated wire code.

use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// When set, such a test writes what it makes instead of comparing it.
const REGENERATE_VARIABLE: &str = "QUORATE_REGENERATE";

/// Parts of the names of such tests.
const TEST_NAMES: [&str; 2] = ["golden", "generated"];

/// Runs those tests with rewriting on; whether all passed.
pub(crate) fn rewrite(root: &Path) -> Result<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["test", "--workspace", "--lib", "--bins", "--tests", "--"])
        .args(TEST_NAMES)
        .env(REGENERATE_VARIABLE, "1")
        .current_dir(root)
        .status()
        .context("cargo test did not start")?;
    Ok(status.success())
}
