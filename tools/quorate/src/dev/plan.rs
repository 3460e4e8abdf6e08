//! What is started where: names, folders, ports, command lines.

use crate::say::say;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

/// Where one node lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodePlan {
    /// From 0.
    pub(super) index: u16,
    pub(super) name: String,
    /// Holds the node's data folder and its log.
    pub(super) folder: PathBuf,
    client_port: u16,
}

/// How a node comes to its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Beginning {
    /// It founds it; if its folder belongs to one already, it goes on.
    Found,
    /// By that token.
    Join(String),
    /// It belongs to it.
    GoOn,
}

/// The nodes `n1` to `n<count>`.
pub(super) fn plan(home: &Path, count: u16, base_port: u16) -> Vec<NodePlan> {
    let node = |index: u16| {
        let name = format!("n{}", index + 1);
        NodePlan { index, folder: home.join(&name), name, client_port: base_port + PORT_STEP * index }
    };
    (0..count).map(node).collect()
}

/// Ports of one node to those of the next.
const PORT_STEP: u16 = 10;

/// Voters that so many members come to by themselves: always an odd number.
pub(super) fn voters_expected(members: usize) -> usize {
    if members.is_multiple_of(2) { members.saturating_sub(1) } else { members }
}

impl NodePlan {
    pub(super) fn client(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.client_port).into()
    }

    fn peer(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.client_port + 1).into()
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("quorated.log")
    }

    fn joined_mark(&self) -> PathBuf {
        self.folder.join("joined")
    }

    /// Whether it became a member in an earlier run on this folder.
    pub(super) fn has_joined(&self) -> bool {
        self.joined_mark().exists()
    }

    pub(super) fn note_joined(&self) -> Result<()> {
        fs::write(self.joined_mark(), "")
            .with_context(|| format!("cannot write in {}", self.folder.display()))
    }

    /// What the node's program is given.
    pub(super) fn arguments(&self, beginning: &Beginning) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--name".into(), self.name.clone().into()];
        arguments.extend(["--data-dir".into(), self.data_dir().into_os_string()]);
        arguments.extend(["--listen-client".into(), self.client().to_string().into()]);
        arguments.extend(["--listen-peer".into(), self.peer().to_string().into()]);
        match beginning {
            Beginning::Found => arguments.push("--new-cluster".into()),
            Beginning::Join(token) => arguments.extend(["--join".into(), token.into()]),
            Beginning::GoOn => {}
        }
        arguments
    }

    /// The log's last lines.
    pub(super) fn log_tail(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.len().saturating_sub(TAIL_LINE_COUNT);
        lines[tail..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}

/// Lines of a log that usually tell why a node ended.
const TAIL_LINE_COUNT: usize = 5;

/// Every port is free now; else the nodes would fail one by one with less to go by.
pub(super) fn check_ports(plans: &[NodePlan]) -> Result<()> {
    for plan in plans {
        let free = TcpListener::bind(plan.client()).map(drop).map_err(|error| (plan.client(), error));
        let free =
            free.and_then(|()| UdpSocket::bind(plan.peer()).map(drop).map_err(|error| (plan.peer(), error)));
        if let Err((address, error)) = free {
            bail!("{address} cannot be used for {}: {error}. Choose others: --base-port PORT", plan.name);
        }
    }
    Ok(())
}

/// The node's program: as given, beside this tool, or in PATH.
pub(super) fn find_program(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        if !given.is_file() {
            bail!("--quorated {}: there is no such program", given.display());
        }
        // As a path, never looked for in PATH.
        return fs::canonicalize(given).with_context(|| format!("--quorated {}", given.display()));
    }
    let tool = std::env::current_exe().context("this tool does not know where it is")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = tool.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    let found = folders.map(|folder| folder.join("quorated")).find(|program| program.is_file());
    found.with_context(|| {
        format!(
            "the node's program, quorated, is neither beside this tool ({}) nor in PATH; build it (cargo build -p \
             quorated) or name it (--quorated FILE)",
            tool.display()
        )
    })
}

/// The folder of all nodes.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    is_temporary: bool,
}

impl Home {
    /// The given one, made if need be, or a new temporary one.
    pub(super) fn open(given: Option<&Path>) -> Result<Home> {
        if let Some(given) = given {
            let made = fs::create_dir_all(given).and_then(|()| fs::canonicalize(given));
            let path = made.with_context(|| format!("--data-dir {}", given.display()))?;
            return Ok(Home { path, is_temporary: false });
        }
        let number = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        let path = std::env::temp_dir().join(format!("quorate-dev-{number:016x}"));
        fs::create_dir(&path)
            .with_context(|| format!("no temporary folder can be made: {}", path.display()))?;
        Ok(Home { path, is_temporary: true })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what was temporary.
    pub(super) fn close(self) -> Result<()> {
        let path = self.path.display();
        if self.is_temporary {
            return fs::remove_dir_all(&self.path).with_context(|| format!("{path} could not be removed"));
        }
        say(format_args!("kept: {path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(plan: &NodePlan, beginning: &Beginning) -> String {
        let words: Vec<_> =
            plan.arguments(beginning).into_iter().map(|word| word.into_string().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn nodes_have_names_folders_and_ports_of_their_own() {
        let plans = plan(Path::new("/h"), 3, 2379);
        assert_eq!(
            line(&plans[0], &Beginning::Found),
            "--name n1 --data-dir /h/n1/data --listen-client 127.0.0.1:2379 --listen-peer 127.0.0.1:2380 --new-cluster"
        );
        assert_eq!(
            line(&plans[2], &Beginning::Join("t".into())),
            "--name n3 --data-dir /h/n3/data --listen-client 127.0.0.1:2399 --listen-peer 127.0.0.1:2400 --join t"
        );
        assert!(line(&plans[1], &Beginning::GoOn).ends_with("--listen-peer 127.0.0.1:2390"));
        // The last port of the most nodes there may be, from the highest base there may be.
        assert_eq!(plan(Path::new("/h"), 16, 65_000)[15].peer().port(), 65_151);
    }

    #[test]
    fn voters_stay_odd() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(voters_expected), [0, 1, 1, 3, 3, 5]);
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = check_ports(&plan(Path::new("/h"), 1, port)).unwrap_err().to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("--base-port"), "{error}");
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(check_ports(&plan(Path::new("/h"), 1, port - 1)).is_err());
    }

    #[test]
    fn temporary_folders_go_and_given_ones_stay() {
        let home = Home::open(None).unwrap();
        let path = home.path().to_owned();
        fs::create_dir_all(path.join("n1/data")).unwrap();
        home.close().unwrap();
        assert!(!path.exists());
        let folder = tempfile::tempdir().unwrap();
        let given = folder.path().join("a/b");
        let home = Home::open(Some(&given)).unwrap();
        home.close().unwrap();
        assert!(given.exists());
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_of_its_own() {
        let error = find_program(Some(Path::new("/moon/quorated"))).unwrap_err().to_string();
        assert!(error.contains("/moon/quorated"), "{error}");
    }

    #[test]
    fn the_logs_end_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), 1, 1).remove(0);
        assert_eq!(plan.log_tail(), "");
        fs::create_dir(&plan.folder).unwrap();
        fs::write(plan.log(), "1\n2\n3\n4\n5\n6\n7\n").unwrap();
        assert_eq!(plan.log_tail(), "  3\n  4\n  5\n  6\n  7");
        assert!(!plan.has_joined());
        plan.note_joined().unwrap();
        assert!(plan.has_joined());
    }
}
