//! Calvin against `specs/calvin/Calvin.tla`, in small hosted worlds: one transaction over two shards of one region.
//!
//! In the spec a transaction has one active participant, which gathers the reads and executes; in the code every
//! participant that writes is one. So there is an instance of the spec for each of them: its home is that shard, and the
//! other one is passive in it.
//!
//! | spec | code |
//! |---|---|
//! | `log` | where the transaction stands in the merged log, occurrence by occurrence; other entries are left out |
//! | `got`, `next` | how many occurrences a shard has admitted, and how many it is done with; a passive participant is done once it has pushed |
//! | `ver`, `done`, `acks` | whether the home has executed the transaction; a reply counts as an ack whenever it is sent |
//! | `out`, `inbox`, `net` | the pushes of the first occurrence: made, received, ever sent |
//! | `client`, `seqUp`, `disk`, `down`, `cut` | submitted once it is in the log, up, nothing (checkpoints come after 256 transactions), none: a crash shows at the next boot |
//!
//! History: what is once in the log stays there (consensus is one durable log in the spec). Versions name log positions, of
//! which there is one here: that reads are those of the right position is judged by histories, not by this.
//!
//! Not mapped, and so only hosted: dependent transactions, state transfers between regions, checkpoints.

use std::collections::{BTreeMap, BTreeSet};

use stateright::Model;

use super::{Abstraction, Cause, Change, Guided, Refined, Shows, Watch};
use crate::client::ClientMessage;
use crate::model::spec::Members;
use crate::model::spec::calvin::{
    Budget, Calvin as Spec, Client, Kept, Memory, Reads, RemoteRead, Shard as Number, State, Txn,
};
use crate::process::{Addr, Effect, Effects, Input, Process};
use crate::protocol::calvin::sequencer::Front;
use crate::protocol::calvin::shard::{Shard, Turn};
use crate::protocol::calvin::{Calvin, Message, Node, Options, Timer};
use crate::scenario::layout::ShardId;
use crate::txn::TxnId;

/// Enough for every step.
const AMPLE: Budget = Budget {
    dup: 9,
    crash: 9,
    loss: 0,
    cut: 0,
};

/// Both participants.
const PARTICIPANTS: [ShardId; 2] = [ShardId(0), ShardId(1)];
/// The home of the transaction in every instance, and the passive participant.
const HOME: Number = Number(0);
const PASSIVE: Number = Number(1);

/// The remote read of the first occurrence.
const READ: RemoteRead = RemoteRead {
    pos: 1,
    from: PASSIVE,
    ver: 0,
};

fn spec() -> Spec {
    Spec {
        count: 1,
        shard_count: PARTICIPANTS.len() as u8,
        ring: false,
        budget: AMPLE,
        forever: false,
        checkpoints: false,
        duplicates: true,
        flaw: None,
    }
}

impl Guided for Spec {
    fn shape(&self) -> u64 {
        u64::from(self.count) << 8 | u64::from(self.shard_count)
    }

    fn refill(&self, state: &mut State) {
        state.budget = self.budget;
    }

    fn distance(&self, from: &State, to: &State) -> u32 {
        let kept = |a: &Kept, b: &Kept| {
            u32::from(a.next.abs_diff(b.next))
                + u32::from(a.ver != b.ver)
                + u32::from(a.out != b.out)
        };
        let memory = |(a, b): (&Memory, &Memory)| {
            u32::from(a.got.abs_diff(b.got))
                + kept(&a.kept, &b.kept)
                + kept(&a.disk, &b.disk)
                + a.inbox.symmetric_difference(&b.inbox).count() as u32
        };
        from.shards.iter().zip(&to.shards).map(memory).sum::<u32>()
            + from.log.len().abs_diff(to.log.len()) as u32
            + from.net.symmetric_difference(&to.net).count() as u32
            + (from.down.0 ^ to.down.0 | from.cut.0 ^ to.cut.0).count_ones()
            + (from.acks.0 ^ to.acks.0).count_ones()
            + u32::from(from.client != to.client)
            + u32::from(from.before != to.before)
            + u32::from(from.done != to.done)
            + u32::from(from.seq_up != to.seq_up)
    }

    /// The log, messages and what was executed stay; at most one shard is down on the way.
    fn may_pass(&self, from: &State, at: &State, to: &State) -> bool {
        from.net.is_subset(&at.net)
            && at.net.is_subset(&to.net)
            && at.log.len() <= to.log.len()
            && at.down.len() <= 1
            && (at.cut, at.seq_up) == (to.cut, to.seq_up)
            && (from.acks.0 & !at.acks.0, at.acks.0 & !to.acks.0) == (0, 0)
    }
}

/// The spec states of one transaction, one for each active participant.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Executions {
    txn: TxnId,
    /// Where the transaction stands in the merged log.
    positions: Vec<u64>,
    instances: Vec<State>,
    /// The shard of each data machine that has taken a step.
    shards: BTreeMap<Addr, ShardId>,
}

impl Executions {
    /// Of the transaction that a world runs.
    pub fn of(txn: TxnId) -> Self {
        let initial = || spec().init_states().swap_remove(0);
        Self {
            txn,
            positions: Vec::new(),
            instances: PARTICIPANTS.map(|_| initial()).to_vec(),
            shards: BTreeMap::new(),
        }
    }

    /// Takes in what the front has merged.
    fn sequence(&mut self, front: &Front) {
        let mut positions = Vec::new();
        for (first, batch) in front.merged_log() {
            let entries = (first..).zip(&batch.entries);
            let ours = entries.filter(|(_, entry)| entry.txn.id == self.txn);
            positions.extend(ours.map(|(position, _)| position));
        }
        if positions.len() > self.positions.len() {
            self.positions = positions;
        }
        for state in &mut self.instances {
            state.log = vec![Txn(0); self.positions.len()];
            if !self.positions.is_empty() {
                state.client = vec![Client::Submitted];
            }
        }
    }

    /// Takes in where a shard stands.
    fn execute(&mut self, shard: &Shard) {
        let turns: Vec<Turn> = { self.positions.iter() }
            .map(|position| shard.turn(*position))
            .collect();
        let count =
            |done: &dyn Fn(&Turn) -> bool| turns.iter().filter(|turn| done(turn)).count() as u8;
        let got = count(&|turn| *turn != Turn::NotYet);
        let first = self.positions.first().copied().unwrap_or(1);
        let received = match shard.turn(first) {
            Turn::Past => BTreeSet::new(),
            Turn::NotYet | Turn::Waits | Turn::Gathers => shard.pushes_for(first),
        };
        for (home, state) in PARTICIPANTS.iter().zip(&mut self.instances) {
            if *home == shard.shard() {
                let executed = { self.positions.iter() }.rposition(|p| shard.has_executed(*p));
                let memory = &mut state.shards[usize::from(HOME.0)];
                memory.got = got;
                memory.kept.next = 1 + count(&|turn| *turn == Turn::Past);
                memory.kept.ver = executed.map_or(0, |at| at as u8 + 1);
                let others = received.iter().any(|from| from != home);
                memory.inbox = others.then_some(READ).into_iter().collect();
                if executed.is_some() {
                    let reads: Reads = [(HOME, 0), (PASSIVE, 0)].into();
                    state.done[0].insert(reads);
                    state.acks = Members::first(1);
                }
            } else {
                let memory = &mut state.shards[usize::from(PASSIVE.0)];
                let done = count(&|turn| matches!(turn, Turn::Gathers | Turn::Past));
                memory.got = got;
                memory.kept.next = 1 + done;
                memory.kept.out = (done > 0).then_some((1, 0)).into_iter().collect();
            }
        }
    }

    /// Takes in what a shard sends.
    fn send(&mut self, from: ShardId, to: Addr, message: &Message) {
        let first = self.positions.first().copied();
        let is_first = |position: u64| first.is_none_or(|first| first == position);
        let pushes = match message {
            Message::Push(push) => is_first(push.position),
            Message::Pushes(pushes) => pushes.iter().any(|push| is_first(push.position)),
            _ => false,
        };
        let replies = matches!(message, Message::Client(ClientMessage::Reply { .. }));
        let to = self.shards.get(&to);
        for (home, state) in PARTICIPANTS.iter().zip(&mut self.instances) {
            if pushes && Some(home) == to {
                state.net.insert(READ);
            }
            if replies && *home == from {
                state.acks = Members::first(1);
            }
        }
    }
}

impl<P> Abstraction<P> for Executions
where
    P: Shows<Node> + Process<Message = Message, Timer = Timer>,
{
    type Spec = Spec;
    type Name = ShardId;

    fn cause(_: &Input<Message, Timer>) -> Cause {
        Cause::Other
    }

    fn step(
        &mut self,
        by: Addr,
        _: Cause,
        process: &P,
        effects: &Effects<Message, Timer>,
    ) -> Vec<Change<Spec, ShardId>> {
        let before = self.instances.clone();
        match process.shown() {
            Node::Front(front) => self.sequence(front),
            Node::Shard(shard) => {
                self.shards.insert(by, shard.shard());
                self.execute(shard);
                for effect in effects.iter() {
                    if let Effect::Send { to, message } = effect {
                        self.send(shard.shard(), *to, message);
                    }
                }
            }
            Node::Client(_) => {}
        }
        let states = before.into_iter().zip(&self.instances);
        let change = |(home, (before, after)): (&ShardId, (State, &State))| Change {
            name: *home,
            model: spec(),
            before,
            after: after.clone(),
        };
        PARTICIPANTS.iter().zip(states).map(change).collect()
    }

    fn instances(&self) -> Vec<(ShardId, Spec, State)> {
        let states = PARTICIPANTS.iter().zip(&self.instances);
        states
            .map(|(home, state)| (*home, spec(), state.clone()))
            .collect()
    }
}

impl Shows<Node> for Node {
    fn shown(&self) -> &Node {
        self
    }
}

impl Refined for Calvin {
    fn watch(_: &Options) -> Result<Watch<Node>, &'static str> {
        Err("Calvin is held against its spec in small worlds only")
    }
}
