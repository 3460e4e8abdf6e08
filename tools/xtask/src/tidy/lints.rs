//! Each room has a `clippy.toml`, and it repeats the common part: clippy reads the nearest file and merges
//! nothing, so a room that forgets a line has silently lost it.

use super::{Finding, Tree, room_of};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(common) = tree.get("clippy.toml") else {
        return vec![Finding::new("clippy.toml", 0, "the common part of the lints is missing")];
    };
    let common: Vec<&str> = settings(&common.text).collect();
    for room in tree.sources.iter().filter(|source| source.path.ends_with("/clippy.toml")) {
        let own: Vec<&str> = settings(&room.text).collect();
        for line in common.iter().filter(|line| !own.contains(line)) {
            findings.push(Finding::new(&room.path, 0, format!("repeat the common line `{line}`")));
        }
    }
    for room in tree.sources.iter().filter_map(|source| room_of(&source.path)) {
        if tree.get(&format!("node/{room}/clippy.toml")).is_none() {
            let text = "a room has a clippy.toml of its own, with its bans";
            findings.push(Finding::new(&format!("node/{room}"), 0, text));
        }
    }
    findings
}

fn settings(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::super::tree_of;
    use super::*;

    #[test]
    fn a_room_repeats_the_common_part() {
        let common = "# why\na = 1\nb = 2\n";
        let whole = "a = 1\nb = 2\nc = []\n";
        let tree = tree_of(&[
            ("clippy.toml", common),
            ("node/wal/clippy.toml", whole),
            ("node/wal/src/lib.rs", ""),
            ("node/store/clippy.toml", "a = 1\n"),
            ("node/store/src/lib.rs", ""),
            ("node/types/src/lib.rs", ""),
            ("node/api/proto/src/lib.rs", ""),
        ]);
        let found: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "node/store/clippy.toml: repeat the common line `b = 2`",
                "node/types: a room has a clippy.toml of its own, with its bans",
            ]
        );
    }
}
