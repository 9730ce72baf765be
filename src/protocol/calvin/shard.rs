//! A data machine: one copy of one shard, executing the merged log.
//!
//! For each transaction, in log order (Thomson et al., SIGMOD 2012, section 3.2):
//!
//! 1. ask for its local locks, all at once ([`ConflictGraph::admit`]);
//! 2. once they are held, read the local rows and push them to the other participants of the same region;
//! 3. a participant that neither writes nor answers nor holds a pointer is done (*passive*);
//! 4. the others gather everybody's rows, run the procedure, all to the same end, and apply their own writes;
//! 5. release the locks.
//!
//! What is lost is asked for again: positions of the log from another front, pushes from the peer, or from
//! its copies in other regions. What is forgotten everywhere nearby comes as a checkpoint from another region.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::messages::{Batch, Before, Entry, Message, Push, Restart, Transfer};
use super::replica::Replica;
use super::schedule::{ConflictGraph, Locks};
use super::{Place, Timer};
use crate::base::observation::{Observation, Outcome};
use crate::base::process::{Addr, Delay, Disk, Effects, FlushId, Input, Process, WallTime};
use crate::base::txn::{Evaluation, Key, Read, Row, ShardId, TxnId, Write};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::protocol::kit::client::ClientMessage;
use crate::shard::ShardState;
use crate::shard::recovery::Recovery;

/// A followed front is given up after this many rounds of housekeeping without an answer.
const SILENT_ROUNDS: u32 = 3;
/// Another front is asked in passing every so many rounds.
const EXPLORE_ROUNDS: u32 = 4;
/// How often the transactions that wait for pushes are looked at, in nanoseconds.
const GATHERING: Delay = Delay::between(50_000_000, 70_000_000);
/// A push is asked for in one region for this many looks before the next region is tried.
const ASK_ROUNDS: u32 = 16;
/// Most pushes in one message.
const PUSHES_MAX: usize = 1024;
/// A restart is sent again every so many rounds.
const RESTART_ROUNDS: u32 = 8;

/// A transaction that is admitted and not done.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Task {
    entry: Arc<Entry>,
    /// In order.
    participants: Vec<ShardId>,
    /// Once it holds its local locks and waits for pushes: how often it was found waiting.
    gathers: Option<u32>,
}

impl Task {
    /// The lowest participant answers the client.
    fn is_answered_by(&self, shard: ShardId) -> bool {
        self.participants.first() == Some(&shard)
    }
}

/// The checkpoint that is being made durable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Flushing {
    sequence: u64,
    position: u64,
}

/// Where a transaction of the merged log stands at a shard, seen from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// The log has not come so far here.
    NotYet,
    /// It waits for local locks.
    Waits,
    /// It has read and pushed, and waits for pushes.
    Gathers,
    /// Nothing is left to do, or there never was.
    Past,
}

/// A data machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Shard {
    place: Place,
    me: ShardId,
    replica: Replica,
    /// Last position whose turn has come.
    admitted: u64,
    /// Batches that arrived before their turn.
    early: BTreeMap<u64, Arc<Batch>>,
    /// Whether the gap before them has been asked for.
    gap_asked: bool,
    graph: ConflictGraph,
    tasks: BTreeMap<u64, Task>,
    /// Transactions that hold their local locks and have not been looked at.
    runnable: VecDeque<u64>,
    /// Pushes received for transactions that are not done.
    pushes: BTreeMap<u64, BTreeMap<ShardId, Arc<Push>>>,
    gathering_armed: bool,
    /// Positions up to here are forgotten here and at the fronts: nobody replays them.
    floor: u64,
    flushing: Option<Flushing>,
    /// A checkpoint's flush failed. It is written again, whole, at the next housekeeping: a disk that fails is not asked at once.
    in_doubt: bool,
    next_flush: u64,
    /// Which front to follow, by preference, and rounds since it last answered.
    front: usize,
    silent_rounds: u32,
    rounds: u32,
    /// Positions up to here can only come from another region's copy.
    wanted_state: Option<u64>,
}

impl Shard {
    /// A data machine before its first boot.
    pub fn new(place: Place, me: ShardId) -> Self {
        let replica = Replica::new(&place.layout, me);
        let near = place.layout.regions[place.region].fronts.len();
        Self {
            front: usize::from(me.0) % near,
            place,
            me,
            replica,
            admitted: 0,
            early: BTreeMap::new(),
            gap_asked: false,
            graph: ConflictGraph::default(),
            tasks: BTreeMap::new(),
            runnable: VecDeque::new(),
            pushes: BTreeMap::new(),
            gathering_armed: false,
            floor: 0,
            flushing: None,
            in_doubt: false,
            next_flush: 0,
            silent_rounds: 0,
            rounds: 0,
            wanted_state: None,
        }
    }

    /// Every transaction up to here is done.
    fn applied_to(&self) -> u64 {
        let first_open = self.tasks.keys().next();
        first_open.map_or(self.admitted, |position| position - 1)
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.me
    }

    /// Where the transaction at a position of the merged log stands here.
    pub fn turn(&self, position: u64) -> Turn {
        if position > self.admitted {
            return Turn::NotYet;
        }
        match self.tasks.get(&position) {
            Some(task) if task.gathers.is_some() => Turn::Gathers,
            Some(_) => Turn::Waits,
            None => Turn::Past,
        }
    }

    /// The pushes that are here for a position, its own included.
    pub fn pushes_for(&self, position: u64) -> impl Iterator<Item = &Push> {
        let pushes = self.pushes.get(&position).into_iter();
        pushes.flat_map(|pushes| pushes.values().map(Arc::as_ref))
    }

    /// The push that was made at a position and is kept for those who ask again.
    pub fn retained(&self, position: u64) -> Option<&Push> {
        self.replica.retained.get(&position).map(Arc::as_ref)
    }

    /// Positions up to here are forgotten.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// A row as it stands.
    pub fn row(&self, key: Key) -> Option<&Row> {
        self.replica.row(key)
    }
}

impl Autopsy for Shard {
    fn autopsy(&self) -> Option<ShardState> {
        Some(self.replica.autopsy(self.place.region, self.applied_to()))
    }

    /// It ends when this copy has applied what sequencers know to be committed.
    fn recovery(&self) -> Recovery {
        Recovery {
            applied_to: Some(self.applied_to()),
            ..Recovery::ended()
        }
    }
}

impl Process for Shard {
    type Message = Message;
    type Timer = Timer;

    fn step(
        &mut self,
        _: WallTime,
        input: Input<Message, Timer>,
        out: &mut Effects<Message, Timer>,
    ) {
        match input {
            Input::Boot(disk) => self.boot(&disk, out),
            Input::Timer(Timer::Housekeeping) => self.housekeeping(out),
            Input::Timer(Timer::Gathering) => self.ask_pushes(out),
            Input::Timer(_) => {}
            Input::Flushed(flush) => self.flushed(flush, out),
            Input::FlushFailed(_) => {
                // The disk holds this checkpoint or the one before; each of them is valid.
                out.observe(Observation::Mark("calvin.checkpoint-flush-failed"));
                self.flushing = None;
                self.in_doubt = true;
            }
            Input::Message { from, message } => self.message(from, message, out),
        }
        self.run(out);
        self.checkpoint_if_due(out);
        // What is first in the log of all that is not done waits for nobody, and so for pushes.
        if !self.gathering_armed && !self.tasks.is_empty() {
            self.gathering_armed = true;
            out.set_timer(Timer::Gathering, GATHERING);
        }
    }
}

impl Shard {
    fn boot(&mut self, disk: &Disk, out: &mut Effects<Message, Timer>) {
        let (replica, damaged) = Replica::boot(&self.place.layout, self.me, disk, out);
        if damaged {
            out.observe(Observation::Mark("calvin.checkpoint-damaged"));
        }
        self.replica = replica;
        self.admitted = self.replica.checkpointed();
        self.floor = self.replica.checkpoint_floor();
        // A front that fed the copy before the crash must not take what it sent then for received.
        self.follow(true, out);
        // Peers have executed what this copy is about to replay: they keep their pushes for that.
        for shard in self.peers() {
            let from = self.admitted + 1;
            let to = self.place.data(self.place.region, shard);
            out.send(to, Message::AskPushes { from });
        }
        out.set_timer(Timer::Housekeeping, self.place.housekeeping());
    }

    fn peers(&self) -> impl Iterator<Item = ShardId> + use<> {
        let me = self.me;
        let shards = self.place.layout.shard_ids();
        shards.filter(move |shard| *shard != me)
    }

    fn message(&mut self, from: Addr, message: Message, out: &mut Effects<Message, Timer>) {
        match message {
            Message::Feed { batches, floor } => {
                self.hear_front(from);
                self.feed(batches, floor, out);
            }
            Message::Compacted { floor } => {
                self.hear_front(from);
                self.want_state(floor, out);
            }
            Message::Push(push) => self.receive_push(push),
            Message::Pushes(pushes) => pushes.into_iter().for_each(|p| self.receive_push(p)),
            Message::AskPushes { from: first } => self.answer_pushes(from, first, out),
            Message::PushesGone { floor } => self.want_state(floor, out),
            Message::Reconnoitre { txn, keys } => {
                let quantity = |key: Key| (key, self.replica.read_row(key).value.as_int());
                let rows = keys.into_iter().map(quantity).collect();
                out.send(from, Message::Reconnoitred { txn, rows });
            }
            Message::AskState { above } => self.answer_state(from, above, out),
            Message::State(transfer) => self.install(&transfer, out),
            _ => {}
        }
    }

    // --- The log -------------------------------------------------------------------------------------

    /// Asks the followed front for what comes next.
    fn follow(&mut self, gap: bool, out: &mut Effects<Message, Timer>) {
        let front = self.place.fronts_by_distance(self.front);
        let (after, stream) = (self.admitted, true);
        out.send(front, Message::Follow { after, stream, gap });
    }

    /// The followed front lives; or, while that is one of another region, a near one does again.
    fn hear_front(&mut self, from: Addr) {
        let near = &self.place.layout.regions[self.place.region].fronts;
        let followed = self.place.fronts_by_distance(self.front);
        if from == followed {
            self.silent_rounds = 0;
        } else if let Some(turn) = near.iter().position(|node| *node == from.node)
            && !near.contains(&followed.node)
        {
            self.front = turn;
            self.silent_rounds = 0;
        }
    }

    fn feed(
        &mut self,
        batches: Vec<(u64, Arc<Batch>)>,
        floor: u64,
        out: &mut Effects<Message, Timer>,
    ) {
        self.raise_floor(floor);
        for (first, batch) in batches {
            if first > self.admitted {
                self.early.insert(first, batch);
            }
        }
        while let Some(entry) = self.early.first_entry() {
            if zoo::planted(Bug::GapIgnored) {
                self.admitted = self.admitted.max(*entry.key() - 1);
            }
            if *entry.key() > self.admitted + 1 {
                break;
            }
            let (first, batch) = entry.remove_entry();
            if first == self.admitted + 1 {
                self.admit(&batch, out);
            }
        }
        if self.early.is_empty() {
            self.gap_asked = false;
        } else if !self.gap_asked {
            out.observe(Observation::Mark("calvin.gap-in-feed"));
            self.gap_asked = true;
            self.follow(true, out);
        }
    }

    fn raise_floor(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.replica.retained = self.replica.retained.split_off(&(floor + 1));
        }
    }

    /// The batch's turn has come: its transactions ask for their locks, in order.
    fn admit(&mut self, batch: &Batch, out: &mut Effects<Message, Timer>) {
        self.gap_asked = false;
        for entry in &batch.entries {
            self.admitted += 1;
            let participants = entry.participants(&self.place.layout);
            if participants.contains(&self.me) {
                self.admit_entry(self.admitted, entry, participants, out);
            } else {
                self.pushes.remove(&self.admitted);
            }
        }
        let due = self.replica.checkpointed() + self.place.options.checkpoint_every.get();
        if self.admitted >= due {
            self.replica.plan_checkpoint(self.admitted);
        }
    }

    fn admit_entry(
        &mut self,
        position: u64,
        entry: &Arc<Entry>,
        participants: Vec<ShardId>,
        out: &mut Effects<Message, Timer>,
    ) {
        let (txn, shard) = (entry.txn.id, self.me);
        let footprint = &entry.footprint;
        let here = |key: &&Key| self.place.layout.shard_of(**key) == shard;
        let only_read = footprint.reads.difference(&footprint.writes);
        let locks = Locks {
            txn,
            reads: { only_read.filter(here) }
                .filter(|_| !zoo::planted(Bug::ReadersTakeNoLocks))
                .copied()
                .collect(),
            writes: footprint.writes.iter().filter(here).copied().collect(),
        };
        out.work((locks.reads.len() + locks.writes.len()) as u32);
        for key in self.graph.admit(position, locks) {
            out.observe(Observation::LockWait { txn, shard, key });
        }
        let task = Task {
            entry: Arc::clone(entry),
            participants,
            gathers: None,
        };
        self.tasks.insert(position, task);
        if self.graph.is_free(position) {
            self.runnable.push_back(position);
        }
    }

    // --- Execution -----------------------------------------------------------------------------------

    fn run(&mut self, out: &mut Effects<Message, Timer>) {
        while let Some(position) = self.runnable.pop_front() {
            let task = self.tasks.get(&position);
            if task.is_some_and(|task| task.gathers.is_none()) {
                self.start(position, out);
            }
            let task = self.tasks.get(&position);
            let pushes = self.pushes.get(&position).map_or(0, BTreeMap::len);
            if task.is_some_and(|task| task.participants.len() == pushes) {
                self.evaluate(position, out);
            }
        }
    }

    /// All local locks are held: read, push, and be done or gather.
    fn start(&mut self, position: u64, out: &mut Effects<Message, Timer>) {
        let task = self.tasks.get_mut(&position).expect("it was admitted");
        let (entry, participants) = (&task.entry, &task.participants);
        let (txn, shard) = (entry.txn.id, self.me);
        out.observe(Observation::Locked { txn, shard });
        let here = |key: &&Key| self.place.layout.shard_of(**key) == shard;
        let push = Arc::new(Push {
            position,
            from: shard,
            rows: self.replica.rows(entry.footprint.reads.iter().filter(here)),
            before: self.replica.before(txn),
        });
        if participants.len() > 1 {
            self.replica.retained.insert(position, Arc::clone(&push));
        }
        let collectors = entry.collectors(&self.place.layout, participants);
        for peer in collectors.iter().filter(|peer| **peer != shard) {
            let to = self.place.data(self.place.region, *peer);
            out.send(to, Message::Push(Arc::clone(&push)));
        }
        if collectors.contains(&shard) {
            task.gathers = Some(0);
            self.pushes.entry(position).or_default().insert(shard, push);
        } else {
            self.tasks.remove(&position);
            self.pushes.remove(&position);
            self.release(position, txn, out);
        }
    }

    fn receive_push(&mut self, push: Arc<Push>) {
        let (position, from) = (push.position, push.from);
        match self.turn(position) {
            Turn::Past => return, // A duplicate, or the answer to a question asked twice.
            Turn::Gathers => self.runnable.push_back(position),
            Turn::NotYet | Turn::Waits => {}
        }
        self.pushes.entry(position).or_default().insert(from, push);
    }

    /// Everybody's rows are here: every participant comes to the same end.
    fn evaluate(&mut self, position: u64, out: &mut Effects<Message, Timer>) {
        let task = self.tasks.remove(&position).expect("it gathers");
        let pushes = self.pushes.remove(&position).unwrap_or_default();
        let (entry, txn) = (&task.entry, task.entry.txn.id);
        if let Some(outcome) = ended_before(pushes.values())
            && !zoo::planted(Bug::DuplicateExecuted)
        {
            out.observe(Observation::Mark("calvin.duplicate-in-log"));
            self.replica.restarts.remove(&txn);
            match outcome {
                Some(outcome) => self.answer(&task, &outcome, out),
                None => out.observe(Observation::Mark("calvin.outcome-forgotten")),
            }
            return self.release(position, txn, out);
        }
        let rows = pushes.values().flat_map(|push| &push.rows);
        let mut reads: Vec<Read> = rows.cloned().collect();
        reads.sort_unstable_by_key(|read| read.key);
        let row = |key: Key| {
            let at = reads.binary_search_by_key(&key, |read| read.key).ok()?;
            Some(&reads[at].row)
        };
        match entry.txn.evaluate(&entry.footprint, row) {
            Evaluation::Moved => self.overtaken(position, entry, out),
            Evaluation::Declined(guard) => {
                self.end(position, &task, &[], Outcome::Declined { guard }, out);
            }
            Evaluation::Commit(writes) => {
                self.end(position, &task, &writes, Outcome::Committed { reads }, out);
            }
        }
        self.release(position, txn, out);
    }

    fn end(
        &mut self,
        position: u64,
        task: &Task,
        writes: &[Write],
        outcome: Outcome,
        out: &mut Effects<Message, Timer>,
    ) {
        let (entry, shard, layout) = (&task.entry, self.me, &self.place.layout);
        let txn = entry.txn.id;
        let outcome = Arc::new(outcome);
        let local = { writes.iter() }.filter(|write| layout.shard_of(write.key) == shard);
        let local: Vec<Write> = local.copied().collect();
        let is_pointer_here = |key: &Key| layout.shard_of(*key) == shard;
        let answers = task.is_answered_by(shard);
        let remembers = answers || entry.txn.pointers().iter().any(is_pointer_here);
        let remembered = remembers.then(|| Arc::clone(&outcome));
        self.replica.end(position, txn, &local, remembered);
        self.replica.restarts.remove(&txn);
        if !local.is_empty() {
            out.work(local.len() as u32);
            out.observe(Observation::Applied {
                txn,
                shard,
                position,
                keys: local.iter().map(|write| write.key).collect(),
            });
        }
        if answers {
            let commit = matches!(*outcome, Outcome::Committed { .. });
            out.observe(Observation::Ended { txn, commit });
        }
        self.answer(task, &outcome, out);
    }

    /// The lowest participant in the region that took the request answers the client.
    fn answer(&self, task: &Task, outcome: &Outcome, out: &mut Effects<Message, Timer>) {
        let entry = &task.entry;
        if task.is_answered_by(self.me) && usize::from(entry.region) == self.place.region {
            let reply = ClientMessage::Reply {
                txn: entry.txn.id,
                outcome: outcome.clone(),
            };
            out.send(entry.client, Message::Client(reply));
        }
    }

    /// The pointers have changed since the reconnaissance: every participant finds the same, writes nothing,
    /// and the holder of the lowest pointer sees to it that the transaction is sequenced again.
    fn overtaken(&mut self, position: u64, entry: &Arc<Entry>, out: &mut Effects<Message, Timer>) {
        let pointer = entry.txn.pointers().first().copied();
        let pointer = pointer.expect("only a dependent transaction moves");
        if self.place.layout.shard_of(pointer) != self.me {
            return;
        }
        out.observe(Observation::Mark("calvin.reconnaissance-overtaken"));
        let restart = Restart {
            position,
            entry: Arc::clone(entry),
        };
        self.replica.restarts.insert(entry.txn.id, restart);
        if usize::from(entry.region) == self.place.region {
            let front = self.place.fronts_by_distance(self.front);
            out.send(front, Message::Restart(Arc::clone(entry)));
        }
    }

    fn release(&mut self, position: u64, txn: TxnId, out: &mut Effects<Message, Timer>) {
        let shard = self.me;
        out.observe(Observation::Unlocked { txn, shard });
        self.runnable.extend(self.graph.finish(position));
    }

    // --- What was lost is asked for again ------------------------------------------------------------

    fn housekeeping(&mut self, out: &mut Effects<Message, Timer>) {
        self.rounds += 1;
        self.silent_rounds += 1;
        if self.silent_rounds > SILENT_ROUNDS {
            out.observe(Observation::Mark("calvin.front-silent"));
            self.silent_rounds = 0;
            self.front += 1;
        }
        self.follow(false, out);
        if self.rounds.is_multiple_of(EXPLORE_ROUNDS) {
            // A front that is cut off from the others answers and has nothing new: ask around.
            let other = self.front + 1 + (self.rounds / EXPLORE_ROUNDS) as usize;
            let front = self.place.fronts_by_distance(other);
            if front != self.place.fronts_by_distance(self.front) {
                let (after, stream, gap) = (self.admitted, false, false);
                out.send(front, Message::Follow { after, stream, gap });
            }
        }
        self.send_restarts(out);
        self.ask_state(out);
        if self.in_doubt && self.flushing.is_none() {
            self.flush_checkpoint(true, out);
        }
        out.set_timer(Timer::Housekeeping, self.place.housekeeping());
    }

    /// Asks for pushes that have been missing for a while, less and less often: the peer first, then its
    /// copies elsewhere. Whoever lacks one lacks the next ones too, so each peer is asked for all from the
    /// first one on.
    fn ask_pushes(&mut self, out: &mut Effects<Message, Timer>) {
        self.gathering_armed = false;
        if zoo::planted(Bug::RemoteReadNotAskedAgain) {
            return;
        }
        let regions = self.place.layout.regions.len();
        let mut asked = BTreeSet::new();
        for (position, task) in &mut self.tasks {
            let Some(rounds) = &mut task.gathers else {
                continue;
            };
            *rounds += 1;
            if *rounds < 2 || !(rounds.is_power_of_two() || rounds.is_multiple_of(ASK_ROUNDS)) {
                continue;
            }
            let elsewhere = (*rounds / ASK_ROUNDS) as usize;
            let region = (self.place.region + elsewhere) % regions;
            let here = self.pushes.get(position);
            let missing = |shard: &&ShardId| here.is_none_or(|here| !here.contains_key(*shard));
            for shard in task.participants.iter().filter(missing) {
                if asked.insert((region, *shard)) {
                    out.observe(Observation::Mark("calvin.remote-reads-asked-again"));
                    let from = *position;
                    let to = self.place.data(region, *shard);
                    out.send(to, Message::AskPushes { from });
                }
            }
        }
    }

    fn answer_pushes(&self, from: Addr, first: u64, out: &mut Effects<Message, Timer>) {
        let floor = self.floor;
        if first <= floor {
            return out.send(from, Message::PushesGone { floor });
        }
        let pushes = self.replica.retained.range(first..).take(PUSHES_MAX);
        let mut pushes: Vec<_> = pushes.map(|(_, push)| Arc::clone(push)).collect();
        if zoo::planted(Bug::RemoteReadOfNow) {
            for push in pushes.iter_mut().map(Arc::make_mut) {
                let keys: Vec<Key> = push.rows.iter().map(|read| read.key).collect();
                push.rows = self.replica.rows(keys.iter());
            }
        }
        if !pushes.is_empty() {
            out.send(from, Message::Pushes(pushes));
        }
    }

    /// Restarts go to a front of the region that took the request at once, and from every region again
    /// while the transaction has not come back: its client may have given up, and it is owed an end.
    fn send_restarts(&self, out: &mut Effects<Message, Timer>) {
        for restart in self.replica.restarts.values() {
            let near = usize::from(restart.entry.region) == self.place.region;
            let every = if near {
                RESTART_ROUNDS
            } else {
                3 * RESTART_ROUNDS
            };
            if self.rounds.is_multiple_of(every) {
                let front = self.place.fronts_by_distance(self.front);
                out.send(front, Message::Restart(Arc::clone(&restart.entry)));
            }
        }
    }

    fn want_state(&mut self, floor: u64, out: &mut Effects<Message, Timer>) {
        if self.applied_to() < floor && self.wanted_state.is_none_or(|wanted| wanted < floor) {
            self.wanted_state = Some(floor);
            self.ask_state(out);
        }
    }

    fn ask_state(&mut self, out: &mut Effects<Message, Timer>) {
        self.wanted_state = self
            .wanted_state
            .filter(|wanted| *wanted > self.applied_to());
        let Some(wanted) = self.wanted_state else {
            return;
        };
        let regions = 0..self.place.layout.regions.len();
        for region in regions.filter(|region| *region != self.place.region) {
            let above = wanted - 1;
            let to = self.place.data(region, self.me);
            out.send(to, Message::AskState { above });
        }
    }

    fn answer_state(&self, from: Addr, above: u64, out: &mut Effects<Message, Timer>) {
        if self.replica.checkpointed() > above {
            let transfer = Arc::new(self.replica.transfer());
            out.send(from, Message::State(transfer));
        }
    }

    /// Becomes a copy of another region's checkpoint and goes on from there.
    fn install(&mut self, transfer: &Transfer, out: &mut Effects<Message, Timer>) {
        let position = transfer.checkpoint.position;
        if position <= self.applied_to() {
            return;
        }
        out.observe(Observation::Mark("calvin.state-transfer"));
        self.replica = Replica::install(&self.place.layout, self.me, transfer);
        self.floor = self.floor.max(transfer.checkpoint.floor);
        self.admitted = position;
        self.graph = ConflictGraph::default();
        self.tasks.clear();
        self.runnable.clear();
        self.pushes = self.pushes.split_off(&(position + 1));
        self.early = self.early.split_off(&(position + 1));
        self.flush_checkpoint(true, out);
        self.follow(true, out);
    }

    // --- Checkpoints ---------------------------------------------------------------------------------

    fn checkpoint_if_due(&mut self, out: &mut Effects<Message, Timer>) {
        let applied_to = self.applied_to();
        let ready = { self.replica.planned() }.is_some_and(|planned| planned <= applied_to);
        if ready && self.flushing.is_none() && !self.in_doubt {
            self.replica.forget(self.place.options.replies_kept.size());
            self.replica.take_checkpoint(self.floor, out);
            self.flush_checkpoint(false, out);
        }
    }

    fn flush_checkpoint(&mut self, again: bool, out: &mut Effects<Message, Timer>) {
        if again {
            self.replica.rewrite_checkpoint(out);
            self.in_doubt = false;
        }
        let sequence = self.next_flush;
        self.next_flush += 1;
        self.flushing = Some(Flushing {
            sequence,
            position: self.replica.checkpointed(),
        });
        let flush = FlushId { owner: 0, sequence };
        match zoo::planted(Bug::CheckpointNotFlushed) {
            true => self.flushed(flush, out),
            false => out.flush(flush),
        }
    }

    fn flushed(&mut self, flush: FlushId, out: &mut Effects<Message, Timer>) {
        let done = self.flushing.filter(|f| f.sequence == flush.sequence);
        let Some(Flushing { position, .. }) = done else {
            return;
        };
        self.flushing = None;
        for front in self.place.fronts() {
            let checkpointed = Message::Checkpointed {
                region: self.place.region as u16,
                shard: self.me,
                position,
            };
            out.send(front, checkpointed);
        }
    }
}

/// Whether an earlier occurrence has ended, by the pushes of the later one, and the outcome if any of the
/// participants remembers it.
fn ended_before<'a>(pushes: impl Iterator<Item = &'a Arc<Push>>) -> Option<Option<Arc<Outcome>>> {
    pushes.fold(None, |known, push| match &push.before {
        Before::Unended => known,
        Before::Ended(outcome) => Some(known.flatten().or_else(|| outcome.clone())),
    })
}
