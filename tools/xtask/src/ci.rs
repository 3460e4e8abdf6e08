//! What CI runs. `.ci` calls `cargo xtask ci` and nothing else, so a person sees the same red as CI does.

use crate::tidy;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// One step. A new step is one more line of `STEPS`.
struct Step {
    name: &'static str,
    what: &'static str,
    run: Run,
}

/// How a step runs. Command lines are split at spaces; no argument here holds one.
enum Run {
    /// In this process.
    Tidy,
    /// A command line that every place has the programs for.
    Always(&'static str),
    /// A command line if a program stands in the search path, else the other one.
    Prefer { program: &'static str, line: &'static str, otherwise: &'static str },
    /// A command line if a program stands in the search path, else the step is skipped.
    Needs { program: &'static str, line: &'static str },
}

/// In the order CI runs them: what fails fastest comes first.
const STEPS: &[Step] = &[
    Step { name: "tidy", what: "house rules no compiler checks", run: Run::Tidy },
    Step { name: "fmt", what: "one form of the code", run: Run::Always("cargo fmt --all --check") },
    Step {
        name: "clippy",
        what: "lints of the workspace and of each room",
        run: Run::Always("cargo clippy --workspace --all-targets --locked -- -D warnings"),
    },
    Step {
        name: "test",
        what: "unit, property, golden and scripted tests",
        run: Run::Prefer {
            program: "cargo-nextest",
            line: "cargo nextest run --workspace --locked --no-fail-fast",
            otherwise: "cargo test --workspace --locked --lib --bins --tests",
        },
    },
    Step {
        name: "sim",
        what: "thousands of whole clusters, each from its seed; every situation must be reached",
        run: Run::Always("cargo xtask sim --seeds 1..2001 --all"),
    },
    Step {
        name: "mutants",
        what: "known ways to break the core, each of which the histories and the simulator must catch",
        run: Run::Always(
            "cargo test --locked --profile sim --package quorate-raft --package quorate-sim --features \
             quorate-raft/mutants,quorate-sim/mutants --test mutants",
        ),
    },
    Step {
        name: "doc-test",
        what: "examples in documentation",
        run: Run::Always("cargo test --workspace --locked --doc"),
    },
    Step {
        name: "board",
        what: "the board's static binary: built, and killed and started again under an emulator",
        run: Run::Needs {
            program: "aarch64-linux-gnu-gcc",
            line: "cargo test --locked --package quorate-tests --test board -- --ignored --nocapture",
        },
    },
    Step {
        name: "deny",
        what: "licences, bans, sources (advisories need a network: `cargo deny check advisories`)",
        run: Run::Needs { program: "cargo-deny", line: "cargo deny --offline check licenses bans sources" },
    },
];

/// Which steps to run, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    list: bool,
    keep_going: bool,
    no_skip: bool,
    from: Option<String>,
    only: Vec<String>,
}

impl Plan {
    /// Reads the arguments after `ci`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Plan> {
        let mut plan = Plan::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--list" => plan.list = true,
                "--keep-going" => plan.keep_going = true,
                "--no-skip" => plan.no_skip = true,
                "--from" => {
                    let name = rest.next().context("--from wants the name of a step")?;
                    plan.from = Some(known(name)?);
                }
                flag if flag.starts_with('-') => bail!("`ci` has no flag {flag}; see `cargo xtask help`"),
                name => plan.only.push(known(name)?),
            }
        }
        Ok(plan)
    }

    fn chosen(&self) -> Vec<&'static Step> {
        let first = self.from.as_ref().and_then(|name| STEPS.iter().position(|step| step.name == name));
        STEPS
            .iter()
            .skip(first.unwrap_or(0))
            .filter(|step| self.only.is_empty() || self.only.iter().any(|name| name == step.name))
            .collect()
    }
}

fn known(name: &str) -> Result<String> {
    if STEPS.iter().any(|step| step.name == name) {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    bail!("no step is called {name}; there are: {}", names.join(", "))
}

/// How a step ended.
enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

/// Runs the chosen steps; whether all of them passed.
pub(crate) fn run(root: &Path, plan: &Plan) -> Result<bool> {
    if plan.list {
        for step in STEPS {
            println!("{:<12} {}", step.name, step.what);
        }
        return Ok(true);
    }
    let mut lines = Vec::new();
    let mut passed = true;
    for step in plan.chosen() {
        println!("── {} ── {}", step.name, step.what);
        let started = Instant::now();
        let outcome = run_step(root, &step.run)?;
        let failed = match outcome {
            Outcome::Passed => false,
            Outcome::Failed => true,
            Outcome::Skipped(_) => plan.no_skip,
        };
        lines.push(time_line(step.name, &outcome, started.elapsed()));
        println!("{}", lines.last().expect("a line was just pushed"));
        if failed {
            passed = false;
            if !plan.keep_going {
                break;
            }
        }
    }
    println!("\n{}", lines.join("\n"));
    Ok(passed)
}

fn run_step(root: &Path, run: &Run) -> Result<Outcome> {
    let line = match *run {
        Run::Tidy => return Ok(if tidy::report(root)? { Outcome::Passed } else { Outcome::Failed }),
        Run::Always(line) => line,
        Run::Prefer { program, line, otherwise } => {
            if in_search_path(program) {
                line
            } else {
                otherwise
            }
        }
        Run::Needs { program, line } => {
            if !in_search_path(program) {
                return Ok(Outcome::Skipped(format!("{program} is not installed here")));
            }
            line
        }
    };
    println!("$ {line}");
    let mut words = line.split(' ');
    let program = words.next().expect("splitting gives at least one word");
    let status = Command::new(program)
        .args(words)
        .current_dir(root)
        .status()
        .with_context(|| format!("`{program}` did not start"))?;
    Ok(if status.success() { Outcome::Passed } else { Outcome::Failed })
}

fn in_search_path(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn time_line(name: &str, outcome: &Outcome, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match outcome {
        Outcome::Passed => format!("passed   {name:<12} {seconds:>7.1} s"),
        Outcome::Failed => format!("FAILED   {name:<12} {seconds:>7.1} s"),
        Outcome::Skipped(why) => format!("skipped  {name:<12} {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Plan> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Plan::parse(&words)
    }

    fn names(plan: &Plan) -> Vec<&'static str> {
        plan.chosen().iter().map(|step| step.name).collect()
    }

    #[test]
    fn step_names_are_words_and_unique() {
        for (at, step) in STEPS.iter().enumerate() {
            assert!(step.name.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit()));
            assert!(
                STEPS[at + 1..].iter().all(|other| other.name != step.name),
                "{} stands twice",
                step.name
            );
        }
    }

    #[test]
    fn all_steps_run_by_default_and_in_order() {
        let all: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names(&parse("").unwrap()), all);
        assert_eq!(names(&parse("--from clippy").unwrap()), all[2..]);
        assert_eq!(names(&parse("fmt tidy").unwrap()), ["tidy", "fmt"]);
    }

    #[test]
    fn unknown_steps_and_flags_are_refused() {
        assert!(parse("--fast").unwrap_err().to_string().contains("--fast"));
        assert!(parse("lint").unwrap_err().to_string().contains("clippy"));
        assert!(parse("--from").is_err());
    }

    #[test]
    fn a_missing_program_skips_or_falls_back() {
        let root = std::env::temp_dir();
        let skipped = run_step(&root, &Run::Needs { program: "no-such-program", line: "false" }).unwrap();
        assert!(matches!(skipped, Outcome::Skipped(why) if why.contains("no-such-program")));
        let other =
            run_step(&root, &Run::Prefer { program: "no-such-program", line: "false", otherwise: "true" })
                .unwrap();
        assert!(matches!(other, Outcome::Passed));
        assert!(matches!(run_step(&root, &Run::Always("false")).unwrap(), Outcome::Failed));
    }
}
