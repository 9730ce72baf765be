//! A front machine: sequencer, replica of the log, and the place where a region's shards get it from.
//!
//! - *Sequencing.* Whoever leads a group collects transactions for an epoch, which opens with the first of
//!   them, stamps the batch above everything in its group's log, and proposes it. Other fronts pass their
//!   clients' transactions on to the leader, and again until they see them in the log.
//! - *Watermarks.* A batch can be merged once every group's log is past its stamp. A leader without
//!   transactions says so with an empty batch, and only when somebody waits for it: groups that are all idle
//!   are silent.
//! - *Reconnaissance.* A dependent transaction's pointers are read, outside of any order, to find the
//!   footprint under which it is sequenced (Thomson et al., SIGMOD 2012, section 3.2.1).
//! - *Feeding.* The merged log goes to the shards that follow, and is kept until their checkpoints cover it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::merge::{Cut, Merge};
use super::messages::{Batch, Entry, Message};
use super::{Place, Timer};
use crate::base::hlc::{Hlc, Stamp};
use crate::base::observation::{Observation, Outcome};
use crate::base::process::{Addr, Delay, Effects, Input, Process, WallTime};
use crate::base::txn::{Key, ShardId, Txn, TxnId};
use crate::base::zoo::{self, Bug};
use crate::consensus::{Command, Delivery, Log, LogEffects, LogMessage, LogTimer, Term};
use crate::protocol::Autopsy;
use crate::protocol::kit::client::ClientMessage;
use crate::shard::recovery::{Recovery, Unfinished};

/// Most batches in one message to a follower.
const FEED_BATCHES: usize = 128;
/// A follower that has been sent this many messages since it was last heard of follows somebody else.
const FEEDS_UNHEARD: u32 = 1024;
/// How long until a transaction that is not in the log is submitted again, in nanoseconds.
const RETRY: Delay = Delay::between(400_000_000, 600_000_000);

impl Command for Arc<Batch> {
    fn size_bytes(&self) -> u32 {
        Batch::size_bytes(self)
    }
}

/// A replica of a group's log, and what its leader needs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Group {
    log: Log<Arc<Batch>>,
    leadership: Option<Leadership>,
    /// The transactions of the epoch, if this replica leads.
    queue: Vec<Arc<Entry>>,
    /// Whether an epoch is under way.
    epoch_open: bool,
}

/// Leadership of a group, from the election on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Leadership {
    term: Term,
    /// Stamp of the last batch in the log, committed or not; `None` until this leader is established: only then is the
    /// largest stamp of earlier leaders known.
    last: Option<Stamp>,
}

/// A transaction that was accepted here and has not been seen in the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Open {
    entry: Arc<Entry>,
    rounds: u32,
}

/// A reconnaissance under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Reconnaissance {
    txn: Arc<Txn>,
    attempt: u32,
    client: Addr,
    found: BTreeMap<Key, i64>,
    rounds: u32,
}

/// A shard that gets the merged log from here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Follower {
    /// First position not yet sent.
    next: u64,
    /// The same when it last asked: what it lacks below this was lost.
    next_when_asked: u64,
    unheard: u32,
}

/// A front machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sequencer {
    place: Place,
    me: Addr,
    hlc: Hlc,
    groups: Vec<Group>,
    merge: Merge,
    /// The merged order above the floor, by position of a batch's first transaction.
    merged: VecDeque<(u64, Arc<Batch>)>,
    /// Everything up to here is gone.
    floor: Cut,
    open: BTreeMap<TxnId, Open>,
    reconnaissances: BTreeMap<TxnId, Reconnaissance>,
    retry_armed: bool,
    /// Who led this front's group when its open transactions were last submitted.
    leader: Option<Addr>,
    followers: BTreeMap<Addr, Follower>,
    /// Durable checkpoints, by region and shard.
    checkpoints: BTreeMap<(u16, ShardId), u64>,
    /// The largest stamp that another leader has announced.
    announced: Stamp,
}

impl Sequencer {
    /// A front machine before its first boot, with its replicas of the groups' logs.
    pub fn new(place: Place, me: Addr, logs: Vec<Log<Arc<Batch>>>) -> Self {
        let groups = logs.into_iter().map(|log| Group {
            log,
            leadership: None,
            queue: Vec::new(),
            epoch_open: false,
        });
        let groups: Vec<Group> = groups.collect();
        Self {
            place,
            me,
            hlc: Hlc::new(me.node.0),
            merge: Merge::new(groups.len()),
            groups,
            merged: VecDeque::new(),
            floor: Cut::default(),
            open: BTreeMap::new(),
            reconnaissances: BTreeMap::new(),
            retry_armed: false,
            leader: None,
            followers: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            announced: Stamp::default(),
        }
    }

    /// The merged log as far as this front keeps it, by position of each batch's first transaction: for
    /// monitors that compare fronts, or execute it again.
    pub fn merged_log(&self) -> impl DoubleEndedIterator<Item = (u64, &Arc<Batch>)> {
        self.merged.iter().map(|(first, batch)| (*first, batch))
    }

    /// This front's replicas of the groups' logs, by group.
    pub fn logs(&self) -> impl Iterator<Item = &Log<Arc<Batch>>> {
        self.groups.iter().map(|group| &group.log)
    }

    /// The last position of the merged log, kept or not.
    pub fn merged_to(&self) -> u64 {
        self.merge.merged().position
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl Process for Sequencer {
    type Message = Message;
    type Timer = Timer;

    fn step(
        &mut self,
        now: WallTime,
        input: Input<Message, Timer>,
        out: &mut Effects<Message, Timer>,
    ) {
        match input {
            Input::Boot(disk) => {
                for group in 0..self.groups.len() {
                    self.step_log(now, group, Input::Boot(disk.clone()), out);
                }
            }
            Input::Message { from, message } => self.message(now, from, message, out),
            Input::Timer(Timer::Log { group, timer }) => {
                self.step_log(now, usize::from(group), Input::Timer(timer), out);
            }
            Input::Timer(Timer::Epoch(group)) => self.epoch_ends(now, usize::from(group), out),
            Input::Timer(Timer::Retry) => self.retry(out),
            Input::Timer(_) => {}
            Input::Flushed(flush) => {
                self.step_log(now, usize::from(flush.owner), Input::Flushed(flush), out);
            }
            Input::FlushFailed(flush) => {
                let group = usize::from(flush.owner);
                self.step_log(now, group, Input::FlushFailed(flush), out);
            }
        }
        self.give_watermarks(now, out);
        self.feed_all(out);
        let nothing_open = self.open.is_empty() && self.reconnaissances.is_empty();
        if !self.retry_armed && !nothing_open {
            self.retry_armed = true;
            out.set_timer(Timer::Retry, RETRY);
        }
    }
}

impl Autopsy for Sequencer {
    /// It ends when this sequencer knows what earlier leaders committed: an established leader has it in its log, and the
    /// others hear of it from that one.
    fn recovery(&self) -> Recovery {
        let is_led = |log: &Log<Arc<Batch>>| match log.leader() {
            Some(leader) => leader != self.me || log.established() == Some(log.term()),
            None => false,
        };
        let unfinished = if !self.logs().all(is_led) {
            Some(Unfinished::All("for a leader of its log"))
        } else if self.merge.waiting().is_some() {
            Some(Unfinished::All("for the logs that its own is merged with"))
        } else {
            None
        };
        Recovery {
            unfinished,
            committed_to: self.merged_to(),
            applied_to: None,
        }
    }
}

impl Sequencer {
    fn message(
        &mut self,
        now: WallTime,
        from: Addr,
        message: Message,
        out: &mut Effects<Message, Timer>,
    ) {
        match message {
            Message::Client(ClientMessage::Request { txn }) => self.request(from, txn, out),
            Message::Log { group, message } => {
                let input = Input::Message { from, message };
                self.step_log(now, usize::from(group), input, out);
            }
            Message::Submit { group, entry } => self.enqueue(usize::from(group), entry, out),
            Message::Stamped(stamp) => {
                self.hlc.merge(now, stamp);
                self.announced = self.announced.max(stamp);
            }
            Message::Reconnoitred { txn, rows } => self.reconnoitred(txn, rows, out),
            Message::Restart(entry) => self.restart(&entry, out),
            Message::Follow { after, stream, gap } => self.follow(from, after, stream, gap, out),
            Message::Checkpointed {
                region,
                shard,
                position,
            } => {
                let known = self.checkpoints.entry((region, shard)).or_default();
                *known = position.max(*known);
                self.compact(out);
            }
            _ => {}
        }
    }

    // --- Clients -------------------------------------------------------------------------------------

    fn request(&mut self, client: Addr, txn: Arc<Txn>, out: &mut Effects<Message, Timer>) {
        let id = txn.id;
        if self.open.contains_key(&id) || self.reconnaissances.contains_key(&id) {
            return; // On its way.
        }
        if txn.is_dependent() {
            self.reconnoitre(txn, 0, client, out);
        } else {
            let footprint = txn.footprint(|_| unreachable!("only a dependent one has pointers"));
            self.accept(txn, footprint, 0, client, out);
        }
    }

    fn accept(
        &mut self,
        txn: Arc<Txn>,
        footprint: crate::base::txn::Footprint,
        attempt: u32,
        client: Addr,
        out: &mut Effects<Message, Timer>,
    ) {
        let id = txn.id;
        let entry = Arc::new(Entry {
            txn,
            footprint,
            attempt,
            client,
            region: self.place.region as u16,
        });
        self.submit(Arc::clone(&entry), out);
        self.open.insert(id, Open { entry, rounds: 0 });
    }

    /// To the leader of this front's group, wherever it is.
    fn submit(&mut self, entry: Arc<Entry>, out: &mut Effects<Message, Timer>) {
        let group = self.place.group();
        match self.groups[group].log.leader() {
            Some(leader) if leader == self.me => self.enqueue(group, entry, out),
            Some(leader) => {
                let group = group as u16;
                out.send(leader, Message::Submit { group, entry });
            }
            None => {} // Retried.
        }
    }

    /// What has not appeared in the log for a while is submitted again.
    fn retry(&mut self, out: &mut Effects<Message, Timer>) {
        self.retry_armed = false;
        let mut again = Vec::new();
        for open in self.open.values_mut() {
            open.rounds += 1;
            if open.rounds > 1 {
                again.push(Arc::clone(&open.entry));
            }
        }
        for entry in again {
            out.observe(Observation::Mark("calvin.submitted-again"));
            self.submit(entry, out);
        }
        let mut again = Vec::new();
        for (txn, reconnaissance) in &mut self.reconnaissances {
            reconnaissance.rounds += 1;
            if reconnaissance.rounds > 1 {
                again.push(*txn);
            }
        }
        for txn in again {
            self.ask_pointers(txn, out);
        }
    }

    // --- Reconnaissance ------------------------------------------------------------------------------

    fn reconnoitre(
        &mut self,
        txn: Arc<Txn>,
        attempt: u32,
        client: Addr,
        out: &mut Effects<Message, Timer>,
    ) {
        let id = txn.id;
        let reconnaissance = Reconnaissance {
            txn,
            attempt,
            client,
            found: BTreeMap::new(),
            rounds: 0,
        };
        self.reconnaissances.insert(id, reconnaissance);
        self.ask_pointers(id, out);
    }

    /// Asks the shards of this region, and of the next ones if they do not answer.
    fn ask_pointers(&self, txn: TxnId, out: &mut Effects<Message, Timer>) {
        let Some(asking) = self.reconnaissances.get(&txn) else {
            return;
        };
        let regions = self.place.layout.regions.len();
        let region = (self.place.region + asking.rounds as usize) % regions;
        let mut missing = asking.txn.pointers();
        missing.retain(|key| !asking.found.contains_key(key));
        for (shard, keys) in self.place.layout.by_shard(missing) {
            let to = self.place.data(region, shard);
            let keys = keys.into_iter().collect();
            out.send(to, Message::Reconnoitre { txn, keys });
        }
    }

    fn reconnoitred(
        &mut self,
        txn: TxnId,
        rows: Vec<(Key, i64)>,
        out: &mut Effects<Message, Timer>,
    ) {
        let Some(asking) = self.reconnaissances.get_mut(&txn) else {
            return;
        };
        asking.found.extend(rows);
        let pointers: BTreeSet<Key> = asking.txn.pointers();
        if !pointers.iter().all(|key| asking.found.contains_key(key)) {
            return;
        }
        if let Some(done) = self.reconnaissances.remove(&txn) {
            let footprint = done.txn.footprint(|key| done.found[&key]);
            self.accept(done.txn, footprint, done.attempt, done.client, out);
        }
    }

    /// The reconnaissance of this entry was overtaken.
    fn restart(&mut self, entry: &Entry, out: &mut Effects<Message, Timer>) {
        let id = entry.txn.id;
        let newer = |open: &Open| open.entry.attempt > entry.attempt;
        if self.reconnaissances.contains_key(&id) || self.open.get(&id).is_some_and(newer) {
            return;
        }
        out.observe(Observation::Mark("calvin.dependent-restart"));
        let txn = Arc::clone(&entry.txn);
        self.reconnoitre(txn, entry.attempt + 1, entry.client, out);
    }

    // --- Leading a group -----------------------------------------------------------------------------

    fn enqueue(&mut self, group: usize, entry: Arc<Entry>, out: &mut Effects<Message, Timer>) {
        let group_state = &mut self.groups[group];
        if group_state.leadership.is_none() {
            return; // The front that accepted it asks again.
        }
        let same = |queued: &Arc<Entry>| queued.txn.id == entry.txn.id;
        match group_state.queue.iter_mut().find(|queued| same(queued)) {
            Some(queued) if queued.attempt < entry.attempt => *queued = entry,
            Some(_) => {}
            None => group_state.queue.push(entry),
        }
        self.open_epoch(group, out);
    }

    fn open_epoch(&mut self, group: usize, out: &mut Effects<Message, Timer>) {
        if !self.groups[group].epoch_open {
            self.groups[group].epoch_open = true;
            let epoch = self.place.options.epoch_ms.exactly();
            out.set_timer(Timer::Epoch(group as u16), epoch);
        }
    }

    fn epoch_ends(&mut self, now: WallTime, group: usize, out: &mut Effects<Message, Timer>) {
        self.groups[group].epoch_open = false;
        if !self.groups[group].queue.is_empty() {
            self.propose(now, group, out);
        }
    }

    /// Cuts the batch, possibly an empty one: a watermark.
    fn propose(&mut self, now: WallTime, group: usize, out: &mut Effects<Message, Timer>) {
        let Some(last) = self.groups[group]
            .leadership
            .as_ref()
            .and_then(|leadership| leadership.last)
        else {
            return; // Not yet, or not any more: `update_leadership` sees to the queue.
        };
        self.hlc.raise(last);
        // The group in place of the node. A front that restarts has forgotten what it stamped and did not see in the
        // log, and may make that stamp again for another group that it leads by then: two batches without an order.
        let stamp = Stamp {
            node: group as u16,
            ..self.hlc.tick(now)
        };
        assert!(stamp > last || zoo::any(), "stamps of a group only rise");
        let entries = std::mem::take(&mut self.groups[group].queue);
        if entries.is_empty() {
            out.observe(Observation::Mark("calvin.watermark"));
        } else {
            self.announce(group, stamp, out);
        }
        let leadership = self.groups[group].leadership.as_mut();
        leadership.expect("it leads").last = Some(stamp);
        let batch = Arc::new(Batch { stamp, entries });
        let mut effects = LogEffects::default();
        let proposed = self.groups[group].log.propose(batch, &mut effects);
        assert!(proposed.is_ok(), "it leads");
        self.absorb(group, effects, out);
        self.after_log(group, out);
    }

    /// Tells the other groups' leaders what they have to get past, at once instead of when they see the batch
    /// committed. If that is lost, they see it then.
    fn announce(&self, group: usize, stamp: Stamp, out: &mut Effects<Message, Timer>) {
        let others = { self.groups.iter().enumerate() }.filter(|(other, _)| *other != group);
        let leaders = others.filter_map(|(_, other)| other.log.leader());
        let leaders: BTreeSet<Addr> = leaders.filter(|leader| *leader != self.me).collect();
        for leader in leaders {
            out.send(leader, Message::Stamped(stamp));
        }
    }

    /// Gets the groups that this front leads past the stamps that wait for them, at most once an epoch.
    fn give_watermarks(&mut self, now: WallTime, out: &mut Effects<Message, Timer>) {
        if self.groups.len() == 1 {
            return;
        }
        let waiting = self.merge.waiting().unwrap_or_default();
        let needed = waiting.max(self.announced);
        for group in 0..self.groups.len() {
            let Group {
                leadership,
                epoch_open,
                ..
            } = &self.groups[group];
            let last = { leadership.as_ref() }.and_then(|leadership| leadership.last);
            if last.is_some_and(|last| last < needed) && !epoch_open {
                self.hlc.raise(needed);
                self.propose(now, group, out);
                self.open_epoch(group, out);
            }
        }
    }

    // --- The log -------------------------------------------------------------------------------------

    fn step_log(
        &mut self,
        now: WallTime,
        group: usize,
        input: Input<LogMessage<Arc<Batch>>, LogTimer>,
        out: &mut Effects<Message, Timer>,
    ) {
        let mut effects = LogEffects::default();
        self.groups[group].log.step(now, input, &mut effects);
        self.absorb(group, effects, out);
        self.after_log(group, out);
    }

    fn absorb(
        &self,
        group: usize,
        mut effects: LogEffects<Arc<Batch>>,
        out: &mut Effects<Message, Timer>,
    ) {
        let group = group as u16;
        out.absorb(
            &mut effects,
            |message| Message::Log { group, message },
            |timer| Timer::Log { group, timer },
        );
    }

    fn after_log(&mut self, group: usize, out: &mut Effects<Message, Timer>) {
        for delivery in self.groups[group].log.take_deliveries() {
            match delivery {
                Delivery::Entry { position, command } => {
                    self.committed(group, position.index, command, out);
                }
                Delivery::Snapshot(snapshot) => {
                    let cut = postcard::from_bytes(&snapshot.state);
                    self.install(group, cut.expect("a front wrote it, checksummed"), out);
                }
                Delivery::ReadReady { .. } | Delivery::ReadRefused { .. } => {
                    unreachable!("no read is asked of the log")
                }
            }
        }
        self.update_leadership(group, out);
        self.follow_leader(group, out);
        while let Some((first, batch)) = self.merge.pop() {
            self.merged.push_back((first, batch));
        }
    }

    /// A new leader of this front's group has not heard of what its predecessor had not replicated.
    fn follow_leader(&mut self, group: usize, out: &mut Effects<Message, Timer>) {
        let leader = self.groups[group].log.leader();
        if group != self.place.group() || leader.is_none() || leader == self.leader {
            return;
        }
        self.leader = leader;
        let open: Vec<_> = { self.open.values() }
            .map(|open| Arc::clone(&open.entry))
            .collect();
        for entry in open {
            self.submit(entry, out);
        }
    }

    fn committed(
        &mut self,
        group: usize,
        index: u64,
        batch: Arc<Batch>,
        out: &mut Effects<Message, Timer>,
    ) {
        self.hlc.raise(batch.stamp);
        for entry in &batch.entries {
            let txn = entry.txn.id;
            if self.groups[group].log.is_leader() {
                // From here on its end does not depend on anybody who could forget it.
                out.observe(Observation::Initiated { txn });
            }
            let is_it = |open: &Open| open.entry.attempt <= entry.attempt;
            if self.open.get(&txn).is_some_and(is_it) {
                self.open.remove(&txn);
                if zoo::planted(Bug::AckDependentAtAppend) && entry.txn.is_dependent() {
                    let outcome = Outcome::Committed { reads: Vec::new() };
                    let reply = ClientMessage::Reply { txn, outcome };
                    out.send(entry.client, Message::Client(reply));
                }
            }
        }
        self.merge.push(group as u16, index, batch);
    }

    /// This replica's log of the group starts with a cut of the merged order.
    fn install(&mut self, group: usize, cut: Cut, out: &mut Effects<Message, Timer>) {
        self.hlc.raise(cut.stamp);
        if self.merge.install(group as u16, cut) {
            out.observe(Observation::Mark("calvin.log-starts-at-a-cut"));
            self.merged.clear();
            self.floor = cut;
        }
    }

    fn update_leadership(&mut self, group: usize, out: &mut Effects<Message, Timer>) {
        let seen = self.merge.seen(group as u16);
        let Group {
            log,
            leadership,
            queue,
            ..
        } = &mut self.groups[group];
        if !log.is_leader() {
            if leadership.take().is_some() && !queue.is_empty() {
                out.observe(Observation::Mark("calvin.leader-lost-with-open-epoch"));
            }
            queue.clear();
            return;
        }
        let term = log.term();
        if leadership.as_ref().is_none_or(|known| known.term != term) {
            *leadership = Some(Leadership { term, last: None });
            if self.merge.waiting().is_some() {
                out.observe(Observation::Mark("calvin.leader-change-while-merging"));
            }
        }
        if let Some(leadership) = leadership
            && leadership.last.is_none()
            && log.established() == Some(term)
        {
            leadership.last = Some(seen);
            if !queue.is_empty() {
                self.open_epoch(group, out);
            }
        }
    }

    /// Forgets the log as far as no copy of a shard needs it any more: every copy has a durable checkpoint
    /// beyond, or most copies of every shard have and the log has grown longer than it should. A copy that
    /// comes back later takes a checkpoint from one of those.
    fn compact(&mut self, out: &mut Effects<Message, Timer>) {
        let layout = &self.place.layout;
        let regions = 0..layout.regions.len() as u16;
        let (mut by_all, mut by_most) = (u64::MAX, u64::MAX);
        for shard in layout.shard_ids() {
            let of = |region| self.checkpoints.get(&(region, shard)).copied().unwrap_or(0);
            let mut copies: Vec<u64> = regions.clone().map(of).collect();
            copies.sort_unstable();
            by_all = by_all.min(copies[0]);
            by_most = by_most.min(copies[(copies.len() - 1) / 2]);
        }
        let end = self.merge.merged().position;
        let too_long = end.saturating_sub(self.place.options.log_retained.get());
        let target = by_all.max(by_most.min(too_long));
        let mut cut = self.floor;
        while let Some((first, batch)) = self.merged.front() {
            let position = first + batch.entries.len() as u64 - 1;
            if position > target {
                break;
            }
            let stamp = batch.stamp;
            cut = Cut { position, stamp };
            self.merged.pop_front();
        }
        if cut > self.floor {
            self.floor = cut;
            self.compact_logs(cut, out);
        }
    }

    fn compact_logs(&mut self, cut: Cut, out: &mut Effects<Message, Timer>) {
        let state = postcard::to_stdvec(&cut).expect("plain data serialises");
        for group in 0..self.groups.len() {
            if let Some(index) = self.merge.compact(group as u16, cut) {
                let mut effects = LogEffects::default();
                let log = &mut self.groups[group].log;
                log.compact(index, state.clone(), &mut effects);
                self.absorb(group, effects, out);
                self.after_log(group, out);
            }
        }
    }

    // --- Feeding the shards --------------------------------------------------------------------------

    fn follow(
        &mut self,
        from: Addr,
        after: u64,
        stream: bool,
        gap: bool,
        out: &mut Effects<Message, Timer>,
    ) {
        let floor = self.floor.position;
        if after < floor {
            self.followers.remove(&from);
            return out.send(from, Message::Compacted { floor });
        }
        let mut follower = Follower {
            next: after + 1,
            next_when_asked: after + 1,
            unheard: 0,
        };
        if let Some(known) = self.followers.get(&from)
            && stream
            && !gap
            && known.next_when_asked <= after + 1
        {
            follower.next = known.next.max(after + 1);
        }
        let nothing_new = follower.next > self.merge.merged().position;
        if nothing_new {
            // It knows from this that this front is alive.
            let batches = Vec::new();
            out.send(from, Message::Feed { batches, floor });
        }
        self.feed(from, &mut follower, out);
        follower.unheard = 0;
        follower.next_when_asked = follower.next;
        if stream {
            self.followers.insert(from, follower);
        }
    }

    fn feed_all(&mut self, out: &mut Effects<Message, Timer>) {
        let end = self.merge.merged().position;
        if self.followers.values().all(|follower| follower.next > end) {
            return;
        }
        let mut followers = std::mem::take(&mut self.followers);
        for (addr, follower) in &mut followers {
            self.feed(*addr, follower, out);
        }
        followers.retain(|_, follower| follower.unheard <= FEEDS_UNHEARD);
        self.followers = followers;
    }

    /// Sends a follower all that it has not been sent.
    fn feed(&self, to: Addr, follower: &mut Follower, out: &mut Effects<Message, Timer>) {
        let floor = self.floor.position;
        if follower.next <= floor {
            // A snapshot has replaced what it lacks.
            out.send(to, Message::Compacted { floor });
            follower.next = floor + 1;
        }
        let sent = self
            .merged
            .partition_point(|(first, _)| *first < follower.next);
        let rest: Vec<_> = self.merged.range(sent..).cloned().collect();
        for batches in rest.chunks(FEED_BATCHES) {
            let batches = batches.to_vec();
            out.send(to, Message::Feed { batches, floor });
            follower.unheard += 1;
        }
        follower.next = self.merge.merged().position + 1;
    }
}
