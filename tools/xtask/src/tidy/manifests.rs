//! Manifests: members inherit versions and lints, and every crate named at the root is used and has a reason.

use super::{Finding, Source, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    // A manifest with a workspace of its own is no member: the fuzz targets, which want another compiler.
    let is_member =
        |source: &&Source| source.path.ends_with("/Cargo.toml") && !source.text.contains("\n[workspace]\n");
    let members: Vec<&Source> = tree.sources.iter().filter(is_member).collect();
    for member in &members {
        if !member.text.contains("[lints]\nworkspace = true") {
            findings.push(Finding::new(&member.path, 0, "`[lints] workspace = true` is missing"));
        }
        for (line, name, value) in dependencies(member) {
            if !name.ends_with(".workspace") && !value.contains("workspace = true") {
                let text = format!("`{name}`: name its version and reason in the root Cargo.toml");
                findings.push(Finding::new(&member.path, line, text));
            }
        }
    }
    if let Some(root) = tree.get("Cargo.toml") {
        let used: Vec<&str> = members
            .iter()
            .flat_map(|member| dependencies(member))
            .map(|(_, name, _)| name.strip_suffix(".workspace").unwrap_or(name))
            .collect();
        let mut reason = false;
        for (line, text) in root.lines().skip_while(|(_, line)| *line != "[workspace.dependencies]").skip(1) {
            if text.starts_with('[') {
                break;
            }
            reason = text.starts_with('#') || (reason && !text.is_empty());
            let Some((name, _)) = text.split_once(" = ").filter(|_| !text.starts_with('#')) else { continue };
            if !reason {
                findings.push(Finding::new(
                    "Cargo.toml",
                    line,
                    format!("`{name}` needs a comment: what for?"),
                ));
            }
            if !used.contains(&name) {
                findings.push(Finding::new("Cargo.toml", line, format!("`{name}` is used by no member")));
            }
        }
    }
    findings
}

/// Line, name and value of each dependency of any kind.
fn dependencies(manifest: &Source) -> impl Iterator<Item = (usize, &str, &str)> {
    let mut inside = false;
    manifest.lines().filter_map(move |(line, text)| {
        if text.starts_with('[') {
            inside = text.ends_with("dependencies]");
        }
        let (name, value) = text.split_once('=').filter(|_| inside && !text.starts_with('#'))?;
        Some((line, name.trim(), value))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree_of;
    use super::*;

    #[test]
    fn versions_stand_at_the_root_with_a_reason_and_a_user() {
        let root = "[workspace.dependencies]\n# Bytes.\nbytes = \"1\"\nserde = \"1\"\n\nrand = \"1\"\n\n[profile.dev]\nx = 1\n";
        let member = "[lints]\nworkspace = true\n\n[dependencies]\nbytes.workspace = true\n\
                      rand = { workspace = true, features = [] }\nlibc = \"0.2\"\n\n[features]\nx = []\n";
        let apart = "[package]\n\n[workspace]\n\n[dependencies]\nlibfuzzer-sys = \"0.4\"\n";
        let tree = tree_of(&[
            ("Cargo.toml", root),
            ("a/Cargo.toml", member),
            ("b/Cargo.toml", "[package]\n"),
            ("c/Cargo.toml", apart),
        ]);
        let found: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "a/Cargo.toml:7: `libc`: name its version and reason in the root Cargo.toml",
                "b/Cargo.toml: `[lints] workspace = true` is missing",
                "Cargo.toml:4: `serde` is used by no member",
                "Cargo.toml:6: `rand` needs a comment: what for?",
            ]
        );
    }
}
