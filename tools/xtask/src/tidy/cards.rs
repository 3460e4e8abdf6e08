//! The room card: the five lines that open every `lib.rs`, and the walls a room declares in code.

use super::{Finding, Source, Tree};

/// What a card says, in this order.
const HEADS: [&str; 5] = ["Way in:", "Way out:", "May touch:", "Must not:", "Always:"];

/// Rooms without `std`: they cannot even name a clock, a socket or a file.
const PURE_ROOMS: [&str; 3] = ["node/types/", "node/store/", "node/watch/"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let doors = tree.sources.iter().filter(|source| {
        source.path.ends_with("/src/lib.rs")
            && (source.path.starts_with("node/") || source.path.starts_with("tools/"))
    });
    doors.flat_map(check_door).collect()
}

fn check_door(door: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let card: Vec<&str> = door.text.lines().map_while(|line| line.strip_prefix("//!")).collect();
    if card.first().is_none_or(|line| line.trim().is_empty() || HEADS.iter().any(|head| line.contains(head)))
    {
        findings.push(Finding::new(&door.path, 1, "the first line says in a sentence what this room is"));
    }
    let card = card.join("\n");
    let mut from = 0;
    for head in HEADS {
        match card[from..].find(head) {
            Some(at) => from += at + head.len(),
            None => findings.push(Finding::new(
                &door.path,
                1,
                format!("the room card lacks `{head}` (in this order: {})", HEADS.join(" ")),
            )),
        }
    }
    if super::room_of(&door.path).is_some() && !door.text.contains("#![forbid(unsafe_code)]") {
        findings.push(Finding::new(&door.path, 0, "a room forbids unsafe code: `#![forbid(unsafe_code)]`"));
    }
    if PURE_ROOMS.iter().any(|room| door.path.starts_with(room)) && !door.text.contains("#![no_std]") {
        findings.push(Finding::new(&door.path, 0, "a pure room has no clock and no sockets: `#![no_std]`"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tree_of;
    use super::*;

    const CARD: &str =
        "//! The log.\n//!\n//! Way in: a.  Way out: b.\n//! May touch: c. Must not: d.\n//! Always: e.\n";

    #[test]
    fn a_whole_card_passes() {
        let text = format!("{CARD}#![no_std]\n#![forbid(unsafe_code)]\n");
        assert_eq!(check(&tree_of(&[("node/store/src/lib.rs", &text)])), []);
    }

    #[test]
    fn a_missing_or_misplaced_line_is_found() {
        let text = CARD.replace("Must not:", "Should not:");
        let findings = check(&tree_of(&[("tools/bench/src/lib.rs", &text)]));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].text.contains("Must not:"));
        let swapped =
            "//! The log.\n//! Way out: b. Way in: a.\n//! May touch: c. Must not: d.\n//! Always: e.\n";
        let findings = check(&tree_of(&[("tools/bench/src/lib.rs", swapped)]));
        assert_eq!(findings.len(), 1, "Way out stands before Way in: {findings:?}");
    }

    #[test]
    fn a_card_further_down_does_not_count() {
        let text = format!("use core::fmt;\n{CARD}");
        assert_eq!(check(&tree_of(&[("tools/bench/src/lib.rs", &text)])).len(), 6);
    }

    #[test]
    fn walls_in_code_are_asked_for() {
        let findings = check(&tree_of(&[("node/watch/src/lib.rs", CARD)]));
        let texts: Vec<&str> = findings.iter().map(|finding| finding.text.as_str()).collect();
        assert!(texts[0].contains("forbid(unsafe_code)") && texts[1].contains("no_std"), "{texts:?}");
    }
}
