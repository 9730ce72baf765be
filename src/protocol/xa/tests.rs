use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::base::observation::{Observation, Outcome};
use crate::base::txn::{Op, Target, Value};
use crate::protocol::testing::*;

type Table = Bench<Node>;

const T: TxnId = TxnId(1);

/// The front machine of the first region, and the home of a shard, in [`layout`].
fn manager() -> Addr {
    Addr::on(layout(3, 2, Value::Int(100)).regions[0].fronts[0])
}

fn home(shard: u16) -> Addr {
    execution::participant(&layout(3, 2, Value::Int(100)), ShardId(shard))
}

/// One transaction that writes at `writers` and reads at `readers` more shards of `shards`; every boot is durable.
fn table(shards: u16, writers: u8, readers: u8, options: &Options) -> Table {
    let layout = layout(shards, 2, Value::Int(100));
    let effects: Vec<_> = (0..writers)
        .map(|shard| (key(shard, 0), Op::Add(1)))
        .collect();
    let mut txn = txn(1, &effects, vec![]);
    let read = |shard| Target::Key(key(shard, 0));
    txn.reads = (writers..writers + readers).map(read).collect();
    let mut table = Bench::new(Xa::deploy(&layout, options, &[operation(1, txn)]).unwrap());
    for addr in table.flushing() {
        table.flush(addr);
    }
    table
}

/// Delivers, flushes and fires in order until `done`.
fn until(table: &mut Table, done: impl Fn(&Table) -> bool) {
    for _ in 0..10_000 {
        if done(table) {
            return;
        }
        if let Some(addr) = table.flushing().first() {
            table.flush(*addr);
        } else if table.flights.is_empty() {
            let timer = table.next_timer().expect("a timer is set");
            table.fire(timer);
        } else {
            table.deliver(0);
        }
    }
    panic!("it never comes to that:\n{}", table.log);
}

fn saw(table: &Table, what: impl Fn(&Observation) -> bool) -> bool {
    table.observed.iter().any(|(_, seen)| what(seen))
}

fn marked(table: &Table, mark: &str) -> bool {
    saw(
        table,
        |what| matches!(what, Observation::Mark(seen) if *seen == mark),
    )
}

fn is_over(table: &Table) -> bool {
    table.outcomes().contains_key(&T)
        && saw(table, |what| matches!(what, Observation::Ended { .. }))
}

/// How often each label travelled between machines, scans apart, and the flushes of the manager and of all others.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    messages: BTreeMap<&'static str, usize>,
    manager_flushes: usize,
    other_flushes: usize,
}

/// Runs to the end, and counts. Nothing else is under way, so that every flush is one forced record.
fn cost(mut table: Table) -> (Outcome, Cost) {
    let scans = ["xa_recover", "recovered"];
    let mut flushes = [0, 0];
    while !(is_over(&table) && table.flushing().is_empty() && table.flights.is_empty()) {
        if let Some(addr) = table.flushing().first() {
            flushes[usize::from(*addr != manager())] += 1;
            table.flush(*addr);
        } else if table.flights.is_empty() {
            let timer = table.next_timer().expect("a timer is set");
            table.fire(timer);
        } else {
            table.deliver(0);
        }
    }
    let mut messages = BTreeMap::new();
    for (_, _, label) in table.sent.iter().filter(|sent| !scans.contains(&sent.2)) {
        *messages.entry(*label).or_insert(0) += 1;
    }
    let outcome = table.outcomes()[&T].clone();
    let [manager_flushes, other_flushes] = flushes;
    let cost = Cost {
        messages,
        manager_flushes,
        other_flushes,
    };
    (outcome, cost)
}

/// Mohan, Lindsay and Obermarck, section 3.1 and table I: under presumed abort a committing coordinator forces one record and a
/// subordinate two (prepare, commit). Four messages for each subordinate: prepare, vote, commit, ack. Before that, `xa_start`
/// and `xa_end` with their returns.
#[test]
fn a_commit_forces_2n_plus_1_records_and_sends_4n_messages_besides_the_work() {
    for n in 2..=7 {
        let (outcome, cost) = cost(table(7, n, 0, &Options::default()));
        let n = usize::from(n);
        assert!(matches!(outcome, Outcome::Committed { .. }));
        let expected = [
            ("request", 1),
            ("xa_start", n),
            ("locked", n),
            ("xa_end", n),
            ("xa_prepare", n),
            ("xa_commit", n),
            ("XA_OK", 3 * n), // of xa_end, xa_prepare and xa_commit
            ("reply", 1),
        ];
        assert_eq!(cost.messages, BTreeMap::from(expected));
        assert_eq!((cost.manager_flushes, cost.other_flushes), (1, 2 * n));
    }
}

/// Section 3.1: a reader writes nothing, and is left out of the second phase. Where all are readers, the coordinator writes
/// nothing either.
#[test]
fn readers_leave_after_the_first_phase_and_write_nothing() {
    for (writers, readers) in [(2, 3), (1, 1), (0, 2), (3, 0)] {
        let (outcome, cost) = cost(table(7, writers, readers, &Options::default()));
        let (w, r) = (usize::from(writers), usize::from(readers));
        assert!(matches!(outcome, Outcome::Committed { .. }));
        let sent = |label| cost.messages.get(label).copied().unwrap_or(0);
        assert_eq!((sent("xa_prepare"), sent("xa_commit")), (w + r, w));
        assert_eq!((sent("XA_RDONLY"), sent("XA_OK")), (r, r + 3 * w));
        let decisions = usize::from(writers > 0);
        assert_eq!(
            (cost.manager_flushes, cost.other_flushes),
            (decisions, 2 * w)
        );
    }
}

/// `TMONEPHASE`: two messages, one forced write at the resource manager, and none at the transaction manager.
#[test]
fn one_resource_manager_commits_in_one_phase_and_the_transaction_manager_writes_nothing() {
    let (outcome, cost) = cost(table(3, 1, 0, &Options::default()));
    assert!(matches!(outcome, Outcome::Committed { .. }));
    let sent = |label| cost.messages.get(label).copied().unwrap_or(0);
    assert_eq!(
        (sent("xa_prepare"), sent("xa_commit"), sent("XA_OK")),
        (0, 1, 2)
    );
    assert_eq!((cost.manager_flushes, cost.other_flushes), (0, 1));
    let two_phases = Options {
        one_phase: false,
        ..Options::default()
    };
    let (_, cost) = self::cost(table(3, 1, 0, &two_phases));
    assert_eq!((cost.manager_flushes, cost.other_flushes), (1, 2));
}

/// Section 3.1: an aborting coordinator forces nothing and waits for no acknowledgement; a subordinate has forced its prepare
/// record, and its abort record is lazy. The manager's one flush is for its client: the refusal.
#[test]
fn a_rollback_forces_no_decision_and_nobody_acknowledges_it() {
    let mut table = table(3, 3, 0, &Options::default());
    let prepares = |table: &Table| (0..3).all(|shard| table.flushing().contains(&home(shard)));
    while !prepares(&table) {
        match table.flushing().first() {
            _ if !table.flights.is_empty() => table.deliver(0),
            Some(addr) => table.flush(*addr),
            None => {
                let timer = table.next_timer().unwrap();
                table.fire(timer);
            }
        }
    }
    table.flush(home(0));
    table.flush(home(2));
    while !table.flights.is_empty() {
        table.deliver(0);
    }
    table.fail_flush(home(1), false); // Its vote.
    let mut manager_flushes = 0;
    while !is_over(&table) {
        if let Some(addr) = table.flushing().first() {
            manager_flushes += usize::from(*addr == manager());
            table.flush(*addr);
        } else if table.flights.is_empty() {
            let timer = table.next_timer().unwrap();
            table.fire(timer);
        } else {
            table.deliver(0);
        }
    }
    let sent = |label| { table.sent.iter() }.filter(|sent| sent.2 == label).count();
    assert_eq!(sent("XA_RBROLLBACK"), 1);
    assert_eq!((sent("xa_rollback"), sent("xa_commit")), (2, 0));
    assert_eq!(sent("XA_OK"), 3 + 2, "of xa_end, and two votes");
    assert_eq!(manager_flushes, 1, "the refusal");
    assert!(matches!(table.outcomes()[&T], Outcome::Aborted { .. }));
    assert!(standing(&table.autopsy()).is_empty());
}

fn heuristic(way: Heuristic) -> Options {
    Options {
        heuristic: way,
        heuristic_ms: Millis::new(1_000),
        ..Options::default()
    }
}

/// Runs until the decision is logged, and then loses every `xa_commit` to these shards until they have decided alone.
fn decide_alone_after_the_decision(options: &Options, silent: &[u16]) -> Table {
    let mut table = table(3, 3, 0, options);
    let decided = |table: &Table| saw(table, |what| matches!(what, Observation::Decided { .. }));
    until(&mut table, decided);
    let alone = |table: &Table| {
        let shards = table.observed.iter().filter_map(|(_, what)| match what {
            Observation::DecidedAlone { shard, .. } => Some(shard.0),
            _ => None,
        });
        shards.collect::<BTreeSet<_>>()
    };
    let wanted: BTreeSet<u16> = silent.iter().copied().collect();
    while alone(&table) != wanted {
        let lost = |flight: &Flight<Message>| {
            let silent = silent.iter().any(|shard| flight.to == home(*shard));
            silent
                && matches!(
                    flight.message,
                    Message::Commit { .. } | Message::Recover { .. }
                )
        };
        table.flights.retain(|flight| !lost(flight));
        if let Some(addr) = table.flushing().first() {
            table.flush(*addr);
        } else if table.flights.is_empty() {
            let timer = table.next_timer().unwrap();
            table.fire(timer);
        } else {
            table.deliver(0);
        }
    }
    table
}

fn returned(table: &Table, label: &str) -> usize {
    { table.sent.iter() }.filter(|sent| sent.2 == label).count()
}

#[test]
fn a_branch_that_committed_alone_what_was_to_commit_returns_heurcom_and_nothing_is_lost() {
    let mut table = decide_alone_after_the_decision(&heuristic(Heuristic::Commit), &[2]);
    until(&mut table, is_over);
    until(&mut table, |table| marked(table, "xa.forgotten"));
    assert!(returned(&table, "XA_HEURCOM") > 0);
    assert!(marked(&table, "xa.heuristic-commit"));
    assert!(matches!(table.outcomes()[&T], Outcome::Committed { .. }));
    assert_eq!(standing(&table.autopsy())[&T].len(), 3);
}

#[test]
fn a_branch_that_rolled_back_alone_what_was_to_commit_makes_it_heurmix() {
    let mut table = decide_alone_after_the_decision(&heuristic(Heuristic::Rollback), &[2]);
    until(&mut table, is_over);
    until(&mut table, |table| marked(table, "xa.forgotten"));
    assert!(returned(&table, "XA_HEURRB") > 0);
    assert!(marked(&table, "xa.heuristic-mixed"));
    assert_eq!(
        table.outcomes()[&T],
        Outcome::Unknown,
        "nobody can say more"
    );
    assert_eq!(standing(&table.autopsy())[&T].len(), 2, "half committed");
}

#[test]
fn if_every_branch_rolled_back_alone_the_outcome_is_heurrb() {
    let options = heuristic(Heuristic::Rollback);
    let mut table = decide_alone_after_the_decision(&options, &[0, 1, 2]);
    until(&mut table, is_over);
    assert!(marked(&table, "xa.heuristic-rollback") && !marked(&table, "xa.heuristic-mixed"));
    assert!(standing(&table.autopsy()).is_empty());
}

#[test]
fn a_branch_whose_memory_an_operator_removed_makes_it_heurhaz() {
    let options = Options {
        purge_ms: Millis::new(100),
        ..heuristic(Heuristic::Rollback)
    };
    let mut table = decide_alone_after_the_decision(&options, &[2]);
    let to_silent = |flight: &Flight<Message>| flight.to == home(2);
    while !marked(&table, "xa.purged") || table.flushing().contains(&home(2)) {
        table.flights.retain(|flight| !to_silent(flight));
        match table.flushing().first() {
            Some(addr) => table.flush(*addr),
            None if table.flights.is_empty() => {
                let timer = table.next_timer().unwrap();
                table.fire(timer);
            }
            None => table.deliver(0),
        }
    }
    until(&mut table, is_over);
    assert!(returned(&table, "XAER_NOTA") > 0);
    assert!(marked(&table, "xa.heuristic-hazard"));
    assert_eq!(table.outcomes()[&T], Outcome::Unknown);
}

/// The transaction manager dies between the votes and the decision. One branch commits alone; the scan presumes rollback.
#[test]
fn a_branch_that_committed_alone_what_is_presumed_rolled_back_makes_it_heurmix() {
    let mut table = table(3, 2, 0, &heuristic(Heuristic::Commit));
    let votes = |table: &Table| {
        let yes = |what: &Observation| matches!(what, Observation::Voted { yes: true, .. });
        { table.observed.iter() }
            .filter(|(_, what)| yes(what))
            .count()
    };
    until(&mut table, |table| votes(table) == 2);
    table.crash_clean(manager().node);
    table.flights.clear();
    until(&mut table, |table| {
        saw(table, |what| {
            matches!(what, Observation::DecidedAlone { .. })
        })
    });
    table.boot(manager().node);
    until(&mut table, |table| marked(table, "xa.heuristic-mixed"));
    assert!(returned(&table, "XA_HEURCOM") > 0 && marked(&table, "xa.presumed-abort"));
    until(&mut table, |table| marked(table, "xa.forgotten"));
}

/// The memory of a heuristic decision survives a crash of the resource manager; that of its outcome, one of the transaction
/// manager.
#[test]
fn a_heuristic_decision_is_remembered_across_crashes_until_it_is_forgotten() {
    let mut table = decide_alone_after_the_decision(&heuristic(Heuristic::Rollback), &[2]);
    table.crash_clean(home(2).node);
    table.boot(home(2).node);
    let recorded = |table: &Table| { table.sent.iter() }.any(|sent| sent.2 == "xa_forget");
    until(&mut table, recorded);
    table.crash_clean(manager().node);
    table.flights.clear(); // The first xa_forget is lost.
    table.boot(manager().node);
    until(&mut table, |table| marked(table, "xa.forgotten"));
    until(&mut table, is_over);
    assert_eq!(table.outcomes()[&T], Outcome::Unknown);
}

/// A resource manager never asks. Without a scan a branch that missed its rollback would stay prepared.
#[test]
fn the_scan_after_a_crash_commits_what_the_log_holds_and_rolls_back_what_it_does_not() {
    for logged in [true, false] {
        let mut table = table(3, 3, 0, &Options::default());
        until(&mut table, |table| table.flushing().contains(&manager()));
        if logged {
            table.flush(manager());
        }
        table.crash_clean(manager().node);
        table.flights.clear();
        table.boot(manager().node);
        until(&mut table, |table| {
            is_over(table)
                && table
                    .autopsy()
                    .values()
                    .all(|state| state.in_doubt.is_empty())
        });
        let outcome = table.outcomes()[&T].clone();
        let stands = standing(&table.autopsy()).len();
        if logged {
            assert!(marked(&table, "xa.decision-recovered"));
            assert!(matches!(outcome, Outcome::Committed { .. }) && stands == 1);
        } else {
            assert!(marked(&table, "xa.presumed-abort"));
        }
    }
}

/// Once an attempt is decided to commit, nothing of the transaction is rolled back. (An attempt that an earlier incarnation lost
/// may be rolled back before.)
fn check_no_rollback_after_commit(table: &Table) {
    let mut committed = BTreeSet::new();
    for (_, what) in &table.observed {
        match what {
            Observation::Decided { txn, commit } | Observation::Resolved { txn, commit, .. } => {
                if *commit {
                    committed.insert(*txn);
                } else {
                    assert!(!committed.contains(txn), "{txn}:\n{}", table.log);
                }
            }
            _ => {}
        }
    }
}

fn all_options() -> Vec<Options> {
    let plain = Options::default();
    let short = Options {
        recovery_ms: Millis::new(100),
        commit_return: CommitReturn::DecisionLogged,
        restarts: Number::new(2),
        checkpoint_kib: Number::new(1),
        ..Options::default()
    };
    let full = Options {
        one_phase: false,
        read_only: false,
        ..Options::default()
    };
    vec![plain, short, full]
}

fn marks_of(table: &Table) -> impl Iterator<Item = &'static str> + '_ {
    table.observed.iter().filter_map(|(_, what)| match what {
        Observation::Mark(mark) => Some(*mark),
        _ => None,
    })
}

#[test]
fn under_crashes_losses_duplicates_and_failing_disks_every_transaction_ends_all_or_nothing() {
    let mut marks = BTreeSet::new();
    for options in all_options() {
        let layout = layout(4, 2, Value::Int(20));
        let mut committed = 0;
        for seed in 0..300 {
            let operations = contended(&layout, 12, &mut Dice(seed));
            let table = run::<Xa>(&layout, &options, &operations, ROUGH, seed);
            check_atomicity(&table, &operations);
            check_strictly_serializable(&table);
            check_no_rollback_after_commit(&table);
            let outcomes = table.outcomes();
            let commits = |outcome: &&Outcome| matches!(outcome, Outcome::Committed { .. });
            committed += outcomes.values().filter(commits).count();
            marks.extend(marks_of(&table));
        }
        assert!(committed > 300, "{committed}: {options:?}");
    }
    for mark in [
        "xa.one-phase",
        "xa.read-only",
        "xa.in-doubt",
        "xa.decision-recovered",
        "xa.presumed-abort",
        "xa.duplicate-xid",
        "xa.recovered-in-doubt",
        "xa.vote-not-durable",
        "execution.grant-void",
        "execution.wounded",
    ] {
        assert!(marks.contains(mark), "{mark} was never reached: {marks:?}");
    }
}

#[test]
fn only_what_a_resource_manager_decided_alone_can_be_half_done() {
    let mut marks = BTreeSet::new();
    for (way, purge_ms) in [
        (Heuristic::Commit, 0),
        (Heuristic::Rollback, 0),
        (Heuristic::Rollback, 30),
    ] {
        let options = Options {
            heuristic: way,
            heuristic_ms: Millis::new(20),
            purge_ms: Millis::new(purge_ms),
            recovery_ms: Millis::new(200),
            ..Options::default()
        };
        let layout = layout(4, 2, Value::Int(20));
        let mut decided_alone = 0;
        for seed in 0..200 {
            let operations = contended(&layout, 12, &mut Dice(seed));
            let table = run::<Xa>(&layout, &options, &operations, ROUGH, seed);
            let alone: BTreeSet<TxnId> = { table.observed.iter() }
                .filter_map(|(_, what)| match what {
                    Observation::DecidedAlone { txn, .. } => Some(*txn),
                    _ => None,
                })
                .collect();
            let bound: Vec<_> = { operations.iter() }
                .filter(|operation| !alone.contains(&operation.txn.id))
                .cloned()
                .collect();
            decided_alone += alone.len();
            check_atomicity(&table, &bound);
            marks.extend(marks_of(&table));
        }
        assert!(decided_alone > 20, "{way:?}: {decided_alone}");
    }
    for mark in [
        "xa.heuristic-commit",
        "xa.heuristic-rollback",
        "xa.heuristic-mixed",
        "xa.heuristic-hazard",
        "xa.forgotten",
        "xa.purged",
    ] {
        assert!(marks.contains(mark), "{mark} was never reached: {marks:?}");
    }
}

#[test]
fn without_faults_nothing_is_aborted_by_the_system() {
    for options in all_options() {
        let layout = layout(4, 2, Value::Int(20));
        let options = Options {
            restarts: Number::new(0),
            ..options
        };
        for seed in 0..60 {
            let operations = contended(&layout, 12, &mut Dice(seed));
            let calm = Trouble { timer: 0, ..CALM };
            let table = run::<Xa>(&layout, &options, &operations, calm, seed);
            check_strictly_serializable(&table);
            let outcomes = table.outcomes();
            let aborted = |outcome: &&Outcome| matches!(outcome, Outcome::Aborted { .. });
            assert_eq!(outcomes.values().filter(aborted).count(), 0, "{outcomes:?}");
        }
    }
}
