//! The peers' UDP socket on tokio, for quinn.
//!
//! tokio's own socket waits for "may write" as well as for "may read", and the system says the first anew for each
//! packet that has left: a wake-up for every packet sent. This one waits for room only when there was none.

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The socket.
#[derive(Debug)]
pub(crate) struct QuietSocket {
    state: UdpSocketState,
    io: AsyncFd<UdpSocket>,
    /// The system had no room for a packet, and has not said since that it has.
    is_full: AtomicBool,
}

impl QuietSocket {
    /// Takes over a bound socket, inside a runtime.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<QuietSocket> {
        // It makes the socket non-blocking, too.
        let state = UdpSocketState::new((&socket).into())?;
        let io = listen(socket, Interest::READABLE)?;
        Ok(QuietSocket { state, io, is_full: AtomicBool::new(false) })
    }
}

impl AsyncUdpSocket for QuietSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.is_full.store(true, Ordering::Release);
        }
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.io.poll_read_ready(context))?;
            let read = ready.try_io(|io| self.state.recv(io.get_ref().into(), buffers, meta));
            if let Ok(read) = read {
                return Poll::Ready(read);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

#[expect(
    deprecated,
    reason = "the one in its place is unsafe, for types that may change their descriptor: std's cannot"
)]
fn listen(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

/// One task's wait for room.
#[derive(Debug)]
struct Room {
    socket: Arc<QuietSocket>,
    /// The same socket once more, of which only "may write" is heard.
    waiting: Option<AsyncFd<UdpSocket>>,
}

impl UdpPoller for Room {
    /// After a packet without room this waits, or says to try again because another task saw room meanwhile:
    /// the system tells a new listener of room that is there already, so no room is missed.
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = match self.waiting.take() {
            Some(waiting) => waiting,
            None if !self.socket.is_full.load(Ordering::Acquire) => return Poll::Ready(Ok(())),
            None => listen(self.socket.io.get_ref().try_clone()?, Interest::WRITABLE)?,
        };
        if waiting.poll_write_ready(context)?.is_pending() {
            self.waiting = Some(waiting);
            return Poll::Pending;
        }
        self.socket.is_full.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::net::Ipv4Addr;

    #[tokio::test]
    async fn a_full_socket_is_waited_for_until_it_has_room() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = Arc::new(QuietSocket::new(socket).unwrap());
        let mut room = Arc::clone(&socket).create_io_poller();
        poll_fn(|context| room.as_mut().poll_writable(context)).await.unwrap();
        socket.is_full.store(true, Ordering::Release);
        // The socket has room, so the wait ends; and it is over for everybody.
        poll_fn(|context| room.as_mut().poll_writable(context)).await.unwrap();
        assert!(!socket.is_full.load(Ordering::Acquire));
    }

    #[tokio::test]
    async fn more_than_the_system_takes_at_once_arrives_all_the_same_or_is_refused_in_time() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = Arc::new(QuietSocket::new(socket).unwrap());
        let destination = socket.local_addr().unwrap();
        let mut room = Arc::clone(&socket).create_io_poller();
        for _ in 0..2_000 {
            let contents = &[7; 1_200];
            let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
            while let Err(error) = socket.try_send(&transmit) {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                poll_fn(|context| room.as_mut().poll_writable(context)).await.unwrap();
            }
        }
        let (mut bytes, mut meta) = ([0; 2_000], [RecvMeta::default()]);
        let read = poll_fn(|context| {
            let buffers = &mut [IoSliceMut::new(&mut bytes)];
            socket.poll_recv(context, buffers, &mut meta)
        });
        assert_eq!(read.await.unwrap(), 1);
        assert_eq!(bytes[..1_200], [7; 1_200]);
    }
}
