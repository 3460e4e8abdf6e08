//! What a node says in its `/metrics`.

use super::Kind;
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The background zeroing of a new node's log on an ordinary card.
const SETTLE_LIMIT: Duration = Duration::from_secs(300);

/// Waits until nothing more is zeroed. etcd prepares as it goes and gets a moment.
pub(crate) fn settle(kind: Kind, zeroed_bytes: impl Fn() -> Result<f64>) -> Result<()> {
    const STILL: Duration = Duration::from_secs(5);
    if kind == Kind::Etcd {
        std::thread::sleep(STILL);
        return Ok(());
    }
    let begun = Instant::now();
    let (mut zeroed, mut since) = (zeroed_bytes()?, Instant::now());
    while since.elapsed() < STILL {
        ensure!(begun.elapsed() < SETTLE_LIMIT, "still zeroing after {SETTLE_LIMIT:?}");
        std::thread::sleep(Duration::from_millis(250));
        let now = zeroed_bytes()?;
        if now > zeroed {
            (zeroed, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// What the node at that port wrote once to prepare its log, in bytes; etcd has no such thing.
pub(crate) fn zeroed_bytes(kind: Kind, port: u16) -> Result<f64> {
    match kind {
        Kind::Quorate => metric(port, "quorate_zeroed_bytes_total"),
        Kind::Etcd => Ok(0.0),
    }
}

/// One number of the `/metrics` at that port.
pub(crate) fn metric(port: u16, name: &str) -> Result<f64> {
    find_metric(&http_get(port, "/metrics")?, name).with_context(|| format!("no {name} in /metrics"))
}

fn http_get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Posts JSON to a server's gateway; an answer other than 200 is an error.
pub(crate) fn http_post(port: u16, path: &str, body: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    ensure!(answer.starts_with("HTTP/1.1 200"), "POST {path}: {answer}");
    Ok(())
}

fn find_metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP a_total x\na_total_more 1\na_total 2.5\r\n";
        assert_eq!(find_metric(text, "a_total"), Some(2.5));
        assert_eq!(find_metric(text, "a"), None);
    }
}
