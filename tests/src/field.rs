//! Three nodes on three simulated cards, each with its program, its log output and its data on its card: cards that
//! stand still as long as a test wants, pressure on the nodes' memory, and what the nodes say of it.

use crate::cluster::{Cluster, Shape};
use crate::pressure::{MemoryGroup, Pressure, press_caches};
use crate::program::{Program, build};
use crate::trial::turn;
use quorate_card::{Card, CardOptions, Control, Figures, Stats};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// Nodes, and cards.
const NODE_COUNT: usize = 3;
/// Memory is taken for what is written only.
const CARD_BYTES: u64 = 2 << 30;
/// A stall is prolonged long before it ends, so that it goes on while the test is not scheduled.
const STALL_SLICE: Duration = Duration::from_secs(2);
const STALL_PROLONGED_EVERY: Duration = Duration::from_millis(250);
/// A page is answered within that, or the test is broken.
const PAGE_LIMIT: Duration = Duration::from_secs(30);

/// Three nodes on three cards. The nodes end first.
#[derive(Debug)]
pub struct Field {
    /// The nodes.
    pub cluster: Cluster,
    cards: Vec<Card>,
    groups: Vec<MemoryGroup>,
    _folder: TempDir,
    _turn: File,
}

impl Field {
    /// The cards cost nothing until all nodes vote, and then what `figures` say.
    ///
    /// # Panics
    /// If cards or cluster do not come up.
    pub async fn open(figures: Figures) -> Field {
        let (turn, folder) = (turn(), tempfile::tempdir().expect("a temporary folder can be made"));
        let program = build("quorate-card", "quorate-card");
        let card = |number: usize| {
            let options = CardOptions::new(folder.path().join(format!("card{number}")));
            let (seed, program) = (u64::try_from(number).ok(), Some(program.clone()));
            Card::start(&CardOptions { seed, program, size: CARD_BYTES, ..options }).expect("a card starts")
        };
        let cards: Vec<Card> = (1..=NODE_COUNT).map(card).collect();
        let groups = match (0..NODE_COUNT).map(|_| MemoryGroup::make()).collect() {
            Ok(groups) => groups,
            Err(reason) => {
                println!("pressure by dropping caches only: {reason}");
                Vec::new()
            }
        };
        let mounts = cards.iter().map(|card| card.mount_point().to_owned());
        let shape = Shape::new(Program::quorated(), NODE_COUNT).on(mounts).whole();
        let shape = shape.wrapped(groups.iter().map(MemoryGroup::wrapper));
        let cluster = Cluster::start(shape).await;
        let field = Field { cluster, cards, groups, _folder: folder, _turn: turn };
        (1..=NODE_COUNT).for_each(|number| field.set(number, figures));
        field
    }

    /// What that node's card costs from now on.
    ///
    /// # Panics
    /// If the card is gone.
    pub fn set(&self, number: usize, figures: Figures) {
        self.cards[number - 1].set(figures).expect("the card is there");
    }

    /// What that node's card has done so far.
    ///
    /// # Panics
    /// If the card is gone.
    #[must_use]
    pub fn stats(&self, number: usize) -> Stats {
        self.cards[number - 1].stats().expect("the card is there")
    }

    /// That node's card stands still until the answer is dropped, and a moment longer.
    ///
    /// # Panics
    /// If the card is gone.
    #[must_use]
    pub fn stall(&self, number: usize) -> Stall {
        Stall::start(self.cards[number - 1].control().clone())
    }

    /// Whatever memory the kernel may take from the nodes, it takes until the answer is dropped.
    #[must_use]
    pub fn press(&self) -> Vec<Pressure> {
        let groups = self.groups.iter().map(MemoryGroup::press);
        groups.chain([press_caches()]).collect()
    }

    /// A node that does not lead.
    ///
    /// # Panics
    /// If nobody leads.
    pub async fn follower(&self) -> usize {
        let leader = self.cluster.leader().await;
        if leader == 1 { 2 } else { 1 }
    }

    /// The highest term: it rises with each election and each hand-over.
    ///
    /// # Panics
    /// If no node tells it.
    pub async fn term(&self) -> u64 {
        let mut term = 0;
        for number in 1..=NODE_COUNT {
            term = term.max(self.cluster.status(number).await.map_or(0, |status| status.raft_term));
        }
        assert!(term > 0, "{}", self.cluster.describe().await);
        term
    }

    /// Hand-overs the nodes have begun because of their cards.
    ///
    /// # Panics
    /// If a node does not tell.
    #[must_use]
    pub fn hand_overs(&self) -> u64 {
        (1..=NODE_COUNT).map(|number| self.metric(number, "quorate_card_hand_overs_total")).sum()
    }

    fn metric(&self, number: usize, name: &str) -> u64 {
        let page = page(&self.cluster.endpoint(number), "/metrics").expect("a node tells its metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|count| count.trim().parse().ok())
            .unwrap_or_else(|| panic!("node {number} tells no {name}"))
    }
}

/// A page of a node.
fn page(endpoint: &str, path: &str) -> std::io::Result<String> {
    let address = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PAGE_LIMIT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A card that stands still until this is dropped.
#[derive(Debug)]
pub struct Stall {
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stall {
    fn start(card: Control) -> Stall {
        card.stall(STALL_SLICE).expect("the card is there");
        let ending = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ending);
        let prolong = move || {
            while !ended.load(Ordering::Relaxed) {
                // A card that is gone stands still as well.
                card.stall(STALL_SLICE).ok();
                std::thread::sleep(STALL_PROLONGED_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("stall".into()).spawn(prolong).expect("a thread");
        Stall { ending, thread: Some(thread) }
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resident::of_file;
    use rustix::process::Pid;
    use std::process::{Command, Stdio};

    /// Without this a test of a node under pressure would prove nothing.
    #[test]
    fn pressure_takes_pages_of_a_program_that_is_not_locked() {
        if let Err(reason) = Card::available() {
            crate::skip!("{reason}");
        }
        let group = match MemoryGroup::make() {
            Ok(group) => group,
            Err(reason) => return eprintln!("skipped: {reason}"),
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = build("quorate-card", "quorate-card");
        let options = CardOptions::new(folder.path().join("card"));
        let card = Card::start(&CardOptions { program: Some(program), ..options }).expect("a card");
        let copy = card.mount_point().join("victim");
        std::fs::copy("/bin/sh", &copy).expect("every machine has a shell");
        let file = File::open(&copy).expect("the copy");
        file.sync_all().expect("a sync");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
        drop(file);
        let wrapper = group.wrapper();
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(&copy).args(["-c", "read -r line"]);
        let mut victim = command.stdin(Stdio::piped()).spawn().expect("it starts");
        let pid = Pid::from_child(&victim);
        let (mut before, mut after) = (0, 0);
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(20));
            before = before.max(of_file(pid, &copy));
            group.squeeze();
            after = of_file(pid, &copy);
            if before > 0 && after < before / 2 {
                break;
            }
        }
        victim.kill().expect("one's own child");
        victim.wait().expect("one's own child");
        drop(card);
        assert!(before > 0 && after < before / 2, "{before} bytes of it resident, {after} under pressure");
    }
}
