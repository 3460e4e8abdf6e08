//! A path between two nodes that can be bent: it moves to another port, stops, or loses packets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::net::UdpSocket;
use tokio::sync::{Mutex, Notify};
use tokio::task::AbortHandle;

/// Takes packets at `address` and hands them to a target, and answers back to who spoke last.
pub struct Relay {
    pub address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

struct State {
    outer: UdpSocket,
    target: SocketAddr,
    inner: Mutex<Arc<UdpSocket>>,
    moved: Notify,
    is_cut: AtomicBool,
    /// One packet in so many is lost; zero for none.
    lost_in: AtomicU64,
    seen: AtomicU64,
}

impl State {
    /// Whether this packet passes.
    fn passes(&self) -> bool {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        let lost_in = self.lost_in.load(Ordering::Relaxed);
        !self.is_cut.load(Ordering::Relaxed) && (lost_in == 0 || !seen.is_multiple_of(lost_in))
    }
}

impl Relay {
    pub async fn to(target: SocketAddr) -> Relay {
        let outer = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = outer.local_addr().expect("bound");
        let inner = Mutex::new(Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a free port")));
        let state = Arc::new(State {
            outer,
            target,
            inner,
            moved: Notify::new(),
            is_cut: AtomicBool::new(false),
            lost_in: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        });
        let task = tokio::spawn(carry(Arc::clone(&state))).abort_handle();
        Relay { address, state, task }
    }

    /// From here on the target sees another address, as when a lease of DHCP or a NAT changes. Gives it.
    pub async fn move_on(&self) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.3:0").await.expect("a free port");
        let address = socket.local_addr().expect("bound");
        *self.state.inner.lock().await = Arc::new(socket);
        self.state.moved.notify_one();
        address
    }

    pub fn set_cut(&self, is_cut: bool) {
        self.state.is_cut.store(is_cut, Ordering::Relaxed);
    }

    pub fn lose_one_in(&self, count: u64) {
        self.state.lost_in.store(count, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(state: Arc<State>) {
    let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
    let mut speaker = None;
    loop {
        let inner = Arc::clone(&*state.inner.lock().await);
        tokio::select! {
            () = state.moved.notified() => {}
            Ok((length, from)) = state.outer.recv_from(&mut there) => {
                speaker = Some(from);
                if state.passes() {
                    drop(inner.send_to(&there[..length], state.target).await);
                }
            }
            Ok((length, _)) = inner.recv_from(&mut back) => {
                if let Some(speaker) = speaker.filter(|_| state.passes()) {
                    drop(state.outer.send_to(&back[..length], speaker).await);
                }
            }
        }
    }
}
