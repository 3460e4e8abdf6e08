//! What was tried and what was acknowledged: the history a crash test checks the survivors against.
//!
//! A record is a text file of lines. `run {…}` starts a run and says its key space; `try N K` stands there
//! before put N to key K is sent; `ack N R` after its answer, with the revision it got. Values follow from
//! the run's seed, so they need not be stored. Several runs, say between crashes, may follow one another.

use crate::keys::KeySpace;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Appends to a record. Each line is handed to the kernel at once: if this process dies, nothing that it
/// had sent is missing. (The record itself lies on a machine that stays up; it is not synced.)
#[derive(Debug)]
pub struct RecordWriter {
    file: Mutex<File>,
}

impl RecordWriter {
    /// Opens or creates `path` and starts a new run at its end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(path: &Path, space: &KeySpace) -> Result<RecordWriter> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot write the record {}", path.display()))?;
        let writer = RecordWriter { file: Mutex::new(file) };
        writer.write(&format!("run {}\n", serde_json::to_string(space)?))?;
        Ok(writer)
    }

    /// Put `put_number` to `key_number` is about to be sent.
    ///
    /// # Errors
    /// The line was not written: the put must not be sent.
    pub fn attempt(&self, put_number: u64, key_number: u64) -> Result<()> {
        self.write(&format!("try {put_number} {key_number}\n"))
    }

    /// It was acknowledged at `revision`.
    ///
    /// # Errors
    /// The line was not written.
    pub fn acknowledge(&self, put_number: u64, revision: i64) -> Result<()> {
        self.write(&format!("ack {put_number} {revision}\n"))
    }

    fn write(&self, line: &str) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes()).context("the record cannot be written")
    }
}

/// One put, as the record tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Number within its run, from 0.
    pub put_number: u64,
    /// Which key.
    pub key_number: u64,
    /// The revision, if it was acknowledged; else nobody knows whether it happened.
    pub revision: Option<i64>,
}

/// One run of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its keys and values.
    pub space: KeySpace,
    /// Its puts, ordered by number.
    pub attempts: Vec<Attempt>,
}

/// A whole record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// In the order they were made.
    pub runs: Vec<Run>,
}

impl History {
    /// Reads a record.
    ///
    /// # Errors
    /// A line that no writer wrote, with its number. A last line without its end is one that the writer
    /// was about to write; it is left out.
    pub fn open(path: &Path) -> Result<History> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the record {}", path.display()))?;
        History::parse(&text).with_context(|| format!("{} is no record", path.display()))
    }

    fn parse(text: &str) -> Result<History> {
        let mut history = History::default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for (at, line) in whole.lines().enumerate() {
            history.take_line(line).with_context(|| format!("line {}: `{line}`", at + 1))?;
        }
        for run in &mut history.runs {
            run.attempts.sort_by_key(|attempt| attempt.put_number);
            if let Some(pair) = run.attempts.windows(2).find(|pair| pair[0].put_number == pair[1].put_number)
            {
                bail!("put {} was tried twice in one run", pair[0].put_number);
            }
        }
        Ok(history)
    }

    fn take_line(&mut self, line: &str) -> Result<()> {
        if let Some(space) = line.strip_prefix("run ") {
            self.runs.push(Run { space: serde_json::from_str(space)?, attempts: Vec::new() });
            return Ok(());
        }
        let run = self.runs.last_mut().context("a record begins with a run")?;
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["try", put_number, key_number] => {
                let attempt = Attempt {
                    put_number: put_number.parse()?,
                    key_number: key_number.parse()?,
                    revision: None,
                };
                run.attempts.push(attempt);
            }
            ["ack", put_number, revision] => {
                let put_number: u64 = put_number.parse()?;
                // Acknowledged puts are recent ones: searching from the end finds them soon.
                let attempt = run.attempts.iter_mut().rev().find(|attempt| attempt.put_number == put_number);
                attempt.context("acknowledged but never tried")?.revision = Some(revision.parse()?);
            }
            _ => bail!("neither run, try nor ack"),
        }
        Ok(())
    }

    /// Puts that were acknowledged.
    #[must_use]
    pub fn acknowledged_count(&self) -> usize {
        self.runs.iter().flat_map(|run| &run.attempts).filter(|attempt| attempt.revision.is_some()).count()
    }

    /// Puts that were tried.
    #[must_use]
    pub fn attempted_count(&self) -> usize {
        self.runs.iter().map(|run| run.attempts.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> KeySpace {
        KeySpace { prefix: "b/".into(), key_bytes: 20, value_bytes: 8, key_count: 4, seed: 1 }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let first = RecordWriter::open(&path, &space()).unwrap();
        first.attempt(1, 3).unwrap();
        first.attempt(0, 2).unwrap();
        first.acknowledge(1, 77).unwrap();
        drop(first);
        let second = RecordWriter::open(&path, &KeySpace { seed: 2, ..space() }).unwrap();
        second.attempt(0, 0).unwrap();
        let history = History::open(&path).unwrap();
        assert_eq!((history.runs.len(), history.attempted_count(), history.acknowledged_count()), (2, 3, 1));
        assert_eq!(
            history.runs[0].attempts,
            [
                Attempt { put_number: 0, key_number: 2, revision: None },
                Attempt { put_number: 1, key_number: 3, revision: Some(77) },
            ]
        );
        assert_eq!(history.runs[1].space.seed, 2);
    }

    #[test]
    fn an_unfinished_last_line_is_left_out() {
        let run = format!("run {}\n", serde_json::to_string(&space()).unwrap());
        let history = History::parse(&format!("{run}try 0 1\nack 0 1")).unwrap();
        assert_eq!((history.attempted_count(), history.acknowledged_count()), (1, 0));
    }

    #[test]
    fn what_no_writer_wrote_is_refused_with_its_line() {
        let run = format!("run {}\n", serde_json::to_string(&space()).unwrap());
        for (lines, reason) in [
            ("ack 0 5\n", "never tried"),
            ("try 0 1\ntry 0 1\n", "twice"),
            ("put 1\n", "neither"),
            ("try x 1\n", "invalid digit"),
        ] {
            let error = format!("{:#}", History::parse(&format!("{run}{lines}")).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
        assert!(format!("{:#}", History::parse("try 0 1\n").unwrap_err()).contains("begins with a run"));
    }
}
