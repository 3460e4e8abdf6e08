//! Code about code: each check is one file, reads the tree, and says what is wrong where.

mod cards;
mod edges;
mod lints;
mod manifests;
mod places;
mod regressions;
mod words;

use anyhow::{Context, Result, bail};
use std::fmt;
use std::path::Path;
use std::process::Command;

/// Largest file the tree may hold, in bytes. Lock files and generated code stay below; blobs do not.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// One file of the tree that holds text.
struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
}

/// Every text file git knows or would take in.
struct Tree {
    sources: Vec<Source>,
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// From 1; zero if the file as a whole is meant.
    line: usize,
    text: String,
}

impl Finding {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.text),
            line => write!(f, "{}:{line}: {}", self.path, self.text),
        }
    }
}

impl Tree {
    /// Lists by git, so that what is ignored is not judged.
    fn open(root: &Path) -> Result<(Tree, Vec<Finding>)> {
        let listing = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("git did not start; tidy asks it which files belong to the tree")?;
        if !listing.status.success() {
            bail!("git ls-files: {}", String::from_utf8_lossy(&listing.stderr).trim());
        }
        let mut sources = Vec::new();
        let mut findings = Vec::new();
        for path in String::from_utf8_lossy(&listing.stdout).split('\0').filter(|path| !path.is_empty()) {
            // Gone from the folder and not yet from git: nothing to judge.
            let Ok(bytes) = std::fs::read(root.join(path)) else { continue };
            if bytes.len() > FILE_BYTES_MAX {
                findings.push(Finding::new(path, 0, "is larger than 1 MiB: keep blobs out of the tree"));
            }
            if let Ok(text) = String::from_utf8(bytes) {
                sources.push(Source { path: path.to_owned(), text });
            }
        }
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        sources.dedup_by(|a, b| a.path == b.path);
        Ok((Tree { sources }, findings))
    }

    fn get(&self, path: &str) -> Option<&Source> {
        let at = self.sources.binary_search_by(|source| source.path.as_str().cmp(path)).ok()?;
        Some(&self.sources[at])
    }

    /// Rust sources, without what a generator wrote.
    fn rust(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.path.ends_with(".rs") && !source.is_generated())
    }
}

impl Source {
    fn is_generated(&self) -> bool {
        self.path.starts_with("node/api/proto/src/generated/")
            || self.text.lines().take(5).any(|line| line.contains("@generated"))
    }

    /// Lines with their numbers, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }
}

/// The room whose door that path is: `node/<room>/src/lib.rs`.
fn room_of(path: &str) -> Option<&str> {
    path.strip_prefix("node/")?.strip_suffix("/src/lib.rs").filter(|room| !room.contains('/'))
}

/// Runs every check and prints what it found; whether nothing was.
pub(crate) fn report(root: &Path) -> Result<bool> {
    let (tree, mut findings) = Tree::open(root)?;
    findings.extend(cards::check(&tree));
    findings.extend(lints::check(&tree));
    findings.extend(manifests::check(&tree));
    findings.extend(words::check(&tree));
    findings.extend(places::check(&tree));
    findings.extend(regressions::check(&tree));
    findings.extend(edges::check(&edges::metadata(root)?)?);
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} files, {} findings", tree.sources.len(), findings.len());
    Ok(findings.is_empty())
}

#[cfg(test)]
fn tree_of(files: &[(&str, &str)]) -> Tree {
    let mut sources: Vec<Source> = files
        .iter()
        .map(|(path, text)| Source { path: (*path).to_owned(), text: (*text).to_owned() })
        .collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Tree { sources }
}
