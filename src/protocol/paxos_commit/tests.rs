use super::*;
use crate::base::observation::{Observation, Outcome};
use crate::base::txn::{Op, Value};
use crate::protocol::testing::*;

/// The layout of other protocols' tests, with more front machines: five in each of two regions.
fn wide(shards: u16, rows: u32, initial: Value) -> Layout {
    let mut layout = layout(shards, rows, initial);
    for _ in 0..4 {
        for region in &mut layout.regions {
            region.fronts.push(NodeId(layout.nodes));
            layout.nodes += 1;
        }
    }
    layout
}

fn options(tolerated: u64, acceptors: Placement, faster: bool) -> Options {
    Options {
        tolerated: Number::new(tolerated),
        acceptors,
        faster,
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
    acks: usize,
    /// What lets acceptors forget.
    ends: usize,
}

/// One failure-free commit over the first `n` shards.
fn cost(n: u8, options: &Options) -> Cost {
    let layout = wide(8, 2, Value::Int(100));
    let effects: Vec<_> = (0..n).map(|shard| (key(shard, 0), Op::Add(1))).collect();
    let operations = [operation(1, txn(1, &effects, vec![]))];
    let mut table = Bench::new(PaxosCommit::deploy(&layout, options, &operations).unwrap());
    for addr in table.flushing() {
        table.flush(addr); // Resource managers record their boot, before anything starts.
    }
    let flushed = table.flushed;
    let is_decided = |what: &Observation| matches!(what, Observation::Decided { .. });
    let mut forced = None;
    while table.unended().contains(&TxnId(1)) || table.outcomes().is_empty() {
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
    let cost = Cost {
        messages: between_machines(&["begin-commit", "prepare", "prepared", "accepted", "commit"]),
        forced: forced.unwrap(),
        acks: between_machines(&["ack"]),
        ends: between_machines(&["end"]),
    };
    let execution = between_machines(&["request", "lock", "locked", "reply"]);
    let all = { table.sent.iter() }.filter(|(from, to, _)| from.node != to.node);
    assert_eq!(
        all.count(),
        cost.messages + cost.acks + cost.ends + execution,
        "{:?}",
        table.sent
    );
    cost
}

/// Gray and Lamport, section 4.3 and table 1, with their conventions: F + 1 acceptors are used, the leader hosts one of
/// them, the initiator's vote travels with its `begin-commit`, acknowledgements are not counted.
#[test]
fn a_failure_free_commit_costs_what_gray_and_lamport_count() {
    for f in 0..=3 {
        for n in 2..=8 {
            let plain = cost(n as u8, &options(f as u64, Placement::Separate, false));
            let faster = cost(n as u8, &options(f as u64, Placement::Separate, true));
            let (forced, acks, ends) = (n + f + 1, n, f);
            let expected = |messages| Cost {
                messages,
                forced,
                acks,
                ends,
            };
            assert_eq!(plain, expected((n + 1) * (f + 3) - 4), "N {n} F {f}");
            assert_eq!(faster, expected(n * (2 * f + 3) - 1), "N {n} F {f}");
            if f == 0 {
                assert_eq!(plain.messages, 3 * n - 1, "two-phase commit");
            }
            if n > 2 * f {
                let plain = cost(n as u8, &options(f as u64, Placement::CoLocated, false));
                let faster = cost(n as u8, &options(f as u64, Placement::CoLocated, true));
                let expected = |messages| Cost {
                    messages,
                    forced,
                    acks: n - 1,
                    ends,
                };
                assert_eq!(plain, expected(n * (f + 3) - 3), "co-located N {n} F {f}");
                let messages = (n - 1) * (2 * f + 3);
                assert_eq!(faster, expected(messages), "co-located N {n} F {f}");
            }
        }
    }
}

#[test]
fn too_few_machines_are_refused_with_a_way_out() {
    let layout = layout(4, 2, Value::Int(1));
    let refused = |tolerated, acceptors| {
        PaxosCommit::deploy(&layout, &options(tolerated, acceptors, false), &[]).unwrap_err()
    };
    assert_eq!(
        refused(1, Placement::Separate),
        "`tolerated = 1` takes 3 acceptors, each on a front machine, and there is room for 2: \
         add regions or zones, or tolerate 0"
    );
    assert_eq!(
        refused(2, Placement::CoLocated),
        "`tolerated = 2` takes 5 acceptors, each beside another shard, and there is room for 4: \
         add shards, or tolerate 1"
    );
    assert!(PaxosCommit::deploy(&layout, &options(1, Placement::CoLocated, false), &[]).is_ok());
}

#[test]
fn acceptors_begin_with_the_leader_and_lie_in_different_regions() {
    let layout = wide(4, 2, Value::Int(1));
    let site = Site::new(&layout, &options(2, Placement::Separate, false));
    let members = BTreeSet::from([ShardId(1), ShardId(2)]);
    // Shard 1 lives in the second region.
    let none = BTreeSet::new();
    let group = site.group(TxnId(1), ShardId(1), members.clone(), &none);
    let regions: Vec<usize> = { group.acceptors.iter() }
        .map(|addr| layout.region_of(addr.node).unwrap())
        .collect();
    assert_eq!(regions, [1, 0, 1, 0, 1]);
    assert_eq!(group.leader().node, layout.regions[1].fronts[0]);
    // A suspect stays an acceptor, and leads no more.
    let suspects = BTreeSet::from([group.leader()]);
    let again = site.group(TxnId(2), ShardId(1), members.clone(), &suspects);
    assert_eq!(again.leader(), group.acceptors[1]);
    assert_eq!(again.acceptors[4], group.leader());
    let site = Site::new(&layout, &options(1, Placement::CoLocated, false));
    let group = site.group(TxnId(1), ShardId(1), members, &none);
    let beside = |shard| site.beside(ShardId(shard));
    assert_eq!(group.acceptors, [beside(1), beside(2), beside(3)]);
}

fn all_options() -> Vec<Options> {
    vec![
        options(1, Placement::Separate, false),
        options(1, Placement::Separate, true),
        options(1, Placement::CoLocated, false),
        options(1, Placement::CoLocated, true),
        options(0, Placement::Separate, false),
        options(2, Placement::Separate, true),
    ]
}

#[test]
fn under_crashes_losses_duplicates_and_failing_disks_every_transaction_ends_all_or_nothing() {
    let mut reached = BTreeSet::new();
    for options in all_options() {
        let (committed, marks) =
            fuzz_commitment::<PaxosCommit>(&wide(4, 2, Value::Int(20)), &options, ROUGH, 0..200);
        assert!(committed > 200, "{committed}: {options:?}");
        reached.extend(marks);
    }
    for (mark, _) in PaxosCommit::MARKS.concat() {
        let is_journal = mark.starts_with("journal.");
        assert!(
            is_journal || reached.contains(mark),
            "{mark} was never reached"
        );
    }
}

#[test]
fn without_faults_nothing_is_aborted_by_the_system() {
    for options in all_options() {
        let layout = wide(4, 2, Value::Int(20));
        for seed in 0..60 {
            let operations = contended(&layout, 12, &mut Dice(seed));
            let calm = Trouble { timer: 0, ..CALM };
            let table = run::<PaxosCommit>(&layout, &options, &operations, calm, seed);
            check_strictly_serializable(&table);
            let outcomes = table.outcomes();
            let aborted = |outcome: &&Outcome| matches!(outcome, Outcome::Aborted { .. });
            assert_eq!(outcomes.values().filter(aborted).count(), 0, "{outcomes:?}");
        }
    }
}
