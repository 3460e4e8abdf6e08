//! `quorate invite`: one-time tokens with which new nodes join.

use crate::reach::{Reach, ask};
use crate::say::say;
use anyhow::{Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use quorate_bench::EndpointArgs;
use quorate_proto::quorate::admin_client::AdminClient;
use quorate_proto::quorate::{
    InviteRequest, InviteResponse, InviteRevokeRequest, InviteView, InvitesRequest,
};
use serde_json::json;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  quorate --data-dir /var/lib/quorate invite                on a member's board; prints the line for the new one
  quorate --data-dir /var/lib/quorate invite --format token the token alone, for scripts
  quorate invite list
  quorate invite revoke 3f2a9c0d";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct InviteArgs {
    #[command(subcommand)]
    command: Option<InviteCommand>,
    #[command(flatten)]
    make: MakeArgs,
}

#[derive(Debug, Subcommand)]
enum InviteCommand {
    /// The invites the cluster keeps: open, used and expired ones
    List(ListArgs),
    /// Take an invite back
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
struct MakeArgs {
    /// How long the token may be used
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration, value_name = "TIME")]
    ttl: Duration,
    /// What to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// The invite's id, as `invite` and `invite list` print it
    id: String,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// What to type on the new board
    Text,
    /// The token alone, on one line
    Token,
    /// Token, id and time left
    Json,
}

/// Longest wait for an answer: the invite goes through the log, on slow cards.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Runs it; whether all was well.
pub(crate) async fn run(args: &InviteArgs, reach: &Reach) -> Result<bool> {
    match &args.command {
        None => make(&args.make, reach).await?,
        Some(InviteCommand::List(args)) => {
            let mut admin = AdminClient::new(reach.connect(&args.endpoint).await?);
            let invites = ask(ANSWER_TIME_MAX, admin.invites(InvitesRequest {})).await?.invites;
            say(if args.json { print_json(&invites) } else { print_list(&invites) })?;
        }
        Some(InviteCommand::Revoke(args)) => {
            let mut admin = AdminClient::new(reach.connect(&args.endpoint).await?);
            let request = InviteRevokeRequest { id: args.id.clone() };
            ask(ANSWER_TIME_MAX, admin.invite_revoke(request)).await?;
            say(format_args!("invite {} is of no use any more", args.id))?;
        }
    }
    Ok(true)
}

async fn make(args: &MakeArgs, reach: &Reach) -> Result<()> {
    ensure!(args.ttl >= Duration::from_secs(1), "--ttl: an invite lasts a second at least");
    let mut admin = AdminClient::new(reach.connect(&args.endpoint).await?);
    let request = InviteRequest { ttl_seconds: args.ttl.as_secs() };
    let invite = ask(ANSWER_TIME_MAX, admin.invite(request)).await?;
    say(print(args.format, &invite))?;
    Ok(())
}

fn print(format: Format, invite: &InviteResponse) -> String {
    let InviteResponse { token, id, expires_in_seconds } = invite;
    match format {
        Format::Token => token.clone(),
        Format::Json => {
            json!({ "token": token, "id": id, "expiresInSeconds": expires_in_seconds }).to_string()
        }
        Format::Text => format!(
            "One new node may join within {}. On its board (ADDRESS: where the others reach it):\n\n  \
             quorated --name NAME --data-dir DIR --listen-peer ADDRESS:2380 --join {token}\n\n\
             Whoever has this token may join in its place: `quorate invite revoke {id}` takes it back.",
            humantime::format_duration(Duration::from_secs(*expires_in_seconds)),
        ),
    }
}

/// In words, what became of an invite.
fn fate(invite: &InviteView) -> String {
    match (invite.used_by.as_str(), invite.expires_in_seconds) {
        ("", 0) => "expired".into(),
        ("", seconds) => format!("open for {}", humantime::format_duration(Duration::from_secs(seconds))),
        (key, _) => format!("used by the node with key {key}"),
    }
}

fn print_list(invites: &[InviteView]) -> String {
    if invites.is_empty() {
        return "no invites".into();
    }
    let lines: Vec<String> =
        invites.iter().map(|invite| format!("{}  {}", invite.id, fate(invite))).collect();
    lines.join("\n")
}

fn print_json(invites: &[InviteView]) -> String {
    let views: Vec<_> = invites
        .iter()
        .map(|invite| {
            let used_by = Some(&invite.used_by).filter(|key| !key.is_empty());
            json!({ "id": invite.id, "expiresInSeconds": invite.expires_in_seconds, "usedBy": used_by })
        })
        .collect();
    json!(views).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invite_is_printed_for_people_and_for_scripts() {
        let invite = InviteResponse { token: "q1-abc".into(), id: "3f2a".into(), expires_in_seconds: 600 };
        assert_eq!(print(Format::Token, &invite), "q1-abc");
        assert_eq!(print(Format::Json, &invite), r#"{"expiresInSeconds":600,"id":"3f2a","token":"q1-abc"}"#);
        let text = print(Format::Text, &invite);
        for part in ["within 10m.", "--join q1-abc\n", "invite revoke 3f2a"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_became_of_each_invite_is_listed() {
        let view = |id: &str, expires_in_seconds, used_by: &str| InviteView {
            id: id.into(),
            expires_in_seconds,
            used_by: used_by.into(),
        };
        let invites = [view("a", 61, ""), view("b", 0, ""), view("c", 5, "ff")];
        assert_eq!(print_list(&invites), "a  open for 1m 1s\nb  expired\nc  used by the node with key ff");
        assert_eq!(print_list(&[]), "no invites");
        assert_eq!(print_json(&invites[2..]), r#"[{"expiresInSeconds":5,"id":"c","usedBy":"ff"}]"#);
    }
}
