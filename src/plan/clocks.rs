//! How far wall clocks get from true time: whether a run kept the bound that its scenario declares.
//!
//! This is arithmetic on the plan and on the times at which its faults began and ended. It shares nothing with
//! `sim::clock`, and a property test holds one against the other.

use serde::{Deserialize, Serialize};

use super::Environment;
use crate::base::process::NodeId;
use crate::fault::{Fault, FaultKind, When};

/// Clocks count whole nanoseconds: each change of rate or reading rounds once.
const ROUNDING_NS: i128 = 16;

const MILLION: i128 = 1_000_000;

/// A machine whose wall clock left the declared bound.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Lie {
    /// The machine.
    pub node: NodeId,
    /// When its clock was first seen to be outside of the bound, at a fault's begin or end, or at the run's end; in
    /// nanoseconds of true time.
    pub at_ns: u64,
    /// Its greatest distance from true time in the run, in nanoseconds; positive: fast.
    pub most_ns: i64,
}

/// When a fault began and, if it did, ended; in nanoseconds. `None`: it never struck.
pub type Struck = Option<(u64, Option<u64>)>;

/// The machines whose clocks left `bound_ns` before `end_ns`, given when each fault struck.
///
/// A clock's distance from true time is linear between the times at which faults begin and end, so it is greatest at one
/// of these, or at the end.
pub fn lies(
    environment: &Environment,
    faults: &[Fault],
    struck: &[Struck],
    bound_ns: u64,
    end_ns: u64,
) -> Vec<Lie> {
    let mut times: Vec<u64> = { struck.iter().flatten() }
        .flat_map(|(began_ns, ended_ns)| [Some(*began_ns), *ended_ns])
        .flatten()
        .filter(|at_ns| *at_ns < end_ns)
        .chain([0, end_ns])
        .collect();
    times.sort_unstable();
    times.dedup();
    let nodes = (0..environment.machines.len() as u16).map(NodeId);
    let lie_of = |node: NodeId| {
        let machine = &environment.machines[usize::from(node.0)];
        let error_ns = |at_ns: u64, after: bool| {
            let mut error = i128::from(machine.clock_offset_ns)
                + i128::from(at_ns) * i128::from(machine.clock_drift_ppm) / MILLION;
            for (fault, struck) in faults.iter().zip(struck) {
                error += moved_ns(fault, *struck, node, at_ns, after);
            }
            error
        };
        let mut lie: Option<Lie> = None;
        for at_ns in &times {
            // A step shows after its instant, and the end of a drift before it.
            for after in [false, true] {
                let error = error_ns(*at_ns, after);
                if error.abs() <= i128::from(bound_ns) + ROUNDING_NS {
                    continue;
                }
                let error = error.clamp(i128::from(i64::MIN + 1), i128::from(i64::MAX)) as i64;
                let lie = lie.get_or_insert(Lie {
                    node,
                    at_ns: *at_ns,
                    most_ns: 0,
                });
                if error.abs() > lie.most_ns.abs() {
                    lie.most_ns = error;
                }
            }
        }
        lie
    };
    nodes.filter_map(lie_of).collect()
}

/// When each fault strikes if it does, as far as the plan tells; at worst from the start and for good.
pub fn planned(environment: &Environment, faults: &[Fault]) -> Vec<Struck> {
    let end_ns = environment.safety_ns;
    let strikes = |fault: &Fault| match fault.when {
        When::At(at_ns) => {
            let ends_ns = fault.for_ns.map_or(end_ns, |for_ns| at_ns + for_ns);
            Some((at_ns, (!fault.permanent).then_some(ends_ns.min(end_ns))))
        }
        When::AfterEvent(_) | When::Moment { .. } => Some((0, None)),
    };
    faults.iter().map(strikes).collect()
}

/// By how much a fault has moved a machine's clock at a time: just before what happens at that instant, or just after it.
fn moved_ns(fault: &Fault, struck: Struck, node: NodeId, at_ns: u64, after: bool) -> i128 {
    let Some((began_ns, ended_ns)) = struck else {
        return 0;
    };
    let passed = |instant_ns: u64| instant_ns < at_ns || (after && instant_ns == at_ns);
    if !passed(began_ns) || ended_ns.is_some_and(passed) {
        return 0;
    }
    match &fault.kind {
        FaultKind::ClockStep { nodes, by_ns } if nodes.contains(&node) => i128::from(*by_ns),
        FaultKind::ClockDrift { nodes, by_ppm } if nodes.contains(&node) => {
            i128::from(at_ns - began_ns) * i128::from(*by_ppm) / MILLION
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Latency;
    use crate::plan::Machine;

    fn environment(offset_ns: i64, drift_ppm: i32) -> Environment {
        let flush = Latency {
            base_ns: 0,
            jitter_ns: 0,
        };
        Environment {
            machines: vec![Machine {
                name: "here".into(),
                client: false,
                region: 0,
                zone: 0,
                clock_offset_ns: offset_ns,
                clock_drift_ppm: drift_ppm,
                handle_ns: 0,
                operation_ns: 0,
                flush,
            }],
            links: Vec::new(),
            link_classes: Vec::new(),
            supervisor_ns: 0,
            safety_ns: 10_000,
            settle_ns: 0,
            power_cycle_ns: 0,
        }
    }

    fn fault(kind: FaultKind) -> Fault {
        Fault {
            when: When::At(0),
            for_ns: None,
            permanent: false,
            kind,
        }
    }

    #[test]
    fn a_step_lies_from_its_begin_and_one_that_never_strikes_does_not() {
        let nodes = vec![NodeId(0)];
        let step = [fault(FaultKind::ClockStep { nodes, by_ns: -900 })];
        let told = |struck| lies(&environment(100, 0), &step, &[struck], 700, 10_000);
        let lie = Lie {
            node: NodeId(0),
            at_ns: 300,
            most_ns: -800,
        };
        assert_eq!(told(Some((300, Some(400)))), [lie]);
        assert_eq!(told(Some((300, None))), [lie]);
        assert_eq!(told(None), []);
        assert_eq!(
            lies(
                &environment(100, 0),
                &step,
                &[Some((300, None))],
                800,
                10_000
            ),
            []
        );
    }

    #[test]
    fn a_drift_lies_once_it_has_gained_enough_and_is_forgotten_when_it_ends() {
        let nodes = vec![NodeId(0)];
        let drift = [fault(FaultKind::ClockDrift {
            nodes,
            by_ppm: 500_000,
        })];
        let told = |ended_ns, bound_ns| {
            let struck = [Some((1_000, Some(ended_ns)))];
            lies(&environment(0, 0), &drift, &struck, bound_ns, 10_000)
        };
        assert_eq!(told(2_000, 500), []);
        let lie = Lie {
            node: NodeId(0),
            at_ns: 3_000,
            most_ns: 1_000,
        };
        assert_eq!(told(3_000, 500), [lie]);
        // A machine's own drift counts, too: to the end of the run.
        let lie = Lie {
            node: NodeId(0),
            at_ns: 10_000,
            most_ns: -1_000,
        };
        assert_eq!(
            lies(&environment(0, -100_000), &[], &[], 900, 10_000),
            [lie]
        );
    }
}
