//! Swarm plans: well-formed, within the faults that protocols may rely on not to see, of every kind, and repeatable.

use std::collections::{BTreeMap, BTreeSet};

use ordain::base::process::NodeId;
use ordain::campaign::swarm::{corruptible, draw};
use ordain::fault::{CrashLoss, Fault, FaultKind, When};
use ordain::plan::{Plan, Start};
use ordain::registry::Registry;
use ordain::scenario::Scenario;
use ordain::scenario::swarm::Class;
use proptest::prelude::*;

fn scenario(name: &str, overrides: &[(&str, &str)]) -> Scenario {
    let path = format!("scenarios/{name}.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let overrides: Vec<_> = overrides.iter().map(own).collect();
    Registry::standard()
        .read_scenario(&path, &text, &overrides)
        .unwrap_or_else(|bad| panic!("{bad}"))
}

/// Scenarios of all sizes: three regions in two clouds, one region of three zones, a single machine of each
/// kind.
fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("storm", &[]),
        scenario(
            "settlement",
            &[
                ("region.0.zones", "2"),
                ("machines.clock-bound", "1s"),
                ("swarm.clock-lies", "true"),
            ],
        ),
        scenario("locked-merchant", &[]),
        scenario("seat-booking", &[]),
        scenario("naive-partial", &[]),
    ]
}

/// Only this class, always on, without the scenario's own faults.
fn only(name: &str, class: Class) -> Scenario {
    let classes = format!("[\"{}\"]", class.name());
    let settings = [
        ("swarm.classes", classes.as_str()),
        ("swarm.probability", "100%"),
        ("swarm.own-faults", "false"),
    ];
    scenario(name, &settings)
}

fn begins(fault: &Fault) -> (u64, Option<u64>) {
    match &fault.when {
        When::At(at_ns) => (*at_ns, Some(*at_ns)),
        When::Moment {
            from_ns, latest_ns, ..
        } => (*from_ns, *latest_ns),
        When::AfterEvent(_) => panic!("a drawn plan knows no events"),
    }
}

fn assert_well_formed(scenario: &Scenario, plan: &Plan) {
    let machines = plan.environment.machines.len() as u16;
    let client = |node: &NodeId| plan.environment.machines[usize::from(node.0)].client;
    let may_corrupt = corruptible(&scenario.layout, plan.seed);
    for fault in &plan.faults {
        let nodes = fault.kind.nodes();
        assert!(!nodes.is_empty(), "{fault:?}");
        assert!(nodes.iter().all(|node| node.0 < machines), "{fault:?}");
        let (from_ns, latest_ns) = begins(fault);
        let safety_ns = scenario.safety_ns;
        assert!(from_ns < safety_ns && latest_ns.is_none_or(|ns| ns < safety_ns));
        let for_ns = fault.for_ns.expect("an episode has a length");
        assert!(for_ns > 0, "{fault:?}");
        if let When::At(at_ns) = fault.when {
            assert!(at_ns + for_ns <= safety_ns, "{fault:?}");
        }
        assert!(!fault.permanent);
        match &fault.kind {
            FaultKind::Crash { nodes, .. } => {
                assert!(!nodes.iter().any(client), "clients keep nothing: {fault:?}");
            }
            FaultKind::CorruptRead { node, .. } => assert!(may_corrupt.contains(node)),
            FaultKind::Degrade {
                loss_ppm,
                duplicate_ppm,
                latency,
                ..
            } => {
                assert!(loss_ppm.max(duplicate_ppm) <= &900_000);
                let worst_ns = latency.base_ns + 10 * latency.jitter_ns;
                assert!(9 * worst_ns <= scenario.settle_ns / 2, "{fault:?}");
            }
            FaultKind::Flap { down_ns, up_ns, .. } => assert!(down_ns.min(up_ns) > &0),
            _ => {}
        }
    }
    let recovery_ns = plan.environment.power_cycle_ns;
    assert!(recovery_ns >= 10_000_000_000 || scenario.power_cycle_ns == 0);
    assert_flushes_end_early(scenario, plan);
    assert_clocks_within_bound(scenario, plan);
    assert_operations(scenario, plan);
}

/// Slowdowns multiply, and a flush takes as long as it was to take when it was asked for: even one asked for under
/// all of a machine's slowdowns completes early in the settle phase.
fn assert_flushes_end_early(scenario: &Scenario, plan: &Plan) {
    for (node, machine) in plan.environment.machines.iter().enumerate() {
        let worst_ns = (machine.flush.base_ns + 10 * machine.flush.jitter_ns) as f64;
        let slowdowns = plan.faults.iter().map(|fault| match &fault.kind {
            FaultKind::Slow { nodes, percent } | FaultKind::SlowFlush { nodes, percent }
                if nodes.contains(&NodeId(node as u16)) =>
            {
                f64::from(*percent) / 100.0
            }
            _ => 1.0,
        });
        let flush_ns = worst_ns * slowdowns.product::<f64>();
        assert!(flush_ns <= scenario.settle_ns as f64 / 4.0, "{flush_ns}");
    }
}

/// Offset, step and drift of each machine's clock together stay within the declared skew, but for lies: those leave the
/// declared bound. The drift that the scenario itself has is not the swarm's.
fn assert_clocks_within_bound(scenario: &Scenario, plan: &Plan) {
    let skew_ns = scenario.clocks.skew_ns as i64;
    let mut moved = BTreeSet::new();
    for fault in &plan.faults {
        let (nodes, by_ns) = match &fault.kind {
            FaultKind::ClockStep { nodes, by_ns } => (nodes, *by_ns),
            FaultKind::ClockDrift { nodes, by_ppm } => {
                let for_ns = i128::from(fault.for_ns.unwrap());
                (nodes, (for_ns * i128::from(*by_ppm) / 1_000_000) as i64)
            }
            _ => continue,
        };
        for node in nodes {
            let offset_ns = plan.environment.machines[usize::from(node.0)].clock_offset_ns;
            let is_honest = (offset_ns + by_ns).abs() <= skew_ns;
            let is_lie = scenario.swarm.classes.contains(&Class::ClockLiar)
                && by_ns.unsigned_abs() > 3 * scenario.clocks.bound_ns.expect("lies need a bound");
            assert!(is_honest != is_lie, "{fault:?} from {offset_ns}");
            assert!(
                moved.insert((*node, is_lie)),
                "{node}'s clock is moved twice"
            );
        }
    }
}

fn assert_operations(scenario: &Scenario, plan: &Plan) {
    let count = plan.operations.len() as u32;
    assert!(0 < count && count <= scenario.workload.transactions.min(100));
    let mut last_ns = BTreeMap::<u32, u64>::new();
    for operation in &plan.operations {
        assert!(
            scenario
                .workload
                .clients
                .contains(&usize::from(operation.region))
        );
        let footprint = operation.txn.footprint(|_| 0);
        for key in footprint.reads.iter().chain(&footprint.writes) {
            assert!(key.row < scenario.layout.tables[usize::from(key.table.0)].rows);
        }
        match operation.start {
            Start::At(at_ns) => {
                // Poisson arrivals may overrun what their rate was chosen for, though not by far.
                assert!(at_ns < 2 * scenario.safety_ns, "{at_ns}");
            }
            Start::Think(think_ns) => *last_ns.entry(operation.session).or_default() += think_ns,
            Start::Retry { .. } => unreachable!("these scenarios retry under the same id"),
        }
    }
    assert!(last_ns.values().all(|ns| *ns < scenario.settle_ns));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_is_well_formed_and_stays_within_what_protocols_may_rely_on(seed in any::<u64>()) {
        for scenario in scenarios() {
            // The scenario's own faults obey the scenario, not the swarm.
            let mut swarm_only = scenario.clone();
            swarm_only.swarm.own_faults = false;
            assert_well_formed(&swarm_only, &draw(&swarm_only, seed));
            swarm_only.swarm.probability = 1.0;
            assert_well_formed(&swarm_only, &draw(&swarm_only, seed));
        }
    }

    #[test]
    fn a_seed_has_one_plan_and_leaving_a_class_out_leaves_the_rest_as_it_was(seed in any::<u64>(), out in 0..Class::ALL.len()) {
        let whole = scenario("storm", &[]);
        let plan = draw(&whole, seed);
        prop_assert_eq!(&plan, &draw(&whole, seed));
        let class = Class::ALL[out];
        prop_assume!(whole.swarm.classes.contains(&class));
        let mut without = whole.clone();
        without.swarm.classes.retain(|other| *other != class);
        let mut alone = whole.clone();
        alone.swarm.classes = vec![class];
        alone.swarm.own_faults = false;
        let (without, alone) = (draw(&without, seed), draw(&alone, seed));
        prop_assert_eq!(&without.operations, &plan.operations);
        // The whole is the plan without the class, with the class's own faults put in at one place.
        let at = { plan.faults.iter().zip(&without.faults) }.take_while(|(a, b)| a == b).count();
        let at = at.min(without.faults.len());
        let back = (0..=at).rev().find(|at| {
            let mut again = without.faults.clone();
            again.splice(*at..*at, alone.faults.iter().cloned());
            again == plan.faults
        });
        prop_assert!(back.is_some(), "{} moved other faults", class.name());
    }
}

#[test]
fn fewer_than_half_of_the_fronts_and_of_the_copies_of_a_shard_may_be_corrupted() {
    for scenario in scenarios() {
        let layout = &scenario.layout;
        let mut ever = BTreeSet::new();
        for seed in 0..200 {
            let may: BTreeSet<NodeId> = corruptible(layout, seed).into_iter().collect();
            let fronts = layout.fronts().filter(|front| may.contains(front)).count();
            assert!(fronts * 2 < layout.fronts().count());
            for shard in 0..layout.shards.len() {
                let copies = layout
                    .regions
                    .iter()
                    .filter(|region| may.contains(&region.data[shard]));
                assert!(copies.count() * 2 < layout.regions.len());
            }
            ever.extend(may);
        }
        let clients = layout.regions.iter().map(|region| region.client);
        assert!(clients.into_iter().all(|client| !ever.contains(&client)));
        if layout.regions.len() >= 3 {
            assert_eq!(
                ever.len(),
                usize::from(layout.nodes) - layout.regions.len(),
                "each may be, in some run"
            );
        }
    }
}

/// What a plan's faults look like, in a word.
fn shapes(faults: &[Fault], layout: &ordain::scenario::layout::Layout) -> BTreeSet<String> {
    let mut shapes = BTreeSet::new();
    for fault in faults {
        let aim = match &fault.when {
            When::Moment { observation, .. } => format!(" at {observation}"),
            _ => String::new(),
        };
        let kind = match &fault.kind {
            FaultKind::Cut {
                both_ways: false, ..
            } => "one-way cut".to_owned(),
            FaultKind::Cut { from, to, .. }
                if from.len() + to.len() < usize::from(layout.nodes) =>
            {
                "partial cut".to_owned()
            }
            FaultKind::Cut { .. } => "cut".to_owned(),
            FaultKind::Flap { .. } => "flap".to_owned(),
            FaultKind::Degrade { .. } => "degrade".to_owned(),
            FaultKind::Crash { nodes, loss } => {
                let loss = match loss {
                    CrashLoss::Lost => "lost",
                    CrashLoss::Kept => "kept",
                    CrashLoss::Torn(_) => "torn",
                };
                format!(
                    "crash of {} {loss}",
                    if nodes.len() > 1 { "many" } else { "one" }
                )
            }
            FaultKind::Pause { .. } => "pause".to_owned(),
            FaultKind::Slow { .. } => "slow".to_owned(),
            FaultKind::SlowFlush { .. } => "slow-flush".to_owned(),
            FaultKind::FailFlush { .. } => "fail-flush".to_owned(),
            FaultKind::CorruptRead { .. } => "corrupt-read".to_owned(),
            FaultKind::ClockStep { .. } => "clock-step".to_owned(),
            FaultKind::ClockDrift { .. } => "clock-drift".to_owned(),
        };
        shapes.insert(kind + &aim);
    }
    shapes
}

#[test]
fn every_class_strikes_within_fifty_seeds_and_each_kind_of_fault_and_aim_within_two_hundred() {
    for class in Class::ALL {
        let alone = only("storm", class);
        let struck = (0..50)
            .filter(|seed| !draw(&alone, *seed).faults.is_empty())
            .count();
        assert!(struck >= 40, "{} struck {struck} of 50 runs", class.name());
        let mut half = alone.clone();
        half.swarm.probability = 0.5;
        let struck = (0..200)
            .filter(|seed| !draw(&half, *seed).faults.is_empty())
            .count();
        assert!(
            (60..=140).contains(&struck),
            "{}: {struck} of 200",
            class.name()
        );
    }
    let storm = scenario("storm", &[("swarm.own-faults", "false")]);
    let found: BTreeSet<String> = (0..200)
        .flat_map(|seed| shapes(&draw(&storm, seed).faults, &storm.layout))
        .collect();
    for wanted in [
        "cut",
        "partial cut",
        "one-way cut",
        "flap",
        "degrade",
        "pause",
        "slow",
        "slow-flush",
        "fail-flush",
        "corrupt-read",
        "clock-step",
        "clock-drift",
        "crash of one lost",
        "crash of one kept",
        "crash of one torn",
        "crash of many torn",
        "cut at voted",
        "partial cut at log.became-leader",
        "cut at log.became-leader",
        "crash of one torn at voted",
        "crash of one torn at decided",
        "cut at decided",
        "crash of one torn at log.became-leader",
        "crash of one lost at flush.completed",
        "crash of one torn at flush.asked",
        "crash of one torn at booted",
    ] {
        assert!(found.contains(wanted), "{wanted} is not among {found:?}");
    }
}

/// The links that a plan cuts both ways at one time, by machine.
fn sees(plan: &Plan, at_ns: u64) -> Vec<BTreeSet<u16>> {
    let machines = plan.environment.machines.len() as u16;
    let mut sees: Vec<BTreeSet<u16>> = (0..machines).map(|_| (0..machines).collect()).collect();
    for fault in &plan.faults {
        if begins(fault).0 != at_ns {
            continue;
        }
        if let FaultKind::Cut { from, to, .. } = &fault.kind {
            for (a, b) in from.iter().flat_map(|a| to.iter().map(move |b| (a.0, b.0))) {
                sees[usize::from(a)].remove(&b);
                sees[usize::from(b)].remove(&a);
            }
        }
    }
    sees
}

#[test]
fn partitions_have_the_shapes_that_they_are_named_after() {
    let first = |class| {
        let alone = only("storm", class);
        (0..20).map(move |seed| {
            let plan = draw(&alone, seed);
            let at_ns = begins(&plan.faults[0]).0;
            sees(&plan, at_ns)
        })
    };
    for sees in first(Class::Halves) {
        let sides: BTreeSet<_> = sees.iter().collect();
        assert_eq!(sides.len(), 2, "two sides that do not see one another");
        assert!(
            sides.iter().all(|side| side.len() * 3 >= sees.len()),
            "{sides:?}"
        );
    }
    for sees in first(Class::Minority) {
        let sides: BTreeSet<_> = sees.iter().collect();
        assert_eq!(sides.len(), 2);
        assert!(
            sides.iter().any(|side| side.len() * 2 < sees.len()),
            "{sides:?}"
        );
    }
    for sees in first(Class::Bridge) {
        let all = sees.iter().filter(|seen| seen.len() == sees.len()).count();
        let sides: BTreeSet<_> = sees.iter().filter(|seen| seen.len() < sees.len()).collect();
        assert!(
            all > 0 && sides.len() == 2,
            "{all} see everybody, {} sides",
            sides.len()
        );
        let mut sides = sides.into_iter();
        let (one, other) = (sides.next().unwrap(), sides.next().unwrap());
        assert_eq!(
            one.intersection(other).count(),
            all,
            "the bridge is what both see"
        );
    }
    for sees in first(Class::Ring) {
        assert!(
            sees.iter().all(|seen| seen.len() < sees.len()),
            "nobody sees everybody"
        );
        let different: BTreeSet<_> = sees.iter().collect();
        assert!(different.len() >= 4, "everybody sees others");
        let mut reached = BTreeSet::from([0]);
        while let Some(next) = { reached.iter() }
            .flat_map(|at: &u16| &sees[usize::from(*at)])
            .find(|next| !reached.contains(next))
            .copied()
        {
            reached.insert(next);
        }
        assert_eq!(reached.len(), sees.len(), "the ring is closed");
    }
}

#[test]
fn the_workload_varies_in_every_parameter_and_stays_put_where_the_scenario_says_so() {
    let storm = scenario("storm", &[]);
    let plans: Vec<Plan> = (0..60).map(|seed| draw(&storm, seed)).collect();
    let distinct = |of: fn(&Plan) -> u64| plans.iter().map(of).collect::<BTreeSet<_>>().len();
    assert!(distinct(|plan| plan.operations.len() as u64) > 20);
    let reads = |plan: &Plan| {
        plan.operations
            .iter()
            .filter(|o| o.txn.effects.is_empty())
            .count() as u64
    };
    assert!(distinct(reads) > 10);
    let dependent = |plan: &Plan| {
        plan.operations
            .iter()
            .filter(|o| o.txn.is_dependent())
            .count() as u64
    };
    assert!(distinct(dependent) > 10);
    let keys = |plan: &Plan| {
        let keys = plan
            .operations
            .iter()
            .flat_map(|o| o.txn.footprint(|_| 0).reads);
        keys.collect::<BTreeSet<_>>().len() as u64
    };
    assert!(distinct(keys) > 4);
    let legs = |plan: &Plan| {
        { plan.operations.iter() }
            .map(|o| o.txn.footprint(|_| 0).reads.len())
            .max()
            .unwrap() as u64
    };
    assert!(distinct(legs) > 3);
    let closed = |plan: &Plan| u64::from(matches!(plan.operations[0].start, Start::Think(_)));
    assert_eq!(distinct(closed), 2);

    let fixed = scenario("storm", &[("swarm.workload", "false")]);
    assert_eq!(draw(&fixed, 7).operations, Plan::draw(&fixed, 7).operations);
    assert_ne!(draw(&storm, 7).operations, Plan::draw(&storm, 7).operations);
}

#[test]
fn the_plan_that_a_run_keeps_replays_without_the_aims() {
    let storm = scenario("storm", &[]);
    let mut aimed = 0;
    for seed in 0..24 {
        let plan = draw(&storm, seed);
        for protocol in Registry::standard().names() {
            let run = Registry::standard()
                .run(&storm, protocol, &plan, true)
                .unwrap();
            let kept = run.kept.plan.as_ref().unwrap();
            let resolved = |fault: &&Fault| matches!(fault.when, When::AfterEvent(_));
            aimed += kept.faults.iter().filter(resolved).count();
            assert!(
                !kept
                    .faults
                    .iter()
                    .any(|fault| matches!(fault.when, When::Moment { .. }))
            );
            let again = Registry::standard()
                .run(&storm, protocol, kept, false)
                .unwrap();
            assert_eq!(again.digest, run.digest, "seed {seed}, {protocol}");
        }
    }
    assert!(aimed > 100, "{aimed} faults found their moments");
}

#[test]
fn bounds_that_mean_nothing_are_refused_with_a_place() {
    let text = std::fs::read_to_string("scenarios/storm.toml").unwrap();
    let bad = format!("{text}\n[swarm]\nclasses = [\"earthquake\"]\nepisodes = 0\n");
    let refusal = Registry::standard()
        .read_scenario("bad.toml", &bad, &[])
        .unwrap_err()
        .to_string();
    assert!(
        refusal.contains("there is no class of fault `earthquake`"),
        "{refusal}"
    );
    assert!(refusal.contains("nothing would happen"), "{refusal}");
    let bad = text.replace(
        "at = [\"2s\", \"6s\"]\nfor = [\"100ms\", \"1s\"]",
        "after = { observation = \"voted\", by = \"east\" }\nfor = \"1s\"",
    );
    let refusal = Registry::standard()
        .read_scenario("bad.toml", &bad, &[])
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("`east` is no machine"), "{refusal}");
}

/// A front that had led several groups gave two of them the same stamp after a restart: no order between their batches.
#[test]
fn a_restarted_sequencer_never_stamps_two_groups_alike() {
    let scenario = scenario("crossfire", &[]);
    let run = Registry::standard()
        .run(&scenario, "calvin", &draw(&scenario, 355), false)
        .unwrap();
    assert_eq!(
        run.verdict.verdict,
        ordain::verdict::Conclusion::Kept,
        "{run:?}"
    );
}

/// Every fault kind that `[swarm] permanent` draws.
fn lasting(kind: &FaultKind) -> &'static str {
    match kind {
        FaultKind::Crash { .. } => "crash",
        FaultKind::Pause { .. } => "pause",
        FaultKind::Cut {
            both_ways: true, ..
        } => "cut",
        FaultKind::Cut {
            both_ways: false, ..
        } => "one-way",
        FaultKind::Flap { .. } => "flap",
        FaultKind::Degrade { loss_ppm, .. } if *loss_ppm == 1_000_000 => "lost",
        FaultKind::Degrade { .. } => "lossy",
        FaultKind::FailFlush { .. } => "disk",
        other => panic!("{other:?} does not stay"),
    }
}

/// Something stays broken only where the scenario says so. It comes on top of what would be drawn anyway.
#[test]
fn what_stays_broken_is_drawn_apart_and_of_every_kind() {
    let usual = scenario("storm", &[]);
    let always = scenario("storm", &[("swarm.permanent", "\"100%\"")]);
    let mut kinds = BTreeSet::new();
    for seed in 0..200 {
        let (without, with) = (draw(&usual, seed), draw(&always, seed));
        assert!(without.faults.iter().all(|fault| !fault.permanent));
        let (stay, pass): (Vec<_>, Vec<_>) =
            { with.faults.iter().cloned() }.partition(|fault| fault.permanent);
        assert_eq!(pass, without.faults);
        assert!(!stay.is_empty(), "seed {seed}");
        for fault in &stay {
            assert_eq!(fault.for_ns, None);
            kinds.insert(lasting(&fault.kind));
            if let FaultKind::Crash { nodes, .. } = &fault.kind {
                let machines = &with.environment.machines;
                assert!(
                    nodes
                        .iter()
                        .all(|node| !machines[usize::from(node.0)].client)
                );
            }
        }
    }
    let all = [
        "crash", "cut", "disk", "flap", "lossy", "lost", "one-way", "pause",
    ];
    assert_eq!(kinds, all.into());
}
