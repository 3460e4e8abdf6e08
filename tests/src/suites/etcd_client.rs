//! The tests of crate `etcd-client`, from the published crate.

use super::{Exclusion, Report, is_done, limited, mark_done, run, words};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the crate and its version.
const MANIFEST: &str = include_str!("../../suites/etcd-client.toml");

/// The one port its tests dial.
pub const PORT: u16 = 2379;

/// The crate, unpacked and built in a folder of its own.
#[derive(Debug)]
pub struct Suite {
    crate_dir: PathBuf,
    target_dir: PathBuf,
}

impl Suite {
    /// Fetches the crate through Cargo and builds its tests, both only once for a folder.
    ///
    /// # Errors
    /// What Cargo or the file system says.
    pub fn prepare(folder: &Path) -> Result<Suite, String> {
        let suite = Suite { crate_dir: folder.join("crate"), target_dir: folder.join("target") };
        if !is_done(&suite.crate_dir, MANIFEST).map_err(|error| error.to_string())? {
            suite.fetch(&folder.join("fetch"))?;
        }
        run(suite.cargo(900).arg("--no-run"))?;
        Ok(suite)
    }

    fn fetch(&self, fetch_dir: &Path) -> Result<(), String> {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
        let prepared = fs::create_dir_all(fetch_dir)
            .and_then(|()| fs::write(fetch_dir.join("Cargo.toml"), MANIFEST))
            .and_then(|()| fs::write(fetch_dir.join("lib.rs"), ""))
            // What our own build has fetched already is not fetched in another version just to find the crate.
            .and_then(|()| fs::copy(ours.join("../Cargo.lock"), fetch_dir.join("Cargo.lock")));
        prepared.map_err(|error| error.to_string())?;
        let mut metadata = limited(300, cargo());
        metadata.args(["metadata", "--quiet", "--format-version", "1"]).current_dir(fetch_dir);
        let metadata = metadata.output().map_err(|error| error.to_string())?;
        if !metadata.status.success() {
            return Err(String::from_utf8_lossy(&metadata.stderr).into_owned());
        }
        let published = published_dir(&metadata.stdout).ok_or("cargo metadata does not name the crate")?;
        copy(&published, &self.crate_dir)
            .and_then(|()| leave_workspace(&self.crate_dir))
            .and_then(|()| mark_done(&self.crate_dir, MANIFEST))
            .map_err(|error| error.to_string())
    }

    /// Runs all but the exclusions.
    #[must_use]
    pub fn run_main(&self, excluded: &[Exclusion]) -> Report {
        let mut command = self.cargo(300);
        command.args(["--no-fail-fast", "--", "--exact"]);
        for exclusion in excluded {
            command.args(["--skip", exclusion.test]);
        }
        Report::of_libtest(words(&mut command))
    }

    /// Runs the exclusions alone, one after the other.
    #[must_use]
    pub fn run_excluded(&self, excluded: &[Exclusion]) -> Report {
        let mut command = self.cargo(300);
        command.args(["--no-fail-fast", "--", "--exact", "--test-threads=1"]);
        command.args(excluded.iter().map(|exclusion| exclusion.test));
        Report::of_libtest(words(&mut command))
    }

    /// `cargo test` in the crate, with the versions it was published with, in the profile that builds fastest.
    fn cargo(&self, seconds: u32) -> Command {
        let mut command = limited(seconds, cargo());
        // Without `--quiet`, which the test runner would take for its own: it prints one line a test.
        command.args(["test", "--locked", "--tests", "--target-dir"]).arg(&self.target_dir);
        command.current_dir(&self.crate_dir);
        for profile in ["DEV", "TEST"] {
            command.env(format!("CARGO_PROFILE_{profile}_DEBUG"), "0");
            command.env(format!("CARGO_PROFILE_{profile}_OPT_LEVEL"), "0");
        }
        command.env("CARGO_INCREMENTAL", "0").env_remove("CARGO_TARGET_DIR");
        command
    }
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Where Cargo unpacked the crate.
fn published_dir(metadata: &[u8]) -> Option<PathBuf> {
    let metadata: serde_json::Value = serde_json::from_slice(metadata).ok()?;
    let packages = metadata["packages"].as_array()?;
    let package = packages.iter().find(|package| package["name"] == "etcd-client")?;
    Path::new(package["manifest_path"].as_str()?).parent().map(Path::to_owned)
}

/// The crate lies below our workspace's folder without being a member of it: it says so itself.
fn leave_workspace(crate_dir: &Path) -> io::Result<()> {
    let path = crate_dir.join("Cargo.toml");
    let manifest = fs::read_to_string(&path)?;
    fs::write(path, manifest + "\n[workspace]\n")
}

fn copy(source: &Path, target: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let to = target.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Whether the protobuf compiler, with the files every definition may import, is there: the crate's build asks
/// for both.
#[must_use]
pub fn has_protoc(folder: &Path) -> bool {
    let probe = folder.join("probe.proto");
    let text = "syntax = \"proto3\";\nimport \"google/protobuf/descriptor.proto\";\n";
    if fs::create_dir_all(folder).and_then(|()| fs::write(&probe, text)).is_err() {
        return false;
    }
    let protoc = std::env::var_os("PROTOC").unwrap_or_else(|| "protoc".into());
    let mut command = limited(60, protoc);
    command.arg("-I").arg(folder).arg("--descriptor_set_out").arg(folder.join("probe.bin")).arg(&probe);
    if let Some(include) = std::env::var_os("PROTOC_INCLUDE") {
        command.arg("-I").arg(include);
    }
    run(&mut command).is_ok()
}
