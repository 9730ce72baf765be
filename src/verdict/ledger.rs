//! What the autopsy's ledgers say: which writes stand, whether copies agree, and whether the rows are what
//! the writes make of the initial state.

use std::collections::{BTreeMap, BTreeSet};

use super::lives::Lives;
use super::{Evidence, Finding, Property, atomicity_words, property};
use crate::base::observation::Outcome;
use crate::base::txn::{Key, Op, Row, ShardId, Target, Txn, TxnId, Value, WriteId};
use crate::plan::PlannedOperation;
use crate::protocol::Atomicity;
use crate::scenario::WorkloadKind;
use crate::shard::{LedgerEntry, ShardState};

/// The writes of the reference copy of each shard: the one that has applied furthest.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By row, every write in the order of application.
    pub orders: BTreeMap<Key, Vec<WriteId>>,
    rows: BTreeMap<Key, Row>,
    positions: BTreeSet<(Key, WriteId)>,
    repeated: Vec<(Key, WriteId)>,
}

/// How much of a transaction stands.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Standing {
    All,
    None,
    Part {
        standing: Vec<Key>,
        missing: Vec<Key>,
    },
}

impl Ledger {
    /// Reads the reference copies.
    pub fn read(evidence: &Evidence<'_>) -> Ledger {
        let mut ledger = Ledger::default();
        for state in references(evidence.states).values() {
            for entry in &state.ledger {
                ledger
                    .orders
                    .entry(entry.key)
                    .or_default()
                    .push(entry.write);
                if !ledger.positions.insert((entry.key, entry.write)) {
                    ledger.repeated.push((entry.key, entry.write));
                }
            }
            ledger
                .rows
                .extend(state.rows.iter().map(|(key, row)| (*key, row.clone())));
        }
        ledger
    }

    /// Whether a transaction's write of a row is in the state and not compensated.
    pub fn stands(&self, txn: TxnId, key: Key) -> bool {
        let has = |undo| self.positions.contains(&(key, WriteId { txn, undo }));
        has(false) && !has(true)
    }

    fn standing(&self, txn: &Txn) -> Standing {
        let mut standing = Vec::new();
        let mut missing = Vec::new();
        for effect in &txn.effects {
            let candidates = candidates(effect.target);
            match candidates.iter().find(|key| self.stands(txn.id, **key)) {
                Some(key) => standing.push(*key),
                None => missing.push(candidates[0]),
            }
        }
        match (standing.is_empty(), missing.is_empty()) {
            (_, true) => Standing::All,
            (true, false) => Standing::None,
            (false, false) => Standing::Part { standing, missing },
        }
    }

    /// The properties that state decides.
    pub fn properties(&self, evidence: &Evidence<'_>, lives: &Lives) -> Vec<Property> {
        let writers: Vec<&Txn> = evidence
            .plan
            .operations
            .iter()
            .map(|operation| &operation.txn)
            .filter(|txn| !txn.is_read_only())
            .collect();
        let excepts = evidence.promises.atomicity() == Atomicity::UnlessAlone;
        let (alone, bound): (Vec<&Txn>, Vec<&Txn>) =
            { writers.iter() }.partition(|txn| excepts && lives.decided_alone.contains(&txn.id));
        let mut properties = vec![
            self.atomicity(evidence, lives, &bound),
            self.durability(evidence, lives, &bound),
            self.no_phantoms(evidence, lives, &bound, &writers),
        ];
        if excepts {
            properties.push(self.heuristic_outcomes(lives, &alone));
        }
        properties.extend([
            self.replayed(evidence),
            self.invariant(evidence, lives),
            copies_agree(evidence),
        ]);
        properties
    }

    /// What came of the transactions that a participant decided alone, in XA's words: all committed (`XA_HEURCOM`), all
    /// rolled back (`XA_HEURRB`), or mixed (`XA_HEURMIX`). Nothing is promised of them.
    fn heuristic_outcomes(&self, lives: &Lives, alone: &[&Txn]) -> Property {
        let standings = alone.iter().map(|txn| (*txn, self.standing(txn)));
        let (mut committed, mut mixed) = (0, Vec::new());
        for (txn, standing) in standings {
            match standing {
                Standing::All => committed += 1,
                Standing::None => {}
                Standing::Part { standing, missing } => mixed.push(format!(
                    "{}: its effect on {} stands, the one on {} does not",
                    lives.describe(txn.id),
                    keys(&standing),
                    keys(&missing),
                )),
            }
        }
        let observed = format!(
            "of {} decided alone, {committed} committed, {} rolled back, {} mixed",
            alone.len(),
            alone.len() - committed - mixed.len(),
            mixed.len()
        );
        let (count, outcome) = (mixed.len(), held(mixed.is_empty()));
        let (exercised, example) = (alone.len() as u64, mixed.into_iter().next());
        property(
            "heuristic-outcomes",
            None,
            outcome,
            observed,
            exercised,
            example,
        )
        .shaped("mixed")
        .counted(count)
    }

    /// Whether the transaction had begun, or left something, and its effects may still come or go. Nothing that the state
    /// says of it counts.
    fn is_open(&self, evidence: &Evidence<'_>, lives: &Lives, txn: &Txn) -> bool {
        if !{ evidence.unrecovered }.concerns(txn, &evidence.scenario.layout) {
            return false;
        }
        let life = lives.by_txn.get(&txn.id);
        let begun = life.is_some_and(|life| {
            let ends = life.decided.is_some() || life.ended.is_some();
            life.initiated_ns.is_some() || ends || life.known().is_some()
        });
        begun || self.standing(txn) != Standing::None
    }

    /// All effects or none, for every transaction: recovery has ended those that were under way. Where nothing is promised
    /// nobody takes them up, and the measurement is about those that ended by themselves.
    fn atomicity(&self, evidence: &Evidence<'_>, lives: &Lives, writers: &[&Txn]) -> Property {
        let promised = atomicity_words(evidence.promises.atomicity());
        let (open, closed): (Vec<&Txn>, Vec<&Txn>) =
            { writers.iter() }.partition(|txn| self.is_open(evidence, lives, txn));
        let is_over = |txn: &&Txn| promised.is_some() || !lives.obligations.owes_end(txn.id);
        let partial: Vec<(&Txn, Standing)> = { closed.into_iter().filter(is_over) }
            .map(|txn| (txn, self.standing(txn)))
            .filter(|(_, standing)| matches!(standing, Standing::Part { .. }))
            .collect();
        let spread = writers.iter().filter(|txn| txn.effects.len() > 1).count() as u64;
        let outcome = found(partial.len(), open.len());
        let observed = match partial.len() {
            0 => "all effects or none".to_owned(),
            n => format!("{n} of {spread} transactions half applied"),
        };
        let observed = but_for(evidence, observed, open.len());
        let example = partial.first().map(|(txn, standing)| match standing {
            Standing::Part { standing, missing } => format!(
                "{}: its effect on {} stands, the one on {} does not; {}",
                txn.id,
                keys(standing),
                keys(missing),
                lives.describe_if_known(txn.id),
            ),
            _ => unreachable!("filtered above"),
        });
        let told = |txn: &Txn| lives.by_txn.get(&txn.id).and_then(|life| life.known());
        let shape = match partial.first().map(|(txn, _)| told(txn)) {
            Some(Some(Outcome::Committed { .. })) => "partial-commit",
            Some(Some(Outcome::Aborted { .. } | Outcome::Declined { .. })) => "partial-abort",
            _ => "partial-unanswered",
        };
        property("atomicity", promised, outcome, observed, spread, example)
            .shaped(shape)
            .counted(partial.len())
    }

    /// What a client was told has committed stands.
    fn durability(&self, evidence: &Evidence<'_>, lives: &Lives, writers: &[&Txn]) -> Property {
        let acked = |txn: &&&Txn| {
            let known = lives.by_txn.get(&txn.id).and_then(|life| life.known());
            matches!(known, Some(Outcome::Committed { .. }))
        };
        let acked: Vec<&&Txn> = writers.iter().filter(acked).collect();
        let (open, closed): (Vec<&&Txn>, Vec<&&Txn>) = { acked.iter() }
            .copied()
            .partition(|txn| self.is_open(evidence, lives, txn));
        let lost: Vec<&&Txn> = { closed.into_iter() }
            .filter(|txn| self.standing(txn) != Standing::All)
            .collect();
        let observed = match lost.len() {
            0 => "every acknowledged effect stands".to_owned(),
            n => format!(
                "{n} of {} acknowledged transactions lost effects",
                acked.len()
            ),
        };
        let observed = but_for(evidence, observed, open.len());
        let example = lost.first().map(|txn| {
            format!(
                "{}: acknowledged, and {:?}",
                lives.describe(txn.id),
                self.standing(txn)
            )
        });
        let promised = evidence
            .promises
            .durability()
            .then_some("acknowledged effects survive");
        let exercised = acked.len() as u64;
        let shape = match lost.first().map(|txn| self.standing(txn)) {
            Some(Standing::Part { .. }) => "lost-part",
            _ => "lost-transaction",
        };
        property(
            "durability",
            promised,
            found(lost.len(), open.len()),
            observed,
            exercised,
            example,
        )
        .shaped(shape)
        .counted(lost.len())
    }

    /// What a client was told has aborted or declined left nothing behind; nobody else's transaction is in
    /// the state.
    fn no_phantoms(
        &self,
        evidence: &Evidence<'_>,
        lives: &Lives,
        writers: &[&Txn],
        all: &[&Txn],
    ) -> Property {
        let refused = |txn: &&&Txn| {
            let known = lives.by_txn.get(&txn.id).and_then(|life| life.known());
            matches!(
                known,
                Some(Outcome::Aborted { .. } | Outcome::Declined { .. })
            )
        };
        let refused: Vec<&&Txn> = writers.iter().filter(refused).collect();
        let (open, closed): (Vec<&&Txn>, Vec<&&Txn>) = { refused.iter() }
            .copied()
            .partition(|txn| self.is_open(evidence, lives, txn));
        let leftovers: Vec<&&Txn> = { closed.into_iter() }
            .filter(|txn| self.standing(txn) != Standing::None)
            .collect();
        let planned: BTreeSet<TxnId> = all.iter().map(|txn| txn.id).collect();
        let strangers: Vec<&(Key, WriteId)> = self
            .positions
            .iter()
            .filter(|(_, write)| !planned.contains(&write.txn))
            .collect();
        let observed = match (leftovers.len(), strangers.len()) {
            (0, 0) => "aborted transactions left nothing".to_owned(),
            (n, m) => format!("{n} aborted transactions left effects, {m} writes by nobody"),
        };
        let observed = but_for(evidence, observed, open.len());
        let example = leftovers.first().map(|txn| lives.describe(txn.id));
        let outcome = found(leftovers.len() + strangers.len(), open.len());
        // To have aborted, and to have left nothing, is what atomicity means.
        let promised = (evidence.promises.atomicity() != Atomicity::None)
            .then_some("an aborted transaction leaves nothing");
        let exercised = refused.len() as u64;
        let shape = match leftovers.is_empty() {
            true => "writes-by-nobody",
            false => "effects-of-aborted",
        };
        property(
            "no-phantom-effects",
            promised,
            outcome,
            observed,
            exercised,
            example,
        )
        .shaped(shape)
        .counted(leftovers.len() + strangers.len())
    }

    /// The rows are what the ledger's writes, performed in its order, make of the initial state, and no
    /// write was performed twice: duplicates and replays changed nothing.
    fn replayed(&self, evidence: &Evidence<'_>) -> Property {
        let layout = &evidence.scenario.layout;
        // Who overwrites what it has not seen leaves a value of its own.
        let adds_up = !evidence.promises.isolation().allows_lost_updates();
        let by_id: BTreeMap<TxnId, &PlannedOperation> = evidence
            .plan
            .operations
            .iter()
            .map(|op| (op.txn.id, op))
            .collect();
        let mut wrong = Vec::new();
        for (key, order) in &self.orders {
            let Some(table) = layout.tables.get(usize::from(key.table.0)) else {
                wrong.push(format!("row {key} belongs to no table"));
                continue;
            };
            let mut value = table.initial.clone();
            let mut before: BTreeMap<TxnId, Value> = BTreeMap::new();
            for write in order {
                let Some(op) = by_id.get(&write.txn).and_then(|op| op_on(&op.txn, *key)) else {
                    wrong.push(format!(
                        "row {key} was written by {}, which nobody sent",
                        write.txn
                    ));
                    continue;
                };
                let op = match write.undo {
                    true => op.compensation(before.get(&write.txn).unwrap_or(&value)),
                    false => op,
                };
                before.entry(write.txn).or_insert_with(|| value.clone());
                value = op.apply(&value);
            }
            let last = order.last().copied().unwrap_or_default();
            let found = self.rows.get(key);
            let differs = |row: &Row| row.writer != last || adds_up && row.value != value;
            if found.is_none_or(differs) {
                wrong.push(format!(
                    "row {key} is {found:?}; its {} writes make {value:?}",
                    order.len()
                ));
            }
        }
        let repeated = self.repeated.first().map(|(key, write)| {
            format!(
                "{}{} was applied twice to row {key}",
                write.txn,
                if write.undo { " undone" } else { "" }
            )
        });
        let bad = wrong.len() + self.repeated.len();
        let observed = match bad {
            0 => "every write once".to_owned(),
            n => format!("{n} rows or writes wrong"),
        };
        let exercised = self.positions.len() as u64;
        let shape = match repeated.is_some() {
            true => "applied-twice",
            false => "wrong-row",
        };
        let example = repeated.or(wrong.into_iter().next());
        let promised = Some("each write takes effect once, in the ledger's order");
        property(
            "applied-once",
            promised,
            held(bad == 0),
            observed,
            exercised,
            example,
        )
        .shaped(shape)
        .counted(bad)
    }

    /// The workload's own invariant. Sums are those without transactions whose effects may still come or go.
    fn invariant(&self, evidence: &Evidence<'_>, lives: &Lives) -> Property {
        let operations = evidence.plan.operations.iter().map(|op| &op.txn);
        let open: Vec<&Txn> = { operations }
            .filter(|txn| !txn.is_read_only() && self.is_open(evidence, lives, txn))
            .collect();
        let (invariant, broken, exercised) = match evidence.scenario.workload.kind {
            WorkloadKind::Settlement => (
                "each table's sum is constant",
                self.sums(evidence, &open, true).map(|sum| ("sum", sum)),
                self.positions.len(),
            ),
            WorkloadKind::Transfer => (
                "the sum of all balances is constant",
                self.sums(evidence, &open, false).map(|sum| ("sum", sum)),
                self.positions.len(),
            ),
            WorkloadKind::SeatBooking => (
                "no seat is sold twice, none is lost",
                self.seats(),
                self.orders.len(),
            ),
            WorkloadKind::ListAppend => (
                "no element is repeated",
                self.lists().map(|list| ("repeated-element", list)),
                self.orders.len(),
            ),
            WorkloadKind::Steps if !evidence.scenario.workload.conserved.is_empty() => (
                "the sum of the conserved tables is constant",
                self.conserved(evidence, &open).map(|sum| ("sum", sum)),
                self.positions.len(),
            ),
            WorkloadKind::Steps if evidence.scenario.workload.is_of_lists() => (
                "no element is repeated",
                self.lists().map(|list| ("repeated-element", list)),
                self.orders.len(),
            ),
            WorkloadKind::Steps | WorkloadKind::Register => ("none", None, 0),
        };
        let promised = match evidence.promises.atomicity() {
            // Money goes missing with a lost update.
            _ if evidence.promises.isolation().allows_lost_updates() => None,
            Atomicity::None | Atomicity::UnlessAlone => None,
            Atomicity::Saga | Atomicity::AllOrNothing => Some(invariant),
        };
        let (shape, broken) = broken.unzip();
        let observed = broken.clone().unwrap_or_else(|| invariant.to_owned());
        let observed = but_for(evidence, observed, open.len());
        property(
            "invariant",
            promised,
            found(usize::from(broken.is_some()), open.len()),
            observed,
            exercised as u64,
            broken,
        )
        .shaped(shape.unwrap_or(""))
        .counted(1)
    }

    /// Sums over tables (each, or all together) that are not what they were at the start, without what stands of `open`
    /// transactions.
    fn sums(&self, evidence: &Evidence<'_>, open: &[&Txn], each: bool) -> Option<String> {
        let tables = &evidence.scenario.layout.tables;
        let drifts = (0..tables.len()).map(|table| self.drift(evidence, open, table));
        let drifts: Vec<i64> = drifts.collect();
        let name = |position: usize| tables[position].name.as_str();
        match each {
            true => drifts
                .iter()
                .position(|drift| *drift != 0)
                .map(|at| format!("the sum of `{}` is off by {}", name(at), drifts[at])),
            false => {
                let total: i64 = drifts.iter().sum();
                (total != 0).then(|| format!("the sum of all balances is off by {total}"))
            }
        }
    }

    /// By how much the sum of a table differs from that at the start, without what stands of `open` transactions.
    fn drift(&self, evidence: &Evidence<'_>, open: &[&Txn], table: usize) -> i64 {
        let initial = evidence.scenario.layout.tables[table].initial.as_int();
        let is_there = |key: &Key| usize::from(key.table.0) == table;
        let of_table = self.rows.iter().filter(|(key, _)| is_there(key));
        let drift: i64 = of_table.map(|(_, row)| row.value.as_int() - initial).sum();
        let of_open = open.iter().flat_map(|txn| self.added(txn));
        let of_open = of_open.filter(|(key, _)| is_there(key)).map(|(_, by)| by);
        drift - of_open.sum::<i64>()
    }

    /// The sum over the tables that the scenario calls conserved, if it is not what it was.
    fn conserved(&self, evidence: &Evidence<'_>, open: &[&Txn]) -> Option<String> {
        let tables = evidence.scenario.workload.conserved.iter();
        let off: i64 = tables.map(|table| self.drift(evidence, open, *table)).sum();
        (off != 0).then(|| format!("the sum of the conserved tables is off by {off}"))
    }

    /// What stands of a transaction's additions.
    fn added(&self, txn: &Txn) -> Vec<(Key, i64)> {
        let added = txn.effects.iter().filter_map(|effect| {
            let keys = candidates(effect.target);
            let key = keys.into_iter().find(|key| self.stands(txn.id, *key))?;
            match effect.op {
                Op::Add(by) => Some((key, by)),
                _ => None,
            }
        });
        added.collect()
    }

    /// Seats (the first table) hold 1 if free and 0 if sold, and each is sold at most once.
    fn seats(&self) -> Option<(&'static str, String)> {
        let seats = self.rows.iter().filter(|(key, _)| key.table.0 == 0);
        for (key, row) in seats {
            let order = self.orders.get(key).map_or(&[][..], Vec::as_slice);
            let sold = order
                .iter()
                .filter(|write| !write.undo && self.stands(write.txn, *key))
                .count();
            if sold > 1 {
                let twice = format!("seat {key} was sold {sold} times");
                return Some(("seat-sold-twice", twice));
            }
            if row.value.as_int() != 1 - sold as i64 {
                let wrong = format!("seat {key} holds {:?} and was sold {sold} times", row.value);
                return Some(("seat-miscounted", wrong));
            }
        }
        None
    }

    fn lists(&self) -> Option<String> {
        self.rows.iter().find_map(|(key, row)| match &row.value {
            Value::List(list) => {
                let distinct: BTreeSet<&u64> = list.iter().collect();
                (distinct.len() != list.len()).then(|| format!("list {key} repeats an element"))
            }
            Value::Int(_) => None,
        })
    }
}

fn held(holds: bool) -> Finding {
    if holds {
        Finding::Held
    } else {
        Finding::Broken
    }
}

/// What was found where `broken` instances are, and nothing could be told of `open` ones.
fn found(broken: usize, open: usize) -> Finding {
    match (broken, open) {
        (0, 0) => Finding::Held,
        (0, _) => Finding::Unknown,
        (_, _) => Finding::Broken,
    }
}

/// What was observed, and of how many transactions nothing could be told.
fn but_for(evidence: &Evidence<'_>, observed: String, open: usize) -> String {
    match open {
        0 => observed,
        n => {
            let why = evidence.unrecovered.describe();
            format!("{observed}, but nothing can be told of {n} transactions: {why}")
        }
    }
}

fn keys(keys: &[Key]) -> String {
    keys.iter()
        .map(Key::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn candidates(target: Target) -> Vec<Key> {
    match target {
        Target::Key(key) => vec![key],
        Target::Choice {
            then, otherwise, ..
        } => vec![then, otherwise],
    }
}

/// The transaction's operation on a row, if one of its effects may go there.
fn op_on(txn: &Txn, key: Key) -> Option<Op> {
    let effect = txn
        .effects
        .iter()
        .find(|effect| candidates(effect.target).contains(&key));
    effect.map(|effect| effect.op)
}

/// Of each shard the copy that has applied furthest; of several, the one in the first region.
fn references(states: &[ShardState]) -> BTreeMap<ShardId, &ShardState> {
    let mut references: BTreeMap<ShardId, &ShardState> = BTreeMap::new();
    for state in states {
        let best = references.entry(state.shard).or_insert(state);
        if (state.applied_to, std::cmp::Reverse(state.region))
            > (best.applied_to, std::cmp::Reverse(best.region))
        {
            *best = state;
        }
    }
    references
}

/// The writes of a copy by row, in order: all of them, or those up to its position.
fn orders(ledger: &[LedgerEntry]) -> BTreeMap<Key, Vec<WriteId>> {
    let mut orders: BTreeMap<Key, Vec<WriteId>> = BTreeMap::new();
    for entry in ledger {
        orders.entry(entry.key).or_default().push(entry.write);
    }
    orders
}

/// Where two copies of a shard contradict one another, if they do: the shape of it, and in words.
///
/// `fuller` has applied at least as much of its log. Beyond the position up to which it has applied everything a copy may
/// have executed more: transactions that do not touch one another overtake one another. So each row's writes are a prefix
/// of the other copy's, whichever has more of them; and what the other has applied up to its position is in `fuller`.
fn contradiction(copy: &ShardState, fuller: &ShardState) -> Option<(&'static str, String)> {
    let (mine, theirs) = (orders(&copy.ledger), orders(&fuller.ledger));
    let owed = orders(&copy.ledger[..copy.up_to_applied]);
    fn of<'a>(orders: &'a BTreeMap<Key, Vec<WriteId>>, key: &Key) -> &'a [WriteId] {
        orders.get(key).map_or(&[], Vec::as_slice)
    }
    let place = format!(
        "{} in regions {} and {}",
        copy.shard, copy.region, fuller.region
    );
    let written = mine.keys().chain(theirs.keys());
    let keys = written.chain(copy.rows.keys()).chain(fuller.rows.keys());
    for key in keys.collect::<BTreeSet<&Key>>() {
        let (mine, theirs, owed) = (of(&mine, key), of(&theirs, key), of(&owed, key));
        if !mine.starts_with(theirs) && !theirs.starts_with(mine) {
            let text = format!("{place}: row {key} was written in different orders");
            return Some(("order-differs", text));
        }
        if !theirs.starts_with(owed) {
            let text = format!("{place}: a write of row {key} is missing in the latter");
            return Some(("order-differs", text));
        }
        if mine == theirs && copy.rows.get(key) != fuller.rows.get(key) {
            let text = format!("{place}: equal writes of row {key}, different values");
            return Some(("rows-differ", text));
        }
    }
    None
}

/// Copies of a shard are prefixes of one history: each agrees with the one that has applied furthest.
fn copies_agree(evidence: &Evidence<'_>) -> Property {
    let references = references(evidence.states);
    let mut compared = 0;
    let mut differing = None;
    let mut differ = 0;
    for state in evidence.states {
        let reference = references[&state.shard];
        if std::ptr::eq(state, reference) {
            continue;
        }
        compared += 1;
        let mut found = contradiction(state, reference);
        if found.is_none() && state.applied_to == reference.applied_to {
            found = contradiction(reference, state);
        }
        if let Some(found) = found {
            differ += 1;
            differing.get_or_insert(found);
        }
    }
    let (shape, differing) = differing.unzip();
    let observed = differing
        .clone()
        .unwrap_or_else(|| "all copies agree".to_owned());
    let promised = Some("copies of a shard are prefixes of one history");
    property(
        "replicas-agree",
        promised,
        held(differing.is_none()),
        observed,
        compared,
        differing,
    )
    .shaped(shape.unwrap_or(""))
    .counted(differ)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::observation::{Observation, Observed};
    use crate::base::process::{Addr, NodeId};
    use crate::base::txn::TableId;
    use crate::plan::Plan;
    use crate::protocol::{Protocol, saga};
    use crate::registry::Registry;
    use crate::scenario::Scenario;
    use crate::verdict::recovery::Unrecovered;

    fn key(row: u32) -> Key {
        Key {
            table: TableId(0),
            row,
        }
    }

    fn write(txn: u64) -> WriteId {
        WriteId {
            txn: TxnId(txn),
            undo: false,
        }
    }

    /// A copy that has performed these writes, and all of its log up to `applied_to`; the rest is ahead of that.
    fn copy(
        region: usize,
        applied_to: u64,
        up_to: &[(u32, u64)],
        ahead: &[(u32, u64)],
    ) -> ShardState {
        let entry = |(row, txn): &(u32, u64)| LedgerEntry {
            key: key(*row),
            write: write(*txn),
        };
        let ledger: Vec<LedgerEntry> = up_to.iter().chain(ahead).map(entry).collect();
        let mut rows = BTreeMap::new();
        for entry in &ledger {
            let row = rows.entry(entry.key).or_insert(Row::initial(Value::Int(0)));
            row.value = Value::Int(row.value.as_int() + 1);
            row.writer = entry.write;
        }
        ShardState {
            shard: ShardId(0),
            region,
            rows,
            up_to_applied: up_to.len(),
            ledger,
            in_doubt: BTreeSet::new(),
            applied_to,
        }
    }

    #[test]
    fn a_copy_may_execute_ahead_of_one_that_has_applied_more_without_a_gap() {
        let further = copy(0, 5, &[(1, 1), (2, 2), (1, 5)], &[]);
        let ahead = copy(1, 3, &[(1, 1), (2, 2)], &[(3, 6)]);
        assert_eq!(contradiction(&ahead, &further), None);
        let both = copy(1, 3, &[(1, 1), (2, 2)], &[(1, 5), (3, 6)]);
        assert_eq!(contradiction(&both, &further), None);
        let behind = copy(1, 1, &[(1, 1)], &[]);
        assert_eq!(contradiction(&behind, &further), None);
    }

    #[test]
    fn copies_that_contradict_one_another_are_told_apart_from_those_that_lag() {
        let further = copy(0, 5, &[(1, 1), (2, 2), (1, 5)], &[]);
        let shape = |other: &ShardState| contradiction(other, &further).map(|(shape, _)| shape);
        let swapped = copy(1, 5, &[(1, 5), (2, 2), (1, 1)], &[]);
        assert_eq!(shape(&swapped), Some("order-differs"));
        let more_below = copy(1, 4, &[(1, 1), (2, 2), (3, 4)], &[]);
        assert_eq!(shape(&more_below), Some("order-differs"));
        let skipped_ahead = copy(1, 3, &[(1, 1), (2, 2)], &[(1, 7)]);
        assert_eq!(shape(&skipped_ahead), Some("order-differs"));
        let mut other_value = further.clone();
        other_value.rows.get_mut(&key(2)).expect("written").value = Value::Int(9);
        assert_eq!(shape(&other_value), Some("rows-differ"));
        let missing = copy(1, 5, &[(1, 1), (2, 2)], &[]);
        assert_eq!(shape(&missing), None, "a prefix, seen from here");
        let other_way = contradiction(&further, &missing).map(|(shape, _)| shape);
        assert_eq!(other_way, Some("order-differs"));
    }

    /// Two transfers: the first stands in full, or in part; of the second one effect stands.
    fn judged(first_stands: usize, open: bool) -> Vec<(&'static str, Finding)> {
        let overrides = [("workload.transactions", "2"), ("table.0.homes", "[\"a\"]")];
        let overrides = overrides.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let text = include_str!("../../tests/world-reports/slow-election.toml");
        let scenario: Scenario = Registry::standard()
            .read_scenario("two", text, &overrides)
            .unwrap_or_else(|bad| panic!("{bad}"));
        let plan = Plan::draw(&scenario, 1);
        let txns: Vec<&Txn> = plan.operations.iter().map(|op| &op.txn).collect();
        let mut rows: BTreeMap<Key, Row> = { scenario.layout.initial_rows(ShardId(0)) }
            .map(|(key, value)| (key, Row::initial(value)))
            .collect();
        let mut ledger = Vec::new();
        for (txn, stands) in [(txns[0], first_stands), (txns[1], 1)] {
            assert_eq!(txn.effects.len(), 2, "a transfer");
            for effect in txn.effects.iter().take(stands) {
                let key = candidates(effect.target)[0];
                let write = write(txn.id.0);
                ledger.push(LedgerEntry { key, write });
                let row = rows.get_mut(&key).expect("a row of the table");
                (row.value, row.writer) = (effect.op.apply(&row.value), write);
            }
        }
        let state = ShardState {
            shard: ShardId(0),
            region: 0,
            rows,
            up_to_applied: ledger.len(),
            ledger,
            in_doubt: BTreeSet::new(),
            applied_to: 0,
        };
        let initiated = |txn: &&Txn| Observed {
            at_ns: 1,
            by: Addr {
                node: NodeId(0),
                port: 0,
            },
            what: Observation::Initiated { txn: txn.id },
        };
        let observations: Vec<Observed> = txns.iter().map(initiated).collect();
        let unrecovered = Unrecovered {
            txns: [txns[1].id].into(),
            reasons: vec!["a/front0 waits for the steps of T2".to_owned()],
            ..Unrecovered::default()
        };
        let nothing = Unrecovered::default();
        let evidence = Evidence {
            scenario: &scenario,
            plan: &plan,
            promises: &saga::Saga::promises(&saga::Options::default()),
            entry: saga::Saga::ENTRY,
            requests_delivered: 2,
            clock_lies: &[],
            events: 1,
            needs: &[],
            observations: &observations,
            struck: &[],
            states: &[state],
            unrecovered: if open { &unrecovered } else { &nothing },
            end_ns: 2_000_000_000,
            monitored: &[],
            log_tests: 0,
            refinement: Err("made by hand"),
            log_refinement: None,
            panics: &[],
        };
        let lives = Lives::read(&evidence);
        let properties = Ledger::read(&evidence).properties(&evidence, &lives);
        let found = properties
            .iter()
            .filter(|p| ["atomicity", "invariant"].contains(&p.name));
        found.map(|p| (p.name, p.outcome)).collect()
    }

    #[test]
    fn an_unfinished_saga_excuses_its_own_imbalance_and_no_other() {
        use Finding::{Broken, Unknown};
        let all = |finding| vec![("atomicity", finding), ("invariant", finding)];
        assert_eq!(judged(2, true), all(Unknown));
        assert_eq!(judged(2, false), all(Broken), "nobody sees to it any more");
        assert_eq!(
            judged(1, true),
            all(Broken),
            "the other is over, and half applied"
        );
    }
}
