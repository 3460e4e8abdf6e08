//! How a command reaches its node: by the local socket in the node's data folder, or by an endpoint.

use anyhow::{Context, Result, anyhow};
use clap::ArgMatches;
use clap::parser::ValueSource;
use quorate_bench::{EndpointArgs, print_status};
use quorate_proto::local::{self, SOCKET_NAME};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// What the command line and the environment say of the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The data folder whose socket is to be used; none: the endpoints.
    pub(crate) socket_of: Option<PathBuf>,
    /// The folder as the command line itself named it: for commands that make one.
    pub(crate) data_dir_given: Option<PathBuf>,
}

impl Reach {
    /// What the command line says beats what the environment says; else the socket beats the endpoints.
    ///
    /// # Errors
    /// The command line itself names both.
    pub(crate) fn from_matches(
        data_dir: Option<PathBuf>,
        matches: &ArgMatches,
    ) -> Result<Reach, clap::Error> {
        let folder_given = is_given(matches, "data_dir");
        let endpoints_given = is_given(matches, "endpoints");
        if folder_given && endpoints_given {
            return Err(clap::Error::raw(
                clap::error::ErrorKind::ArgumentConflict,
                "--data-dir means the node's local socket, --endpoints its client port: give one of them\n",
            ));
        }
        let data_dir_given = data_dir.clone().filter(|_| folder_given);
        Ok(Reach { socket_of: data_dir.filter(|_| !endpoints_given), data_dir_given })
    }

    /// Opens a connection: to the socket, or to the first endpoint that answers.
    ///
    /// # Errors
    /// Nothing answers; says whose matter that is and what to do.
    pub(crate) async fn connect(&self, endpoint: &EndpointArgs) -> Result<Channel> {
        if let Some(data_dir) = &self.socket_of {
            return connect_local(data_dir, endpoint.dial_timeout).await;
        }
        let mut failure = anyhow!("no endpoint given");
        for url in endpoint.urls()? {
            match endpoint.connect_to(&url).await {
                Ok(channel) => return Ok(channel),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The way as people name it.
    pub(crate) fn print(&self, endpoint: &EndpointArgs) -> String {
        match &self.socket_of {
            Some(data_dir) => data_dir.join(SOCKET_NAME).display().to_string(),
            None => endpoint.endpoints.join(","),
        }
    }
}

/// Whether the command line itself, not the environment or a default, has that argument at any level.
fn is_given(matches: &ArgMatches, id: &str) -> bool {
    let here = matches.try_contains_id(id).is_ok_and(|is_there| is_there)
        && matches.value_source(id) == Some(ValueSource::CommandLine);
    here || matches.subcommand().is_some_and(|(_, below)| is_given(below, id))
}

/// A channel through the socket of that data folder.
pub(crate) async fn connect_local(data_dir: &Path, limit: Duration) -> Result<Channel> {
    let connected = tokio::time::timeout(limit, local::channel(data_dir)).await;
    let connected = connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    connected.map_err(|error| anyhow!(print_local_error(data_dir, &error)))
}

/// Why there is no way through the socket, whose fault it is, and what to do.
fn print_local_error(data_dir: &Path, error: &io::Error) -> String {
    let folder = data_dir.display();
    let kind = error.kind();
    if kind == ErrorKind::NotFound && !data_dir.exists() {
        return format!("{folder}: there is no such folder. --data-dir is the folder given to quorated");
    }
    if kind == ErrorKind::NotFound {
        return format!(
            "{folder} has no {SOCKET_NAME}: no node serves this folder. Is it the one given to quorated, and is \
             quorated running? (quorated --data-dir {folder})"
        );
    }
    if kind == ErrorKind::ConnectionRefused {
        return format!("the node of {folder} is not running; start it: quorated --data-dir {folder}");
    }
    if kind == ErrorKind::PermissionDenied {
        return format!(
            "{folder}/{SOCKET_NAME} may be used by the user only who runs the node; run this as that user, or \
             as root"
        );
    }
    if kind == ErrorKind::TimedOut {
        return format!("the node of {folder} does not answer on its socket: it hangs, or is stopped");
    }
    format!("{folder}/{SOCKET_NAME}: {error}")
}

/// One call, bounded in time, its error in words.
pub(crate) async fn ask<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T> {
    let answer = tokio::time::timeout(limit, call)
        .await
        .with_context(|| format!("no answer within {}", humantime::format_duration(limit)))?;
    answer.map(Response::into_inner).map_err(|status| anyhow!(print_refusal(&status)))
}

/// A refusal for people: of ours the words alone, for they say all; of others with the code.
fn print_refusal(status: &Status) -> String {
    if let Some(words) = status.message().strip_prefix("quorate: ") {
        return words.into();
    }
    match status.code() {
        Code::Unimplemented if status.message().starts_with("unknown service") => {
            "this server is not quorated: ask etcd's own tools".into()
        }
        Code::PermissionDenied | Code::FailedPrecondition | Code::NotFound | Code::InvalidArgument => {
            status.message().into()
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => print_status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_finding_no_node_has_its_own_words() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("moon");
        for (data_dir, kind, words) in [
            (&missing, ErrorKind::NotFound, "no such folder"),
            (&folder.path().to_owned(), ErrorKind::NotFound, "no quorated.sock"),
            (&missing, ErrorKind::ConnectionRefused, "not running; start it: quorated --data-dir"),
            (&missing, ErrorKind::PermissionDenied, "as that user"),
            (&missing, ErrorKind::TimedOut, "hangs"),
            (&missing, ErrorKind::Other, "quorated.sock: "),
        ] {
            let text = print_local_error(data_dir, &kind.into());
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn refusals_are_words_not_codes() {
        let foreign = Status::unimplemented("unknown service quorate.Admin");
        assert!(print_refusal(&foreign).contains("not quorated"));
        assert_eq!(print_refusal(&Status::permission_denied("quorate: the cluster …")), "the cluster …");
        assert_eq!(print_refusal(&Status::not_found("there is no such member")), "there is no such member");
        assert!(print_refusal(&Status::unavailable("etcdserver: no leader")).contains("no leader"));
    }
}
