//! Edits within the elements of a plan: what a fault strikes and for how long, what a transaction does, and
//! the noise of the world. Every edit makes the plan simpler in a way that cannot go on for ever.

use super::search::{Case, Edit};
use crate::base::process::NodeId;
use crate::base::txn::{Effect, Op, Target, Txn};
use crate::fault::{CrashLoss, Fault, FaultKind, Latency, Link, When};
use crate::plan::{Environment, Machine, Plan, Start};
use crate::scenario::WorkloadKind;

/// An edit of the plan alone; `false` where it changes nothing.
fn on_plan(edit: impl Fn(&mut Plan) -> bool + Send + Sync + 'static) -> Edit {
    Box::new(move |case| {
        let mut case = case.clone();
        edit(&mut case.plan).then_some(case)
    })
}

fn set<T: PartialEq>(field: &mut T, value: T) -> bool {
    let changes = *field != value;
    *field = value;
    changes
}

/// Edits that calm the world: noise of links, clocks and disks, the power cut at the end. All at once first,
/// then kind by kind, then one by one.
pub(super) fn calm(case: &Case) -> Vec<Edit> {
    let environment = &case.plan.environment;
    let (classes, machines) = (environment.link_classes.len(), environment.machines.len());
    let mut edits = vec![
        on_plan(|plan| {
            let links = all_links(&mut plan.environment, |link| calm_link(link, ALL_NOISE));
            let machines = all_machines(&mut plan.environment, |machine| {
                calm_clock(machine) | set(&mut machine.flush.jitter_ns, 0)
            });
            links | machines
        }),
        on_plan(|plan| all_links(&mut plan.environment, |link| calm_link(link, ALL_NOISE))),
        on_plan(|plan| all_machines(&mut plan.environment, calm_clock)),
        on_plan(|plan| all_machines(&mut plan.environment, |m| set(&mut m.flush.jitter_ns, 0))),
        on_plan(|plan| set(&mut plan.environment.power_cycle_ns, 0)),
    ];
    for noise in 0..NOISES {
        edits.push(on_plan(move |plan| {
            all_links(&mut plan.environment, |link| calm_link(link, 1 << noise))
        }));
    }
    for class in 0..classes {
        edits.extend((0..NOISES).map(|noise| {
            on_plan(move |plan| calm_link(&mut plan.environment.link_classes[class], 1 << noise))
        }));
    }
    for at in 0..machines {
        let machine = move |plan: &mut Plan, calm: fn(&mut Machine) -> bool| {
            calm(&mut plan.environment.machines[at])
        };
        edits.push(on_plan(move |plan| {
            machine(plan, |m| set(&mut m.clock_offset_ns, 0))
        }));
        edits.push(on_plan(move |plan| {
            machine(plan, |m| set(&mut m.clock_drift_ppm, 0))
        }));
        edits.push(on_plan(move |plan| {
            machine(plan, |m| set(&mut m.flush.jitter_ns, 0))
        }));
    }
    edits
}

/// Edits that leave options as the scenario states them: all that were drawn, then one by one.
pub(super) fn as_stated(case: &Case) -> Vec<Edit> {
    let mut edits = vec![on_plan(|plan| {
        let any = plan.options.values().any(|drawn| !drawn.is_empty());
        plan.options.clear();
        any
    })];
    for (protocol, drawn) in &case.plan.options {
        edits.extend(drawn.keys().map(|name| {
            let (protocol, name) = (protocol.clone(), name.clone());
            on_plan(move |plan| {
                let drawn = plan.options.get_mut(&protocol);
                drawn.is_some_and(|drawn| drawn.remove(&name).is_some())
            })
        }));
    }
    edits
}

const NOISES: u8 = 5;
const ALL_NOISE: u8 = (1 << NOISES) - 1;

/// Removes the kinds of noise in the set: loss, duplication, reordering, jitter, limited bandwidth.
fn calm_link(link: &mut Link, noise: u8) -> bool {
    let on = |bit: u8| noise & (1 << bit) != 0;
    (on(0) && set(&mut link.loss_ppm, 0))
        | (on(1) && set(&mut link.duplicate_ppm, 0))
        | (on(2) && set(&mut link.reorder_ppm, 0))
        | (on(3) && set(&mut link.latency.jitter_ns, 0))
        | (on(4) && set(&mut link.bandwidth, 0))
}

fn calm_clock(machine: &mut Machine) -> bool {
    set(&mut machine.clock_offset_ns, 0) | set(&mut machine.clock_drift_ppm, 0)
}

fn all_links(environment: &mut Environment, calm: impl Fn(&mut Link) -> bool) -> bool {
    let links = environment.link_classes.iter_mut();
    links.fold(false, |changed, link| calm(link) | changed)
}

fn all_machines(environment: &mut Environment, calm: impl Fn(&mut Machine) -> bool) -> bool {
    let machines = environment.machines.iter_mut();
    machines.fold(false, |changed, machine| calm(machine) | changed)
}

/// Edits within each fault: fewer machines, one direction, a simpler kind.
pub(super) fn within_faults(case: &Case) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (at, fault) in case.plan.faults.iter().enumerate() {
        let mut kind = fault.kind.clone();
        let lists = kind.node_lists().into_iter();
        let lens: Vec<usize> = lists.map(|list| list.len()).collect();
        for (list, len) in lens.into_iter().enumerate().filter(|(_, len)| *len > 1) {
            let keep = |range: std::ops::Range<usize>| {
                on_plan(move |plan| {
                    let mut lists = plan.faults[at].kind.node_lists();
                    *lists[list] = lists[list][range.clone()].to_vec();
                    true
                })
            };
            edits.extend([keep(0..len / 2), keep(len / 2..len)]);
            edits.extend((0..len).map(|gone| {
                on_plan(move |plan| {
                    plan.faults[at].kind.node_lists()[list].remove(gone);
                    true
                })
            }));
        }
        let simpler = simpler_faults(fault).into_iter();
        edits.extend(
            simpler.map(|simpler| on_plan(move |plan| set(&mut plan.faults[at], simpler.clone()))),
        );
    }
    edits
}

/// The same fault in simpler kinds. Repeating a step ends, because no kind comes back to an earlier one.
fn simpler_faults(fault: &Fault) -> Vec<Fault> {
    let as_kind = |kind: FaultKind| Fault {
        kind,
        ..fault.clone()
    };
    let mut simpler = Vec::new();
    if fault.permanent {
        simpler.push(Fault {
            permanent: false,
            ..fault.clone()
        });
    }
    match &fault.kind {
        FaultKind::Cut {
            from,
            to,
            both_ways: true,
        } => {
            let one_way = |from: &[NodeId], to: &[NodeId]| FaultKind::Cut {
                from: from.to_vec(),
                to: to.to_vec(),
                both_ways: false,
            };
            simpler.extend([as_kind(one_way(from, to)), as_kind(one_way(to, from))]);
        }
        FaultKind::Flap { from, to, .. } => simpler.push(as_kind(FaultKind::Cut {
            from: from.clone(),
            to: to.clone(),
            both_ways: true,
        })),
        FaultKind::Crash { nodes, loss } if *loss != CrashLoss::Lost => {
            simpler.push(as_kind(FaultKind::Crash {
                nodes: nodes.clone(),
                loss: CrashLoss::Lost,
            }));
        }
        FaultKind::Degrade { .. } => {
            simpler.extend(
                (0..6)
                    .filter_map(|part| less_degraded(&fault.kind, part))
                    .map(as_kind),
            );
        }
        _ => {}
    }
    simpler
}

/// The degradation without one of its parts.
fn less_degraded(kind: &FaultKind, part: usize) -> Option<FaultKind> {
    let mut kind = kind.clone();
    let FaultKind::Degrade {
        loss_ppm,
        duplicate_ppm,
        reorder_ppm,
        latency: Latency { base_ns, jitter_ns },
        bandwidth,
        ..
    } = &mut kind
    else {
        return None;
    };
    let changed = match part {
        0 => set(loss_ppm, 0),
        1 => set(duplicate_ppm, 0),
        2 => set(reorder_ppm, 0),
        3 => set(base_ns, 0),
        4 => set(jitter_ns, 0),
        _ => set(bandwidth, 0),
    };
    changed.then_some(kind)
}

/// Edits of times: the safety phase and faults shorter, instants round.
///
/// The settle phase and the recovery after the power cut keep their lengths: they are the bounds that the
/// verdict judges by, and a shorter bound would make failures of its own.
pub(super) fn times(case: &Case) -> Vec<Edit> {
    let plan = &case.plan;
    let mut edits: Vec<Edit> = Vec::new();
    for safety_ns in shorter_safety(plan) {
        edits.push(on_plan(move |plan| {
            set(&mut plan.environment.safety_ns, safety_ns)
        }));
    }
    for (at, fault) in plan.faults.iter().enumerate() {
        if let Some(for_ns) = fault.for_ns {
            edits.extend(
                shorter(for_ns).into_iter().map(|for_ns| {
                    on_plan(move |plan| set(&mut plan.faults[at].for_ns, Some(for_ns)))
                }),
            );
        }
        edits.extend(
            simpler_moments(&fault.when)
                .into_iter()
                .map(|when| on_plan(move |plan| set(&mut plan.faults[at].when, when.clone()))),
        );
    }
    if plan.operations.len() <= ROUNDED_MAX {
        for (at, operation) in plan.operations.iter().enumerate() {
            let Start::At(start_ns) = operation.start else {
                continue;
            };
            edits.extend(
                rounder(start_ns).into_iter().map(|ns| {
                    on_plan(move |plan| set(&mut plan.operations[at].start, Start::At(ns)))
                }),
            );
        }
    }
    edits
}

/// Instants of more operations than this are left as they are: nobody reads them.
const ROUNDED_MAX: usize = 16;

/// Shorter safety phases in which every operation still starts. Sessions that wait for a reply start at
/// times that nobody can tell beforehand: then none.
fn shorter_safety(plan: &Plan) -> Vec<u64> {
    let start = |start: Start| match start {
        Start::At(ns) => Some(ns),
        Start::Think(_) | Start::Retry { .. } => None,
    };
    let starts: Option<Vec<u64>> = { plan.operations.iter() }
        .map(|operation| start(operation.start))
        .collect();
    let Some(last) = starts.map(|starts| starts.into_iter().max().unwrap_or(0)) else {
        return Vec::new();
    };
    let safety_ns = plan.environment.safety_ns;
    let next_second = (last / 1_000_000_000 + 1) * 1_000_000_000;
    let mut candidates = shorter(safety_ns);
    candidates.push(next_second);
    candidates.retain(|ns| *ns > last && *ns < safety_ns);
    candidates.sort_unstable();
    candidates.dedup();
    candidates
}

fn simpler_moments(when: &When) -> Vec<When> {
    match when {
        When::At(ns) => rounder(*ns).into_iter().map(When::At).collect(),
        When::AfterEvent(_) => Vec::new(),
        When::Moment { .. } => {
            let mut simpler = Vec::new();
            for step in 0..3 {
                let mut when = when.clone();
                let When::Moment {
                    from_ns,
                    count,
                    latest_ns,
                    ..
                } = &mut when
                else {
                    unreachable!("matched above");
                };
                let changed = match step {
                    0 => set(latest_ns, None),
                    1 => set(count, 1),
                    _ => set(from_ns, 0),
                };
                if changed {
                    simpler.push(when);
                }
            }
            simpler
        }
    }
}

const SHORTEST_NS: u64 = 1_000_000;

/// Shorter durations in round figures, the shortest first, down to a millisecond.
fn shorter(ns: u64) -> Vec<u64> {
    let mut candidates: Vec<u64> = [
        ns / 100,
        ns / 10,
        ns / 4,
        ns / 2,
        ns * 3 / 4,
        ns - ns.min(1),
    ]
    .into_iter()
    .map(|ns| leading_digit(ns).max(SHORTEST_NS))
    .filter(|candidate| *candidate < ns)
    .collect();
    candidates.sort_unstable();
    candidates.dedup();
    candidates
}

/// The number with all but its leading digit replaced by zeros.
fn leading_digit(ns: u64) -> u64 {
    let unit = 10_u64.pow(ns.checked_ilog10().unwrap_or(0));
    ns / unit * unit
}

/// The instant rounded to seconds, tenths of a second, and so on to milliseconds, where that has fewer
/// digits: the roundest first, down before up.
fn rounder(ns: u64) -> Vec<u64> {
    let mut candidates = Vec::new();
    for unit in [1_000_000_000, 100_000_000, 10_000_000, 1_000_000] {
        candidates.extend([ns / unit * unit, (ns / unit + 1) * unit]);
    }
    candidates.retain(|candidate| digits(*candidate) < digits(ns));
    candidates.dedup();
    candidates
}

/// Number of decimal digits before the trailing zeros.
fn digits(mut ns: u64) -> u32 {
    while ns != 0 && ns.is_multiple_of(10) {
        ns /= 10;
    }
    ns.checked_ilog10().map_or(0, |log| log + 1)
}

/// Edits within each transaction: fewer reads, guards and effects, no dependence on values.
pub(super) fn within_transactions(case: &Case) -> Vec<Edit> {
    let workload = &case.scenario.workload;
    let kind = (workload.kind, workload.conserved.as_slice());
    let mut edits = Vec::new();
    for (at, operation) in case.plan.operations.iter().enumerate() {
        edits.extend(
            simpler_txns(kind, &operation.txn)
                .into_iter()
                .map(|txn| on_plan(move |plan| set(&mut plan.operations[at].txn, txn.clone()))),
        );
    }
    edits
}

/// The same transaction with one thing less, as far as the workload's invariant stays true of it: a transfer
/// that debits and does not credit would break the sum by itself, and a booking that does not look whether
/// the seat is free would sell it twice.
fn simpler_txns(kind: (WorkloadKind, &[usize]), txn: &Txn) -> Vec<Txn> {
    let mut simpler = Vec::new();
    let without_read = |read: usize| {
        let mut txn = txn.clone();
        txn.reads.remove(read);
        txn
    };
    if !txn.is_read_only() || txn.reads.len() > 1 {
        simpler.extend((0..txn.reads.len()).map(without_read));
    }
    let guards = match kind.0 {
        WorkloadKind::SeatBooking => 1..txn.guards.len().max(1),
        _ => 0..txn.guards.len(),
    };
    simpler.extend(guards.map(|guard| {
        let mut txn = txn.clone();
        txn.guards.remove(guard);
        txn
    }));
    simpler.extend((0..txn.effects.len()).filter_map(|effect| without_effect(kind, txn, effect)));
    for (at, effect) in txn.effects.iter().enumerate() {
        if let Target::Choice {
            then, otherwise, ..
        } = effect.target
        {
            for key in [then, otherwise] {
                let mut txn = txn.clone();
                txn.effects[at].target = Target::Key(key);
                simpler.push(txn);
            }
        }
    }
    simpler
}

fn without_effect(
    (kind, conserved): (WorkloadKind, &[usize]),
    txn: &Txn,
    gone: usize,
) -> Option<Txn> {
    let mut txn = txn.clone();
    let effect = txn.effects[gone];
    match kind {
        WorkloadKind::ListAppend | WorkloadKind::Register => {}
        WorkloadKind::SeatBooking if gone >= 2 => {}
        WorkloadKind::SeatBooking => return None,
        WorkloadKind::Settlement => balance(&mut txn, gone, effect, |a, b| table(a) == table(b))?,
        WorkloadKind::Transfer => balance(&mut txn, gone, effect, |_, _| true)?,
        WorkloadKind::Steps => {
            let counts = |effect: &Effect| conserved.contains(&usize::from(table(effect)));
            if counts(&effect) {
                balance(&mut txn, gone, effect, |other, _| counts(other))?;
            }
        }
    }
    remove_effects(&mut txn, |at, _| at == gone);
    remove_effects(&mut txn, |_, effect| effect.op == Op::Add(0));
    (!txn.effects.is_empty() || !txn.reads.is_empty()).then_some(txn)
}

fn table(effect: &Effect) -> u8 {
    match effect.target {
        Target::Key(key) | Target::Choice { then: key, .. } => key.table.0,
    }
}

/// Takes what a removed effect added from another one of the opposite sign, so that the sum stays the same.
fn balance(
    txn: &mut Txn,
    gone: usize,
    removed: Effect,
    same_sum: impl Fn(&Effect, &Effect) -> bool,
) -> Option<()> {
    let Op::Add(by) = removed.op else {
        return None;
    };
    let mut others = txn.effects.iter_mut().enumerate();
    let (_, other) = others.find(|(at, other)| {
        let opposite =
            matches!(other.op, Op::Add(add) if (add < 0) != (by < 0) && add.abs() >= by.abs());
        *at != gone && opposite && same_sum(other, &removed)
    })?;
    if let Op::Add(add) = &mut other.op {
        *add += by;
    }
    Some(())
}

/// Removes effects, and lets the pivot stay at the effect that it was at, or at the last one left.
fn remove_effects(txn: &mut Txn, gone: impl Fn(usize, &Effect) -> bool) {
    let pivot = txn.pivot.map(usize::from);
    let kept: Vec<(usize, Effect)> = { txn.effects.iter().copied().enumerate() }
        .filter(|(at, effect)| !gone(*at, effect))
        .collect();
    txn.pivot = pivot.filter(|_| !kept.is_empty()).map(|pivot| {
        let before = kept.iter().filter(|(at, _)| *at < pivot).count();
        before.min(kept.len() - 1) as u16
    });
    txn.effects = kept.into_iter().map(|(_, effect)| effect).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::txn::{Key, TableId, TxnId};

    fn add(table: u8, row: u32, by: i64) -> Effect {
        let table = TableId(table);
        Effect {
            target: Target::Key(Key { table, row }),
            op: Op::Add(by),
        }
    }

    fn txn(effects: Vec<Effect>, pivot: Option<u16>) -> Txn {
        Txn {
            id: TxnId(1),
            reads: vec![],
            guards: vec![],
            effects,
            pivot,
        }
    }

    fn sum(txn: &Txn, of: u8) -> i64 {
        let by = |effect: &Effect| match effect.op {
            Op::Add(by) if table(effect) == of => by,
            _ => 0,
        };
        txn.effects.iter().map(by).sum()
    }

    #[test]
    fn a_shorter_transfer_still_moves_what_it_takes() {
        let transfer = txn(vec![add(0, 1, -20), add(1, 2, 10), add(2, 3, 10)], None);
        let shorter = simpler_txns((WorkloadKind::Transfer, &[]), &transfer);
        assert_eq!(
            shorter.len(),
            2,
            "either credit can go, the debit cannot: {shorter:?}"
        );
        for txn in shorter {
            assert_eq!(txn.effects.len(), 2);
            assert_eq!((0..3).map(|of| sum(&txn, of)).sum::<i64>(), 0);
        }
    }

    #[test]
    fn a_shorter_settlement_keeps_the_sum_of_each_table() {
        let trade = vec![add(1, 1, -7), add(0, 1, -5), add(0, 2, 5), add(1, 2, 7)];
        let shorter = simpler_txns((WorkloadKind::Settlement, &[]), &txn(trade, None));
        assert!(!shorter.is_empty());
        for txn in shorter {
            assert_eq!((txn.effects.len(), sum(&txn, 0), sum(&txn, 1)), (2, 0, 0));
        }
    }

    #[test]
    fn a_shorter_booking_keeps_seat_and_charge_and_its_pivot() {
        let booking = vec![add(0, 1, -1), add(1, 1, -9), add(2, 1, 1), add(3, 1, 1)];
        let shorter = simpler_txns((WorkloadKind::SeatBooking, &[]), &txn(booking, Some(1)));
        assert_eq!(shorter.len(), 2);
        for txn in shorter {
            assert_eq!((txn.effects.len(), txn.pivot), (3, Some(1)));
            assert_eq!((sum(&txn, 0), sum(&txn, 1)), (-1, -9));
        }
    }

    #[test]
    fn rounding_ends_and_every_step_has_fewer_digits_or_is_shorter() {
        for ns in [0, 1, 999, 1_234_567_891, 2_000_000_000, 8_123_456_000] {
            assert!(rounder(ns).iter().all(|r| digits(*r) < digits(ns)), "{ns}");
            assert!(
                shorter(ns).iter().all(|s| *s < ns && digits(*s) <= 1),
                "{ns}"
            );
        }
        assert_eq!(rounder(1_234_567_891)[..2], [1_000_000_000, 2_000_000_000]);
        assert!(shorter(SHORTEST_NS).is_empty() && rounder(3_000_000_000).is_empty());
    }
}
