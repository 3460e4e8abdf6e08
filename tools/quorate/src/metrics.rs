//! A server's `/metrics`: fetched from the client port, and the few figures a person wants read out of it.

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Limited};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tower::ServiceExt;

/// Longest page taken; etcd's is about 100 KiB.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A page of Prometheus text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    text: String,
}

impl Metrics {
    /// Asks the client port of `url`, over `channel` where that is TLS or, without a URL, the local socket.
    pub(crate) async fn fetch(url: Option<&str>, channel: Channel, limit: Duration) -> Result<Metrics> {
        let page = async {
            match url.and_then(|url| url.strip_prefix("http://")) {
                Some(address) => fetch_plain(address).await,
                None => fetch_over(url.unwrap_or("http://localhost"), channel).await,
            }
        };
        let text = tokio::time::timeout(limit, page).await.context("no answer in time")??;
        Ok(Metrics { text })
    }

    /// The value of a metric without labels, or the sum over all its labels.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        let mut values = self.samples(name).map(|(_, value)| value).peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// The value of that label of a metric's first sample.
    pub(crate) fn label(&self, name: &str, label: &str) -> Option<String> {
        let (labels, _) = self.samples(name).next()?;
        let (_, rest) = labels.split_once(&format!("{label}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    }

    /// A quantile of a histogram in seconds, as Prometheus' `histogram_quantile` estimates it: evenly
    /// spread inside a bucket; the last finite bound if it lies in the open bucket.
    pub(crate) fn quantile(&self, name: &str, quantile: f64) -> Option<f64> {
        let mut buckets: Vec<(f64, f64)> = self
            .samples(&format!("{name}_bucket"))
            .filter_map(|(labels, count)| Some((bound(labels)?, count)))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted = buckets.last().map(|(_, total)| total * quantile).filter(|wanted| *wanted > 0.0)?;
        let (mut bound_before, mut count_before) = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= wanted {
                if bound.is_infinite() {
                    return Some(bound_before);
                }
                let share = (wanted - count_before) / (count - count_before);
                return Some(bound_before + (bound - bound_before) * share);
            }
            (bound_before, count_before) = (bound, count);
        }
        None
    }

    /// Labels and value of each sample of a metric.
    fn samples<'a>(&'a self, name: &str) -> impl Iterator<Item = (&'a str, f64)> {
        self.text.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once('}')?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.split_whitespace().next()?.parse().ok()?))
        })
    }
}

/// The `le` of a bucket's labels.
fn bound(labels: &str) -> Option<f64> {
    let text = labels.split(',').find_map(|label| label.trim().strip_prefix("le=\"")?.strip_suffix('"'))?;
    if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() }
}

/// HTTP/1.0: one answer, no chunks, and the server closes; what every server can do.
async fn fetch_plain(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await.context("no connection")?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let limit = u64::try_from(PAGE_BYTES_MAX).unwrap_or(u64::MAX);
    stream.take(limit).read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer).context("no text")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "the server says: {status}");
    Ok(body.to_owned())
}

async fn fetch_over(url: &str, channel: Channel) -> Result<String> {
    let request = http::Request::get(format!("{url}/metrics")).body(tonic::body::Body::empty())?;
    let answer = channel.oneshot(request).await?;
    if answer.status() != http::StatusCode::OK {
        bail!("the server says: {}", answer.status());
    }
    let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX).collect().await;
    let bytes = body.map_err(|error| anyhow::anyhow!("the page ended early: {error}"))?.to_bytes();
    String::from_utf8(bytes.to_vec()).context("no text")
}

#[cfg(test)]
impl Metrics {
    pub(crate) fn of(text: &str) -> Metrics {
        Metrics { text: text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Metrics {
        let text = "# HELP x y\n# TYPE sync_seconds histogram\n\
            sync_seconds_bucket{le=\"0.01\"} 10\nsync_seconds_bucket{le=\"0.02\"} 30\n\
            sync_seconds_bucket{disk=\"a,b\",le=\"0.04\"} 40\nsync_seconds_bucket{le=\"+Inf\"} 40\n\
            sync_seconds_sum 0.5\nsync_seconds_count 40\nresident_bytes 1.5e+07 1700000000\nresident_bytes_max 3\n\
            calls{code=\"OK\"} 3\ncalls{code=\"Unavailable\"} 4\nbroken{ 5\nempty_bucket{le=\"+Inf\"} 0\n";
        Metrics { text: text.into() }
    }

    #[test]
    fn values_are_found_by_their_whole_name() {
        assert_eq!(page().value("resident_bytes"), Some(15_000_000.0));
        assert_eq!(page().value("calls"), Some(7.0));
        assert_eq!(page().label("calls", "code").as_deref(), Some("OK"));
        assert_eq!(page().label("resident_bytes", "code"), None);
        assert_eq!(page().value("sync_seconds"), None);
        assert_eq!(page().value("broken"), None);
    }

    #[test]
    fn quantiles_are_those_prometheus_estimates() {
        let near = |quantile, wanted: f64| {
            let seen = page().quantile("sync_seconds", quantile).unwrap();
            assert!((seen - wanted).abs() < 1e-9, "{seen} for {wanted}");
        };
        near(0.5, 0.015);
        near(0.25, 0.01);
        near(1.0, 0.04);
        assert_eq!(page().quantile("empty", 0.5), None);
        assert_eq!(page().quantile("nothing", 0.5), None);
    }

    #[test]
    fn what_lies_past_the_last_bound_is_told_as_that_bound() {
        let text = "s_bucket{le=\"0.1\"} 1\ns_bucket{le=\"+Inf\"} 100\n";
        assert_eq!(Metrics { text: text.into() }.quantile("s", 0.99), Some(0.1));
    }
}
