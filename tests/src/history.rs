//! Histories of real clients: closed loops over connections to every member, each operation noted with when it began
//! and ended on one clock, the faults of the test in the same timeline, and all of it judged at the end.

pub mod follow;
mod refusal;
mod worker;

use crate::linear::{self, Checked, Op, Operation, Outcome};
pub use refusal::is_refusal;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Faults before the culprit that a report shows.
const FAULTS_SHOWN: usize = 12;

/// What the clients do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Clients on each member.
    pub clients_per_member: u64,
    /// Keys they share.
    pub keys: u64,
    /// Rest of a client after each answer.
    pub rest: Duration,
    /// When a client gives up and calls the outcome unknown.
    pub patience: Duration,
    /// Makes choices repeatable, as far as timing lets them be.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            clients_per_member: 2,
            keys: 6,
            rest: Duration::from_millis(4),
            patience: Duration::from_secs(2),
            seed: 1,
        }
    }
}

/// The one clock and what is noted by it.
#[derive(Debug)]
struct Timeline {
    began: Instant,
    ending: AtomicBool,
    written: AtomicU64,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    operations: Vec<Operation>,
    /// How often each error text came up, and how it was taken.
    errors: BTreeMap<String, u64>,
    faults: Vec<(u64, String)>,
    /// When a write was acknowledged.
    writes: Vec<u64>,
}

impl Timeline {
    /// Microseconds since the beginning.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).expect("less than centuries")
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().expect("nobody panics while noting")
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    timeline: Arc<Timeline>,
    plan: Plan,
    clients: JoinSet<()>,
    clients_started: u64,
}

impl Load {
    /// Starts it on these members.
    #[must_use]
    pub fn start(endpoints: &[String], plan: Plan) -> Load {
        let timeline = Arc::new(Timeline {
            began: Instant::now(),
            ending: AtomicBool::new(false),
            written: AtomicU64::new(0),
            noted: Mutex::default(),
        });
        let mut load = Load { timeline, plan, clients: JoinSet::new(), clients_started: 0 };
        for endpoint in endpoints {
            load.add_member(endpoint);
        }
        load
    }

    /// Clients of one more member.
    pub fn add_member(&mut self, endpoint: &str) {
        for _ in 0..self.plan.clients_per_member {
            let number = self.clients_started;
            self.clients_started += 1;
            let timeline = Arc::clone(&self.timeline);
            self.clients.spawn(worker::run(timeline, endpoint.to_owned(), number, self.plan.clone()));
        }
    }

    /// Notes what the test does to the cluster now.
    pub fn fault(&self, what: impl Into<String>) {
        let (at, what) = (self.timeline.now(), what.into());
        println!("{:>8} ms  {what}", at / 1_000);
        self.timeline.noted().faults.push((at, what));
    }

    /// Writes acknowledged so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.timeline.written.load(Ordering::Relaxed)
    }

    /// Waits for so many more acknowledged writes: proof that the cluster works, and that load met the fault.
    ///
    /// # Panics
    /// If they do not come.
    pub async fn wait_writes(&self, more: u64) {
        let (first, began) = (self.written(), Instant::now());
        while self.written() < first + more {
            let written = self.written() - first;
            assert!(
                began.elapsed() < crate::cluster::LIMIT,
                "{written} of {more} writes\n{}",
                self.report_of(u64::MAX)
            );
            tokio::time::sleep(crate::process::POLL).await;
        }
    }

    /// Lets each client finish what it asked for last, and gives the history.
    pub async fn end(mut self) -> History {
        self.timeline.ending.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.expect("a client does not panic");
        }
        let noted = std::mem::take(&mut *self.timeline.noted());
        History { noted }
    }

    fn report_of(&self, until: u64) -> String {
        report(&self.timeline.noted(), until)
    }
}

/// All that was noted.
#[derive(Debug)]
pub struct History {
    noted: Noted,
}

impl History {
    /// Judges it.
    ///
    /// # Panics
    /// If no order of the operations explains the answers; the report shows the culprit, what was going on around
    /// it, and what the test had done to the cluster by then. Or if nothing was done that could be judged.
    #[must_use]
    pub fn check(&self) -> Checked {
        let checked = linear::check(&self.noted.operations).unwrap_or_else(|violation| {
            let until = self.noted.operations[violation.operation].ended;
            panic!("{violation}\n{}", report(&self.noted, until));
        });
        println!("{checked:?}\n{}", report(&self.noted, u64::MAX));
        assert!(checked.answered > 0 && !self.noted.writes.is_empty(), "nothing to judge: {checked:?}");
        checked
    }

    /// Judges the history as if its serializable reads had been linearizable: with a member cut off that cannot
    /// pass, so a test can show that the judge is awake.
    ///
    /// # Errors
    /// The first violation.
    pub fn check_peeks_as_gets(&self) -> Result<Checked, linear::Violation> {
        let mut operations = self.noted.operations.clone();
        for operation in &mut operations {
            if operation.op == Op::Peek {
                operation.op = Op::Get;
            }
        }
        linear::check(&operations)
    }

    /// All operations.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.noted.operations
    }

    /// The longest time without an acknowledged write by any client, from the first to the last.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        crate::gap::longest(&self.noted.writes)
    }
}

fn report(noted: &Noted, until: u64) -> String {
    let mut text = String::from("what the test did:");
    let faults: Vec<_> = noted.faults.iter().filter(|(at, _)| *at <= until).collect();
    for (at, what) in &faults[faults.len().saturating_sub(FAULTS_SHOWN)..] {
        write!(text, "\n  [{at}] {what}").expect("a string takes everything");
    }
    let count = |is: fn(&Outcome) -> bool| noted.operations.iter().filter(|one| is(&one.outcome)).count();
    let (refused, unknown) =
        (count(|outcome| *outcome == Outcome::Refused), count(|outcome| *outcome == Outcome::Unknown));
    let (all, writes, gap) = (noted.operations.len(), noted.writes.len(), crate::gap::longest(&noted.writes));
    write!(
        text,
        "\n{all} operations, {refused} refused, {unknown} unknown; {writes} writes, longest gap {gap:?}"
    )
    .expect("a string takes everything");
    for (error, count) in &noted.errors {
        write!(text, "\n  {count:>5} x {error}").expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::follow::Changes;
    use super::*;
    use crate::linear::{Answer, Held};

    fn operation(op: Op, outcome: Outcome) -> Operation {
        Operation { client: 0, key: 1, began: 0, ended: 1, op, outcome }
    }

    fn done(answer: Answer, revision: i64) -> Outcome {
        Outcome::Done { answer, revision }
    }

    fn judge(operations: &[Operation], changes: &[(i64, Option<u64>)]) -> bool {
        let noted = Noted { operations: operations.to_vec(), ..Noted::default() };
        let changes: Changes = changes.iter().map(|&(revision, value)| (revision, (1, value))).collect();
        std::panic::catch_unwind(|| History { noted }.check_changes(&changes)).is_ok()
    }

    #[test]
    fn a_watch_has_to_agree_with_the_clients() {
        let put = operation(Op::Put(7), done(Answer::Put, 5));
        let held = Held { value: 7, revision: 5 };
        let delete = operation(Op::Delete, done(Answer::Deleted(Some(held)), 6));
        let both = [put.clone(), delete.clone()];
        assert!(judge(&both, &[(5, Some(7)), (6, None)]));
        assert!(!judge(&both, &[(6, None)]), "a put is missing");
        assert!(!judge(&both, &[(5, Some(7))]), "a delete is missing");
        assert!(!judge(&both, &[(4, Some(7)), (6, None)]), "at another revision");
        assert!(!judge(&both, &[(5, Some(7)), (6, None), (8, Some(7))]), "twice");
        assert!(!judge(&both, &[(5, Some(7)), (6, None), (8, Some(9))]), "written by nobody");
        let unknown = operation(Op::Put(7), Outcome::Unknown);
        assert!(judge(std::slice::from_ref(&unknown), &[]) && judge(&[unknown], &[(5, Some(7))]));
        let refused = operation(Op::Put(7), Outcome::Refused);
        assert!(judge(std::slice::from_ref(&refused), &[]) && !judge(&[refused], &[(5, Some(7))]));
    }
}
