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
use crate::shard::ShardState;

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
        let excepts = evidence.promises.atomicity == Atomicity::UnlessAlone;
        let (alone, bound): (Vec<&Txn>, Vec<&Txn>) =
            { writers.iter() }.partition(|txn| excepts && lives.decided_alone.contains(&txn.id));
        let mut properties = vec![
            self.atomicity(evidence, lives, &bound),
            self.durability(evidence, lives, &bound),
            self.no_phantoms(lives, &bound, &writers),
        ];
        if excepts {
            properties.push(self.heuristic_outcomes(lives, &alone));
        }
        properties.extend([
            self.replayed(evidence),
            self.invariant(evidence),
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

    /// All effects or none, for every transaction whose coordinator owes it nothing more. Transactions that
    /// are still open are judged by `progress`.
    fn atomicity(&self, evidence: &Evidence<'_>, lives: &Lives, writers: &[&Txn]) -> Property {
        let open: BTreeSet<TxnId> = lives.open().into_iter().collect();
        let closed = writers.iter().filter(|txn| !open.contains(&txn.id));
        let partial: Vec<(&Txn, Standing)> = closed
            .map(|txn| (*txn, self.standing(txn)))
            .filter(|(_, standing)| matches!(standing, Standing::Part { .. }))
            .collect();
        let spread = writers.iter().filter(|txn| txn.effects.len() > 1).count() as u64;
        let outcome = held(partial.is_empty());
        let observed = match partial.len() {
            0 => "all effects or none".to_owned(),
            n => format!("{n} of {spread} transactions half applied"),
        };
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
        let promised = atomicity_words(evidence.promises.atomicity);
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
        let lost: Vec<&&&Txn> = acked
            .iter()
            .filter(|txn| self.standing(txn) != Standing::All)
            .collect();
        let observed = match lost.len() {
            0 => "every acknowledged effect stands".to_owned(),
            n => format!(
                "{n} of {} acknowledged transactions lost effects",
                acked.len()
            ),
        };
        let example = lost.first().map(|txn| {
            format!(
                "{}: acknowledged, and {:?}",
                lives.describe(txn.id),
                self.standing(txn)
            )
        });
        let promised = evidence
            .promises
            .durability
            .then_some("acknowledged effects survive");
        let exercised = acked.len() as u64;
        let shape = match lost.first().map(|txn| self.standing(txn)) {
            Some(Standing::Part { .. }) => "lost-part",
            _ => "lost-transaction",
        };
        property(
            "durability",
            promised,
            held(lost.is_empty()),
            observed,
            exercised,
            example,
        )
        .shaped(shape)
        .counted(lost.len())
    }

    /// What a client was told has aborted or declined left nothing behind; nobody else's transaction is in
    /// the state.
    fn no_phantoms(&self, lives: &Lives, writers: &[&Txn], all: &[&Txn]) -> Property {
        let refused = |txn: &&&Txn| {
            let known = lives.by_txn.get(&txn.id).and_then(|life| life.known());
            matches!(
                known,
                Some(Outcome::Aborted { .. } | Outcome::Declined { .. })
            )
        };
        let refused: Vec<&&Txn> = writers.iter().filter(refused).collect();
        let leftovers: Vec<&&&Txn> = refused
            .iter()
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
        let example = leftovers.first().map(|txn| lives.describe(txn.id));
        let outcome = held(leftovers.is_empty() && strangers.is_empty());
        let promised = Some("an aborted transaction leaves nothing");
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
                    continue; // A stranger: `no-phantom-effects` names it.
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
            if found.is_none_or(|row| row.value != value || row.writer != last) {
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

    /// The workload's own invariant.
    fn invariant(&self, evidence: &Evidence<'_>) -> Property {
        let (invariant, broken, exercised) = match evidence.scenario.workload.kind {
            WorkloadKind::Settlement => (
                "each table's sum is constant",
                self.sums(evidence, true).map(|sum| ("sum", sum)),
                self.positions.len(),
            ),
            WorkloadKind::Transfer => (
                "the sum of all balances is constant",
                self.sums(evidence, false).map(|sum| ("sum", sum)),
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
            WorkloadKind::Register => ("none", None, 0),
        };
        let promised = match evidence.promises.atomicity {
            Atomicity::None | Atomicity::UnlessAlone => None,
            Atomicity::Saga | Atomicity::AllOrNothing => Some(invariant),
        };
        let (shape, broken) = broken.unzip();
        let observed = broken.clone().unwrap_or_else(|| invariant.to_owned());
        property(
            "invariant",
            promised,
            held(broken.is_none()),
            observed,
            exercised as u64,
            broken,
        )
        .shaped(shape.unwrap_or(""))
        .counted(1)
    }

    /// Sums over tables (each, or all together) that are not what they were at the start.
    fn sums(&self, evidence: &Evidence<'_>, each: bool) -> Option<String> {
        let tables = &evidence.scenario.layout.tables;
        let drift = |position: usize| -> i64 {
            let initial = tables[position].initial.as_int();
            let of_table = self
                .rows
                .iter()
                .filter(|(key, _)| usize::from(key.table.0) == position);
            of_table.map(|(_, row)| row.value.as_int() - initial).sum()
        };
        let drifts: Vec<i64> = (0..tables.len()).map(drift).collect();
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

/// Every copy of a shard has performed, row by row, a prefix of what the furthest copy performed, and one
/// that has applied as far is equal to it.
fn copies_agree(evidence: &Evidence<'_>) -> Property {
    let references = references(evidence.states);
    let orders = |state: &ShardState| {
        let mut orders: BTreeMap<Key, Vec<WriteId>> = BTreeMap::new();
        for entry in &state.ledger {
            orders.entry(entry.key).or_default().push(entry.write);
        }
        orders
    };
    let mut compared = 0;
    let mut differing = None;
    let mut differ = 0;
    for state in evidence.states {
        let reference = references[&state.shard];
        if std::ptr::eq(state, reference) {
            continue;
        }
        compared += 1;
        let (mine, theirs) = (orders(state), orders(reference));
        let diverged = mine.iter().find(|(key, order)| {
            theirs
                .get(key)
                .is_none_or(|reference| !reference.starts_with(order))
        });
        let as_far = state.applied_to == reference.applied_to;
        if let Some((key, _)) = diverged {
            let text = format!(
                "{} in regions {} and {}: row {key} was written in different orders",
                state.shard, state.region, reference.region
            );
            differ += 1;
            differing.get_or_insert(("order-differs", text));
        } else if as_far && state.rows != reference.rows {
            let text = format!(
                "{} in regions {} and {}: equal positions, different rows",
                state.shard, state.region, reference.region
            );
            differ += 1;
            differing.get_or_insert(("rows-differ", text));
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
