//! `tests/REGRESSIONS.md`: each found bug has a row, and the test it names exists.

use super::{Finding, Source, Tree};

const TABLE: &str = "tests/REGRESSIONS.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(table) = tree.get(TABLE) else { return Vec::new() };
    rows(table)
        .filter_map(|(line, row)| match test_of(row) {
            None => Some(Finding::new(TABLE, line, "the last column names the test, in backticks")),
            Some(test) if exists(tree, test) => None,
            Some(test) => Some(Finding::new(TABLE, line, format!("no test is called `{test}`"))),
        })
        .collect()
}

/// Rows of the table below its heading and ruler.
fn rows(table: &Source) -> impl Iterator<Item = (usize, &str)> {
    table
        .lines()
        .filter(|(_, line)| line.trim_start().starts_with('|'))
        .skip_while(|(_, line)| !line.contains("---"))
        .filter(|(_, line)| !line.contains("---"))
}

/// The last path segment of what stands in backticks in the last column.
fn test_of(row: &str) -> Option<&str> {
    let last = row.trim().trim_end_matches('|').rsplit('|').next()?;
    let name = last.split('`').nth(1)?;
    name.rsplit("::").next().filter(|name| !name.is_empty())
}

/// A function of that name in a Rust file, or a script of that name.
fn exists(tree: &Tree, test: &str) -> bool {
    let function = format!("fn {test}(");
    tree.rust().any(|source| source.text.contains(&function))
        || tree.sources.iter().any(|source| source.path.starts_with("tests/") && source.path.ends_with(test))
}

#[cfg(test)]
mod tests {
    use super::super::tree_of;
    use super::*;

    #[test]
    fn every_row_names_a_test_that_exists() {
        let table = "# Found bugs\n\n| When | What | Test |\n| --- | --- | --- |\n\
                     | 2026-11 | torn head | `quorate-wal::recovery::torn_head_is_torn` |\n\
                     | 2026-11 | lost ack | `lost_ack` |\n| 2026-11 | no test | – |\n";
        let tree =
            tree_of(&[(TABLE, table), ("node/wal/src/recovery.rs", "    fn torn_head_is_torn() {}\n")]);
        let found: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "tests/REGRESSIONS.md:6: no test is called `lost_ack`",
                "tests/REGRESSIONS.md:7: the last column names the test, in backticks",
            ]
        );
    }
}
