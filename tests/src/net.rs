//! A network between nodes that can be broken: each node in a network namespace of its own, and between them a
//! switch of ours in user space. Every packet of every link passes through it, so each direction of each link can
//! be cut, lossy, slow or held up by itself, silently as on a real wire, with nothing of the kernel but TUN
//! devices: no bridge, no firewall and no `netem` is needed.
//!
//! The test itself is host 0 of the network, so its clients reach every node over a link like any other.
//!
//! Devices go with the file handles that hold them, whatever becomes of the test. Namespaces are removed on drop, also
//! after a panic; those of a test that was killed are removed by the next one.

mod switch;
mod tun;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};
use switch::Switch;
use tun::Tun;

/// What all namespaces made here are called, before the number of the process that made them.
const PREFIX: &str = "quorate-";

/// Where the kernel gives out TUN devices.
const DEVICE: &str = "/dev/net/tun";

/// Where `ip netns` keeps namespaces by name.
const NAMESPACES: &str = "/run/netns";

/// Hosts of a network: the test and its nodes.
const HOSTS_MAX: usize = 16;

/// How one direction of a link treats packets.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Wire {
    /// Nothing passes.
    pub is_cut: bool,
    /// Of a thousand packets, so many are lost at random.
    pub loss_per_thousand: u32,
    /// What passes arrives so much later, and in order.
    pub delay: Duration,
    /// Until then all packets are held, then passed on in order: a pause as on Wi-Fi.
    pub held_until: Option<Instant>,
}

/// What passed in one direction of a link since the network began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// Delivered.
    pub delivered: u64,
    /// Not delivered because the link was cut, or by its loss.
    pub dropped: u64,
}

/// A network; hosts are numbered from 0, the test itself.
#[derive(Debug)]
pub struct Net {
    number: u16,
    hosts: usize,
    namespaces: Vec<Namespace>,
    switch: Switch,
}

impl Net {
    /// Why there can be no network here; none if there can.
    #[must_use]
    pub fn missing() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("network namespaces need root".to_owned());
        }
        if !std::path::Path::new(DEVICE).exists() {
            return Some(format!("there is no {DEVICE}"));
        }
        Net::new(0).err().map(|error| format!("{error:#}"))
    }

    /// A network of this many nodes besides the test, all links whole.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn new(nodes: usize) -> Result<Net> {
        ensure!(nodes < HOSTS_MAX, "at most {} nodes", HOSTS_MAX - 1);
        sweep();
        let (number, own) = own_device()?;
        let mut devices = vec![own];
        let mut namespaces = Vec::new();
        for host in 1..=nodes {
            // Made one by one: those made before an error are removed with their values.
            let namespace = Namespace::new(format!("{PREFIX}{}-{number}-{host}", std::process::id()))?;
            let name = device_name(number, host);
            devices.push(Tun::new(&name)?);
            ip(&["link", "set", &name, "netns", &namespace.name])?;
            ip(&["-n", &namespace.name, "link", "set", "lo", "up"])?;
            configure(Some(&namespace.name), number, host)?;
            namespaces.push(namespace);
        }
        let switch = Switch::start(devices)?;
        Ok(Net { number, hosts: nodes + 1, namespaces, switch })
    }

    /// Where a host is reached.
    #[must_use]
    pub fn address(&self, host: usize) -> Ipv4Addr {
        address(self.number, host)
    }

    /// Words before a program that let it run on that node; its process id stays that of what is started.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn wrapper(&self, host: usize) -> Vec<String> {
        let name = &self.namespaces[host - 1].name;
        ["ip", "netns", "exec", name].map(str::to_owned).to_vec()
    }

    /// Runs something on a thread inside a node's namespace; sockets made there stay there.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    ///
    /// # Panics
    /// If what is run does.
    pub fn inside<T: Send>(&self, host: usize, run: impl FnOnce() -> T + Send) -> Result<T> {
        let path = std::path::Path::new(NAMESPACES).join(&self.namespaces[host - 1].name);
        let file = std::fs::File::open(path)?;
        let enter_and_run = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(run())
        };
        std::thread::scope(|scope| {
            scope.spawn(enter_and_run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Changes one direction of a link.
    pub fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Wire)) {
        self.switch.change(from, to, change);
    }

    /// Changes all links in both directions, those of the test itself apart.
    pub fn change_all(&self, change: impl Fn(&mut Wire)) {
        for from in 1..self.hosts {
            for to in (1..self.hosts).filter(|to| *to != from) {
                self.change(from, to, &change);
            }
        }
    }

    /// Nothing passes from one to the other; the other way it does.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.change(from, to, |wire| wire.is_cut = true);
    }

    /// Nothing passes between two.
    pub fn cut(&self, one: usize, other: usize) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Nothing passes between those hosts and all other nodes; the test reaches all.
    pub fn isolate(&self, side: &[usize]) {
        for &one in side {
            for other in (1..self.hosts).filter(|other| !side.contains(other)) {
                self.cut(one, other);
            }
        }
    }

    /// Everything passes again, at once and without loss, in all directions.
    pub fn heal(&self) {
        for from in 0..self.hosts {
            for to in 0..self.hosts {
                self.change(from, to, |wire| *wire = Wire::default());
            }
        }
    }

    /// Takes the node's own device down or up: the node notices, as with a pulled plug.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn set_up(&self, host: usize, is_up: bool) -> Result<()> {
        let word = if is_up { "up" } else { "down" };
        let namespace = &self.namespaces[host - 1].name;
        ip(&["-n", namespace, "link", "set", &device_name(self.number, host), word])
    }

    /// What passed in one direction since the network began: a cut that met no packet proves nothing.
    #[must_use]
    pub fn passed(&self, from: usize, to: usize) -> Passed {
        self.switch.passed(from, to)
    }
}

/// The test's own device, which also claims a number, and by it the names and addresses, that no other network
/// on this machine has.
fn own_device() -> Result<(u16, Tun)> {
    let first = std::process::id().wrapping_mul(7);
    for attempt in 0..512_u32 {
        let number = u16::try_from(first.wrapping_add(attempt) % 16_000).expect("below 16,000");
        let name = device_name(number, 0);
        match Tun::new(&name) {
            Ok(device) => {
                configure(None, number, 0)?;
                return Ok((number, device));
            }
            Err(error) if attempt == 511 => return Err(error),
            Err(_) => {}
        }
    }
    bail!("no free network number")
}

/// 10.64.0.0/10, eight bits of hosts for each network.
fn address(number: u16, host: usize) -> Ipv4Addr {
    let [high, low] = [number / 256, number % 256].map(|part| u8::try_from(part).expect("below 256"));
    Ipv4Addr::new(10, 64 + high, low, u8::try_from(host + 1).expect("few hosts"))
}

/// Interface names have at most 15 bytes.
fn device_name(number: u16, host: usize) -> String {
    format!("qu{number}h{host}")
}

fn configure(namespace: Option<&str>, number: u16, host: usize) -> Result<()> {
    let name = device_name(number, host);
    let address = format!("{}/24", address(number, host));
    let of: &[&str] = match &namespace {
        Some(namespace) => &["-n", namespace],
        None => &[],
    };
    ip(&[of, &["addr", "add", &address, "dev", &name]].concat())?;
    ip(&[of, &["link", "set", &name, "up"]].concat())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("`ip` (iproute2) does not start")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), said.trim());
    Ok(())
}

#[derive(Debug)]
struct Namespace {
    name: String,
}

impl Namespace {
    fn new(name: String) -> Result<Namespace> {
        ip(&["netns", "add", &name])?;
        Ok(Namespace { name })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.name]) {
            eprintln!("{error:#}");
        }
    }
}

/// Removes what tests left that were killed: namespaces of ours whose process is gone.
fn sweep() {
    let Ok(list) = std::fs::read_dir(NAMESPACES) else { return };
    for item in list.flatten() {
        let name = item.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(process) = process.and_then(|text| text.parse::<u32>().ok()) else { continue };
        if !std::path::Path::new(&format!("/proc/{process}")).exists() {
            drop(Namespace { name });
        }
    }
}
