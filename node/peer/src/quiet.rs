//! What quinn runs on: tokio, without wake-ups for nothing. Of those of a node that only heartbeats, more than half
//! were such.

use crate::socket::QuietSocket;
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::{Sleep, sleep_until};

/// tokio, with timers and a socket of our own.
#[derive(Debug)]
pub(crate) struct QuietRuntime;

impl Runtime for QuietRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(Box::pin(sleep_until(at.into()))))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(QuietSocket::new(socket)?))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// QUIC sets a timer with each packet and moves it away with the next. tokio's `Sleep` leaves a timer that is moved
/// to later where it is, and wakes at the old time to find that out. This one is taken out and put in anew.
#[derive(Debug)]
struct Timer(Pin<Box<Sleep>>);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.set(sleep_until(at.into()));
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.0.as_mut(), context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test]
    async fn a_timer_ends_at_the_time_it_was_moved_to() {
        let now = QuietRuntime.now();
        let mut timer = QuietRuntime.new_timer(now + Duration::from_millis(1));
        timer.as_mut().reset(now + Duration::from_millis(30));
        poll_fn(|context| timer.as_mut().poll(context)).await;
        assert!(QuietRuntime.now() >= now + Duration::from_millis(30), "not at the time it had before");
        timer.as_mut().reset(now + Duration::from_secs(3_600));
        assert!(poll_fn(|context| Poll::Ready(timer.as_mut().poll(context))).await.is_pending());
        timer.as_mut().reset(now);
        poll_fn(|context| timer.as_mut().poll(context)).await;
    }
}
