//! What clients do, drawn from a scenario and a seed: the operations of a plan.

use std::collections::BTreeMap;

use crate::base::txn::{Effect, Guard, Key, Op, TableId, Target, Txn, TxnId, Value};
use crate::plan::random::{Stream, Zipf};
use crate::plan::{PlannedOperation, Start};
use crate::scenario::layout::{Layout, Table};
use crate::scenario::load::Profile;
use crate::scenario::steps::{Action, Amount, Rows, Step, Transaction};
use crate::scenario::units::Quantity;
use crate::scenario::{Arrivals, Scenario, Workload, WorkloadKind};

/// Draws every operation of a run. The same scenario and seed give the same operations, whatever the
/// protocol and the faults.
pub fn draw(scenario: &Scenario, seed: u64) -> Vec<PlannedOperation> {
    let workload = &scenario.workload;
    let mix = workload.mix(&scenario.layout);
    let mut generator = Generator {
        layout: &scenario.layout,
        workload,
        skewed: skewed(&scenario.layout, &mix),
        mix: &mix,
        next_rows: vec![0; scenario.layout.tables.len()],
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
    let mut operations = Vec::with_capacity(workload.transactions as usize);
    let mut last_id = u64::from(workload.transactions);
    for position in 0..workload.transactions {
        let txn = generator.next(TxnId(u64::from(position) + 1));
        let (region, session, start) = match workload.arrivals {
            Arrivals::Open { per_s, evenly } => {
                let gap_ns = 1e9 / per_s;
                let at_ns = due_ns as u64;
                due_ns = match (&workload.profile, evenly) {
                    (None, true) => due_ns + gap_ns,
                    (None, false) => due_ns + arrivals.exponential(gap_ns),
                    (Some(profile), true) => due_ns + gap_ns / profile.factor(due_ns),
                    (Some(profile), false) => thinned(&mut arrivals, profile, gap_ns, due_ns),
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
        let first = PlannedOperation {
            region: region as u16,
            session,
            start,
            txn,
        };
        let of = first.txn.id;
        operations.push(first.clone());
        for nth in 1..scenario.clients.ids_each() {
            last_id += 1;
            operations.push(PlannedOperation {
                start: Start::Retry { of, nth },
                txn: generator.again(&first.txn, TxnId(last_id)),
                ..first.clone()
            });
        }
    }
    operations
}

/// The next arrival of a Poisson process whose rate changes. Arrivals are drawn at the highest rate. Each is kept with the
/// probability (rate at its time) / (highest rate). Source: Lewis and Shedler, "Simulation of nonhomogeneous Poisson processes
/// by thinning", Naval Research Logistics Quarterly 26(3), 1979.
fn thinned(arrivals: &mut Stream, profile: &Profile, gap_ns: f64, mut due_ns: f64) -> f64 {
    let highest = profile.highest();
    loop {
        due_ns += arrivals.exponential(gap_ns / highest);
        if arrivals.chance(profile.factor(due_ns) / highest) {
            return due_ns;
        }
    }
}

/// How many recent transactions a reader chooses from, so that it meets some that are under way.
const RECENT: usize = 8;

struct Generator<'a> {
    layout: &'a Layout,
    workload: &'a Workload,
    mix: &'a [Transaction],
    /// Which rows and amounts.
    rows: Stream,
    /// Which kind of transaction: a stream of its own, so that shares do not move the choice of rows.
    shape: Stream,
    zipfs: Vec<Zipf>,
    /// Those of steps with an exponent of their own, by table and the exponent's bits.
    skewed: BTreeMap<(usize, u64), Zipf>,
    /// How many rows of each table were given out one after another.
    next_rows: Vec<u64>,
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
            WorkloadKind::ListAppend => self.lists(spread, Self::append),
            WorkloadKind::Register => self.lists(spread, Self::put),
            WorkloadKind::Transfer | WorkloadKind::SeatBooking | WorkloadKind::Steps => {
                self.of_steps(spread)
            }
        };
        txn.id = id;
        if dependent {
            self.make_dependent(&mut txn);
        }
        if self.workload.kind == WorkloadKind::Steps && txn.is_read_only() {
            return txn;
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

    /// A transaction of the mix, by its steps.
    fn of_steps(&mut self, spread: bool) -> Txn {
        let transaction = match self.mix {
            [one] => one,
            mix => {
                let total = mix.iter().map(|one| u64::from(one.weight)).sum();
                let mut left = self.shape.below(total);
                let chosen = mix.iter().find(|one| {
                    let is_it = left < u64::from(one.weight);
                    left = left.saturating_sub(u64::from(one.weight));
                    is_it
                });
                chosen.expect("the draw is below the sum of all weights")
            }
        };
        let mut txn = empty();
        let mut amount = None;
        let mut taken: Vec<Key> = Vec::new();
        let mut first_rows: Vec<Key> = Vec::new();
        for (position, step) in transaction.steps.iter().enumerate() {
            for nth in 0..self.quantity(step.repeat) {
                let mut key = self.row_of(step, &taken, &first_rows, spread);
                if step.action.writes() && is_written(&txn, key) {
                    // Two steps on one row, by way of tables of different sizes.
                    key = self.another(step.table, &taken, spread);
                }
                if nth == 0 {
                    first_rows.push(key);
                }
                if step.needs_amount() && amount.is_none() {
                    amount = Some(i64::from(self.quantity(transaction.amount)));
                }
                let of_amount = |quantity: Amount| match quantity {
                    Amount::Fixed(fixed) => fixed,
                    Amount::Times(times) => times * amount.unwrap_or(1),
                };
                let is_refused =
                    { step.refused }.is_some_and(|refused| self.shape.chance_ppm(refused.ppm));
                let keys = || {
                    let others = step.with.iter().map(|other| first_rows[*other]);
                    let mut keys: Vec<Key> = others.chain([key]).collect();
                    keys.sort_unstable();
                    keys.dedup();
                    keys
                };
                // Who is refused asks for more than any row holds.
                let at_least = match is_refused {
                    true => Some(i64::MAX / 4),
                    false => step.at_least.map(of_amount),
                };
                if let Some(at_least) = at_least {
                    let keys = keys();
                    txn.guards.push(Guard::SumAtLeast { keys, at_least });
                }
                if let Some(at_most) = step.at_most {
                    let keys = keys();
                    txn.guards.push(Guard::SumAtMost { keys, at_most });
                }
                let op = match step.action {
                    Action::Read => {
                        txn.reads.push(Target::Key(key));
                        None
                    }
                    Action::Guard => None,
                    Action::Add(quantity) => Some(Op::Add(of_amount(quantity))),
                    Action::Put => Some(self.put()),
                    Action::Append => Some(self.append()),
                };
                let target = Target::Key(key);
                txn.effects.extend(op.map(|op| Effect { target, op }));
                taken.push(key);
            }
            if transaction.pivot == Some(position) {
                txn.pivot = txn.effects.len().checked_sub(1).map(|at| at as u16);
            }
        }
        txn
    }

    fn quantity(&mut self, quantity: Quantity) -> u32 {
        match quantity {
            Quantity::Fixed(fixed) => fixed,
            Quantity::Range(low, high) => self.rows.between(u64::from(low), u64::from(high)) as u32,
        }
    }

    /// The row of a step, which is none of `taken` unless the step asks for the one of another step.
    fn row_of(&mut self, step: &Step, taken: &[Key], first_rows: &[Key], spread: bool) -> Key {
        let (table, of) = self.table(step.table);
        let rows = of.rows;
        let key = |row: u32| Key { table, row };
        let drawn = match step.rows {
            Rows::Usual if taken.iter().any(|key| key.table == table) => {
                return self.another(step.table, taken, spread);
            }
            Rows::Usual => return self.row(step.table),
            Rows::SameAs(other) => return key(first_rows[other].row % rows),
            Rows::Uniform => self.any_row(rows),
            Rows::Zipf(skew) => self.skewed[&(step.table, skew.to_bits())].draw(&mut self.rows),
            Rows::Hot { rows: hot, share } => match self.shape.chance_ppm(share.ppm) {
                true => self.any_row(hot),
                false => self.any_row(rows),
            },
            Rows::Latest => self.recent(table).unwrap_or_else(|| self.any_row(rows)),
            Rows::Next { again } => {
                let again = self.shape.chance_ppm(again.ppm) && !self.latest.is_empty();
                match again.then(|| self.recent(table)).flatten() {
                    Some(row) => row,
                    None => {
                        let next = &mut self.next_rows[step.table];
                        *next += 1;
                        ((*next - 1) % u64::from(rows)) as u32
                    }
                }
            }
        };
        let mut candidates = (0..rows).map(|further| key((drawn + further) % rows));
        let free = candidates.find(|candidate| !taken.contains(candidate));
        free.unwrap_or_else(|| key(drawn))
    }

    fn any_row(&mut self, rows: u32) -> u32 {
        self.rows.below(u64::from(rows)) as u32
    }

    /// A row of the table that one of the latest transactions touched, if that one touched any.
    fn recent(&mut self, table: TableId) -> Option<u32> {
        if self.latest.is_empty() {
            return None;
        }
        let keys = self.rows.pick(&self.latest);
        let found = keys.iter().find(|key| key.table == table);
        found.map(|key| key.row)
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

    /// The same under another id, with elements and numbers of its own.
    fn again(&mut self, txn: &Txn, id: TxnId) -> Txn {
        let mut again = txn.clone();
        again.id = id;
        for effect in &mut again.effects {
            effect.op = match effect.op {
                Op::Append(_) => self.append(),
                Op::Put(_) => self.put(),
                op => op,
            };
        }
        again
    }

    fn append(&mut self) -> Op {
        self.element += 1;
        Op::Append(self.element)
    }

    fn put(&mut self) -> Op {
        self.element += 1;
        Op::Put(self.element as i64)
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
            _ => match &self.layout.tables[table].initial {
                Value::Int(initial) => *initial,
                Value::List(_) => 1 + self.shape.below(6) as i64,
            },
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

fn is_written(txn: &Txn, key: Key) -> bool {
    let mut effects = txn.effects.iter();
    effects.any(|effect| effect.target == Target::Key(key))
}

/// The distributions of steps with an exponent of their own.
fn skewed(layout: &Layout, mix: &[Transaction]) -> BTreeMap<(usize, u64), Zipf> {
    let steps = mix.iter().flat_map(|transaction| &transaction.steps);
    let mut skewed = BTreeMap::new();
    for step in steps {
        if let Rows::Zipf(skew) = step.rows {
            let of = (step.table, skew.to_bits());
            let rows = layout.tables[step.table].rows;
            skewed.entry(of).or_insert_with(|| Zipf::new(rows, skew));
        }
    }
    skewed
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
