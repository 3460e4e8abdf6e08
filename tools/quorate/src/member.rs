//! `quorate member …`: who belongs to the cluster, and who shall no longer.

use crate::members::{ClusterView, print_id};
use crate::reach::{Reach, ask};
use crate::say::say;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use quorate_bench::EndpointArgs;
use quorate_proto::quorate::admin_client::AdminClient;
use quorate_proto::quorate::{Member, MemberRequest, MembersRequest, MembersResponse};
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;

const EXAMPLES: &str = "\
Examples:
  quorate --data-dir /var/lib/quorate member list
  quorate member list --endpoints 10.0.0.1:2379 --json
  quorate member remove kitchen            by its name, or by its id as `member list` prints it

New members are not added here, they are invited: `quorate invite`.";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum MemberCommand {
    /// Who belongs to the cluster, and how they fare
    List(ListArgs),
    /// Take a member out of the cluster for good
    Remove(TargetArgs),
    /// Make a learner a voter now; by itself it waits until voters stay odd
    Promote(TargetArgs),
    /// Let that voter lead
    Transfer(TargetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Ask the quorum first, so that nothing that was through before is missed
    #[arg(long)]
    linearizable: bool,
    #[command(flatten)]
    way: WayArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// The member's id, or its name if no other has it
    #[arg(value_name = "ID|NAME")]
    member: String,
    #[command(flatten)]
    way: WayArgs,
}

#[derive(Debug, Args)]
struct WayArgs {
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// Longest wait for an answer
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration, value_name = "TIME")]
    command_timeout: Duration,
}

type Admin = AdminClient<Channel>;

/// Runs it; whether all was well.
pub(crate) async fn run(command: &MemberCommand, reach: &Reach) -> Result<bool> {
    match command {
        MemberCommand::List(args) => {
            let request = MembersRequest { linearizable: args.linearizable };
            let mut admin = connect(&args.way, reach).await?;
            let seen = ask(args.way.command_timeout, admin.members(request)).await?;
            let view = ClusterView::new(&seen);
            say(if args.json { serde_json::to_string_pretty(&view)? } else { view.print() })?;
        }
        MemberCommand::Remove(args) => {
            let (mut admin, member) = target(args, reach).await?;
            let left = change(args, admin.member_remove(MemberRequest { id: member.id })).await?;
            say(format_args!("{} is no member any more", print(&member)))?;
            say(ClusterView::new(&left).sentences().join("\n"))?;
        }
        MemberCommand::Promote(args) => {
            let (mut admin, member) = target(args, reach).await?;
            let now = change(args, admin.member_promote(MemberRequest { id: member.id })).await?;
            say(format_args!("{} votes", print(&member)))?;
            say(ClusterView::new(&now).sentences().join("\n"))?;
        }
        MemberCommand::Transfer(args) => {
            let (mut admin, member) = target(args, reach).await?;
            change(args, admin.member_transfer(MemberRequest { id: member.id })).await?;
            say(format_args!("{} leads", print(&member)))?;
        }
    }
    Ok(true)
}

async fn connect(way: &WayArgs, reach: &Reach) -> Result<Admin> {
    Ok(AdminClient::new(reach.connect(&way.endpoint).await?))
}

/// The door, and the member that is meant.
async fn target(args: &TargetArgs, reach: &Reach) -> Result<(Admin, Member)> {
    let mut admin = connect(&args.way, reach).await?;
    let seen = ask(args.way.command_timeout, admin.members(MembersRequest::default())).await?;
    let member = find(&seen.members, &args.member)?.clone();
    Ok((admin, member))
}

/// Where the node lost its leader or the time was over, the change may have come to pass all the same.
async fn change(
    args: &TargetArgs,
    call: impl Future<Output = Result<tonic::Response<MembersResponse>, tonic::Status>>,
) -> Result<MembersResponse> {
    let mut is_unknown = true;
    let call = async {
        let answer = call.await;
        is_unknown = answer.as_ref().is_err_and(|status| status.code() == Code::Unavailable);
        answer
    };
    let answer = ask(args.way.command_timeout, call).await;
    answer.with_context(|| {
        let hint = if is_unknown { " (see `quorate member list`: it may have come to pass)" } else { "" };
        format!("{}{hint}", args.member)
    })
}

/// By id, or by a name that only one has.
fn find<'a>(members: &'a [Member], wanted: &str) -> Result<&'a Member> {
    let by_id = members.iter().find(|member| print_id(member.id) == wanted.to_ascii_lowercase());
    let by_name: Vec<&Member> = members.iter().filter(|member| member.name == wanted).collect();
    match (by_id, by_name.as_slice()) {
        (Some(member), []) => Ok(member),
        (None, [member]) => Ok(*member),
        (Some(one), [other]) if one.id == other.id => Ok(one),
        (None, []) => bail!(
            "no member is called `{wanted}` or has that id; there are: {}",
            members.iter().map(print).collect::<Vec<_>>().join(", ")
        ),
        (by_id, by_name) => {
            let meant: Vec<String> = by_id.into_iter().chain(by_name.iter().copied()).map(print).collect();
            bail!("`{wanted}` may mean {}; give the id", meant.join(" or "))
        }
    }
}

fn print(member: &Member) -> String {
    format!("{} ({:x})", member.name, member.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str) -> Member {
        Member { id, name: name.into(), ..Member::default() }
    }

    #[test]
    fn a_member_is_found_by_id_or_by_a_name_of_its_own() {
        let members = [
            member(0xa1, "n1"),
            member(0xb2, "twin"),
            member(0xb3, "twin"),
            member(0xc4, "a1"),
            member(0xd5, "d5"),
        ];
        let id = |wanted| find(&members, wanted).map(|member| member.id).map_err(|error| error.to_string());
        assert_eq!(id("n1"), Ok(0xa1));
        assert_eq!(id("B2"), Ok(0xb2));
        assert_eq!(id("d5"), Ok(0xd5), "its id is its name");
        for (wanted, words) in [
            ("twin", "twin (b2) or twin (b3)"),
            ("a1", "n1 (a1) or a1 (c4)"),
            ("moon", "there are: n1 (a1), twin (b2)"),
            ("", "no member"),
        ] {
            let error = id(wanted).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
