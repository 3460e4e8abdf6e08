//! The switch: one thread that takes packets from all devices and passes each on, or not, as its wire says.

use super::tun::{PACKET_BYTES_MAX, Tun};
use super::{HOSTS_MAX, Passed, Wire};
use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The thread looks this often whether it shall end, if no packet comes.
const LOOK: Duration = Duration::from_millis(50);

/// Packets taken from one device before the next has its turn.
const TURN_PACKETS: usize = 64;

/// Makes losses the same in each run, as far as the order of packets is.
const SEED: u64 = 1;

#[derive(Debug)]
pub(super) struct Switch {
    links: Arc<Mutex<Links>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Links {
    /// By sender and receiver.
    wires: [[Wire; HOSTS_MAX]; HOSTS_MAX],
    passed: [[Passed; HOSTS_MAX]; HOSTS_MAX],
}

impl Switch {
    /// Starts it; the devices are those of the hosts 0, 1, ….
    ///
    /// # Errors
    /// If there can be no thread.
    pub(super) fn start(devices: Vec<Tun>) -> Result<Switch> {
        let (links, ending) = (Arc::new(Mutex::new(Links::default())), Arc::new(AtomicBool::new(false)));
        let mut worker = Worker {
            devices,
            links: Arc::clone(&links),
            random: SmallRng::seed_from_u64(SEED),
            late: BinaryHeap::new(),
            taken: 0,
        };
        let told = Arc::clone(&ending);
        let thread = std::thread::Builder::new().name("switch".to_owned());
        let thread = thread.spawn(move || worker.run(&told)).context("a thread for the switch")?;
        Ok(Switch { links, ending, thread: Some(thread) })
    }

    pub(super) fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Wire)) {
        change(&mut lock(&self.links).wires[from][to]);
    }

    pub(super) fn passed(&self, from: usize, to: usize) -> Passed {
        lock(&self.links).passed[from][to]
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it panicked with is printed already.
            thread.join().ok();
        }
    }
}

fn lock(links: &Mutex<Links>) -> MutexGuard<'_, Links> {
    links.lock().expect("nobody panics while holding the links")
}

/// A packet that arrives later. Ordered by when, then by when it was taken, so that a link keeps its order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    due: Instant,
    number: u64,
    from: usize,
    to: usize,
    packet: Vec<u8>,
}

struct Worker {
    devices: Vec<Tun>,
    links: Arc<Mutex<Links>>,
    random: SmallRng,
    late: BinaryHeap<Reverse<Late>>,
    taken: u64,
}

impl Worker {
    fn run(&mut self, ending: &AtomicBool) {
        while !ending.load(Ordering::Relaxed) {
            let ready = self.wait();
            for (from, _) in ready.iter().enumerate().filter(|(_, is_ready)| **is_ready) {
                self.take_from(from);
            }
            self.deliver_late();
        }
    }

    /// Waits for a packet, for one that becomes due, or a moment; tells which devices have one.
    fn wait(&self) -> Vec<bool> {
        let now = Instant::now();
        let due = self.late.peek().map_or(LOOK, |Reverse(late)| late.due.saturating_duration_since(now));
        let timeout = Timespec::try_from(due.min(LOOK)).expect("a few milliseconds");
        let mut files: Vec<PollFd<'_>> =
            self.devices.iter().map(|device| PollFd::new(device, PollFlags::IN)).collect();
        // A signal that interrupts it is no error.
        poll(&mut files, Some(&timeout)).ok();
        files.iter().map(|file| file.revents().contains(PollFlags::IN)).collect()
    }

    fn take_from(&mut self, from: usize) {
        let mut packet = [0; PACKET_BYTES_MAX];
        for _ in 0..TURN_PACKETS {
            let Ok(Some(bytes)) = self.devices[from].receive(&mut packet) else { return };
            if let Some(to) = receiver(&packet[..bytes]).filter(|to| *to < self.devices.len()) {
                self.pass(from, to, &packet[..bytes]);
            }
        }
    }

    fn pass(&mut self, from: usize, to: usize, packet: &[u8]) {
        let mut links = lock(&self.links);
        let wire = links.wires[from][to];
        let is_lost =
            wire.loss_per_thousand > 0 && self.random.random_range(0..1_000) < wire.loss_per_thousand;
        if wire.is_cut || is_lost {
            links.passed[from][to].dropped += 1;
            return;
        }
        let now = Instant::now();
        let held_until = wire.held_until.filter(|until| *until > now).unwrap_or(now);
        let due = (now + wire.delay).max(held_until);
        if due == now {
            if self.devices[to].send(packet) {
                links.passed[from][to].delivered += 1;
            }
            return;
        }
        self.taken += 1;
        self.late.push(Reverse(Late { due, number: self.taken, from, to, packet: packet.to_vec() }));
    }

    fn deliver_late(&mut self) {
        let now = Instant::now();
        while self.late.peek().is_some_and(|Reverse(late)| late.due <= now) {
            let Some(Reverse(late)) = self.late.pop() else { return };
            let mut links = lock(&self.links);
            // What was under way when the wire was cut is lost with it.
            if links.wires[late.from][late.to].is_cut {
                links.passed[late.from][late.to].dropped += 1;
            } else if self.devices[late.to].send(&late.packet) {
                links.passed[late.from][late.to].delivered += 1;
            }
        }
    }
}

/// The host an IPv4 packet is for, by the last byte of its address; none for what is no such packet.
fn receiver(packet: &[u8]) -> Option<usize> {
    const ADDRESS: std::ops::Range<usize> = 16..20;
    let is_v4 = packet.first()? >> 4 == 4;
    let address = packet.get(ADDRESS)?;
    // Group addresses end in anything: only those of the networks here.
    (is_v4 && address[0] == 10).then(|| usize::from(address[3]).checked_sub(1)).flatten()
}
