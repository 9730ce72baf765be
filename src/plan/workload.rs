//! What clients do, drawn from a scenario and a seed: the operations of a plan.

use crate::base::txn::{Effect, Guard, Key, Op, TableId, Target, Txn, TxnId};
use crate::plan::random::{Stream, Zipf};
use crate::plan::{PlannedOperation, Start};
use crate::scenario::layout::{Layout, Table};
use crate::scenario::{Arrivals, Scenario, Workload, WorkloadKind};

/// Draws every operation of a run. The same scenario and seed give the same operations, whatever the
/// protocol and the faults.
pub fn draw(scenario: &Scenario, seed: u64) -> Vec<PlannedOperation> {
    let workload = &scenario.workload;
    let mut generator = Generator {
        layout: &scenario.layout,
        workload,
        rows: Stream::new(seed, &"rows"),
        shape: Stream::new(seed, &"shape"),
        zipfs: scenario
            .layout
            .tables
            .iter()
            .map(|t| Zipf::new(t.rows, workload.skew))
            .collect(),
        latest: Vec::new(),
        element: 0,
    };
    let mut arrivals = Stream::new(seed, &"arrivals");
    let mut regions = Stream::new(seed, &"regions");
    let mut due_ns = workload.start_ns as f64;
    (0..workload.transactions)
        .map(|position| {
            let txn = generator.next(TxnId(u64::from(position) + 1));
            let (region, session, start) = match workload.arrivals {
                Arrivals::Open { per_s, evenly } => {
                    let gap_ns = 1e9 / per_s;
                    let at_ns = due_ns as u64;
                    due_ns += if evenly {
                        gap_ns
                    } else {
                        arrivals.exponential(gap_ns)
                    };
                    (*regions.pick(&workload.clients), position, Start::At(at_ns))
                }
                Arrivals::Closed { sessions, think_ns } => {
                    let session = position % sessions;
                    let region = workload.clients[session as usize % workload.clients.len()];
                    let think_ns = arrivals.exponential(think_ns as f64) as u64;
                    let first = if position < sessions {
                        workload.start_ns
                    } else {
                        0
                    };
                    (region, session, Start::Think(first + think_ns))
                }
            };
            PlannedOperation {
                region: region as u16,
                session,
                start,
                txn,
            }
        })
        .collect()
}

/// How many recent transactions a reader chooses from, so that it meets some that are under way.
const RECENT: usize = 8;

struct Generator<'a> {
    layout: &'a Layout,
    workload: &'a Workload,
    /// Which rows and amounts.
    rows: Stream,
    /// Which kind of transaction: a stream of its own, so that shares do not move the choice of rows.
    shape: Stream,
    zipfs: Vec<Zipf>,
    /// The rows of the latest transactions that write.
    latest: Vec<Vec<Key>>,
    element: u64,
}

impl Generator<'_> {
    fn next(&mut self, id: TxnId) -> Txn {
        let read_only = self.shape.chance_ppm(self.workload.reads.ppm);
        let dependent = self.shape.chance_ppm(self.workload.dependent.ppm);
        let spread = self.shape.chance_ppm(self.workload.multi_shard.ppm);
        if read_only && !self.latest.is_empty() {
            let keys = self.rows.pick(&self.latest).clone();
            return Txn {
                id,
                reads: keys.into_iter().map(Target::Key).collect(),
                guards: vec![],
                effects: vec![],
                pivot: None,
            };
        }
        let mut txn = match self.workload.kind {
            WorkloadKind::Settlement => self.settlement(spread),
            WorkloadKind::Transfer => self.transfer(spread),
            WorkloadKind::ListAppend => self.lists(spread, Self::append),
            WorkloadKind::Register => self.lists(spread, Self::put),
            WorkloadKind::SeatBooking => self.booking(),
        };
        txn.id = id;
        if dependent {
            self.make_dependent(&mut txn);
        }
        let footprint = txn.footprint(|_| 0);
        if self.latest.len() == RECENT {
            self.latest.remove(0);
        }
        self.latest.push(footprint.reads.into_iter().collect());
        txn
    }

    fn table(&self, position: usize) -> (TableId, &Table) {
        (TableId(position as u8), &self.layout.tables[position])
    }

    fn amount(&mut self) -> i64 {
        match self.workload.amount_fixed {
            true => i64::from(self.workload.amount),
            false => self.rows.between(1, u64::from(self.workload.amount)) as i64,
        }
    }

    /// A row of a table by the scenario's skew; the last table may have hot rows.
    fn row(&mut self, table: usize) -> Key {
        let hot = table + 1 == self.layout.tables.len()
            && self.workload.hot_rows > 0
            && self.shape.chance_ppm(self.workload.hot_share.ppm);
        let row = match hot {
            true => self.rows.below(u64::from(self.workload.hot_rows)) as u32,
            false => self.zipfs[table].draw(&mut self.rows),
        };
        Key {
            table: TableId(table as u8),
            row,
        }
    }

    /// A row of the table that is none of `taken`, on another shard than `from` if `spread` and there is
    /// one, else on the same shard if that has another row.
    fn another(&mut self, table: usize, taken: &[Key], spread: bool) -> Key {
        let drawn = self.row(table);
        let (id, of) = self.table(table);
        let from = taken.first().map(|key| self.layout.shard_of(*key));
        let candidates = || {
            (0..of.rows).map(|step| Key {
                table: id,
                row: (drawn.row + step) % of.rows,
            })
        };
        let free = |key: &Key| !taken.contains(key);
        let fits = |key: &Key| free(key) && (Some(self.layout.shard_of(*key)) != from) == spread;
        candidates()
            .find(fits)
            .or_else(|| candidates().find(free))
            .unwrap_or(drawn)
    }

    /// Delivery versus payment: the seller delivers a quantity (first table) and the buyer pays with
    /// another (second table). Both legs, or neither.
    fn settlement(&mut self, spread: bool) -> Txn {
        let seller = self.row(0);
        let buyer = self.another(0, &[seller], spread);
        let (delivery, payment) = (self.amount(), self.amount());
        let payments = |key: Key| {
            let rows = self.layout.tables[1].rows;
            Key {
                table: TableId(1),
                row: key.row % rows,
            }
        };
        let (pays, receives) = (payments(buyer), payments(seller));
        let mut txn = empty();
        txn.guards = vec![at_least(pays, payment), at_least(seller, delivery)];
        txn.effects = vec![
            add(pays, -payment),
            add(seller, -delivery),
            add(buyer, delivery),
        ];
        if receives == pays {
            // The two accounts share a payment row: the payment moves nothing.
            txn.effects.remove(0);
        } else {
            txn.effects.push(add(receives, payment));
        }
        txn
    }

    /// Moves an amount from one row to `legs - 1` others.
    fn transfer(&mut self, spread: bool) -> Txn {
        let last = self.layout.tables.len() - 1;
        let from = self.row(0);
        let amount = self.amount();
        let mut keys = vec![from];
        for leg in 1..self.workload.legs {
            let table = if last == 0 {
                0
            } else {
                1 + (leg as usize - 1) % last
            };
            let key = match (last, keys.len()) {
                // With tables for each role the row is drawn freely, so that hot rows are hot.
                (1.., _) if !keys.iter().any(|key| usize::from(key.table.0) == table) => {
                    self.row(table)
                }
                _ => self.another(table, &keys, spread),
            };
            keys.push(key);
        }
        let credits = keys.len() as i64 - 1;
        let mut txn = empty();
        txn.guards = vec![at_least(from, amount * credits.max(1))];
        txn.effects = vec![add(from, -amount * credits)];
        txn.effects
            .extend(keys[1..].iter().map(|key| add(*key, amount)));
        txn
    }

    /// Reads of some rows, writes of others, as Elle's generators mix them.
    fn lists(&mut self, spread: bool, write: fn(&mut Self) -> Op) -> Txn {
        let mut keys: Vec<Key> = Vec::new();
        for _ in 0..self.workload.legs {
            let table = self.rows.below(self.layout.tables.len() as u64) as usize;
            let key = match keys.is_empty() {
                true => self.row(table),
                false => self.another(table, &keys, spread),
            };
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut txn = empty();
        for key in keys {
            match self.shape.chance(0.5) {
                true => txn.reads.push(Target::Key(key)),
                false => txn.effects.push(Effect {
                    target: Target::Key(key),
                    op: write(self),
                }),
            }
        }
        txn
    }

    fn append(&mut self) -> Op {
        self.element += 1;
        Op::Append(self.element)
    }

    fn put(&mut self) -> Op {
        self.element += 1;
        Op::Put(self.element as i64)
    }

    /// Reserve a seat (1 is free), charge the wallet (a broke one declines), then one row in every further
    /// table: emit the ticket, notify.
    fn booking(&mut self) -> Txn {
        let seats = self.layout.tables[0].rows;
        let again = self.shape.chance_ppm(self.workload.again.ppm) && !self.latest.is_empty();
        let seat = match again {
            true => self.rows.pick(&self.latest)[0],
            false => {
                self.element += 1;
                Key {
                    table: TableId(0),
                    row: ((self.element - 1) % u64::from(seats)) as u32,
                }
            }
        };
        let wallet = self.row(1);
        let price = self.amount();
        // A broke customer asks for more than any wallet holds.
        let broke = self.shape.chance_ppm(self.workload.broke.ppm);
        let wanted = if broke { i64::MAX / 4 } else { price };
        let mut txn = empty();
        txn.guards = vec![at_least(seat, 1), at_least(wallet, wanted)];
        txn.effects = vec![add(seat, -1), add(wallet, -price)];
        for table in 2..self.layout.tables.len() {
            let key = self.row(table);
            txn.effects.push(add(key, 1));
        }
        txn.pivot = Some(1);
        txn
    }

    /// Lets the last effect go to one of two rows, depending on a third row of the same table.
    fn make_dependent(&mut self, txn: &mut Txn) {
        let Some(Effect {
            target: Target::Key(key),
            op,
        }) = txn.effects.last().copied()
        else {
            return;
        };
        let table = usize::from(key.table.0);
        let mut taken: Vec<Key> = txn.footprint(|_| 0).reads.into_iter().collect();
        let otherwise = self.another(table, &taken, true);
        taken.push(otherwise);
        let on = self.another(table, &taken, false);
        if taken.contains(&on) || taken[..taken.len() - 1].contains(&otherwise) {
            return; // The table is too small for two more rows.
        }
        let at_least = match self.workload.kind {
            // A list grows by one, and a register's values are the numbers of its writes: the choice changes
            // in the course of the run.
            WorkloadKind::ListAppend => 1 + self.shape.below(6) as i64,
            WorkloadKind::Register => 1 + self.shape.below(self.element + 1) as i64,
            _ => self.layout.tables[table].initial.as_int(),
        };
        let target = Target::Choice {
            on,
            at_least,
            then: key,
            otherwise,
        };
        *txn.effects.last_mut().expect("checked above") = Effect { target, op };
    }
}

fn empty() -> Txn {
    Txn {
        id: TxnId::INITIAL,
        reads: vec![],
        guards: vec![],
        effects: vec![],
        pivot: None,
    }
}

fn add(key: Key, by: i64) -> Effect {
    Effect {
        target: Target::Key(key),
        op: Op::Add(by),
    }
}

fn at_least(key: Key, at_least: i64) -> Guard {
    Guard::SumAtLeast {
        keys: vec![key],
        at_least,
    }
}
