use std::collections::BTreeMap;

use super::*;
use crate::base::observation::Observation;
use crate::base::process::Effect;
use crate::base::txn::{Guard, Op, Txn, Value};
use crate::protocol::testing::{Dice, key, layout, txn};

const CLIENT: Addr = Addr {
    node: crate::base::process::NodeId(99),
    port: 0,
};

/// Machines that execute, and commit what they have executed on the spot: no votes, no disks.
struct Table {
    layout: Layout,
    options: Options,
    machines: Vec<(Execution, Store)>,
    flights: Vec<(Addr, Addr, Message)>,
    timers: Vec<(u16, Timer)>,
    ends: BTreeMap<TxnId, End>,
    observed: Vec<Observation>,
}

impl Table {
    fn new(shards: u16, options: Options) -> Self {
        let layout = layout(shards, 2, Value::Int(10));
        let machine = |shard| {
            let shard = ShardId(shard);
            let execution = Execution::new(participant(&layout, shard));
            (execution, Store::new(&layout, shard))
        };
        Self {
            machines: (0..shards).map(machine).collect(),
            layout,
            options,
            flights: Vec::new(),
            timers: Vec::new(),
            ends: BTreeMap::new(),
            observed: Vec::new(),
        }
    }

    fn at(&self, addr: Addr) -> u16 {
        let shards = 0..self.machines.len() as u16;
        let mut at = shards.filter(|shard| participant(&self.layout, ShardId(*shard)) == addr);
        at.next().expect("only participants get messages")
    }

    /// A step of one machine, with what it says to itself.
    fn step(
        &mut self,
        shard: u16,
        first: impl FnOnce(&mut Execution, &Around<'_>, &mut Out) -> Option<End>,
    ) {
        let (execution, store) = &mut self.machines[usize::from(shard)];
        let around = Around::participant(&self.layout, &self.options, ShardId(shard), store);
        let mut out = Out::default();
        let mut end = first(execution, &around, &mut out);
        let mut ends = Vec::new();
        let me = around.me();
        loop {
            if let Some(End::Executed(executed)) = &end {
                execution.keep(executed.txn);
            }
            ends.extend(end);
            let Some(message) = execution.next_to_self() else {
                break;
            };
            end = execution.on_message(WallTime(0), me, message, false, &around, &mut out);
        }
        for effect in out.drain() {
            match effect {
                Effect::Send { to, message } => self.flights.push((me, to, message)),
                Effect::SetTimer { timer, .. } => {
                    self.timers
                        .retain(|(at, set)| (*at, *set) != (shard, timer));
                    self.timers.push((shard, timer));
                }
                Effect::CancelTimer(timer) => {
                    self.timers
                        .retain(|(at, set)| (*at, *set) != (shard, timer));
                }
                Effect::Observe(what) => self.observed.push(what),
                _ => {}
            }
        }
        for end in ends {
            self.end(shard, end);
        }
    }

    /// Applies what was executed everywhere, and releases it.
    fn end(&mut self, initiator: u16, end: End) {
        let txn = match &end {
            End::Executed(executed) => {
                for part in &executed.parts {
                    let (execution, store) = &mut self.machines[usize::from(part.shard.0)];
                    let is_kept = part.shard.0 == initiator;
                    assert!(is_kept || execution.holds_under(executed.txn, part.grant));
                    let position = store.next_position();
                    let writer = crate::base::txn::WriteId {
                        txn: executed.txn,
                        undo: false,
                    };
                    store.apply(position, writer, &part.writes);
                }
                for part in executed.parts.clone() {
                    let txn = executed.txn;
                    self.step(part.shard.0, |execution, around, out| {
                        execution.forget(txn, around, out);
                        None
                    });
                }
                executed.txn
            }
            End::Refused { txn, .. } => *txn,
        };
        let before = self.ends.insert(txn, end);
        assert!(before.is_none(), "{txn} ends twice");
    }

    fn begin(&mut self, shard: u16, txn: Txn) {
        self.step(shard, |execution, around, out| {
            execution.begin(WallTime(txn.id.0), CLIENT, txn.into(), around, out);
            None
        });
    }

    fn deliver(&mut self, at: usize) {
        let (from, to, message) = self.flights.remove(at);
        self.step(self.at(to), |execution, around, out| {
            execution.on_message(WallTime(0), from, message, false, around, out)
        });
    }

    fn fire(&mut self, at: usize) {
        let (shard, timer) = self.timers.remove(at);
        self.step(shard, |execution, around, out| {
            execution.on_timer(timer, around, out);
            None
        });
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.flights.is_empty() {
                self.deliver(0);
            } else if self.timers.is_empty() {
                return;
            } else {
                self.fire(0);
            }
        }
        panic!("it does not settle");
    }

    fn rows(&self) -> i64 {
        let mut sum = 0;
        for (at, (_, store)) in self.machines.iter().enumerate() {
            let keys = [0, 1].map(|row| key(at as u8, row));
            sum += store
                .reads(&keys)
                .iter()
                .map(|read| read.row.value.as_int())
                .sum::<i64>();
        }
        sum
    }
}

fn transfer(id: u64, from: u8, to: u8) -> Txn {
    let effects = [(key(from, 0), Op::Add(-1)), (key(to, 0), Op::Add(1))];
    txn(id, &effects, vec![])
}

fn wounds(table: &Table) -> usize {
    let wounded = |what: &&Observation| **what == Observation::Mark("execution.wounded");
    table.observed.iter().filter(wounded).count()
}

#[test]
fn a_guard_that_does_not_hold_refuses_and_leaves_no_lock() {
    let mut table = Table::new(2, Options::default());
    let guard = Guard::SumAtLeast {
        keys: vec![key(1, 0)],
        at_least: 11,
    };
    table.begin(0, txn(1, &[(key(0, 0), Op::Add(1))], vec![guard]));
    table.settle();
    let Some(End::Refused { outcome, .. }) = table.ends.get(&TxnId(1)) else {
        panic!("{:?}", table.ends);
    };
    assert_eq!(*outcome, Outcome::Declined { guard: 0 });
    for (execution, _) in &table.machines {
        assert_eq!(execution.open().count(), 0);
    }
}

#[test]
fn an_older_transaction_wounds_a_younger_holder_and_both_are_executed() {
    let mut table = Table::new(2, Options::default());
    // The younger one locks everything that it reaches at once, before the older one begins.
    table.begin(1, transfer(2, 1, 0));
    table.begin(0, transfer(1, 0, 1));
    table.settle();
    assert!(wounds(&table) > 0, "{:?}", table.observed);
    let executed = |end: &&End| matches!(end, End::Executed(_));
    assert_eq!(table.ends.values().filter(executed).count(), 2);
    assert_eq!(table.rows(), 40);
}

#[test]
fn who_may_not_restart_is_refused_as_a_deadlock() {
    let options = Options {
        restarts: Number::new(1),
        ..Options::default()
    };
    let mut table = Table::new(2, options);
    table.begin(1, transfer(3, 1, 0));
    for id in [1, 2] {
        table.begin(0, transfer(id, 0, 1));
    }
    table.settle();
    assert_eq!(table.ends.len(), 3);
}

#[test]
fn kept_locks_are_neither_wounded_nor_released_nor_lost_to_a_newer_attempt() {
    let mut table = Table::new(2, Options::default());
    let younger = TxnId(2);
    table.begin(1, transfer(2, 1, 0));
    let mut kept = None;
    table.step(1, |execution, _, _| {
        kept = Some(execution.keep(younger));
        None
    });
    let kept = kept.unwrap();
    // An older one wants the same locks, and asks again and again.
    table.begin(0, transfer(1, 0, 1));
    for _ in 0..20 {
        if table.flights.is_empty() {
            table.fire(0);
        } else {
            table.deliver(0);
        }
    }
    assert_eq!(wounds(&table), 0);
    let attempt = kept.attempt;
    table.step(1, |execution, around, out| {
        let release = Message::Release {
            txn: younger,
            attempt,
        };
        execution.on_message(WallTime(0), kept.initiator, release, false, around, out)
    });
    let later = LockRequest {
        txn: younger,
        attempt: Attempt {
            boot: attempt.boot + 1,
            number: 1,
        },
        round: 0,
        stamp: kept.stamp,
        wanted: kept.locks.clone(),
    };
    table.step(1, |execution, around, out| {
        let lock = Message::Lock(Arc::new(later));
        execution.on_message(WallTime(0), kept.initiator, lock, false, around, out)
    });
    let execution = &table.machines[1].0;
    assert!(execution.open().any(|txn| txn == younger));
    assert_eq!(execution.grant(younger), None, "it is kept, not granted");
    // Nobody else has got them.
    assert!(execution.locks.holds_all((kept.stamp, younger)));
}

#[test]
fn a_participant_asks_after_an_attempt_whose_release_was_lost() {
    let mut table = Table::new(2, Options::default());
    table.begin(0, transfer(1, 0, 1));
    table.deliver(0); // The lock request.
    // The initiator crashes and forgets.
    table.machines[0].0 = Execution::new(participant(&table.layout, ShardId(0)));
    table.flights.clear();
    table.timers.retain(|(shard, _)| *shard == 1);
    assert_eq!(table.machines[1].0.open().count(), 1);
    table.settle();
    assert_eq!(table.machines[1].0.open().count(), 0);
}

#[test]
fn under_loss_duplication_and_reordering_every_transaction_ends_once_and_money_is_kept() {
    let mut wounded = 0;
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut table = Table::new(3, Options::default());
        for id in 1..=8 {
            let from = dice.below(3) as u8;
            let to = (from + 1 + dice.below(2) as u8) % 3;
            table.begin(u16::from(from), transfer(id, from, to));
        }
        for _ in 0..300 {
            let flights = table.flights.len();
            let timers = table.timers.len();
            if flights > 0 && dice.percent(85) {
                let at = dice.below(flights);
                if dice.percent(10) {
                    table.flights.remove(at);
                } else if dice.percent(10) {
                    let copy = table.flights[at].clone();
                    table.flights.push(copy);
                } else {
                    table.deliver(at);
                }
            } else if timers > 0 {
                table.fire(dice.below(timers));
            }
        }
        table.settle();
        assert_eq!(table.ends.len(), 8, "seed {seed}");
        assert_eq!(table.rows(), 60, "seed {seed}");
        for (execution, _) in &table.machines {
            assert_eq!(execution.open().count(), 0, "seed {seed}");
        }
        wounded += wounds(&table);
    }
    assert!(wounded > 100, "{wounded}");
}
