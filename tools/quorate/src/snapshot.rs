//! `quorate snapshot …`: a node's whole state in a file.
//!
//! The file is what `etcdctl snapshot save` writes, too: the image, zeros up to a multiple of 512 bytes, and
//! the SHA-256 of all that.

mod file;
mod restore;
mod save;

use crate::say::say;
use anyhow::Result;
use clap::{Args, Subcommand};
use file::SnapshotFile;
use quorate_bench::EndpointArgs;
use serde::Serialize;
use std::path::PathBuf;

const SAVE_EXAMPLES: &str = "\
Example:
  quorate snapshot save backup.snap --endpoints node1:2379";

const STATUS_EXAMPLES: &str = "\
Examples:
  quorate snapshot status backup.snap
  quorate snapshot status backup.snap --json";

const RESTORE_EXAMPLES: &str = "\
Example:
  quorate snapshot restore backup.snap --data-dir /var/lib/quorate --name n1
  quorated --data-dir /var/lib/quorate --name n1

The restored node founds a cluster of its own, with new identities: nodes of the old cluster and their
folders do not take it for one of theirs. Keys, history and leases are those of the snapshot.";

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save the state of a running node
    #[command(after_help = SAVE_EXAMPLES)]
    Save(SaveArgs),
    /// Check a snapshot from its first byte to its last, and show what is in it
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Make a new folder from a snapshot, for a node that founds a new cluster
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(RestoreArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Where to; an existing file is replaced once the new one is whole
    file: PathBuf,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// The file that is read.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// What `quorate snapshot save` or `etcdctl snapshot save` wrote
    file: PathBuf,
    /// Take a file without the checksum at its end: an image copied from a node's folder
    #[arg(long)]
    skip_hash_check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The folder to make; must be empty or not there
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The node's name, for people
    #[arg(long, default_value = "default", value_name = "NAME")]
    name: String,
}

/// What is in a snapshot. The first four are what etcdctl tells, under its names in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Contents {
    /// As `etcdctl endpoint hashkv` gives it for that revision.
    hash: u32,
    revision: i64,
    #[serde(rename = "totalKey")]
    key_count: usize,
    #[serde(rename = "totalSize")]
    bytes: u64,
    #[serde(rename = "compactRevision")]
    compacted: i64,
    #[serde(rename = "leases")]
    lease_count: usize,
    cluster: String,
    node: String,
    index: u64,
    term: u64,
}

/// Whether it went well.
pub(crate) async fn run(command: &SnapshotCommand) -> Result<bool> {
    match command {
        SnapshotCommand::Save(args) => {
            let url = args.endpoint.urls()?.remove(0);
            let saved = save::save(&args.endpoint, &url, &args.file).await?;
            say(format_args!("{}: {saved} bytes of {url} saved, checksum good", args.file.display()))?;
        }
        SnapshotCommand::Status(args) => {
            let contents = look(&args.source)?;
            if args.json {
                say(serde_json::to_string(&contents)?)?;
            } else {
                say(contents.print().trim_end())?;
            }
        }
        SnapshotCommand::Restore(args) => {
            let snapshot = SnapshotFile::open(&args.source.file, args.source.skip_hash_check)?;
            let identity = restore::restore(&snapshot, &args.data_dir, &args.name)?;
            let folder = args.data_dir.display();
            say(format_args!(
                "{folder} holds the snapshot as {identity}; start it: quorated --data-dir {folder} --name {}",
                args.name
            ))?;
        }
    }
    Ok(true)
}

fn look(source: &SourceArgs) -> Result<Contents> {
    let snapshot = SnapshotFile::open(&source.file, source.skip_hash_check)?;
    let (head, store) = snapshot.load()?;
    Ok(Contents {
        hash: store.hash_kv(0)?.hash,
        revision: store.revision().0,
        key_count: store.key_count(),
        bytes: snapshot.bytes(),
        compacted: store.compacted().0,
        lease_count: store.leases().count(),
        cluster: head.identity.cluster.to_string(),
        node: head.identity.node.to_string(),
        index: head.position.index.0,
        term: head.position.term.0,
    })
}

impl Contents {
    fn print(&self) -> String {
        let cells = [
            ("HASH", format!("{:x}", self.hash)),
            ("REVISION", self.revision.to_string()),
            ("TOTAL KEYS", self.key_count.to_string()),
            ("TOTAL SIZE", crate::status::print_bytes(self.bytes as f64)),
        ];
        let mut lines = [String::from("+"), String::from("|"), String::from("|")];
        for (name, value) in &cells {
            let width = name.len().max(value.len()) + 2;
            lines[0].push_str(&format!("{:->width$}+", ""));
            lines[1].push_str(&format!("{name:^width$}|"));
            lines[2].push_str(&format!("{value:^width$}|"));
        }
        let [ruler, names, values] = lines;
        format!(
            "{ruler}\n{names}\n{ruler}\n{values}\n{ruler}\ncompacted at revision {}, {} leases; index {} of term {} of \
             node {} in cluster {}\n",
            self.compacted, self.lease_count, self.index, self.term, self.node, self.cluster
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_etcdctls() {
        let contents = Contents {
            hash: 0x3c7a_3794,
            revision: 81_527,
            key_count: 5,
            bytes: 33_263_648,
            compacted: 3,
            lease_count: 2,
            cluster: "c1".into(),
            node: "a1".into(),
            index: 90,
            term: 2,
        };
        let table = "\
+----------+----------+------------+------------+
|   HASH   | REVISION | TOTAL KEYS | TOTAL SIZE |
+----------+----------+------------+------------+
| 3c7a3794 |  81527   |     5      |  31.7 MiB  |
+----------+----------+------------+------------+
";
        let text = contents.print();
        assert!(text.starts_with(table), "{text}");
        let json: serde_json::Value =
            serde_json::from_str(&serde_json::to_string(&contents).unwrap()).unwrap();
        assert_eq!(
            (&json["revision"], &json["totalKey"], &json["totalSize"]),
            (&81_527.into(), &5.into(), &33_263_648.into())
        );
    }
}
