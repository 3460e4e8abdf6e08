//! No file names a place that exists on one machine only: a builder's folders, a mirror of a registry.

use super::{Finding, Tree};

/// Starts of folders that belong to a person or to a build machine.
const FOLDERS: [&str; 5] = ["/home/", "/root/", "/Users/", "/work/", "/tmp/target"];

/// Parts of host names by which registries are reached. Which one is used is the machine's business.
const REGISTRIES: [&str; 7] = [
    "index.crates.io",
    "static.crates.io",
    "crates.io-index",
    "pypi.org",
    "pythonhosted.org",
    "proxy.golang.org",
    "deb.debian.org",
];

/// Cargo writes the registry's name into the lock file; `deny.toml` names the one registry that is allowed;
/// and this file holds the list.
const EXEMPT: [&str; 3] = ["Cargo.lock", "deny.toml", "tools/xtask/src/tidy/places.rs"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources.iter().filter(|source| !EXEMPT.contains(&source.path.as_str())) {
        for (line, text) in source.lines() {
            if let Some(folder) = FOLDERS.iter().find(|folder| names_folder(text, folder)) {
                findings.push(Finding::new(
                    &source.path,
                    line,
                    format!("`{folder}` is a place on one machine"),
                ));
            }
            if let Some(host) = REGISTRIES.iter().find(|host| text.contains(*host)) {
                findings.push(Finding::new(
                    &source.path,
                    line,
                    format!("`{host}` is a registry's host name"),
                ));
            }
        }
    }
    findings
}

/// Whether the folder stands there as the start of an absolute path, not inside a longer one or a URL.
fn names_folder(text: &str, folder: &str) -> bool {
    text.match_indices(folder).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "._-}/".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree_of;
    use super::*;

    #[test]
    fn machine_places_are_found() {
        let text =
            "cd /home/ann/quorate\nsee src/work/plan.rs and https://example.org/work/1\nx=\"/work/a\"\n";
        let tree = tree_of(&[(".ci/run", text), ("Cargo.lock", "registry+https://index.crates.io/\n")]);
        let found: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                ".ci/run:1: `/home/` is a place on one machine",
                ".ci/run:3: `/work/` is a place on one machine"
            ]
        );
    }
}
