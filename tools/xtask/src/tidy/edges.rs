//! Crate edges: which room may know which. A new edge is a decision, so it is made here, in the open.

use super::Finding;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Every package, and the packages of this workspace it may name, in any kind of dependency.
///
/// Beside house directions: the wire's words (`quorate-proto`) are a crate of their own below `api`, so
/// that tools speak them without the server; the bench is a library, so that tests can load a node with it.
const INSIDE: &[(&str, &[&str])] = &[
    ("quorate-types", &[]),
    ("quorate-board", &[]),
    ("quorate-proto", &[]),
    ("quorate-wal", &["quorate-types"]),
    ("quorate-raft", &["quorate-types"]),
    ("quorate-peer", &["quorate-types", "quorate-raft"]),
    ("quorate-store", &["quorate-types"]),
    ("quorate-watch", &["quorate-types", "quorate-store"]),
    ("quorate-api", &["quorate-types", "quorate-store", "quorate-watch", "quorate-proto"]),
    (
        "quorated",
        &[
            "quorate-types",
            "quorate-wal",
            "quorate-raft",
            "quorate-peer",
            "quorate-store",
            "quorate-watch",
            "quorate-api",
            "quorate-proto",
            "quorate-board",
        ],
    ),
    ("quorate-card", &[]),
    ("quorate-bench", &["quorate-proto"]),
    (
        "quorate",
        &[
            "quorate-types",
            "quorate-board",
            "quorate-wal",
            "quorate-store",
            "quorate-proto",
            "quorate-bench",
            "quorate-card",
        ],
    ),
    ("xtask", &[]),
    (
        "quorate-tests",
        &[
            "quorate-types",
            "quorate-wal",
            "quorate-raft",
            "quorate-peer",
            "quorate-store",
            "quorate-watch",
            "quorate-api",
            "quorate-proto",
            "quorated",
            "quorate",
            "quorate-card",
            "quorate-bench",
        ],
    ),
    // A test too: the simulator takes the checker of linearizability from its neighbour.
    (
        "quorate-sim",
        &[
            "quorate-types",
            "quorate-wal",
            "quorate-raft",
            "quorate-store",
            "quorate-watch",
            "quorate-api",
            "quorated",
            "quorate-tests",
        ],
    ),
];

/// What a pure room may take from outside, dev-dependencies apart: a dependency could bring back the
/// clock that `no_std` took away.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("quorate-types", &["serde"]),
    ("quorate-raft", &["serde", "postcard", "heapless"]),
    ("quorate-store", &["serde", "serde_bytes", "postcard", "crc", "bytes"]),
    ("quorate-watch", &["bytes", "heapless"]),
];

/// What cargo knows about this workspace's own packages.
pub(super) fn metadata(root: &Path) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cargo metadata did not start")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")
}

pub(super) fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let own: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has no name")?;
        let Some((_, inside)) = INSIDE.iter().find(|(known, _)| *known == name) else {
            findings.push(Finding::new(name, 0, "is a new package: say in tidy/edges.rs what it may know"));
            continue;
        };
        let outside = OUTSIDE.iter().find(|(known, _)| *known == name).map(|(_, outside)| *outside);
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().context("a dependency has no name")?;
            let allowed = if own.contains(&target) {
                inside.contains(&target)
            } else {
                // For a build or in use; what only tests take cannot reach the node.
                dependency["kind"] == "dev" || outside.is_none_or(|outside| outside.contains(&target))
            };
            if !allowed {
                let text = format!("may not know `{target}` (directions: tidy/edges.rs)");
                findings.push(Finding::new(name, 0, text));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(packages: Value) -> Vec<String> {
        check(&json!({ "packages": packages })).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn new_edges_are_found_in_every_kind() {
        let store = json!({ "name": "quorate-store", "dependencies": [
            { "name": "quorate-types", "kind": null },
            { "name": "quorate-wal", "kind": "dev" },
            { "name": "proptest", "kind": "dev" },
            { "name": "rand", "kind": null },
        ]});
        let wal = json!({ "name": "quorate-wal", "dependencies": [{ "name": "rustix", "kind": null }] });
        assert_eq!(
            found(json!([store, wal, { "name": "quorate-types", "dependencies": [] }])),
            [
                "quorate-store: may not know `quorate-wal` (directions: tidy/edges.rs)",
                "quorate-store: may not know `rand` (directions: tidy/edges.rs)",
            ]
        );
    }

    #[test]
    fn a_new_package_must_be_placed() {
        assert_eq!(
            found(json!([{ "name": "quorate-extra", "dependencies": [] }])),
            ["quorate-extra: is a new package: say in tidy/edges.rs what it may know"]
        );
    }

    #[test]
    fn the_list_has_no_cycle_and_nothing_knows_the_tests() {
        // Each package may only name those listed before it; so there is no cycle.
        for (at, (name, inside)) in INSIDE.iter().enumerate() {
            for target in *inside {
                let position = INSIDE.iter().position(|(known, _)| known == target);
                assert!(position.is_some_and(|position| position < at), "{name} → {target}");
                assert!(*target != "quorate-tests" || *name == "quorate-sim", "{name} → {target}");
            }
        }
    }
}
