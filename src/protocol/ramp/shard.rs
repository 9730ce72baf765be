//! A shard: the paper's server (algorithm 1, server side), cooperative termination, and, for transactions whose home it is,
//! how they ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::versions::{Fate, Timestamp, Version, Versions};
use super::{End, Message, Out, PrepareRequest, Site, Timer, Wanted};
use crate::base::observation::{Observation, Outcome};
use crate::base::process::{Addr, FileId, Input, Process, WallTime};
use crate::base::txn::{Key, ShardId, TxnId};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::protocol::kit::durable;
use crate::protocol::kit::journal::Journal;
use crate::shard::ShardState;
use crate::shard::recovery::Recovery;

const LOG: FileId = FileId(0);

/// What a shard's log holds. All records are forced.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Record {
    /// Versions are here. Before the coordinator hears of it.
    Prepare(Arc<PrepareRequest>),
    /// They have committed. Before anybody sees them.
    Commit(Timestamp),
    /// They never will be here. Before anybody hears of it.
    Bar(Timestamp),
    /// A transaction took no effect. Before the coordinator hears of it.
    Close { txn: TxnId, outcome: Outcome },
    /// Everything before this record.
    Checkpoint(Box<Durable>),
}

/// Where a transaction stands at its home.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum AtHome {
    /// This attempt is in doubt: no other may prepare.
    Prepared(Timestamp),
    /// It has ended.
    Ended(End),
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Durable {
    versions: Versions,
    /// The transactions whose home this is.
    home_of: BTreeMap<TxnId, AtHome>,
}

/// Why a record was forced.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Then {
    record: Record,
    /// Whom to tell, if somebody asked.
    from: Option<Addr>,
}

/// What one record at a time may be about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum About {
    Attempt(Timestamp),
    Txn(TxnId),
}

/// A shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Shard {
    site: Arc<Site>,
    shard: ShardId,
    journal: Journal<Record, Then>,
    durable: Durable,
    /// Records on their way to the disk. Whatever else is asked meanwhile is asked again later.
    under_way: BTreeSet<About>,
    /// What other shards have said of attempts that are in doubt here.
    answers: BTreeMap<Timestamp, BTreeMap<ShardId, Fate>>,
    /// The latest versions when versions were collected last.
    collected: BTreeMap<Key, Timestamp>,
    is_collecting: bool,
}

impl Shard {
    pub(super) fn new(site: Arc<Site>, shard: ShardId) -> Self {
        Self {
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            durable: Durable {
                versions: Versions::new(&site.layout, shard),
                home_of: BTreeMap::new(),
            },
            site,
            shard,
            under_way: BTreeSet::new(),
            answers: BTreeMap::new(),
            collected: BTreeMap::new(),
            is_collecting: false,
        }
    }

    /// Takes a durable record into the state.
    fn apply(&mut self, record: Record) {
        let Durable { versions, home_of } = &mut self.durable;
        match record {
            Record::Prepare(request) => {
                versions.prepare(&request);
                if request.home == self.shard {
                    home_of.insert(request.txn, AtHome::Prepared(request.at));
                }
            }
            Record::Commit(at) => {
                let Some(prepared) = versions.commit(at) else {
                    return;
                };
                let is_home = home_of.get(&prepared.txn) == Some(&AtHome::Prepared(at));
                if is_home && !zoo::planted(Bug::RampRequestRunsAgain) {
                    let end = End::Committed(at, prepared.shards);
                    home_of.insert(prepared.txn, AtHome::Ended(end));
                }
            }
            Record::Bar(at) => {
                if let Some(prepared) = versions.bar(at)
                    && home_of.get(&prepared.txn) == Some(&AtHome::Prepared(at))
                {
                    home_of.remove(&prepared.txn);
                }
            }
            Record::Close { txn, outcome } => {
                home_of.insert(txn, AtHome::Ended(End::Closed(outcome)));
            }
            Record::Checkpoint(durable) => self.durable = *durable,
        }
    }

    /// Forces a record, unless one about the same is under way.
    fn force(&mut self, record: Record, from: Option<Addr>) {
        let about = match &record {
            Record::Prepare(request) if request.home == self.shard => {
                if self.under_way.contains(&About::Txn(request.txn)) {
                    return;
                }
                vec![About::Attempt(request.at), About::Txn(request.txn)]
            }
            Record::Prepare(request) => vec![About::Attempt(request.at)],
            Record::Commit(at) | Record::Bar(at) => vec![About::Attempt(*at)],
            Record::Close { txn, .. } => vec![About::Txn(*txn)],
            Record::Checkpoint(_) => unreachable!("it is never forced"),
        };
        if about.iter().all(|about| !self.under_way.contains(about)) {
            self.under_way.extend(about);
            let then = Then {
                record: record.clone(),
                from,
            };
            self.journal.force(record, then);
        }
    }

    /// A record is on the disk, or never will be.
    fn arrive(&mut self, record: &Record) {
        match record {
            Record::Prepare(request) => {
                self.under_way.remove(&About::Attempt(request.at));
                if request.home == self.shard {
                    self.under_way.remove(&About::Txn(request.txn));
                }
            }
            Record::Commit(at) | Record::Bar(at) => {
                self.under_way.remove(&About::Attempt(*at));
            }
            Record::Close { txn, .. } => {
                self.under_way.remove(&About::Txn(*txn));
            }
            Record::Checkpoint(_) => {}
        }
    }

    fn follow(&mut self, Then { record, from }: Then, out: &mut Out) {
        self.arrive(&record);
        let prepared = match &record {
            Record::Commit(at) | Record::Bar(at) => self.durable.versions.prepared(*at).cloned(),
            _ => None,
        };
        self.apply(record.clone());
        let (shard, answer) = (self.shard, |message, out: &mut Out| {
            if let Some(from) = from {
                out.send(from, message);
            }
        });
        match record {
            Record::Prepare(request) => {
                let (txn, at) = (request.txn, request.at);
                let patience = self.site.options.termination_ms.about();
                out.set_timer(Timer::Terminate(at), patience);
                answer(Message::Prepared { txn, at, shard }, out);
            }
            Record::Commit(at) => {
                out.cancel_timer(Timer::Terminate(at));
                self.answers.remove(&at);
                let Some(prepared) = prepared else {
                    return;
                };
                let txn = prepared.txn;
                self.show(at, txn, prepared.keys, out);
                if let Some(AtHome::Ended(end)) = self.durable.home_of.get(&txn) {
                    let commit = matches!(end, End::Committed(..));
                    out.observe(Observation::Decided { txn, commit });
                    if from.is_none() {
                        // The coordinator may be gone.
                        observe_end(txn, end, out);
                    }
                }
                answer(Message::Committed { txn, at, shard }, out);
            }
            Record::Bar(at) => {
                out.cancel_timer(Timer::Terminate(at));
                self.answers.remove(&at);
                let fate = Fate::Barred;
                answer(Message::Answer { at, shard, fate }, out);
            }
            Record::Close { txn, outcome } => {
                let commit = false;
                out.observe(Observation::Decided { txn, commit });
                let end = End::Closed(outcome);
                answer(Message::Ended { txn, end }, out);
            }
            Record::Checkpoint(_) => {}
        }
    }

    /// Versions have become visible.
    fn show(&mut self, at: Timestamp, txn: TxnId, keys: BTreeSet<Key>, out: &mut Out) {
        let (shard, position) = (self.shard, at.number);
        out.work(keys.len() as u32);
        let versions = &self.durable.versions;
        let is_below = |key: &Key| versions.latest(*key).is_some_and(|(latest, _)| latest > at);
        if keys.iter().any(is_below) {
            out.observe(Observation::Mark("ramp.overwritten-from-the-start"));
        }
        if !keys.is_empty() {
            let keys = keys.into_iter().collect();
            out.observe(Observation::Applied {
                txn,
                shard,
                position,
                keys,
            });
        }
        self.await_collection(out);
    }

    // GET, PREPARE and COMMIT.

    fn on_get(&mut self, from: Addr, txn: TxnId, question: u64, wanted: &Wanted, out: &mut Out) {
        out.work(wanted.len() as u32);
        let versions = &self.durable.versions;
        let mut rows: BTreeMap<Key, (Timestamp, Version)> = BTreeMap::new();
        for (key, at) in wanted {
            let found = match at {
                Some(at) => versions.at(*key, *at).map(|version| (*at, version)),
                None => versions.latest(*key),
            };
            let Some((at, version)) = found else {
                return out.send(from, Message::Gone { txn, question });
            };
            rows.insert(*key, (at, version.clone()));
        }
        let shard = self.shard;
        out.send(
            from,
            Message::Rows {
                txn,
                question,
                shard,
                rows,
            },
        );
    }

    fn on_prepare(&mut self, from: Addr, request: Arc<PrepareRequest>, out: &mut Out) {
        let (txn, at, shard) = (request.txn, request.at, self.shard);
        out.work(request.rows.len() as u32);
        let fate = self.durable.versions.fate(at);
        match fate {
            Some(Fate::Prepared | Fate::Committed) => {
                return out.send(from, Message::Prepared { txn, at, shard });
            }
            Some(Fate::Barred) if !zoo::planted(Bug::PromiseNotKept) => {
                return out.send(from, Message::Refused { txn, at });
            }
            Some(Fate::Barred) | None => {}
        }
        if request.home == shard && !self.may_begin(from, txn, at, out) {
            return;
        }
        if zoo::planted(Bug::RampPrepareNotForced) {
            out.send(from, Message::Prepared { txn, at, shard });
        }
        self.force(Record::Prepare(request), Some(from));
    }

    /// Whether another attempt at a transaction may prepare at its home. If an earlier one is in doubt, its coordinator has
    /// given it up: the shards end it, and the coordinator asks again.
    fn may_begin(&mut self, from: Addr, txn: TxnId, at: Timestamp, out: &mut Out) -> bool {
        match self.durable.home_of.get(&txn) {
            None => true,
            Some(_) if zoo::planted(Bug::RampRequestRunsAgain) => true,
            Some(AtHome::Ended(end)) => {
                let end = end.clone();
                out.send(from, Message::Ended { txn, end });
                false
            }
            Some(AtHome::Prepared(earlier)) => {
                let earlier = *earlier;
                if earlier < at {
                    self.ask_others(earlier, out);
                }
                false
            }
        }
    }

    fn on_commit(&mut self, from: Addr, txn: TxnId, at: Timestamp, out: &mut Out) {
        match self.durable.versions.fate(at) {
            Some(Fate::Prepared) => self.force(Record::Commit(at), Some(from)),
            Some(Fate::Committed) => {
                let shard = self.shard;
                out.send(from, Message::Committed { txn, at, shard });
            }
            fate => assert!(zoo::any(), "{txn} commits at {at}, which is {fate:?} here"),
        }
    }

    fn on_close(&mut self, from: Addr, txn: TxnId, outcome: Outcome, out: &mut Out) {
        match self.durable.home_of.get(&txn) {
            None => self.force(Record::Close { txn, outcome }, Some(from)),
            Some(AtHome::Ended(end)) => {
                let end = end.clone();
                out.send(from, Message::Ended { txn, end });
            }
            Some(AtHome::Prepared(earlier)) => {
                let earlier = *earlier;
                self.ask_others(earlier, out);
            }
        }
    }

    // Cooperative termination (section 4.3).

    fn terminate(&mut self, at: Timestamp, out: &mut Out) {
        if self.durable.versions.prepared(at).is_some() {
            out.observe(Observation::Mark("ramp.in-doubt"));
            self.ask_others(at, out);
            let patience = self.site.options.termination_ms.about();
            out.set_timer(Timer::Terminate(at), patience);
        }
    }

    fn ask_others(&mut self, at: Timestamp, out: &mut Out) {
        let Some(prepared) = self.durable.versions.prepared(at) else {
            return;
        };
        for shard in { prepared.shards.iter() }.filter(|shard| **shard != self.shard) {
            out.send(self.site.shard(*shard), Message::Ask { at });
        }
        self.conclude(at, out);
    }

    /// Who has not prepared never will, and may say so once that is durable.
    fn on_ask(&mut self, from: Addr, at: Timestamp, out: &mut Out) {
        let shard = self.shard;
        match self.durable.versions.fate(at) {
            Some(fate) => out.send(from, Message::Answer { at, shard, fate }),
            None => {
                out.observe(Observation::Mark("ramp.barred"));
                self.force(Record::Bar(at), Some(from));
            }
        }
    }

    fn on_answer(&mut self, at: Timestamp, shard: ShardId, fate: Fate, out: &mut Out) {
        if self.durable.versions.prepared(at).is_some() {
            self.answers.entry(at).or_default().insert(shard, fate);
            self.conclude(at, out);
        }
    }

    /// Whether the answers decide: what has committed anywhere commits, what is barred anywhere is discarded, and what all
    /// have prepared commits.
    fn conclude(&mut self, at: Timestamp, out: &mut Out) {
        let Some(prepared) = self.durable.versions.prepared(at) else {
            return;
        };
        let none = BTreeMap::new();
        let answers = self.answers.get(&at).unwrap_or(&none);
        let said = |wanted: Fate| answers.values().any(|fate| *fate == wanted);
        let mut others = { prepared.shards.iter() }.filter(|shard| **shard != self.shard);
        let all_prepared = others.all(|shard| answers.contains_key(shard));
        let commits = said(Fate::Committed)
            || !said(Fate::Barred) && all_prepared && !zoo::planted(Bug::TerminationAborts);
        if commits {
            out.observe(Observation::Mark("ramp.terminated-commit"));
            self.force(Record::Commit(at), None);
        } else if said(Fate::Barred) || all_prepared {
            out.observe(Observation::Mark("ramp.terminated-abort"));
            self.force(Record::Bar(at), None);
        }
    }

    // Garbage collection.

    fn await_collection(&mut self, out: &mut Out) {
        if !self.is_collecting && self.durable.versions.has_history() {
            self.is_collecting = true;
            out.set_timer(Timer::Collect, self.site.options.gc_life_ms.exactly());
        }
    }

    /// What had a successor the last time has had it for a whole life by now.
    fn collect(&mut self, out: &mut Out) {
        self.durable.versions.collect(&self.collected);
        self.collected = self.durable.versions.marks();
        self.is_collecting = false;
        self.await_collection(out);
    }
}

/// Where this shard alone knows the end. That all of several shards have committed only a coordinator finds out: the one that
/// began, or the one that the client asks again.
fn observe_end(txn: TxnId, end: &End, out: &mut Out) {
    let commit = match end {
        End::Committed(_, shards) if shards.len() > 1 => return,
        End::Committed(..) => true,
        End::Closed(_) => false,
    };
    out.observe(Observation::Ended { txn, commit });
}

impl Durable {
    fn checkpoint(&self) -> Durable {
        let versions = if zoo::planted(Bug::CheckpointDropsMetadata) {
            self.versions.without_metadata()
        } else {
            self.versions.clone()
        };
        let home_of = self.home_of.clone();
        Durable { versions, home_of }
    }
}

impl Process for Shard {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        durable::step(self, now, input, out);
    }
}

impl durable::Durable<Record, Then> for Shard {
    const DAMAGED: &'static str = "a shard's log is damaged";

    fn journal(&mut self) -> &mut Journal<Record, Then> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Record {
        Record::Checkpoint(Box::new(self.durable.checkpoint()))
    }

    /// The log is the state. What is in doubt asks again.
    fn recover(&mut self, records: Vec<Record>, out: &mut Out) {
        for record in records {
            self.apply(record);
        }
        for at in self.durable.versions.in_doubt() {
            let patience = self.site.options.termination_ms.about();
            out.set_timer(Timer::Terminate(at), patience);
        }
        // A crash may have come between a record and the words, and the coordinator may be gone.
        for (txn, at_home) in &self.durable.home_of {
            if let AtHome::Ended(end) = at_home {
                observe_end(*txn, end, out);
            }
        }
        self.await_collection(out);
    }

    fn on_message(&mut self, _: WallTime, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::Get {
                txn,
                question,
                wanted,
            } => self.on_get(from, txn, question, &wanted, out),
            Message::Prepare(request) => self.on_prepare(from, request, out),
            Message::Commit { txn, at } => self.on_commit(from, txn, at, out),
            Message::Close { txn, outcome } => self.on_close(from, txn, outcome, out),
            Message::Ask { at } => self.on_ask(from, at, out),
            Message::Answer { at, shard, fate } => self.on_answer(at, shard, fate, out),
            message => unreachable!("{message:?} is not for a shard"),
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Terminate(at) => self.terminate(at, out),
            Timer::Collect => self.collect(out),
            _ => {}
        }
    }

    fn on_durable(&mut self, _: WallTime, then: Then, out: &mut Out) {
        self.follow(then, out);
    }

    /// What was not written has not happened: whoever asked asks again.
    fn on_lost(&mut self, then: Then, _: &mut Out) {
        self.arrive(&then.record);
    }
}

impl Autopsy for Shard {
    fn autopsy(&self) -> Option<ShardState> {
        let home = self.site.layout.shards[usize::from(self.shard.0)].home;
        Some(self.durable.versions.autopsy(home))
    }

    /// It ends when nothing is in doubt: shards ask one another until it is decided.
    fn recovery(&self) -> Recovery {
        let owners = self.durable.versions.owners();
        Recovery::waits_on(owners, "for the fate of the versions of")
    }
}
