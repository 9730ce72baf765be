//! What a leader knows about its followers: how far each has come, and what is under way to it. Shared by the
//! protocols, whose leaders all replicate alike (Howard and Mortier, "Paxos vs Raft", PaPoC 2020).

use std::collections::VecDeque;

use super::Index;

/// What the leader knows about a follower (nextIndex and matchIndex of figure 2).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Progress {
    pub next: Index,
    pub matched: Index,
    pub mode: Mode,
    /// Latest round that the follower has answered.
    pub round: u64,
    /// Whether it has answered anything since leadership was last checked.
    pub heard: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Mode {
    /// Where the logs agree is not known: one message with entries at a time.
    Probe { waiting: bool },
    /// Messages follow one another without waiting; the last index of each, until acknowledged.
    Replicate { in_flight: VecDeque<Index> },
    /// The follower needs entries that are only left in the snapshot, which is under way.
    Snapshot,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct PendingRead {
    pub read: u64,
    /// Everything committed when the read was asked for is at or before this index.
    pub index: Index,
    /// A majority has to answer this round.
    pub round: u64,
}

impl Progress {
    /// A follower of which nothing is known, to be tried with the entries from `next` on.
    pub fn new(next: Index) -> Self {
        Self {
            next,
            matched: 0,
            mode: Mode::Probe { waiting: false },
            round: 0,
            heard: false,
        }
    }

    /// Whether another message with entries may leave.
    pub fn is_open(&self, window: usize) -> bool {
        match &self.mode {
            Mode::Probe { waiting } => !waiting,
            Mode::Replicate { in_flight } => in_flight.len() < window,
            Mode::Snapshot => false,
        }
    }

    /// Takes note that the `count` entries from `next` on leave.
    pub fn sends(&mut self, count: u64) {
        match &mut self.mode {
            Mode::Probe { waiting } => *waiting = true,
            Mode::Replicate { in_flight } => {
                self.next += count;
                in_flight.push_back(self.next - 1);
            }
            Mode::Snapshot => unreachable!("no entries are sent beside a snapshot"),
        }
    }

    /// Takes note that a snapshot up to `index` leaves.
    pub fn sends_snapshot(&mut self, index: Index) {
        self.mode = Mode::Snapshot;
        self.next = index + 1;
    }

    /// What was lost on the way cannot be sent again, because only a snapshot has it: wait for nothing.
    pub fn probe(&mut self) {
        self.mode = Mode::Probe { waiting: false };
    }

    /// Begins a new check for a majority. A snapshot that was not acknowledged in time is sent again.
    pub fn forget_heard(&mut self) {
        self.heard = false;
        if self.mode == Mode::Snapshot {
            self.next = self.matched + 1;
            self.probe();
        }
    }

    /// The follower has everything up to `index`.
    pub fn acknowledged(&mut self, index: Index) {
        self.matched = self.matched.max(index);
        let caught_up = self.matched + 1 >= self.next;
        self.next = self.next.max(self.matched + 1);
        match &mut self.mode {
            Mode::Replicate { in_flight } => {
                while in_flight.front().is_some_and(|last| *last <= index) {
                    in_flight.pop_front();
                }
            }
            Mode::Probe { .. } | Mode::Snapshot if caught_up => {
                let in_flight = VecDeque::new();
                self.mode = Mode::Replicate { in_flight };
            }
            Mode::Probe { .. } | Mode::Snapshot => {}
        }
    }

    /// The follower refused what followed `prev_index`, and is to be tried from `next` on. A refusal of something
    /// else than what was sent last tells nothing new.
    pub fn refused(&mut self, prev_index: Index, next: Index) {
        let current = match self.mode {
            Mode::Probe { .. } => prev_index + 1 == self.next,
            Mode::Replicate { .. } => prev_index < self.next,
            Mode::Snapshot => false,
        };
        if current {
            self.next = next;
            self.probe();
        }
    }
}
