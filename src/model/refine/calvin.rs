//! Calvin against `specs/calvin/Calvin.tla`, one instance of the spec for each transaction and region.
//!
//! An instance begins when the transaction stands in the merged log. Its shards are the transaction's participants in that
//! region, its log holds the transaction's own occurrences. What other transactions do to the rows is in the versions: the
//! log, executed serially ([`Serial`]), says what every row holds before and after each position, and a row that holds
//! anything else has a version that the spec does not know. So an instance of one transaction is held to its place among all
//! others. A run looks at one transaction in [`SAMPLED`], and at each in one region. [`Executions::together`] puts
//! several transactions into one instance, where each shard holds one row.
//!
//! | spec | code |
//! |---|---|
//! | `log` | the occurrences in the merged log from the one at which the transaction ends on; fronts have to agree on it |
//! | `Home`, `Reads`, `Active`, `Writes` | the lowest participant, the participants, `Entry::collectors`, the shards that it writes if its guards hold |
//! | `got`, `next` | how many occurrences a shard has admitted, and how many, from the first, it is done with ([`Turn`]) |
//! | `ver` | the last occurrence whose writes are in the shard's rows, or under later ones |
//! | `out` | the push that the shard retains, by what its rows are |
//! | `inbox`, `net` | pushes received for what is not done; pushes ever sent, by whichever region's copy |
//! | `acks` | a reply was sent, or the home is done; the reply has to be the log's |
//! | `done` | an active participant is done |
//! | `client`, `before`, `seqUp`, `disk`, `down`, `cut` | submitted once it is in the log; none; up; the initial state; none: a crash shows at the next boot |
//!
//! A boot from a checkpoint and a transfer of state are `Install`: a checkpoint, own or another region's, is what a copy was.
//! These steps, and what another region's copy sends, are the only ones that may be `Install` or `SendCopy`.
//!
//! History: the log and what was sent stay; so do `done` and `acks`; a push that was forgotten below the floor still counts
//! as retained. Whether a transaction declines is a constant of its instance that shows when it is executed (a prophecy).
//!
//! What this does not see: the log's own replication and merging (but that fronts agree); occurrences before the one at which
//! a dependent transaction ends, unless they write; whether forgetting below the floor was right; whether a checkpoint is as
//! new as it could be; transactions over more than eight shards.
//!
//! Never taken: `ReceiveAck`, `Checkpoint` (see `Install`), `LoseRead`, `LoseAck`, `CrashSequencer`, `Cut` and `Heal`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use stateright::Model;

use super::{
    Abstraction, Cause, Change, Guided, Refined, SAMPLED, Sample, Shows, Watch, raft, watch,
};
use crate::base::digest::stable_hash;
use crate::base::observation::Outcome;
use crate::base::process::{Addr, Effect, Effects, Input, Process};
use crate::base::txn::{ShardId, TxnId};
use crate::consensus::Algorithm;
use crate::model::spec::Members;
use crate::model::spec::calvin::{
    Budget, Calvin as Spec, Client, Footprint, Footprints, Kept, Memory, Reads, RemoteRead,
    Shard as Number, State, Txn,
};
use crate::protocol::calvin::messages::{Before, Push};
use crate::protocol::calvin::sequencer::Sequencer;
use crate::protocol::calvin::shard::{Shard, Turn};
use crate::protocol::calvin::{Calvin, Message, Node, Options, Place, Timer};
use crate::protocol::kit::client::ClientMessage;

mod serial;

use serial::{Ending, Serial, Slot};

/// Enough for every step.
const AMPLE: Budget = Budget {
    dup: 9,
    crash: 9,
    loss: 0,
    cut: 0,
};

/// The version of a row that holds what the log never put there.
const WRONG: u8 = u8::MAX;

/// The most participants of a transaction that is looked at: a set of them has eight places.
const PARTICIPANTS_MAX: usize = 8;

impl Guided for Spec {
    fn shape(&self) -> u64 {
        let Footprints::Given(footprints) = &self.footprints else {
            return u64::from(self.count) << 8 | u64::from(self.shard_count);
        };
        stable_hash(&(self.shard_count, self.copies, footprints))
    }

    fn refill(&self, state: &mut State) {
        state.budget = self.budget;
    }

    fn distance(&self, from: &State, to: &State) -> u32 {
        let memory = |(a, b): (&Memory, &Memory)| {
            // What was received for a position that is to be done is on its way out.
            let (here, there) = (a.inbox.iter(), b.inbox.iter());
            let extra = here.filter(|read| read.pos >= b.kept.next && !b.inbox.contains(read));
            let lacking = there.filter(|read| !a.inbox.contains(read));
            u32::from(a.got.abs_diff(b.got))
                + 2 * u32::from(a.kept.next.abs_diff(b.kept.next))
                + u32::from(a.kept.ver != b.kept.ver)
                + u32::from(a.kept.out != b.kept.out)
                + u32::from(a.disk != b.disk)
                + u32::from(a.inbox != b.inbox)
                + (extra.count() + lacking.count()) as u32
        };
        from.shards.iter().zip(&to.shards).map(memory).sum::<u32>()
            + from.log.len().abs_diff(to.log.len()) as u32
            + u32::from(from.log != to.log)
            + from.net.symmetric_difference(&to.net).count() as u32
            + (from.acks.0 ^ to.acks.0).count_ones()
            + 2 * (from.down.0 ^ to.down.0).count_ones()
            + u32::from(from.cut != to.cut)
            + u32::from(from.client != to.client)
            + u32::from(from.before != to.before)
            + u32::from(from.done != to.done)
            + u32::from(from.seq_up != to.seq_up)
    }

    /// The log, messages, acks and what was executed stay; only shards that changed take steps, and only those that have
    /// lost something have crashed.
    fn may_pass(&self, from: &State, at: &State, to: &State) -> bool {
        let shards = from.shards.iter().zip(&at.shards).zip(&to.shards).zip(0..);
        let steady =
            |before: &Memory, now: &Memory, after: &Memory| before != after || before == now;
        let mut shards = shards.map(|(((before, now), after), s)| {
            steady(before, now, after) && (!at.down.has(s) || has_lost(before, after))
        });
        let done = || from.done.iter().zip(&at.done).zip(&to.done);
        from.net.is_subset(&at.net)
            && at.net.is_subset(&to.net)
            && at.log.len() <= to.log.len()
            && (at.cut, at.seq_up) == (to.cut, to.seq_up)
            && (from.acks.0 & !at.acks.0, at.acks.0 & !to.acks.0) == (0, 0)
            && done().all(|((before, now), _)| before.is_subset(now))
            && done().all(|((_, now), after)| now.is_subset(after))
            && shards.all(|passes| passes)
    }
}

/// Whether a shard has less than before: only a crash takes anything away.
fn has_lost(before: &Memory, after: &Memory) -> bool {
    let open = |read: &&RemoteRead| read.pos >= after.kept.next;
    let mut received = before.inbox.iter().filter(open);
    let mut read = before.kept.out.keys();
    after.got < before.got
        || after.kept.next < before.kept.next
        || read.any(|pos| !after.kept.out.contains_key(pos))
        || received.any(|read| !after.inbox.contains(read))
}

/// A transaction, or several, in a region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name {
    /// The transaction; of several, the first.
    pub txn: TxnId,
    /// Position of the region.
    pub region: u16,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in region {}", self.txn, self.region)
    }
}

/// What an instance is about: some transactions with the shards that they touch, in every region.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Window {
    txns: Vec<TxnId>,
    shards: Vec<ShardId>,
    /// Their occurrences.
    log: Vec<(u64, Txn)>,
    /// Where each of them ends, once it stands in the log.
    endings: Vec<Option<Arc<Ending>>>,
    footprints: Arc<[Footprint]>,
    /// By region.
    states: Vec<State>,
}

impl Window {
    fn new(txns: Vec<TxnId>, shards: Vec<ShardId>, regions: usize) -> Self {
        let nothing = Footprint {
            home: Number(0),
            reads: Members::default(),
            active: Members::default(),
            writes: Members::default(),
        };
        let mut window = Self {
            log: Vec::new(),
            endings: vec![None; txns.len()],
            footprints: vec![nothing; txns.len()].into(),
            states: Vec::new(),
            txns,
            shards,
        };
        let initial = window.spec(false).init_states().swap_remove(0);
        window.states = vec![initial; regions];
        window
    }

    fn spec(&self, copies: bool) -> Spec {
        Spec {
            count: self.txns.len() as u8,
            shard_count: self.shards.len() as u8,
            footprints: Footprints::Given(Arc::clone(&self.footprints)),
            budget: AMPLE,
            forever: false,
            checkpoints: false,
            duplicates: true,
            copies,
            flaw: None,
        }
    }

    fn number(&self, shard: ShardId) -> Option<Number> {
        let at = self.shards.iter().position(|known| *known == shard)?;
        Some(Number(at as u8))
    }

    fn member(&self, txn: TxnId) -> Option<Txn> {
        let at = self.txns.iter().position(|known| *known == txn)?;
        Some(Txn(at as u8))
    }

    /// The place in the instance's log of a position of the merged log.
    fn place(&self, position: u64) -> Option<u8> {
        let at = self.log.iter().position(|(known, _)| *known == position)?;
        Some(1 + at as u8)
    }

    /// The transaction that ends at a place of the instance's log, with its footprint. Nothing does at a place that the log
    /// does not have: only broken code speaks of one.
    fn ending(&self, pos: u8) -> Option<(Txn, &Ending, Footprint)> {
        let (position, txn) = *self.log.get(usize::from(pos).checked_sub(1)?)?;
        let ending = self.endings[usize::from(txn.0)].as_deref()?;
        (ending.position == position).then(|| (txn, ending, self.footprints[usize::from(txn.0)]))
    }

    /// The log holds another occurrence, or lost one.
    fn relog(&mut self) {
        for state in &mut self.states {
            state.log = self.log.iter().map(|(_, txn)| *txn).collect();
            for txn in &state.log {
                state.client[usize::from(txn.0)] = Client::Submitted;
            }
        }
    }

    /// A transaction ends at the end of the log.
    fn end(&mut self, txn: Txn, ending: Ending, place: &Place) {
        let numbers = |shards: &mut dyn Iterator<Item = &ShardId>| {
            let numbers = shards.filter_map(|shard| self.number(*shard));
            numbers.fold(Members::default(), |set, number| set.with(number.0))
        };
        let participants = ending.entry.participants(&place.layout);
        let active = ending.entry.collectors(&place.layout, &participants);
        let home = participants.first().and_then(|first| self.number(*first));
        let mut footprints = self.footprints.to_vec();
        footprints[usize::from(txn.0)] = Footprint {
            home: home.expect("a participant is one of the instance's shards"),
            reads: numbers(&mut participants.iter()),
            active: numbers(&mut active.iter()),
            writes: numbers(&mut ending.after.keys()),
        };
        self.footprints = footprints.into();
        self.endings[usize::from(txn.0)] = Some(Arc::new(ending));
    }

    /// The version that a push shows.
    fn version_of(&self, state: &State, pos: u8, push: &Push) -> u8 {
        let known = self.ending(pos).zip(self.number(push.from));
        let Some(((_, ending, _), from)) = known else {
            return WRONG;
        };
        let none = Vec::new();
        let said = ending.reads.get(&push.from).unwrap_or(&none);
        match *said == push.rows && push.before == Before::Unended {
            true => self.spec(false).log_version(state, pos, from),
            false => WRONG,
        }
    }

    /// Takes in where a shard stands; `anew` if it may have lost what it had.
    fn observe(&mut self, region: usize, shard: &Shard, anew: bool, serial: &Serial) {
        let Some(s) = self.number(shard.shard()) else {
            return;
        };
        let turns: Vec<Turn> = { self.log.iter() }
            .map(|(position, _)| shard.turn(*position))
            .collect();
        let leading = |is: &dyn Fn(&Turn) -> bool| turns.iter().take_while(|t| is(t)).count() as u8;
        let (got, past) = (
            leading(&|turn| *turn != Turn::NotYet),
            leading(&|turn| *turn == Turn::Past),
        );
        let memory = Memory {
            got,
            kept: Kept {
                next: past + 1,
                ver: self.version_here(s, shard, past, serial),
                out: self.read_for_others(region, s, shard, &turns, anew),
            },
            inbox: self.received(region, s, shard, past, anew),
            disk: self.states[region].shards[usize::from(s.0)].disk.clone(),
        };
        for pos in 1..=past {
            self.finish(region, s, pos);
        }
        self.states[region].shards[usize::from(s.0)] = memory;
    }

    /// A shard is done with a place of the log.
    fn finish(&mut self, region: usize, s: Number, pos: u8) {
        let Some((txn, _, Footprint { home, active, .. })) = self.ending(pos) else {
            return;
        };
        if active.has(s.0) {
            let reads = self.spec(false).log_reads(&self.states[region], pos);
            self.states[region].done[usize::from(txn.0)].insert(reads);
        }
        if home == s {
            let acks = &mut self.states[region].acks;
            *acks = acks.with(txn.0);
        }
    }

    /// The last place whose writes are in the shard's rows.
    fn version_here(&self, s: Number, shard: &Shard, past: u8, serial: &Serial) -> u8 {
        for pos in (1..=self.log.len() as u8).rev() {
            let Some((txn, ending, footprint)) = self.ending(pos) else {
                continue;
            };
            if !footprint.writes.has(s.0) {
                continue;
            }
            let writer = self.txns[usize::from(txn.0)];
            let rows = ending.after.get(&shard.shard()).into_iter().flatten();
            let (mut here, mut not_here) = (false, false);
            for read in rows {
                match shard.row(read.key) {
                    Some(row) if row.writer.txn == writer && *row != read.row => return WRONG,
                    Some(row) if row.writer.txn == writer => here = true,
                    // Its turn has passed, and a later one's too.
                    Some(row)
                        if pos <= past && serial.ended_after(row.writer.txn, ending.position) =>
                    {
                        here = true;
                    }
                    _ => not_here = true,
                }
            }
            match (here, not_here) {
                (true, true) => return WRONG,
                (true, false) => return pos,
                (false, _) => {}
            }
        }
        0
    }

    /// What the shard has read and keeps for the active participants.
    fn read_for_others(
        &self,
        region: usize,
        s: Number,
        shard: &Shard,
        turns: &[Turn],
        anew: bool,
    ) -> BTreeMap<u8, u8> {
        let state = &self.states[region];
        let before = &state.shards[usize::from(s.0)].kept.out;
        let mut out = BTreeMap::new();
        for (pos, turn) in (1..).zip(turns) {
            let Some((_, ending, Footprint { reads, active, .. })) = self.ending(pos) else {
                continue;
            };
            let asked = reads.has(s.0) && !active.without(s.0).is_empty();
            if !asked || !matches!(turn, Turn::Gathers | Turn::Past) {
                continue;
            }
            let kept = before.get(&pos).filter(|_| !anew).copied();
            let version = kept.or_else(|| match shard.retained(ending.position) {
                Some(push) => Some(self.version_of(state, pos, push)),
                None if ending.position <= shard.floor() => {
                    Some(self.spec(false).log_version(state, pos, s))
                }
                None => None,
            });
            out.extend(version.map(|version| (pos, version)));
        }
        out
    }

    /// The remote reads that are here for what is not done.
    fn received(
        &self,
        region: usize,
        s: Number,
        shard: &Shard,
        past: u8,
        anew: bool,
    ) -> BTreeSet<RemoteRead> {
        let state = &self.states[region];
        let before = &state.shards[usize::from(s.0)].inbox;
        let mut inbox = BTreeSet::new();
        for pos in past + 1..=self.log.len() as u8 {
            let Some((_, ending, footprint)) = self.ending(pos) else {
                continue;
            };
            if !footprint.active.has(s.0) {
                continue;
            }
            for push in shard.pushes_for(ending.position) {
                let Some(from) = self.number(push.from).filter(|from| *from != s) else {
                    continue;
                };
                let known = { before.iter() }
                    .find(|read| !anew && (read.pos, read.from) == (pos, from))
                    .map(|read| read.ver);
                let ver = known.unwrap_or_else(|| self.version_of(state, pos, push));
                inbox.insert(RemoteRead {
                    pos,
                    from,
                    ver,
                    to: s,
                });
            }
        }
        inbox
    }

    /// A push is on its way to a shard.
    fn send(&mut self, region: usize, to: ShardId, push: &Push) {
        let Some(pos) = self.place(push.position) else {
            return;
        };
        let ends = self.ending(pos).map(|(.., footprint)| footprint.active);
        let ends_are = ends.zip(self.number(push.from)).zip(self.number(to));
        let Some(((active, from), to)) = ends_are else {
            return;
        };
        if active.has(to.0) {
            let ver = self.version_of(&self.states[region], pos, push);
            self.states[region]
                .net
                .insert(RemoteRead { pos, from, ver, to });
        }
    }

    /// The client is told.
    fn answer(&mut self, region: usize, txn: TxnId, outcome: &Outcome) {
        let Some(member) = self.member(txn) else {
            return;
        };
        let at = usize::from(member.0);
        let state = &mut self.states[region];
        state.acks = state.acks.with(member.0);
        let said = self.endings[at].as_ref().map(|ending| &ending.outcome);
        if said.is_some_and(|said| said != outcome) {
            let home = self.footprints[at].home;
            state.done[at].insert(Reads::from([(home, WRONG)]));
        }
    }
}

/// What a step is a reaction to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Heard {
    #[default]
    Nothing,
    /// A push for a position.
    Push(u64),
    /// Several.
    Pushes,
    /// The process starts from a checkpoint, its own or another region's.
    Start,
}

/// The spec states of all transactions.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Executions {
    sample: Sample,
    /// Transactions that share an instance.
    together: Vec<TxnId>,
    serial: Serial,
    /// How far each front has merged.
    fronts: BTreeMap<Addr, u64>,
    windows: BTreeMap<TxnId, Window>,
    /// Whose the positions of the merged log are, where they are looked at.
    positions: BTreeMap<u64, TxnId>,
    heard: Heard,
}

/// The states of the instances that a step touches, as they were before it.
type Touched = BTreeMap<Name, State>;

impl Executions {
    /// Only one transaction in this many, each in one region; the same ones in every run. With 1: all, in every region.
    pub fn sampled(one_in: u64) -> Self {
        Self {
            sample: Sample { one_in },
            ..Self::default()
        }
    }

    /// Just these transactions, in one instance. Every shard has to hold one row.
    pub fn together(txns: Vec<TxnId>) -> Self {
        Self {
            together: txns,
            ..Self::default()
        }
    }

    /// Under which transaction the instance of this one is kept, if it is looked at.
    fn key(&self, txn: TxnId) -> Option<TxnId> {
        match self.together.first() {
            Some(first) => self.together.contains(&txn).then_some(*first),
            None => self.sample.has(&txn).then_some(txn),
        }
    }

    /// Whether a sampled transaction is followed in this region: with sampling each is followed in one.
    fn is_watched(&self, txn: TxnId, region: usize, regions: usize) -> bool {
        let one_in = self.sample.one_in;
        one_in == 1 || (stable_hash(&txn) / one_in) as usize % regions == region
    }

    /// Remembers how an instance was.
    fn touch(&self, touched: &mut Touched, txn: TxnId, region: usize) {
        if let Some(window) = self.windows.get(&txn)
            && self.is_watched(txn, region, window.states.len())
        {
            let name = Name {
                txn,
                region: region as u16,
            };
            let before = || window.states[region].clone();
            touched.entry(name).or_insert_with(before);
        }
    }

    fn touch_all(&self, touched: &mut Touched, txn: TxnId, place: &Place) {
        for region in 0..place.layout.regions.len() {
            self.touch(touched, txn, region);
        }
    }

    /// Takes in what a front has merged.
    fn sequence(&mut self, touched: &mut Touched, by: Addr, front: &Sequencer) {
        let known = self.fronts.entry(by).or_default();
        if self.heard == Heard::Start {
            *known = 0;
        }
        let (from, end) = (*known, front.merged_to());
        *known = end;
        if end <= from {
            return;
        }
        let batches = front.merged_log().rev();
        let mut batches: Vec<_> = batches
            .take_while(|(first, batch)| first + batch.entries.len() as u64 > from + 1)
            .collect();
        batches.reverse();
        for (first, batch) in batches {
            for (position, entry) in (first..).zip(&batch.entries) {
                match self.serial.at(position) {
                    Some(known) if known == entry.txn.id => {}
                    Some(known) => self.disagree(touched, known, position, front.place()),
                    None if position == self.serial.end() + 1 => {
                        let wanted = self.key(entry.txn.id).is_some();
                        let layout = &front.place().layout;
                        let slot = self.serial.append(entry, layout, wanted);
                        self.append(touched, position, entry.txn.id, slot, front.place());
                    }
                    // Another front has what lies between, and will be heard.
                    None => *self.fronts.entry(by).or_default() = from,
                }
            }
        }
    }

    /// A front has merged something else than another: the log has lost what stood there.
    fn disagree(&mut self, touched: &mut Touched, txn: TxnId, position: u64, place: &Place) {
        let Some(key) = self.key(txn) else { return };
        self.touch_all(touched, key, place);
        if let Some(window) = self.windows.get_mut(&key) {
            window.log.retain(|(known, _)| *known != position);
            window.relog();
        }
    }

    /// The log has grown by a transaction.
    fn append(
        &mut self,
        touched: &mut Touched,
        position: u64,
        txn: TxnId,
        slot: Slot,
        place: &Place,
    ) {
        let Some(key) = self.key(txn) else { return };
        if let Slot::Ends(Some(ending)) = &slot {
            let together = !self.together.is_empty();
            let (txns, shards): (_, Vec<ShardId>) = match together {
                true => (self.together.clone(), place.layout.shard_ids().collect()),
                false => {
                    let participants = ending.entry.participants(&place.layout);
                    (vec![txn], participants)
                }
            };
            if shards.len() > PARTICIPANTS_MAX {
                return;
            }
            let regions = place.layout.regions.len();
            let new = || Window::new(txns, shards, regions);
            self.windows.entry(key).or_insert_with(new);
        }
        self.touch_all(touched, key, place);
        let Some(window) = self.windows.get_mut(&key) else {
            return;
        };
        let member = window.member(txn).expect("the window is this one's");
        match slot {
            Slot::Ends(Some(ending)) => window.end(member, *ending, place),
            Slot::Again => {}
            Slot::Ends(None) | Slot::Moved => return,
        }
        window.log.push((position, member));
        window.relog();
        self.positions.insert(position, key);
    }

    /// The instances that a shard's step may have touched, each once.
    fn concerned(&self, shard: &Shard, effects: &Effects<Message, Timer>) -> Vec<TxnId> {
        let region = shard.place().region;
        let open = |window: &Window| {
            let s = window.number(shard.shard());
            let memory = s.map(|s| &window.states[region].shards[usize::from(s.0)]);
            memory.is_some_and(|memory| usize::from(memory.kept.next) <= window.log.len())
        };
        let mut txns: Vec<TxnId> = match self.heard {
            Heard::Nothing => Vec::new(),
            Heard::Push(position) => self.positions.get(&position).copied().into_iter().collect(),
            Heard::Pushes => { self.windows.iter() }
                .filter(|(_, window)| open(window))
                .map(|(txn, _)| *txn)
                .collect(),
            Heard::Start => self.windows.keys().copied().collect(),
        };
        let observed = effects.iter().filter_map(|effect| match effect {
            Effect::Observe(observation) => self.key(observation.txn()?),
            _ => None,
        });
        txns.extend(observed);
        let regions = shard.place().layout.regions.len();
        txns.retain(|txn| self.is_watched(*txn, region, regions));
        txns.sort_unstable();
        txns.dedup();
        txns
    }

    fn execute(&mut self, touched: &mut Touched, shard: &Shard, effects: &Effects<Message, Timer>) {
        let region = shard.place().region;
        for txn in self.concerned(shard, effects) {
            self.touch(touched, txn, region);
            if let Some(window) = self.windows.get_mut(&txn) {
                window.observe(region, shard, self.heard == Heard::Start, &self.serial);
            }
        }
    }

    /// Takes in what is sent.
    fn send(&mut self, touched: &mut Touched, place: &Place, to: Addr, message: &Message) {
        let pushes = match message {
            Message::Push(push) => std::slice::from_ref(push),
            Message::Pushes(pushes) => pushes.as_slice(),
            Message::Client(ClientMessage::Reply { txn, outcome }) => {
                let Some(key) = self.key(*txn) else { return };
                self.touch(touched, key, place.region);
                if let Some(window) = self.windows.get_mut(&key) {
                    window.answer(place.region, *txn, outcome);
                }
                return;
            }
            _ => return,
        };
        let Some(region) = place.layout.region_of(to.node) else {
            return;
        };
        let data = &place.layout.regions[region].data;
        let Some(shard) = data.iter().position(|node| *node == to.node) else {
            return;
        };
        let regions = place.layout.regions.len();
        for push in pushes {
            let Some(txn) = self.positions.get(&push.position).copied() else {
                continue;
            };
            if !self.is_watched(txn, region, regions) {
                continue;
            }
            self.touch(touched, txn, region);
            if let Some(window) = self.windows.get_mut(&txn) {
                window.send(region, ShardId(shard as u16), push);
            }
        }
    }
}

impl<P> Abstraction<P> for Executions
where
    P: Shows<Node> + Process<Message = Message, Timer = Timer>,
{
    type Spec = Spec;
    type Name = Name;

    fn cause(_: &Input<Message, Timer>) -> Cause {
        Cause::Other
    }

    fn hears(&mut self, _: Addr, input: &Input<Message, Timer>) {
        self.heard = match input {
            Input::Boot(_) => Heard::Start,
            Input::Message { message, .. } => match message {
                Message::Push(push) => Heard::Push(push.position),
                Message::Pushes(_) => Heard::Pushes,
                Message::State(_) => Heard::Start,
                _ => Heard::Nothing,
            },
            _ => Heard::Nothing,
        };
    }

    fn step(
        &mut self,
        by: Addr,
        _: Cause,
        process: &P,
        effects: &Effects<Message, Timer>,
    ) -> Vec<Change<Spec, Name>> {
        let mut touched = Touched::new();
        let place = match process.shown() {
            Node::Coordinator(front) => {
                self.sequence(&mut touched, by, front);
                front.place()
            }
            Node::Shard(shard) => {
                self.execute(&mut touched, shard, effects);
                shard.place()
            }
            Node::Client(_) => return Vec::new(),
        };
        for effect in effects.iter() {
            if let Effect::Send { to, message } = effect {
                self.send(&mut touched, place, *to, message);
            }
        }
        let starts = std::mem::take(&mut self.heard) == Heard::Start;
        let change = |(name, before): (Name, State)| {
            let window = &self.windows[&name.txn];
            let region = usize::from(name.region);
            let after = &window.states[region];
            (before != *after).then(|| Change {
                name,
                model: window.spec(starts || region != place.region),
                before,
                after: after.clone(),
            })
        };
        touched.into_iter().filter_map(change).collect()
    }

    fn instances(&self) -> Vec<(Name, Spec, State)> {
        let windows = self.windows.iter();
        let shown = windows.flat_map(|(txn, window)| {
            let states = window.states.iter().zip(0..);
            states.map(|(state, region)| {
                let name = Name { txn: *txn, region };
                (name, window.spec(window.states.len() > 1), state.clone())
            })
        });
        shown.collect()
    }
}

impl Refined for Calvin {
    fn watch(_: &Options) -> Result<Watch<Node>, &'static str> {
        Ok(watch(Executions::sampled(SAMPLED)))
    }

    fn watch_logs(options: &Options) -> Option<Result<Watch<Node>, &'static str>> {
        Some(match options.log.algorithm {
            Algorithm::Raft => Ok(watch(raft::Logs::windowed())),
            Algorithm::MultiPaxos => Err("the spec is Raft's"),
        })
    }
}
