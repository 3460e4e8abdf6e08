//! What a run of a suite says about each of its tests.

use std::collections::BTreeMap;

/// What became of one test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// The suite itself left it out.
    Ignored,
    /// It failed, or what it needs could not be set up or cleared away.
    Failed,
}

/// What became of every test that was run or looked at.
#[derive(Debug, Default)]
pub struct Report {
    /// All that was said.
    pub words: String,
    tests: BTreeMap<String, Verdict>,
}

impl Report {
    /// Reads the words of Rust's test runner: `test NAME ... ok`.
    #[must_use]
    pub fn of_libtest(words: String) -> Report {
        let mut tests = BTreeMap::new();
        for line in words.lines() {
            let Some((name, rest)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... "))
            else {
                continue;
            };
            if let Some(verdict) = verdict(rest, ["ok", "ignored", "FAILED"]) {
                note(&mut tests, name, verdict);
            }
        }
        Report { words, tests }
    }

    /// Reads the words of `pytest -v`: `FILE::NAME PASSED [ 50%]`. A test whose set-up or clearing away fails
    /// has failed, whatever else is said of it.
    #[must_use]
    pub fn of_pytest(words: String) -> Report {
        let mut tests = BTreeMap::new();
        for line in words.lines() {
            let Some((name, rest)) = line.split_once(' ') else { continue };
            let is_test = name.contains(".py::");
            let verdict = verdict(rest, ["PASSED", "SKIPPED", "FAILED"])
                .or_else(|| rest.starts_with("ERROR").then_some(Verdict::Failed));
            if let Some(verdict) = verdict.filter(|_| is_test) {
                note(&mut tests, name, verdict);
            }
        }
        Report { words, tests }
    }

    /// Takes in the report of another part of the same suite.
    pub fn merge(&mut self, other: Report) {
        self.words.push_str(&other.words);
        for (name, verdict) in other.tests {
            note(&mut self.tests, &name, verdict);
        }
    }

    /// The tests this became of, sorted.
    #[must_use]
    pub fn names(&self, verdict: Verdict) -> Vec<&str> {
        self.tests.iter().filter(|(_, of)| **of == verdict).map(|(name, _)| name.as_str()).collect()
    }
}

fn verdict(words: &str, [passed, ignored, failed]: [&str; 3]) -> Option<Verdict> {
    [(passed, Verdict::Passed), (ignored, Verdict::Ignored), (failed, Verdict::Failed)]
        .into_iter()
        .find_map(|(word, verdict)| words.starts_with(word).then_some(verdict))
}

/// The worst that is said of a test counts.
fn note(tests: &mut BTreeMap<String, Verdict>, name: &str, verdict: Verdict) {
    let known = tests.entry(name.to_owned()).or_insert(verdict);
    *known = (*known).max(verdict);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_lines_are_read_and_others_are_not() {
        let report = Report::of_libtest(
            "running 3 tests\ntest a::b ... ok\ntest c ... ignored, needs three nodes\ntest d ... FAILED\n\
             test result: FAILED. 1 passed\nsome test e ... ok\n"
                .to_owned(),
        );
        assert_eq!(report.names(Verdict::Passed), ["a::b"]);
        assert_eq!(report.names(Verdict::Ignored), ["c"]);
        assert_eq!(report.names(Verdict::Failed), ["d"]);
    }

    #[test]
    fn a_pytest_that_cannot_clear_away_has_failed() {
        let mut report = Report::of_pytest(
            "t/test_a.py::one PASSED [ 10%]\nt/test_a.py::two PASSED [ 20%]\nt/test_a.py::two ERROR [ 20%]\n\
             t/test_a.py::three SKIPPED (no cluster) [ 30%]\nFAILED t/test_a.py::one - in the summary\n"
                .to_owned(),
        );
        assert_eq!(report.names(Verdict::Passed), ["t/test_a.py::one"]);
        assert_eq!(report.names(Verdict::Failed), ["t/test_a.py::two"]);
        assert_eq!(report.names(Verdict::Ignored), ["t/test_a.py::three"]);
        report.merge(Report::of_pytest("t/test_b.py::four FAILED [ 5%]\n".to_owned()));
        assert_eq!(report.names(Verdict::Failed), ["t/test_a.py::two", "t/test_b.py::four"]);
    }
}
