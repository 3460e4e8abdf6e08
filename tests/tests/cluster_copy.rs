//! Cards that are copied and put back, as people do with boards: the copy has forgotten what the node promised since.
//! It is noticed by what the others saw, nothing acknowledged is lost, and the words it ends with say what to do.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_tests::trial::Trial;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};

/// What a node ends with whose card must not be used as it is: `EX_DATAERR`.
const BAD_DATA: i32 = 65;

/// The others' verdict, kept on the card.
const VERDICT: &str = "stale";

/// What a person is told to do.
const REMEDY: &str = "Remove the member, empty the folder, and join it anew";

/// As a person copies a card.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp -a: {status}");
}

/// It ended as one that must not go on, said so, and its card knows.
fn is_refused(trial: &Trial, number: usize, ended: ExitStatus, said: &str, why: &str) {
    assert_eq!(ended.code(), Some(BAD_DATA), "{ended}\n{said}");
    for words in [why, "it is an older copy, or one of two", REMEDY] {
        assert!(said.contains(words), "`{words}` in\n{said}");
    }
    let verdict = trial.cluster.data_dir(number).join(VERDICT);
    assert!(verdict.is_file(), "{} is not there", verdict.display());
}

/// What a node said since its log was so long.
fn said_since(trial: &Trial, number: usize, bytes: usize) -> String {
    trial.cluster.log(number)[bytes..].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_that_is_put_back_makes_no_quorum() {
    let Some(mut trial) = Trial::of_three(0).await else { return };
    let leader = trial.leader("at first").await;
    let [copied, other] = [1, 2].map(|next| (leader - 1 + next) % 3 + 1);
    let id = trial.cluster.id(copied).await;
    let folder = trial.cluster.data_dir(copied).to_owned();
    let old = folder.with_extension("old");

    trial.cluster.stop(copied);
    copy(&folder, &old);
    trial.cluster.spawn(copied);
    trial.cluster.wait_serves(copied).await;
    trial.load.fault(format!("node {copied} was copied and goes on"));
    trial.load.wait_writes(30).await;

    // What is acknowledged now stands on two cards. One of them is then put back to what it was, the other is away:
    // the old copy and the third node would be a quorum that knows nothing of it.
    trial.cluster.kill(other);
    trial.load.fault(format!("kill -9 of node {other}"));
    trial.load.wait_writes(50).await;
    trial.cluster.stop(copied);
    trial.cluster.kill(leader);
    trial.load.fault(format!("node {copied} ends, kill -9 of the leader, node {leader}"));
    let written = trial.load.written();
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&old, &folder).unwrap();
    let said = trial.cluster.log(copied).len();
    trial.cluster.forget(copied);
    trial.cluster.spawn(other);
    trial.cluster.spawn(copied);
    trial.load.fault(format!("the older copy of {copied} starts, and node {other}"));
    let ended = trial.cluster.wait_exit(copied);
    assert_eq!(trial.load.written(), written, "a quorum of which one card is an older copy");
    is_refused(&trial, copied, ended, &said_since(&trial, copied, said), "which this card does not know");

    // Its card tells the next start, which speaks to nobody.
    let said = trial.cluster.log(copied).len();
    trial.cluster.spawn(copied);
    let ended = trial.cluster.wait_exit(copied);
    let said = said_since(&trial, copied, said);
    is_refused(&trial, copied, ended, &said, "the other members refused this card");
    assert!(!said.contains("listening for peers"), "it knew before it spoke to anybody:\n{said}");

    trial.cluster.spawn(leader);
    trial.leader("without the copy").await;
    trial.load.wait_writes(30).await;
    rejoin(&mut trial, copied, id).await;
    trial.finish().await;
}

/// What the words say to do is the way back.
async fn rejoin(trial: &mut Trial, number: usize, id: u64) {
    trial.cluster.remove_id(number, id).await;
    fs::remove_dir_all(trial.cluster.data_dir(number)).unwrap();
    let through = trial.cluster.members_running().next().unwrap();
    let token = trial.cluster.invite(through);
    trial.cluster.admit(number, token, &[]);
    trial.cluster.spawn(number);
    trial.cluster.count_in(number);
    trial.load.fault(format!("node {number} joins anew"));
    trial.cluster.wait_promoted(number).await;
    trial.cluster.wait_voters(3).await;
    trial.cluster.wait_serves(number).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_copies_that_run_at_once_one_ends() {
    let Some(mut trial) = Trial::of_three(1).await else { return };
    let leader = trial.leader("at first").await;
    let (original, clone) = (leader % 3 + 1, 4);
    let folder = trial.cluster.data_dir(original).to_owned();
    trial.cluster.stop(original);
    copy(&folder, trial.cluster.data_dir(clone));
    trial.cluster.spawn(original);
    trial.cluster.wait_serves(original).await;
    trial.load.wait_writes(20).await;
    let before = trial.cluster.members(leader).await.unwrap();

    // A board of its own with the same card: another name and other addresses, the same node by its key.
    let token = trial.cluster.invite(leader);
    trial.cluster.admit(clone, token, &[]);
    trial.cluster.spawn(clone);
    trial.load.fault(format!("a copy of node {original} starts beside it"));
    let ended = trial.cluster.wait_exit(clone);
    is_refused(&trial, clone, ended, &trial.cluster.log(clone), "which this card does not know");
    trial.load.wait_writes(30).await;

    // The original is what it was, where it was, also after its next start.
    assert!(!trial.cluster.data_dir(original).join(VERDICT).exists());
    trial.cluster.restart(original).await;
    trial.load.fault(format!("node {original} started again"));
    trial.load.wait_writes(20).await;
    assert_eq!(
        trial.cluster.members(leader).await.unwrap(),
        before,
        "a copy changed who is a member, or where"
    );
    trial.finish().await;
}
