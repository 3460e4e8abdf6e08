//! The integration tests of PyPI's `aetcd`, from its source distribution.

use super::{Exclusion, Report, is_done, limited, mark_done, run, words};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As the constraints say, which name it in their first line.
const RELEASE: &str = "1.0.0";
/// The rest of the versions.
const CONSTRAINTS: &str = include_str!("../../suites/aetcd-constraints.txt");
const TESTS: &str = "tests/integration";

/// The sources and a Python of their own.
#[derive(Debug)]
pub struct Suite {
    folder: PathBuf,
}

impl Suite {
    /// Makes a virtual environment with the client, its test tools in the versions it pins, and its tests; only
    /// once for a folder.
    ///
    /// # Errors
    /// What Python, pip or the file system says.
    pub fn prepare(folder: &Path) -> Result<Suite, String> {
        let suite = Suite { folder: folder.to_owned() };
        if is_done(folder, CONSTRAINTS).map_err(|error| error.to_string())? {
            return Ok(suite);
        }
        run(limited(120, "python3").args(["-m", "venv"]).arg(suite.folder.join("venv")))?;
        run(suite.pip("install").args(["setuptools", "setuptools-scm[toml]", "wheel"]))?;
        let mut download = suite.pip("download");
        download.args(["--no-build-isolation", "--no-deps", "--no-binary", "aetcd", "--dest"]);
        run(download.arg(folder).arg(format!("aetcd=={RELEASE}")))?;
        let sources = folder.join(format!("aetcd-{RELEASE}.tar.gz"));
        run(limited(60, "tar").arg("xf").arg(&sources).arg("-C").arg(folder))?;
        let mut client = suite.sources().into_os_string();
        client.push("[test]");
        run(suite.pip("install").arg("--no-build-isolation").arg(client))?;
        mark_done(folder, CONSTRAINTS).map_err(|error| error.to_string())?;
        Ok(suite)
    }

    fn pip(&self, verb: &str) -> Command {
        let constraints = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/aetcd-constraints.txt");
        let mut command = limited(300, self.folder.join("venv/bin/python"));
        command.args(["-m", "pip", verb, "--quiet", "--disable-pip-version-check", "--constraint"]);
        command.arg(constraints);
        command
    }

    fn sources(&self) -> PathBuf {
        self.folder.join(format!("aetcd-{RELEASE}"))
    }

    /// Its files of tests, by the name pytest knows them.
    ///
    /// # Errors
    /// What the file system says.
    pub fn files(&self) -> io::Result<Vec<String>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.sources().join(TESTS))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("test_") {
                files.push(format!("{TESTS}/{name}"));
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// Runs all of one file but the exclusions; the store is wiped after each test.
    #[must_use]
    pub fn run_file(&self, file: &str, endpoint: &str, excluded: &[Exclusion]) -> Report {
        let mut command = self.pytest(endpoint);
        for exclusion in excluded {
            command.args(["--deselect", exclusion.test]);
        }
        Report::of_pytest(words(command.arg(file)))
    }

    /// Runs the exclusions alone.
    #[must_use]
    pub fn run_excluded(&self, endpoint: &str, excluded: &[Exclusion]) -> Report {
        let mut command = self.pytest(endpoint);
        command.args(excluded.iter().map(|exclusion| exclusion.test));
        Report::of_pytest(words(&mut command))
    }

    fn pytest(&self, endpoint: &str) -> Command {
        let mut command = limited(180, self.folder.join("venv/bin/python"));
        command.args(["-m", "pytest", "-v", "--no-cov", "--color=no", "-p", "no:cacheprovider"]);
        command.current_dir(self.sources());
        // Debian's etcdctl 3.4 speaks the second API unless told; aetcd's own tests call it.
        command.env("TEST_ETCD_HTTP_URL", endpoint).env("ETCDCTL_API", "3");
        command
    }
}
