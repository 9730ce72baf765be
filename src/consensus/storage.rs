//! What a replica keeps on disk: its term and vote, its snapshot and the log after it.
//!
//! One file holds all of it, so that a crash leaves a prefix of what was done in the order in which it was
//! done. In memory the state runs ahead of the disk; [`Storage::durable`] and [`Storage::hard_is_durable`]
//! say how far the disk has come, and it is the protocol's duty to claim no more than that. One flush is
//! under way at a time, and what is appended meanwhile shares the next one (group commit).

use std::collections::VecDeque;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use crate::base::digest::stable_hash;
use crate::base::observation::{LogEvent, Observation};
use crate::base::process::{Addr, Disk, Effects, FlushId};
use crate::shard::wal::{Corrupt, Tail, Wal};

use super::{Algorithm, Command, Config, Index, Position, Snapshot, Term};
use crate::base::zoo::{self, Bug};

/// A log entry. Its index is its place.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Entry<C> {
    /// The term of the leader that created it.
    pub term: Term,
    /// Its content; nothing in the no-op with which a leader starts its term.
    pub command: Option<C>,
}

/// An entry as a replica holds it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Accepted<C> {
    /// Multi-Paxos: the last ballot in which it was accepted here. Raft: its own term, for nobody proposes it again.
    pub ballot: Term,
    /// The entry.
    pub entry: Entry<C>,
}

/// "Updated on stable storage before responding to RPCs" (Raft, figure 2), besides the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct HardState {
    /// Latest term seen.
    pub term: Term,
    /// Who got the vote in this term.
    pub vote: Option<Addr>,
}

/// A record of the log file: `E` is an entry, or a reference to one when writing.
#[derive(Serialize, Deserialize)]
enum Record<E> {
    /// Everything before is replaced by this snapshot. Only ever first in the file.
    Snapshot(Snapshot),
    Hard(HardState),
    /// The log ends with this entry: those that were at this index and after it are gone.
    Entry(Index, E),
    /// This entry, accepted in this ballot, replaces the one at its index, or is the log's last: those after it stay.
    Put(Index, Term, E),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Storage<C> {
    group: u16,
    owner: u8,
    /// Whether observations tell of decided entries only (see `paxos`).
    states_decided_only: bool,
    wal: Wal,
    hard: HardState,
    snapshot: Snapshot,
    /// The entries after the snapshot.
    entries: VecDeque<Accepted<C>>,
    /// Entries up to this index are on disk.
    durable: Index,
    /// Whether something was written since the last flush was asked for.
    dirty: bool,
    /// Number of flushes asked for, which names the last of them.
    asked: u64,
    /// Number of flushes completed.
    flushed: u64,
    /// The flush that makes the hard state durable.
    hard_needs: u64,
    /// Entries up to this index are on disk once the flush under way completes.
    durable_next: Index,
}

impl<C: Command> Storage<C> {
    /// Storage that has not booted.
    pub fn new(config: &Config) -> Self {
        Self {
            group: config.group,
            owner: config.flush_owner,
            states_decided_only: config.options.algorithm == Algorithm::MultiPaxos,
            wal: Wal::new(config.file),
            hard: HardState::default(),
            snapshot: Snapshot::default(),
            entries: VecDeque::new(),
            durable: 0,
            dirty: false,
            asked: 0,
            flushed: 0,
            hard_needs: 0,
            durable_next: 0,
        }
    }

    /// Reads the disk and states what it holds.
    pub fn boot<M, T>(
        config: &Config,
        disk: &Disk,
        out: &mut Effects<M, T>,
    ) -> Result<Self, Corrupt> {
        let mut this = Self::new(config);
        let (wal, recovered) =
            Wal::open::<Record<Entry<C>>, _, _>(config.file, disk.file(config.file), out)?;
        this.wal = wal;
        // A torn tail was cut: that has to reach the disk before anything is appended and claimed durable.
        this.dirty = recovered.tail != Tail::Clean;
        if this.dirty {
            out.observe(Observation::Mark("log.torn-tail-cut"));
        }
        for record in recovered.records {
            match record {
                Record::Snapshot(snapshot) => this.snapshot = snapshot,
                Record::Hard(hard) => this.hard = hard,
                Record::Entry(index, entry) => {
                    let ballot = entry.term;
                    this.entries.truncate(this.offset(index));
                    this.entries.push_back(Accepted { ballot, entry });
                }
                Record::Put(index, ballot, entry) => this.set(index, Accepted { ballot, entry }),
            }
        }
        this.durable = this.last().index;
        let restarted = LogEvent::Restarted {
            snapshot_index: this.snapshot.last.index,
            snapshot_term: this.snapshot.last.term,
        };
        this.observe(restarted, out);
        if !this.states_decided_only {
            for index in this.snapshot.last.index + 1..=this.durable {
                this.observe_entry(index, out);
            }
        }
        Ok(this)
    }

    pub fn hard(&self) -> HardState {
        self.hard
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The last entry's position, or the snapshot's.
    pub fn last(&self) -> Position {
        match self.entries.back() {
            Some(accepted) => Position {
                term: accepted.entry.term,
                index: self.snapshot.last.index + self.entries.len() as u64,
            },
            None => self.snapshot.last,
        }
    }

    /// The term of the entry at `index`, where it is known.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.snapshot.last.index {
            return Some(self.snapshot.last.term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    pub fn entry(&self, index: Index) -> Option<&Entry<C>> {
        self.accepted(index).map(|accepted| &accepted.entry)
    }

    pub fn accepted(&self, index: Index) -> Option<&Accepted<C>> {
        let after_snapshot = index.checked_sub(self.snapshot.last.index + 1)?;
        self.entries.get(after_snapshot as usize)
    }

    /// Up to `most` entries from `from` on.
    pub fn entries_from(&self, from: Index, most: usize) -> Vec<Entry<C>> {
        let entries = self.entries.iter().skip(self.offset(from));
        let entries = entries.take(most).map(|accepted| &accepted.entry);
        entries.cloned().collect()
    }

    /// Everything from `from` on.
    pub fn accepted_from(&self, from: Index) -> Vec<Accepted<C>> {
        let accepted = self.entries.iter().skip(self.offset(from));
        accepted.cloned().collect()
    }

    pub fn set_hard<M, T>(&mut self, hard: HardState, out: &mut Effects<M, T>) {
        assert!(hard.term >= self.hard.term, "terms never go back");
        self.hard = hard;
        self.hard_needs = self.asked + 1;
        self.write(&Record::Hard(hard), out);
    }

    /// Makes `entry` the log's last one, at `index`: entries at that index and after it are removed.
    pub fn append<M, T>(&mut self, index: Index, entry: Entry<C>, out: &mut Effects<M, T>) {
        let keep = self.offset(index);
        assert!(keep <= self.entries.len(), "the log has no holes");
        if keep < self.entries.len() {
            self.entries.truncate(keep);
            self.durable = self.durable.min(index - 1);
            self.durable_next = self.durable_next.min(index - 1);
            self.observe(LogEvent::Truncated { from: index }, out);
        }
        self.write(&Record::Entry(index, &entry), out);
        let ballot = entry.term;
        self.entries.push_back(Accepted { ballot, entry });
        self.observe_entry(index, out);
    }

    /// Accepts an entry in a ballot at `index`, which may lie within the log: entries after it stay.
    pub fn put<M, T>(&mut self, index: Index, accepted: Accepted<C>, out: &mut Effects<M, T>) {
        let record = Record::Put(index, accepted.ballot, &accepted.entry);
        self.write(&record, out);
        self.durable = self.durable.min(index - 1);
        self.durable_next = self.durable_next.min(index - 1);
        self.set(index, accepted);
    }

    fn set(&mut self, index: Index, accepted: Accepted<C>) {
        let place = self.offset(index);
        assert!(place <= self.entries.len(), "the log has no holes");
        if place == self.entries.len() {
            self.entries.push_back(accepted);
        } else {
            self.entries[place] = accepted;
        }
    }

    /// Replaces the log up to the end of `snapshot`, or all of it unless `keeps_rest`.
    pub fn install<M, T>(&mut self, snapshot: Snapshot, keeps_rest: bool, out: &mut Effects<M, T>) {
        let last = snapshot.last;
        let covered = self.offset(last.index + 1);
        if keeps_rest && covered <= self.entries.len() {
            self.entries.drain(..covered);
        } else {
            self.entries.clear();
            // Until the flush the disk holds the old log, of which the snapshot vouches only for what it
            // covers; nothing beyond the old snapshot is claimed.
            self.durable = self.snapshot.last.index;
            self.durable_next = self.snapshot.last.index;
        }
        self.snapshot = snapshot;
        self.rewrite(out);
        let Position { index, term } = last;
        self.observe(LogEvent::Compacted { index, term }, out);
    }

    /// Asks for a flush, if something waits for one and none is under way.
    pub fn flush<M, T>(&mut self, out: &mut Effects<M, T>) {
        if self.dirty && self.asked == self.flushed {
            self.asked += 1;
            self.dirty = false;
            self.durable_next = self.last().index;
            out.flush(FlushId {
                owner: self.owner,
                sequence: self.asked,
            });
        }
    }

    /// Takes note that a flush completed. Says whether it was one of ours.
    pub fn flushed(&mut self, flush: FlushId) -> bool {
        let ours = flush.owner == self.owner;
        if ours {
            assert_eq!(flush.sequence, self.asked, "one flush is under way");
            self.flushed = self.asked;
            self.durable = self.durable_next;
        }
        ours
    }

    /// Whether term and vote are on disk.
    pub fn hard_is_durable(&self) -> bool {
        self.flushed >= self.hard_needs
    }

    /// Entries up to this index are on disk.
    pub fn durable(&self) -> Index {
        self.durable
    }

    pub fn observe<M, T>(&self, event: LogEvent, out: &mut Effects<M, T>) {
        let group = self.group;
        out.observe(Observation::Log { group, event });
    }

    fn observe_entry<M, T>(&self, index: Index, out: &mut Effects<M, T>) {
        let entry = self.entry(index).expect("the entry is there");
        let event = LogEvent::Appended {
            index,
            term: entry.term,
            content: stable_hash(&entry.command),
        };
        self.observe(event, out);
    }

    /// States an entry that is now known to be decided, where that is all that is stated of entries.
    pub fn observe_decided<M, T>(&self, index: Index, out: &mut Effects<M, T>) {
        if self.states_decided_only {
            self.observe_entry(index, out);
        }
    }

    fn write<M, T>(&mut self, record: &Record<&Entry<C>>, out: &mut Effects<M, T>) {
        self.wal.append(record, out);
        self.dirty = true;
    }

    fn rewrite<M, T>(&mut self, out: &mut Effects<M, T>) {
        let first = self.snapshot.last.index + 1;
        let head = [
            Record::Snapshot(self.snapshot.clone()),
            Record::Hard(match zoo::planted(Bug::CompactionDropsTerm) {
                true => HardState::default(),
                false => self.hard,
            }),
        ];
        let entries = (first..)
            .zip(&self.entries)
            .map(|(index, accepted)| match accepted.ballot {
                ballot if ballot == accepted.entry.term => Record::Entry(index, &accepted.entry),
                ballot => Record::Put(index, ballot, &accepted.entry),
            });
        self.wal.rewrite(head.into_iter().chain(entries), out);
        self.dirty = true;
    }

    /// How many entries after the snapshot come before `index`.
    fn offset(&self, index: Index) -> usize {
        let first = self.snapshot.last.index + 1;
        assert!(index >= first, "the snapshot covers {index}");
        (index - first) as usize
    }
}
