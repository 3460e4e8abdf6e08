//! What a run must have come to at least once: a simulator that never gets there proves nothing about it.

macro_rules! situations {
    ($($name:ident = $text:literal,)*) => {
        /// Something that tries the cluster.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Situation {
            $(#[doc = $text] $name,)*
        }

        impl Situation {
            /// All of them.
            pub const ALL: &[Situation] = &[$(Situation::$name,)*];

            /// In words.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Situation::$name => $text,)* }
            }
        }
    };
}

situations! {
    ElectionUnderStall = "a leader elected while a card stood still",
    CommitAheadOfOwnCard = "a leader that committed ahead of its own card",
    ApplyAheadOfOwnCard = "a follower that applied ahead of its card",
    CrashAheadOfOwnCard = "a node that crashed while it had applied ahead of its card",
    LeaderCrash = "a leader that crashed",
    LeaderPaused = "a leader stopped by a signal, and gone on",
    LeaderOfMinority = "a leader cut off with a minority",
    SplitInHalves = "four nodes cut in halves",
    OneWayCut = "a direction in which nothing passed",
    SiteCut = "the power gone on all boards at once",
    SectorsLost = "a power cut that lost what was not synced",
    PowerAfterPromise = "a node that lost power right after it had promised something",
    SyncFailed = "a card that refused a sync",
    Truncated = "a tail that was cut off by a new leader",
    TakenBackInFlight = "a tail that was cut off while the card was still at it",
    OlderTermCommitted = "an entry of an older term committed with one of a newer",
    HandOver = "leadership handed over as asked",
    CardHandOver = "leadership handed over because a card was sick",
    StoppedLeader = "a leader asked to stop",
    JointChange = "a joint change that ended",
    JointCrash = "a crash during a joint change",
    Removed = "a voter removed",
    RemovedLeader = "a leader removed",
    RemovedTold = "a removed node that learned it",
    FiveVoters = "five voters",
    LearnerKilled = "a learner killed while it caught up",
    StaleRefused = "an older copy of a card refused by its peers",
    Replaced = "a lost card replaced by a new node",
    FetchFromCard = "a span read back from the card for a peer",
    FetchFailed = "a span that could not be read back",
    ImageWritten = "an image written",
    ImageInstalled = "an image of a peer installed",
    ImageDuringPartition = "an image sent during a partition",
    ImageCut = "an image cut on its way",
    ImageResumed = "an image gone on with where it was cut",
    Compacted = "a compaction",
    WatchCompacted = "a watcher told that its revisions are compacted",
    WatchMoved = "a watcher that went on at another node",
    SwapKept = "a swap that did not take place",
    OutcomeUnknown = "a write whose outcome its client never learned",
    UnknownHappened = "a write of unknown outcome that took place",
    ProposedAgain = "a write that outlived the leader it was given to",
    ReadAcrossLeaders = "a linearizable read that outlived the leader it was asked of",
    LeaseExpired = "a lease that ended because its time was over",
    LeaseKept = "a lease kept alive across a change of leaders",
    KeepAliveTooLate = "a keep-alive that came as the lease ended",
    ClockJump = "a clock that jumped",
}

/// How often each was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situations(Vec<u64>);

impl Default for Situations {
    fn default() -> Situations {
        Situations(vec![0; Situation::ALL.len()])
    }
}

impl Situations {
    pub(crate) fn reach(&mut self, situation: Situation) {
        self.0[place(situation)] += 1;
    }

    pub(crate) fn reach_if(&mut self, is_reached: bool, situation: Situation) {
        if is_reached {
            self.reach(situation);
        }
    }

    /// How often that one was.
    #[must_use]
    pub fn count(&self, situation: Situation) -> u64 {
        self.0[place(situation)]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Situations) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// Those never reached.
    pub fn missing(&self) -> impl Iterator<Item = Situation> + '_ {
        Situation::ALL.iter().copied().filter(|situation| self.count(*situation) == 0)
    }
}

fn place(situation: Situation) -> usize {
    // The list is made with the enum, in its order.
    situation as usize
}
