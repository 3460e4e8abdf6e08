//! The pages beside gRPC: version, health, metrics. Plain HTTP/1 or HTTP/2, on the client port and on
//! the ports of `--listen-metrics-urls`.

use crate::error::{REMOVED_TEXT, status_of};
use crate::maintenance::alarm_name;
use crate::{API_VERSION, Backend, CLUSTER_VERSION, Read, Refusal};
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use quorate_store::{AlarmKind, KeyRange, RangeRequest};
use std::fmt::Write;
use std::time::Duration;

/// A page.
pub(crate) type Page = Response<Full<Bytes>>;

/// Answers one page. `/livez` asks nothing of the node behind: it is alive as long as it answers, and a
/// supervisor must not restart a node that waits for its card or its quorum.
pub(crate) async fn page<B: Backend>(backend: &B, method: &Method, path: &str, query: Option<&str>) -> Page {
    let known = matches!(path, "/version" | "/health" | "/livez" | "/readyz" | "/metrics");
    if !known {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    if *method != Method::GET && *method != Method::HEAD {
        let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return page;
    }
    let query = Query(query.unwrap_or(""));
    match path {
        "/version" => version(),
        "/health" => health(backend, query).await,
        "/readyz" => ready(backend, query).await,
        "/livez" => checks(&[Check { name: "process", failure: None }], query, "livez"),
        _ => metrics(backend),
    }
}

fn version() -> Page {
    let body = format!(r#"{{"etcdserver":"{API_VERSION}","etcdcluster":"{CLUSTER_VERSION}"}}"#);
    typed(StatusCode::OK, "application/json", body)
}

/// etcd's `/health`: alarms, leader, a read; and here the card itself is asked.
async fn health<B: Backend>(backend: &B, query: Query<'_>) -> Page {
    let reason = match unhealthy(backend, query).await {
        None => return text(StatusCode::OK, r#"{"health":"true","reason":""}"#),
        Some(reason) => reason,
    };
    let body = format!("{{\"health\":\"false\",\"reason\":\"{}\"}}\n", escaped(&reason));
    text(StatusCode::SERVICE_UNAVAILABLE, body)
}

async fn unhealthy<B: Backend>(backend: &B, query: Query<'_>) -> Option<String> {
    let status = backend.status();
    let serializable = query.has("serializable", "true");
    let alarm = status.alarms.iter().find(|alarm| !query.has("exclude", alarm_name(alarm.kind)));
    if let Some(alarm) = alarm {
        return Some(format!("ALARM {}", alarm_name(alarm.kind)));
    }
    if status.removed {
        return Some(REMOVED_TEXT.to_owned());
    }
    if !serializable && status.leader == 0 {
        return Some("RAFT NO LEADER".to_owned());
    }
    if let Err(refusal) = read(backend, !serializable).await {
        return Some(format!("RANGE ERROR:{}", status_of(refusal).message()));
    }
    let refusal = probe(backend).await.err()?;
    Some(format!("CARD:{}", status_of(refusal).message()))
}

/// etcd's `/readyz` with its checks, and one more for the card.
async fn ready<B: Backend>(backend: &B, query: Query<'_>) -> Page {
    let corrupt = backend.status().alarms.iter().any(|alarm| alarm.kind == AlarmKind::Corrupt);
    let failure =
        |refused: Result<(), Refusal>| refused.err().map(|refusal| status_of(refusal).message().to_owned());
    let (local, quorum, card) = tokio::join!(read(backend, false), read(backend, true), probe(backend));
    let all = [
        Check { name: "data_corruption", failure: corrupt.then(|| "alarm activated: CORRUPT".to_owned()) },
        Check { name: "serializable_read", failure: failure(local) },
        Check { name: "linearizable_read", failure: failure(quorum) },
        Check { name: "card_sync", failure: failure(card) },
    ];
    checks(&all, query, "readyz")
}

struct Check {
    name: &'static str,
    failure: Option<String>,
}

/// One line per check if any failed or `?verbose` asks; `?exclude=NAME` leaves one out.
fn checks(all: &[Check], query: Query<'_>, page: &str) -> Page {
    let mut lines = String::new();
    let mut failed = false;
    for Check { name, failure } in all {
        let line = match failure {
            _ if query.has("exclude", name) => format!("[+]{name} excluded: ok\n"),
            None => format!("[+]{name} ok\n"),
            Some(why) => {
                failed = true;
                format!("[-]{name} failed: {why}\n")
            }
        };
        lines.push_str(&line);
    }
    if failed {
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("{lines}{page} check failed\n"));
    }
    if query.names("verbose") {
        return text(StatusCode::OK, format!("{lines}ok\n"));
    }
    text(StatusCode::OK, "ok\n")
}

/// A read as a client would make it. Any key does; it need not exist.
async fn read<B: Backend>(backend: &B, linearizable: bool) -> Result<(), Refusal> {
    let range =
        RangeRequest { limit: 1, keys_only: true, ..RangeRequest::all(KeyRange::One(b"health".to_vec())) };
    within(async { backend.read(Read::Range(range), linearizable).await.map(|_| ()) }).await
}

async fn probe<B: Backend>(backend: &B) -> Result<(), Refusal> {
    within(backend.probe()).await
}

async fn within(check: impl Future<Output = Result<(), Refusal>>) -> Result<(), Refusal> {
    tokio::time::timeout(CHECK_TIME_MAX, check).await.unwrap_or(Err(Refusal::TimedOut))
}

/// Longest a health page waits for one check: beyond the card probe's own two seconds, and within what a
/// kubelet's probe is usually given.
const CHECK_TIME_MAX: Duration = Duration::from_secs(3);

fn metrics<B: Backend>(backend: &B) -> Page {
    typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", classic_text(&backend.metrics()))
}

/// Turns OpenMetrics text into Prometheus's classic form, which every scraper and etcd's own tools read:
/// there a counter's name carries `_total` in its HELP and TYPE lines too, and units and the end mark
/// are unknown.
pub(crate) fn classic_text(open_metrics: &str) -> String {
    let mut classic = String::with_capacity(open_metrics.len() + 1024);
    let mut help = None;
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            help = Some(line);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" && !name.ends_with("_total") { "_total" } else { "" };
            let kind = if kind == "unknown" { "untyped" } else { kind };
            let help = help.take().and_then(|help| help.get("# HELP ".len() + name.len()..));
            let written = write!(
                classic,
                "# HELP {name}{suffix}{}\n# TYPE {name}{suffix} {kind}\n",
                help.unwrap_or("")
            );
            debug_assert!(written.is_ok(), "a String takes all");
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            classic.push_str(line);
            classic.push('\n');
        }
    }
    classic
}

/// A URL's query. etcd's are plain words; percent signs are not decoded.
#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl Query<'_> {
    fn has(self, name: &str, value: &str) -> bool {
        self.0.split('&').any(|pair| pair.split_once('=') == Some((name, value)))
    }

    fn names(self, name: &str) -> bool {
        self.0.split('&').any(|pair| pair.split('=').next() == Some(name))
    }
}

/// Text fit to stand between quotes in JSON.
fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|one| {
            let escape = matches!(one, '"' | '\\').then_some('\\');
            escape.into_iter().chain([if one.is_control() { ' ' } else { one }])
        })
        .collect()
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Page {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page
}

#[cfg(test)]
mod tests {
    use super::classic_text;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::registry::{Registry, Unit};

    #[test]
    fn open_metrics_becomes_classic_text() {
        let mut registry = Registry::default();
        let gauge: Gauge = Gauge::default();
        gauge.set(3);
        registry.register("leader", "Has one", gauge);
        let counter: Counter = Counter::default();
        counter.inc();
        registry.register("synced", "Syncs done", counter.clone());
        registry.register_with_unit("written", "Bytes written", Unit::Bytes, counter);
        let mut open = String::new();
        prometheus_client::encoding::text::encode(&mut open, &registry).unwrap();
        assert_eq!(
            classic_text(&open),
            "# HELP leader Has one.\n# TYPE leader gauge\nleader 3\n\
             # HELP synced_total Syncs done.\n# TYPE synced_total counter\nsynced_total 1\n\
             # HELP written_bytes_total Bytes written.\n# TYPE written_bytes_total counter\nwritten_bytes_total 1\n"
        );
    }
}
