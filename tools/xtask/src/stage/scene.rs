//! Which programs play on which machine: figures without it say nothing.

use super::Stage;
use super::plan::Plan;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's place; `ETCD` names another.
const ETCD: &str = "/usr/bin/etcd";

/// Which programs on which machine.
pub(crate) struct Scene {
    pub(crate) quorate: String,
    pub(crate) etcd: Option<String>,
    pub(crate) machine: String,
    pub(crate) quick: bool,
    pub(crate) seed: u64,
}

impl Scene {
    /// The same as JSON, to which rows are added.
    pub(crate) fn json(&self, rows: Vec<Value>) -> Value {
        let mut object = Map::new();
        let mut add = |name: &str, value| drop(object.insert(name.to_owned(), value));
        add("quorate", json!(self.quorate));
        add("etcd", json!(self.etcd));
        add("machine", json!(self.machine));
        add("quick", json!(self.quick));
        add("seed", json!(self.seed));
        add("rows", Value::Array(rows));
        Value::Object(object)
    }

    /// What stands above a table.
    pub(crate) fn headline(&self) -> String {
        let quick = if self.quick { " Quick: too short for figures to hold on to." } else { "" };
        format!("{}; cards of seed {}.{quick}", self.machine, self.seed)
    }

    /// etcd's name above its column.
    pub(crate) fn etcd_name(&self) -> &str {
        self.etcd.as_deref().unwrap_or("etcd (not measured)")
    }
}

/// Opens the stage a plan asks for, with our programs as cargo built them for release or as `QUORATED` and
/// `QUORATE` name them.
pub(crate) fn open(root: &Path, plan: &Plan) -> Result<(Stage, Scene)> {
    let etcd = plan.etcd.then(find_etcd).transpose()?;
    let ours = |variable, name: &str| {
        std::env::var_os(variable)
            .map_or_else(|| target_folder(root).join("release").join(name), PathBuf::from)
    };
    let (quorated, quorate) = (ours("QUORATED", "quorated"), ours("QUORATE", "quorate"));
    let stage = Stage::open([&quorated, &quorate], etcd, plan.seed, plan.quick)?;
    let scene = look_at(&stage)?;
    Ok((stage, scene))
}

fn look_at(stage: &Stage) -> Result<Scene> {
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

fn find_etcd() -> Result<PathBuf> {
    let path = PathBuf::from(std::env::var_os("ETCD").unwrap_or_else(|| ETCD.into()));
    if !path.is_file() {
        bail!("no etcd at {}: name one in ETCD, or measure without it (--no-etcd)", path.display());
    }
    Ok(path)
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// The first line of `--version`.
fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("{} does not start", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("?").to_owned())
}

/// Writes what a run has measured, for programs.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}
