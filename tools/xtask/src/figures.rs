//! The README's figures: quorated beside real etcd, in one run. Each store runs alone, on a fresh card of the
//! same model and seed; everything that is started is ended, also after a failure.

mod card;
mod cluster;
mod metrics;
mod process;
mod rows;
mod sides;
mod stage;
mod table;
mod three;

use anyhow::{Context, Result, bail};
use rows::ROWS;
use stage::Stage;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use table::{Measured, Scene};

/// Debian's place; `ETCD` names another.
const ETCD: &str = "/usr/bin/etcd";
/// Any; the same for both stores.
const SEED: u64 = 7;

/// Which rows to measure, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    list: bool,
    etcd: bool,
    quick: bool,
    seed: u64,
    json: Option<PathBuf>,
    rows: Vec<String>,
}

impl Plan {
    /// Reads the arguments after `figures`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Plan> {
        let mut plan =
            Plan { list: false, etcd: true, quick: false, seed: SEED, json: None, rows: Vec::new() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--list" => plan.list = true,
                "--vs" => match value()?.as_str() {
                    "etcd" => plan.etcd = true,
                    other => bail!("nothing here measures {other}; there is: etcd"),
                },
                "--no-etcd" => plan.etcd = false,
                "--quick" => plan.quick = true,
                "--seed" => plan.seed = value()?.parse().context("--seed wants a number")?,
                "--json" => plan.json = Some(value()?.into()),
                flag if flag.starts_with('-') => {
                    bail!("`figures` has no flag {flag}; see `cargo xtask help`")
                }
                name if ROWS.iter().any(|row| row.name == name) => plan.rows.push(name.to_owned()),
                name => {
                    let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
                    bail!("no row is called {name}; there are: {}", names.join(", "))
                }
            }
        }
        Ok(plan)
    }

    fn chosen(&self) -> impl Iterator<Item = &'static rows::Row> {
        ROWS.iter().filter(|row| self.rows.is_empty() || self.rows.iter().any(|name| name == row.name))
    }
}

/// Measures and prints; whether every row could be measured. A row that fails does not take the others along.
pub(crate) fn run(root: &Path, plan: &Plan) -> Result<bool> {
    if plan.list {
        for row in ROWS {
            println!("{:<12} {}", row.name, row.what);
        }
        return Ok(true);
    }
    let etcd = plan.etcd.then(find_etcd).transpose()?;
    let ours = |variable, name: &str| {
        std::env::var_os(variable)
            .map_or_else(|| target_folder(root).join("release").join(name), PathBuf::from)
    };
    let (quorated, quorate) = (ours("QUORATED", "quorated"), ours("QUORATE", "quorate"));
    let stage = Stage::open([&quorated, &quorate], etcd, plan.seed, plan.quick)?;
    let scene = scene(&stage)?;
    let (mut measured, mut failed) = (Vec::new(), Vec::new());
    for row in plan.chosen() {
        eprintln!("{} … {}", row.name, row.what);
        let begun = Instant::now();
        match (row.run)(&stage) {
            Ok(outcome) => measured.push(Measured {
                row: row.name,
                did: outcome.did,
                figures: outcome.figures,
                seconds: begun.elapsed().as_secs_f64(),
            }),
            Err(error) => failed.push(format!("{}: {error:#}", row.name)),
        }
    }
    print!("{}", table::markdown(&scene, &measured));
    if let Some(path) = &plan.json {
        let text = serde_json::to_string_pretty(&table::json(&scene, &measured))?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    for failure in &failed {
        eprintln!("not measured: {failure}");
    }
    Ok(failed.is_empty())
}

fn find_etcd() -> Result<PathBuf> {
    let path = PathBuf::from(std::env::var_os("ETCD").unwrap_or_else(|| ETCD.into()));
    if !path.is_file() {
        bail!("no etcd at {}: name one in ETCD, or measure without it (--no-etcd)", path.display());
    }
    Ok(path)
}

/// Where cargo puts what it builds.
fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// The static program of a board: named in `QUORATED_AARCH64`, or the smallest that cargo built.
fn board_program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("QUORATED_AARCH64") {
        return Some(path.into());
    }
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?).join("../..");
    let folder = target_folder(&root).join("aarch64-unknown-linux-musl");
    let programs = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path().join("quorated"));
    programs.filter(|path| path.is_file()).min_by_key(|path| path.metadata().map_or(u64::MAX, |of| of.len()))
}

/// Who plays, and where: figures without their machine say nothing.
fn scene(stage: &Stage) -> Result<Scene> {
    let (quorated, etcd) = stage.programs();
    let cores = std::thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    Ok(Scene {
        quorate: version(quorated)?,
        etcd: etcd.map(version).transpose()?.map(|version| version.replace(" Version:", "")),
        machine: format!("{}, {cores} cores, load {load} before", std::env::consts::ARCH),
        quick: stage.quick,
        seed: stage.seed,
    })
}

/// The first line of `--version`.
fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("{} does not start", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("?").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Plan> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Plan::parse(&words)
    }

    #[test]
    fn rows_are_chosen_in_the_tables_order() {
        let names = |line| parse(line).unwrap().chosen().map(|row| row.name).collect::<Vec<_>>();
        assert_eq!(names("").len(), ROWS.len());
        assert_eq!(names("put64 --quick put1 --vs etcd"), ["put1", "put64"]);
    }

    #[test]
    fn flags_are_read_and_unknown_ones_refused() {
        let plan = parse("--no-etcd --quick --seed 9 --json x.json size").unwrap();
        assert_eq!(
            plan,
            Plan {
                list: false,
                etcd: false,
                quick: true,
                seed: 9,
                json: Some("x.json".into()),
                rows: vec!["size".into()]
            }
        );
        for (line, part) in
            [("--vs redis", "redis"), ("--json", "--json"), ("--fast", "--fast"), ("put2", "put64")]
        {
            assert!(parse(line).unwrap_err().to_string().contains(part), "{line}");
        }
    }
}
