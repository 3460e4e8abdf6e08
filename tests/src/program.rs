//! Which program a test starts, and where it is found.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A server program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Our node.
    Quorated(PathBuf),
    /// A real etcd.
    Etcd(PathBuf),
}

impl Program {
    /// Our node: named by `QUORATED`, or built now by Cargo in this test's own profile, so never a stale one.
    ///
    /// # Panics
    /// If Cargo cannot build it: nothing could be tested.
    #[must_use]
    pub fn quorated() -> Program {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        if let Some(named) = std::env::var_os("QUORATED") {
            return Program::Quorated(named.into());
        }
        Program::Quorated(BUILT.get_or_init(|| build("quorated", "quorated")).clone())
    }

    /// A real etcd: named by `ETCD`, or Debian's; none where there is none.
    #[must_use]
    pub fn etcd() -> Option<Program> {
        let path = std::env::var_os("ETCD").map_or_else(|| PathBuf::from("/usr/bin/etcd"), PathBuf::from);
        path.is_file().then_some(Program::Etcd(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Program::Quorated(path) | Program::Etcd(path) => path,
        }
    }
}

/// Builds a binary of this workspace in the profile and target folder of the running test.
///
/// # Panics
/// If Cargo cannot.
#[must_use]
pub fn build(package: &str, binary: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["build", "--quiet", "--package", package, "--bin", binary]);
    command.args(["--message-format", "json"]).stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let built = command.output().expect("cargo runs: it runs this test");
    String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == binary)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .unwrap_or_else(|| panic!("cargo did not build {binary}"))
}
