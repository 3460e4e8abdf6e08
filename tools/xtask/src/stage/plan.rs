//! What the command line of `figures` and `torture` says: they take the same flags.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// Any; the same for both stores.
const SEED: u64 = 7;

/// What is asked of which command.
pub(crate) struct Grammar {
    /// Its name.
    pub(crate) command: &'static str,
    /// Its rows, in the table's order.
    pub(crate) rows: Vec<&'static str>,
    /// Whether etcd is measured without being asked for.
    pub(crate) etcd: bool,
    /// Whether it draws plots.
    pub(crate) plots: bool,
}

/// Which rows to measure, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) list: bool,
    pub(crate) etcd: bool,
    pub(crate) quick: bool,
    pub(crate) seed: u64,
    pub(crate) json: Option<PathBuf>,
    pub(crate) plots: Option<PathBuf>,
    rows: Vec<String>,
}

impl Plan {
    /// Reads the arguments after the command's name.
    pub(crate) fn parse(arguments: &[String], grammar: &Grammar) -> Result<Plan> {
        let mut plan = Plan {
            list: false,
            etcd: grammar.etcd,
            quick: false,
            seed: SEED,
            json: None,
            plots: None,
            rows: Vec::new(),
        };
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
                "--plots" if grammar.plots => plan.plots = Some(value()?.into()),
                flag if flag.starts_with('-') => {
                    bail!("`{}` has no flag {flag}; see `cargo xtask help`", grammar.command)
                }
                name if grammar.rows.contains(&name) => plan.rows.push(name.to_owned()),
                name => bail!("no row is called {name}; there are: {}", grammar.rows.join(", ")),
            }
        }
        Ok(plan)
    }

    /// Whether that row is to be measured: all are if none is named.
    pub(crate) fn chooses(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|name| name == row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Plan> {
        let grammar = Grammar { command: "test", rows: vec!["one", "two", "three"], etcd: true, plots: true };
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Plan::parse(&words, &grammar)
    }

    #[test]
    fn rows_are_chosen_or_all() {
        let plan = parse("three --quick one --vs etcd").unwrap();
        assert_eq!(["one", "two", "three"].map(|row| plan.chooses(row)), [true, false, true]);
        assert!(parse("").unwrap().chooses("two"));
    }

    #[test]
    fn flags_are_read_and_unknown_ones_refused() {
        let plan = parse("--no-etcd --quick --seed 9 --json x.json --plots p two").unwrap();
        assert_eq!(
            plan,
            Plan {
                list: false,
                etcd: false,
                quick: true,
                seed: 9,
                json: Some("x.json".into()),
                plots: Some("p".into()),
                rows: vec!["two".into()]
            }
        );
        for (line, part) in
            [("--vs redis", "redis"), ("--json", "--json"), ("--fast", "--fast"), ("four", "three")]
        {
            assert!(parse(line).unwrap_err().to_string().contains(part), "{line}");
        }
    }
}
