//! What a report says of *every* model agrees with the models' own axioms: what it calls violated no execution gives,
//! and what it calls possible some execution does. For lists and the models that the checker decides, both ways.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::axioms::{AXIOMATIC, Axiomatic, is_execution};
use crate::oracle::convert::to_history;
use crate::oracle::generate::{self, Kind};
use crate::oracle::{self, Op, Outcome, Status, Txn, admits};
use ordain::check::{AnomalyKind, Boundary, Model, Options, Report, Verdict, check, list_append};

/// Seeds from here on belong to this test.
const FIRST_SEED: u64 = 2_000_000;
const HISTORIES: u64 = 24_000;

fn checked(model: Axiomatic) -> Model {
    match model {
        Axiomatic::ReadAtomic => Model::ReadAtomicNoSession,
        Axiomatic::CausalConsistency => Model::CausalConsistencyNoSession,
        Axiomatic::UpdateAtomic => Model::UpdateAtomic,
        Axiomatic::ParallelSnapshotIsolation => Model::ParallelSnapshotIsolation,
        Axiomatic::Prefix => Model::PrefixNoSession,
        Axiomatic::SnapshotIsolation => Model::SnapshotIsolation,
        Axiomatic::Serializable => Model::Serializable,
        Axiomatic::UpdateSerializable => Model::UpdateSerializable,
    }
}

/// The models of which a report on lists says that they are violated or that they hold, never that nobody looked.
const EXACT: [Axiomatic; 7] = [
    Axiomatic::ReadAtomic,
    Axiomatic::CausalConsistency,
    Axiomatic::ParallelSnapshotIsolation,
    Axiomatic::Prefix,
    Axiomatic::SnapshotIsolation,
    Axiomatic::Serializable,
    Axiomatic::UpdateSerializable,
];

/// What a report says of a model: violated, possible, or nothing.
fn said(boundary: &Boundary, model: Model) -> Option<bool> {
    let violated = boundary.violated.iter().chain(&boundary.also_violated);
    if violated.into_iter().any(|&other| other == model) {
        return Some(false);
    }
    let mut possible = boundary.possible.iter();
    possible.any(|held| held.implies(model)).then_some(true)
}

/// By model (as an index), what was said of it and what its axioms say.
type Compared = (usize, Option<bool>, bool);

/// The models that are decided of registers, too, where no value is written to a key twice, and beside lists if they are
/// asked about.
const OF_REGISTERS: [Axiomatic; 3] = [
    Axiomatic::ReadAtomic,
    Axiomatic::CausalConsistency,
    Axiomatic::Prefix,
];

/// Does no value appear twice?
fn values_are_unique(txns: &[Txn]) -> bool {
    let ops = txns.iter().flat_map(|txn| &txn.ops);
    let mut written = ops.filter_map(|op| match op {
        Op::Write(key, value) | Op::Append(key, value) => Some((key, value)),
        _ => None,
    });
    let mut seen = BTreeSet::new();
    written.all(|write| seen.insert(write))
}

fn compare(kind: Kind, seed: u64, txns: &[Txn]) -> Outcome<Compared> {
    let history = to_history(txns);
    let report = check(&history, &Options::default());
    let mut outcome = Outcome::default();
    for (at, &model) in AXIOMATIC.iter().enumerate() {
        let expected = is_execution(model, txns);
        let is_decided = OF_REGISTERS.contains(&model);
        let exact = match kind {
            Kind::Lists => EXACT.contains(&model),
            Kind::Registers => is_decided && values_are_unique(txns),
            Kind::Mixed => is_decided,
        };
        let said = match kind == Kind::Mixed && is_decided {
            true => match check(&history, &Options::new(checked(model))).verdict {
                Verdict::Valid => Some(true),
                Verdict::Invalid => Some(false),
                Verdict::Unknown => None,
            },
            false => said(&report.boundary, checked(model)),
        };
        if said != Some(expected) && (said.is_some() || exact) {
            outcome.1.push(format!(
                "seed {seed}, {model:?}: by its axioms {expected}, we say {said:?}: {:?} {:?}",
                report.counts, report.boundary
            ));
        }
        *outcome.0.entry((at, said, expected)).or_default() += 1;
    }
    outcome
}

fn assert_agreement(kind: Kind, histories: u64) -> BTreeMap<Compared, u64> {
    let seeds = FIRST_SEED..FIRST_SEED + histories;
    oracle::assert_agreement(seeds, |seed| {
        compare(kind, seed, &generate::history(kind, seed))
    })
}

/// The same, of histories in which transactions see some of the earlier ones.
fn assert_agreement_on_sighted(kind: Kind, histories: u64) -> BTreeMap<Compared, u64> {
    let seeds = FIRST_SEED..FIRST_SEED + histories;
    oracle::assert_agreement(seeds, |seed| {
        compare(kind, seed, &generate::sighted(kind, seed))
    })
}

/// How many histories are in the first of these models and not in the second, if the second implies the first.
fn between(tally: &BTreeMap<Compared, u64>, weaker: Axiomatic, stronger: Axiomatic) -> u64 {
    let admitted = |model: Axiomatic| {
        let counts = tally
            .iter()
            .filter(|((at, _, truth), _)| AXIOMATIC[*at] == model && *truth);
        counts.map(|(_, count)| count).sum::<u64>()
    };
    admitted(weaker) - admitted(stronger)
}

/// What was said of how many histories, and what the axioms say.
fn table(tally: &BTreeMap<Compared, u64>) -> String {
    let mut text = String::from(
        "model | said to hold | said to be violated | left open: holds | left open: violated\n",
    );
    for (at, model) in AXIOMATIC.iter().enumerate() {
        let count = |said, truth| tally.get(&(at, said, truth)).copied().unwrap_or(0);
        text += &format!(
            "{} | {} | {} | {} | {}\n",
            checked(*model),
            count(Some(true), true),
            count(Some(false), false),
            count(None, true),
            count(None, false)
        );
    }
    text
}

#[test]
fn on_lists_the_decided_models_are_exact_and_nothing_false_is_said_of_others() {
    let tally = assert_agreement(Kind::Lists, HISTORIES);
    insta::assert_snapshot!("check_lattice_lists", table(&tally));
    for (at, model) in AXIOMATIC.iter().enumerate() {
        let count = |said: Option<bool>| {
            let both = [true, false].map(|truth| tally.get(&(at, said, truth)));
            both.into_iter().flatten().sum::<u64>()
        };
        let few = HISTORIES / 50;
        assert!(
            count(Some(true)) > few && count(Some(false)) > few,
            "{model:?}: {tally:?}"
        );
        assert_eq!(
            EXACT.contains(model),
            count(None) == 0,
            "{model:?}: {tally:?}"
        );
    }
}

#[test]
fn on_lists_seen_in_part_the_decided_models_are_exact() {
    let tally = assert_agreement_on_sighted(Kind::Lists, HISTORIES);
    insta::assert_snapshot!("check_lattice_lists_seen_in_part", table(&tally));
    for (weaker, stronger) in [
        (Axiomatic::ReadAtomic, Axiomatic::CausalConsistency),
        (Axiomatic::CausalConsistency, Axiomatic::Prefix),
        (
            Axiomatic::CausalConsistency,
            Axiomatic::ParallelSnapshotIsolation,
        ),
    ] {
        let only = between(&tally, weaker, stronger);
        assert!(only > HISTORIES / 200, "{weaker:?}, {stronger:?}: {only}");
    }
}

#[test]
fn on_registers_the_decided_models_are_exact_and_nothing_false_is_said_of_others() {
    let tally = assert_agreement(Kind::Registers, HISTORIES);
    insta::assert_snapshot!("check_lattice_registers", table(&tally));
}

#[test]
fn on_registers_seen_in_part_the_decided_models_are_exact() {
    let tally = assert_agreement_on_sighted(Kind::Registers, HISTORIES);
    insta::assert_snapshot!("check_lattice_registers_seen_in_part", table(&tally));
    let only = between(&tally, Axiomatic::ReadAtomic, Axiomatic::CausalConsistency);
    assert!(only > HISTORIES / 200, "{only}");
}

#[test]
fn on_lists_and_registers_together_the_decided_models_are_exact_and_nothing_false_is_said_of_others()
 {
    let tally = assert_agreement(Kind::Mixed, 10_000);
    insta::assert_snapshot!("check_lattice_mixed", table(&tally));
    let tally = assert_agreement_on_sighted(Kind::Mixed, 10_000);
    insta::assert_snapshot!("check_lattice_mixed_seen_in_part", table(&tally));
}

#[test]
fn the_axioms_and_the_executed_definitions_are_the_same_models() {
    for seed in FIRST_SEED..FIRST_SEED + 4_000 {
        for kind in [Kind::Lists, Kind::Registers] {
            let txns = generate::history(kind, seed);
            for (axioms, executed) in [
                (Axiomatic::Serializable, oracle::Model::Serializable),
                (
                    Axiomatic::SnapshotIsolation,
                    oracle::Model::SnapshotIsolation,
                ),
            ] {
                let both = (is_execution(axioms, &txns), admits(executed, &txns));
                assert_eq!(both.0, both.1, "seed {seed} {axioms:?}: {txns:#?}");
            }
        }
    }
}

/// Transactions of their own processes, all at once.
fn concurrent(all: &[&[Op]]) -> Vec<Txn> {
    let txn = |(process, ops): (usize, &&[Op])| Txn {
        process: process as u32,
        invoke: 0,
        complete: 9,
        status: Status::Ok,
        ops: ops.to_vec(),
    };
    all.iter().enumerate().map(txn).collect()
}

fn append(key: u32, value: i64) -> Op {
    Op::Append(key, value)
}

fn read(key: u32, list: &[i64]) -> Op {
    Op::ReadList(key, list.to_vec())
}

/// The verdicts of the axioms on [`EXACT`]'s models, after those of a report.
fn verdicts(txns: &[Txn]) -> ([Option<bool>; 7], [bool; 7], Report) {
    let report = check(&to_history(txns), &Options::default());
    let ours = EXACT.map(|model| said(&report.boundary, checked(model)));
    (ours, EXACT.map(|model| is_execution(model, txns)), report)
}

/// Asserts which of read atomicity, causal consistency, parallel snapshot isolation, prefix consistency, snapshot
/// isolation, serializability and update serializability admit the history.
fn assert_verdicts(txns: &[Txn], expected: [bool; 7]) {
    let (ours, axioms, report) = verdicts(txns);
    assert_eq!(axioms, expected, "{txns:#?}");
    assert_eq!(ours, expected.map(Some), "{report:#?}");
}

#[test]
fn a_long_fork_violates_prefix_consistency_and_spares_parallel_snapshot_isolation() {
    let fork = concurrent(&[
        &[append(1, 1)],
        &[append(2, 1)],
        &[read(1, &[1]), read(2, &[])],
        &[read(1, &[]), read(2, &[1])],
    ]);
    // Each reader alone has an order with the writers.
    assert_verdicts(&fork, [true, true, true, false, false, false, true]);
    assert_verdicts(&fork[..3], [true; 7]);
}

#[test]
fn write_skew_violates_update_serializability_and_spares_snapshot_isolation() {
    let skew = concurrent(&[&[read(1, &[]), append(2, 1)], &[read(2, &[]), append(1, 1)]]);
    assert_verdicts(&skew, [true, true, true, true, true, false, false]);
}

#[test]
fn a_lost_update_is_allowed_by_prefix_consistency_and_what_it_implies() {
    let lost = concurrent(&[
        &[read(1, &[]), append(1, 1)],
        &[read(1, &[]), append(1, 2)],
        &[read(1, &[1, 2])],
    ]);
    assert_verdicts(&lost, [true, true, false, true, false, false, false]);
}

#[test]
fn read_skew_behind_a_read_violates_prefix_consistency_and_behind_a_write_does_not() {
    let after_read = concurrent(&[
        &[append(1, 1), append(2, 1)],
        &[read(1, &[1]), read(2, &[])],
    ]);
    assert_verdicts(&after_read, [false; 7]);
    // The second one overwrote what the first wrote, and missed another of its writes.
    let after_write = concurrent(&[
        &[append(1, 1), append(2, 1)],
        &[append(1, 2), read(2, &[])],
        &[read(1, &[1, 2])],
    ]);
    assert_verdicts(&after_write, [true, true, false, true, false, false, false]);
}

#[test]
fn two_readers_who_disagree_leave_update_serializability_and_one_does_not() {
    // Fekete, O'Neil and O'Neil's read-only anomaly: one reader, so it is caught.
    let read_only = concurrent(&[
        &[read(1, &[]), read(2, &[]), append(1, 1)],
        &[read(2, &[]), append(2, 1)],
        &[read(1, &[]), read(2, &[1])],
    ]);
    assert_verdicts(&read_only, [true, true, true, true, true, false, false]);
    assert_verdicts(&read_only[..2], [true; 7]);
}

#[test]
fn what_is_missed_of_who_was_read_through_others_violates_causal_consistency_and_spares_read_atomicity()
 {
    let mut missed = concurrent(&[
        &[append(1, 1)],
        &[read(1, &[1]), append(2, 1)],
        &[read(2, &[1]), read(1, &[])],
    ]);
    assert_verdicts(&missed, [true, false, false, false, false, false, false]);
    // An append that nobody read is later than what was read.
    missed[2].ops[1] = read(3, &[]);
    assert_verdicts(&missed, [true; 7]);
    missed[0].ops.push(append(3, 1));
    assert_verdicts(&missed, [true, false, false, false, false, false, false]);
    // Nobody knows whether the first one happened unless the second one's read counts.
    missed[0].status = Status::Info;
    missed[1].ops.remove(0);
    assert_verdicts(&missed, [true; 7]);
}

#[test]
fn who_reads_a_list_sees_who_appended_last_and_need_not_see_who_appended_before() {
    let mut txns = concurrent(&[
        &[append(1, 1), append(2, 1)],
        &[append(1, 2)],
        &[read(1, &[1, 2]), read(2, &[])],
    ]);
    assert_verdicts(&txns, [true, true, false, false, false, false, false]);
    // The second one saw the first, and still read atomicity only asks for whom the third read directly.
    txns[1].ops.insert(0, read(1, &[1]));
    assert_verdicts(&txns, [true, false, false, false, false, false, false]);
    txns[2].ops[0] = read(1, &[1]);
    assert_verdicts(&txns, [false; 7]);
}

#[test]
fn an_element_of_somebody_who_cannot_have_committed_by_its_own_reads_is_an_aborted_read() {
    let history = |read_back: i64| {
        let mut txns = concurrent(&[
            &[Op::Write(0, 3)],
            &[Op::Write(0, 6), append(1, 7), Op::Read(0, Some(read_back))],
            &[read(1, &[7])],
        ]);
        txns[1].status = Status::Info;
        txns
    };
    for (read_back, expected) in [(3, Verdict::Invalid), (6, Verdict::Valid)] {
        let txns = history(read_back);
        let report = check(
            &to_history(&txns),
            &Options::new(Model::ReadAtomicNoSession),
        );
        let allowed = is_execution(Axiomatic::ReadAtomic, &txns);
        assert_eq!(report.verdict, expected, "{report:#?}");
        assert_eq!(allowed, expected == Verdict::Valid);
        assert_eq!(report.found(AnomalyKind::G1a), !allowed, "{report:#?}");
    }
}

#[test]
fn what_only_holds_where_no_update_may_be_lost_refutes_no_weaker_model() {
    // The first two updated the register in turn, so that where none may be lost the third, of unknown fate and read by the
    // fourth, wrote after them.
    let mut txns = concurrent(&[
        &[Op::Read(0, None), Op::Write(0, 1), Op::Read(1, Some(1))],
        &[Op::Write(0, 7)],
        &[Op::Read(0, Some(7)), Op::Write(1, 1)],
    ]);
    txns[1].status = Status::Info;
    let report = check(&to_history(&txns), &Options::default());
    for model in [
        Axiomatic::ReadAtomic,
        Axiomatic::CausalConsistency,
        Axiomatic::Prefix,
    ] {
        assert_eq!(
            said(&report.boundary, checked(model)),
            Some(is_execution(model, &txns)),
            "{model:?}: {report:#?}"
        );
    }
    assert_eq!(
        said(&report.boundary, Model::ReadCommitted),
        Some(true),
        "{report:#?}"
    );
    assert_eq!(
        said(&report.boundary, Model::SnapshotIsolation),
        Some(false),
        "{report:#?}"
    );
}

#[test]
fn models_that_nobody_examined_are_not_called_possible() {
    // A stale read: serializable, and whether each key is linearizable was not asked.
    let mut stale = concurrent(&[&[append(1, 1)], &[append(2, 1)], &[read(1, &[])]]);
    (stale[2].invoke, stale[2].complete) = (20, 30);
    let report = check(&to_history(&stale), &Options::default());
    let boundary = report.boundary;
    assert_eq!(
        boundary.violated,
        [Model::StrongSnapshotIsolation],
        "{boundary:?}"
    );
    assert!(boundary.unexamined.contains(&Model::Linearizable));
    assert!(!boundary.possible.contains(&Model::Linearizable));
    // What respects every session does so on each key.
    assert_eq!(said(&boundary, Model::Sequential), Some(true));
}

#[test]
fn what_too_many_orders_of_unread_appends_leave_open_a_stronger_model_that_is_decided_settles() {
    // Write skew through lists 1 and 2; everybody also appends to list 3, which nobody reads, and reads what the first
    // two have not yet written, so that 14! orders matter. One of them is a snapshot's.
    let mut ops = vec![
        vec![read(1, &[]), append(2, 1)],
        vec![read(2, &[]), append(1, 1)],
    ];
    for at in 0..14 {
        ops.push(vec![
            read(1, &[]),
            read(2, &[]),
            append(3, at + 1),
            append(4, at + 1),
        ]);
    }
    ops.push(vec![read(4, &[1])]);
    ops[0].push(read(4, &[1]));
    let ops: Vec<&[Op]> = ops.iter().map(Vec::as_slice).collect();
    let history = to_history(&concurrent(&ops));
    let alone = list_append::check(&history, &Options::new(Model::SnapshotIsolation));
    assert_eq!(alone.verdict, Verdict::Unknown, "{:?}", alone.counts);
    for (model, expected) in [
        (Model::SnapshotIsolation, Verdict::Valid),
        (Model::ParallelSnapshotIsolation, Verdict::Valid),
        (Model::PrefixNoSession, Verdict::Valid),
        (Model::Serializable, Verdict::Invalid),
    ] {
        let report = check(&history, &Options::new(model));
        assert_eq!(
            report.verdict, expected,
            "{model}: {:?} {:?}",
            report.counts, report.notes
        );
    }
}
