use super::*;
use crate::base::observation::{Observation, Outcome};
use crate::base::txn::{Op, Value};
use crate::protocol::testing::*;

fn options(coordinator: Placement) -> Options {
    Options {
        coordinator,
        silence_ms: Millis::new(800),
        inquiry_ms: Millis::new(200),
        ..Options::default()
    }
}

/// What a commit costs.
#[derive(PartialEq, Eq, Debug)]
struct Cost {
    /// Messages of the commit phase between machines.
    messages: usize,
    /// Flushes up to the decision.
    forced: usize,
    /// What lets the coordinator forget.
    acks: usize,
}

/// One failure-free commit over the first `n` shards.
fn cost(n: u8, options: &Options) -> Cost {
    let layout = layout(8, 2, Value::Int(100));
    let effects: Vec<_> = (0..n).map(|shard| (key(shard, 0), Op::Add(1))).collect();
    let operations = [operation(1, txn(1, &effects, vec![]))];
    let mut table = Bench::new(ThreePhase::deploy(&layout, options, &operations).unwrap());
    for addr in table.flushing() {
        table.flush(addr); // Everybody records its boot, before anything starts.
    }
    let flushed = table.flushed;
    let is_decided = |what: &Observation| matches!(what, Observation::Decided { .. });
    let mut forced = None;
    let is_over = |table: &Bench<Node>| {
        let done = { table.sent.iter() }.filter(|(_, _, label)| *label == "ack");
        done.count() == usize::from(n) && table.flights.is_empty() && !table.outcomes().is_empty()
    };
    while !is_over(&table) {
        if let Some(addr) = table.flushing().first() {
            table.flush(*addr);
        } else if table.flights.is_empty() {
            let timer = table.next_timer().unwrap();
            table.fire(timer);
        } else {
            table.deliver(0);
        }
        if forced.is_none() && table.observed.iter().any(|(_, what)| is_decided(what)) {
            forced = Some(table.flushed - flushed);
        }
    }
    let outcome = &table.outcomes()[&TxnId(1)];
    assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
    let between_machines = |labels: &[&str]| {
        let sent = table.sent.iter();
        sent.filter(|(from, to, label)| from.node != to.node && labels.contains(label))
            .count()
    };
    let phases = [
        "begin-commit",
        "prepare",
        "prepared",
        "pre-commit",
        "pre-committed",
        "commit",
    ];
    let cost = Cost {
        messages: between_machines(&phases),
        forced: forced.unwrap(),
        acks: between_machines(&["ack"]),
    };
    let execution = between_machines(&["request", "lock", "locked", "reply"]);
    let all = { table.sent.iter() }.filter(|(from, to, _)| from.node != to.node);
    assert_eq!(
        all.count(),
        cost.messages + cost.acks + execution,
        "{:?}",
        table.sent
    );
    cost
}

/// The coordinator hears N - 1 votes and the initiator's own, and then has two more exchanges with all N: in Gray and Lamport's
/// convention 1 + 2(N - 1) + 2N + N. Each participant forces its vote and its PreCommit before the decision.
#[test]
fn a_failure_free_commit_costs_what_three_phases_cost() {
    for n in 2..=8 {
        let separate = cost(n as u8, &options(Placement::Separate));
        let forced = 2 * n;
        let messages = 5 * n - 1;
        let acks = n;
        assert_eq!(
            separate,
            Cost {
                messages,
                forced,
                acks
            },
            "N {n}"
        );
        let beside = cost(n as u8, &options(Placement::CoLocated));
        let (messages, acks) = (5 * n - 5, n - 1);
        assert_eq!(
            beside,
            Cost {
                messages,
                forced,
                acks
            },
            "co-located N {n}"
        );
    }
}

#[test]
fn nodes_are_ranked_by_their_shards_behind_the_coordinator() {
    let layout = layout(4, 2, Value::Int(1));
    let site = Site::new(&layout, &options(Placement::Separate));
    let coordinator = site.coordinator(ShardId(1));
    let group = Group {
        txn: TxnId(1),
        members: BTreeSet::from([ShardId(1), ShardId(3)]),
        coordinator,
        incarnation: 1,
    };
    assert_eq!((group.rank(ShardId(1)), group.rank(ShardId(3))), (1, 2));
    for rank in 0..=2 {
        assert_eq!(group.rank_of(&site, group.addr(&site, rank)), Some(rank));
    }
    let stranger = site.participant(ShardId(2));
    assert_eq!(group.rank_of(&site, stranger), None);
}

#[test]
fn an_initiator_avoids_suspects_as_long_as_there_is_anybody_else() {
    let layout = layout(4, 2, Value::Int(1));
    let site = Site::new(&layout, &options(Placement::Separate));
    let all = site.coordinators();
    assert_eq!(all.len(), 2, "one in each region");
    let usual = site.coordinator(ShardId(0));
    assert_eq!(site.trusted(ShardId(0), &BTreeSet::new()), usual);
    let other = site.trusted(ShardId(0), &BTreeSet::from([usual]));
    assert!(other != usual && all.contains(&other));
    assert_eq!(site.trusted(ShardId(0), &all), usual);
}

/// Machines crash, disks fail and messages come twice; but none is lost, and timers fire only when nothing is under way: whoever is
/// silent has crashed.
const SYNCHRONOUS: Trouble = Trouble {
    crash: 2,
    lose: 0,
    duplicate: 6,
    fail_flush: 2,
    timer: 0,
    steps: 600,
};

#[test]
fn under_crashes_duplicates_and_failing_disks_every_transaction_ends_all_or_nothing() {
    let mut reached = BTreeSet::new();
    for coordinator in [Placement::Separate, Placement::CoLocated] {
        let (committed, marks) = fuzz_commitment::<ThreePhase>(
            &layout(4, 2, Value::Int(20)),
            &options(coordinator),
            SYNCHRONOUS,
            0..300,
        );
        assert!(committed > 300, "{committed}: {coordinator:?}");
        reached.extend(marks);
    }
    let broken = ["3pc.split", "3pc.decided-alone"];
    for mark in broken {
        assert!(
            !reached.contains(mark),
            "{mark}: nobody is suspected falsely"
        );
    }
    let rare = [
        "3pc.elected",
        "3pc.elected-aborts",
        "3pc.elected-commits",
        "3pc.all-crashed",
        "3pc.coordinator-left",
        "3pc.committed-without-all",
        "3pc.recovered-in-doubt",
    ];
    for mark in rare {
        assert!(reached.contains(mark), "{mark} was never reached");
    }
}

#[test]
fn without_faults_nothing_is_aborted_by_the_system() {
    for coordinator in [Placement::Separate, Placement::CoLocated] {
        let layout = layout(4, 2, Value::Int(20));
        for seed in 0..60 {
            let operations = contended(&layout, 12, &mut Dice(seed));
            let calm = Trouble { timer: 0, ..CALM };
            let table = run::<ThreePhase>(&layout, &options(coordinator), &operations, calm, seed);
            check_strictly_serializable(&table);
            let outcomes = table.outcomes();
            let aborted = |outcome: &&Outcome| matches!(outcome, Outcome::Aborted { .. });
            assert_eq!(outcomes.values().filter(aborted).count(), 0, "{outcomes:?}");
        }
    }
}
