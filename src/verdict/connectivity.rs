//! Which machines and links stay broken once a run has healed: what a promise of progress may rest on.
//!
//! It follows from the plan alone. A machine stays down if a permanent fault crashed or paused it, if its disk goes on refusing
//! flushes, or if what it reads when it boots goes on being damaged. A directed link stays broken if a permanent fault cut it,
//! from whichever side it was named, keeps it flapping, or makes it lose every message together with what it loses anyway. A
//! link that is only slow, or loses some of its messages, works: resent messages pass.

use std::collections::BTreeSet;

use crate::base::process::NodeId;
use crate::fault::{Fault, FaultKind};
use crate::plan::Environment;

/// Everything that is lost, in parts per million.
const ALL_PPM: u32 = 1_000_000;

/// The directed links on which a fault that lasts loses messages, each once, and how many.
fn lossy(kind: &FaultKind) -> BTreeSet<(NodeId, NodeId, u32)> {
    let (from, to, back, ppm) = match kind {
        FaultKind::Cut {
            from,
            to,
            both_ways,
        } => (from, to, *both_ways, ALL_PPM),
        FaultKind::Flap { from, to, .. } => (from, to, true, ALL_PPM),
        FaultKind::Degrade {
            from,
            to,
            loss_ppm,
            one_way,
            ..
        } => (from, to, !one_way.0, *loss_ppm),
        _ => return BTreeSet::new(),
    };
    let pairs = from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b)));
    let there = pairs.clone().map(|(a, b)| (a, b, ppm));
    let again = pairs.filter(|_| back).map(|(a, b)| (b, a, ppm));
    there.chain(again).collect()
}

/// The machines that can do no work while a fault lasts.
fn stopped(kind: &FaultKind) -> Vec<NodeId> {
    match kind {
        FaultKind::Crash { nodes, .. } | FaultKind::Pause { nodes } => nodes.clone(),
        FaultKind::FailFlush {
            nodes,
            probability_ppm: 1..,
            ..
        } => nodes.clone(),
        FaultKind::CorruptRead { node, .. } => vec![*node],
        FaultKind::Cut { .. }
        | FaultKind::Flap { .. }
        | FaultKind::Degrade { .. }
        | FaultKind::FailFlush { .. }
        | FaultKind::Slow { .. }
        | FaultKind::SlowFlush { .. }
        | FaultKind::ClockStep { .. }
        | FaultKind::ClockDrift { .. } => Vec::new(),
    }
}

/// The machines that are up after healing, and the directed links that work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connectivity {
    up: Vec<bool>,
    /// By sender, then receiver, whether both are up or not.
    works: Vec<Vec<bool>>,
}

impl Connectivity {
    /// What is left of the machines and links of `environment` when everything has healed but the permanent ones among
    /// `faults`, all of which struck.
    pub fn after_healing(environment: &Environment, faults: &[Fault]) -> Connectivity {
        let machines = environment.machines.len();
        let usually_lost = |from: usize, to: usize| {
            let class = usize::from(environment.links[from][to]);
            environment.link_classes[class].loss_ppm
        };
        let mut lost_ppm: Vec<Vec<u32>> = (0..machines)
            .map(|from| (0..machines).map(|to| usually_lost(from, to)).collect())
            .collect();
        let mut up = vec![true; machines];
        for fault in faults.iter().filter(|fault| fault.permanent) {
            for (from, to, ppm) in lossy(&fault.kind) {
                let lost = &mut lost_ppm[usize::from(from.0)][usize::from(to.0)];
                *lost = lost.saturating_add(ppm);
            }
            for node in stopped(&fault.kind) {
                up[usize::from(node.0)] = false;
            }
        }
        let works = |(from, row): (usize, &Vec<u32>)| {
            let row = row.iter().enumerate();
            row.map(|(to, lost)| from == to || *lost < ALL_PPM)
                .collect()
        };
        Connectivity {
            works: lost_ppm.iter().enumerate().map(works).collect(),
            up,
        }
    }

    /// Whether nothing is broken.
    pub fn is_whole(&self) -> bool {
        self.up.iter().all(|up| *up) && self.works.iter().flatten().all(|works| *works)
    }

    /// Whether the machine is up.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.up[usize::from(node.0)]
    }

    /// Whether both machines are up and messages pass from one to the other.
    pub fn passes(&self, from: NodeId, to: NodeId) -> bool {
        self.is_up(from) && self.is_up(to) && self.works[usize::from(from.0)][usize::from(to.0)]
    }

    /// Whether messages pass both ways.
    pub fn exchange(&self, a: NodeId, b: NodeId) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    /// Whether these machines are up and each exchanges messages with each.
    pub fn all_exchange(&self, nodes: &[NodeId]) -> bool {
        let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (a, b)));
        pairs.into_iter().all(|(a, b)| self.exchange(*a, *b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{CrashLoss, Latency, Link, OneWay, When};
    use crate::plan::Machine;

    const NONE: Latency = Latency {
        base_ns: 0,
        jitter_ns: 0,
    };

    fn nodes(numbers: &[u16]) -> Vec<NodeId> {
        numbers.iter().copied().map(NodeId).collect()
    }

    /// Machines whose links lose this much without any fault.
    fn environment(machines: u16, loss_ppm: u32) -> Environment {
        let machine = |number| Machine {
            name: format!("m{number}"),
            client: false,
            region: 0,
            zone: 0,
            clock_offset_ns: 0,
            clock_drift_ppm: 0,
            handle_ns: 0,
            operation_ns: 0,
            flush: NONE,
        };
        let link = Link {
            latency: NONE,
            bandwidth: 0,
            loss_ppm,
            duplicate_ppm: 0,
            reorder_ppm: 0,
        };
        Environment {
            machines: (0..machines).map(machine).collect(),
            links: vec![vec![0; usize::from(machines)]; usize::from(machines)],
            link_classes: vec![link],
            supervisor_ns: 0,
            safety_ns: 1,
            settle_ns: 1,
            power_cycle_ns: 0,
        }
    }

    fn fault(permanent: bool, kind: FaultKind) -> Fault {
        Fault {
            when: When::At(0),
            for_ns: None,
            permanent,
            kind,
        }
    }

    fn cut(from: &[u16], to: &[u16], both_ways: bool) -> FaultKind {
        FaultKind::Cut {
            from: nodes(from),
            to: nodes(to),
            both_ways,
        }
    }

    fn degrade(from: &[u16], to: &[u16], loss_ppm: u32) -> FaultKind {
        FaultKind::Degrade {
            from: nodes(from),
            to: nodes(to),
            loss_ppm,
            duplicate_ppm: 0,
            reorder_ppm: 0,
            latency: NONE,
            bandwidth: 0,
            one_way: OneWay::NO,
        }
    }

    /// What is left of three machines after one permanent fault.
    fn after(kind: FaultKind) -> Connectivity {
        Connectivity::after_healing(&environment(3, 0), &[fault(true, kind)])
    }

    /// The directed links that work, of three machines.
    fn working(left: &Connectivity) -> Vec<(u16, u16)> {
        let pairs = (0..3).flat_map(|from| (0..3).map(move |to| (from, to)));
        let passes = |(from, to): &(u16, u16)| left.passes(NodeId(*from), NodeId(*to));
        pairs
            .filter(|(from, to)| from != to)
            .filter(passes)
            .collect()
    }

    #[test]
    fn what_heals_leaves_everything_whole() {
        for kind in [
            cut(&[0], &[1, 2], true),
            FaultKind::Pause { nodes: nodes(&[1]) },
        ] {
            let left = Connectivity::after_healing(&environment(3, 0), &[fault(false, kind)]);
            assert!(left.is_whole());
        }
    }

    #[test]
    fn a_cut_breaks_the_same_links_from_whichever_side_it_is_named() {
        let wanted = [(1, 2), (2, 1)];
        assert_eq!(working(&after(cut(&[0], &[1, 2], true))), wanted);
        assert_eq!(working(&after(cut(&[1, 2], &[0], true))), wanted);
        let flap = |from: &[u16], to: &[u16]| FaultKind::Flap {
            from: nodes(from),
            to: nodes(to),
            down_ns: 1,
            up_ns: 1,
        };
        assert_eq!(working(&after(flap(&[0], &[1, 2]))), wanted);
        assert_eq!(working(&after(flap(&[1, 2], &[0]))), wanted);
        assert_eq!(working(&after(degrade(&[0], &[1, 2], ALL_PPM))), wanted);
        assert_eq!(working(&after(degrade(&[1, 2], &[0], ALL_PPM))), wanted);
    }

    #[test]
    fn a_one_way_cut_breaks_one_direction() {
        let left = after(cut(&[0], &[1], false));
        assert!(left.passes(NodeId(1), NodeId(0)) && !left.passes(NodeId(0), NodeId(1)));
        assert!(!left.exchange(NodeId(0), NodeId(1)) && left.exchange(NodeId(0), NodeId(2)));
        assert!(left.all_exchange(&nodes(&[0, 2])) && !left.all_exchange(&nodes(&[0, 1, 2])));
    }

    #[test]
    fn a_link_is_broken_by_loss_where_nothing_is_left() {
        assert!(
            after(degrade(&[0], &[1], ALL_PPM - 1)).is_whole(),
            "resent messages pass"
        );
        let twice = [
            fault(true, degrade(&[0], &[1], ALL_PPM / 2)),
            fault(true, degrade(&[1], &[0, 2], ALL_PPM / 2)),
        ];
        let left = Connectivity::after_healing(&environment(3, 0), &twice);
        assert!(!left.exchange(NodeId(0), NodeId(1)) && left.exchange(NodeId(1), NodeId(2)));
        let usual = [fault(true, degrade(&[0], &[1], ALL_PPM / 2))];
        let left = Connectivity::after_healing(&environment(3, ALL_PPM / 2), &usual);
        assert_eq!(working(&left), [(0, 2), (1, 2), (2, 0), (2, 1)]);
        let deaf = Connectivity::after_healing(&environment(3, ALL_PPM), &[]);
        assert!(working(&deaf).is_empty() && !deaf.is_whole());
    }

    #[test]
    fn a_link_with_a_machine_on_both_sides_of_a_degradation_is_degraded_once() {
        let both = degrade(&[0, 1], &[0, 1, 2], ALL_PPM / 2);
        assert!(after(both).is_whole());
    }

    #[test]
    fn machines_that_are_off_stand_still_or_cannot_write_are_broken_and_slow_ones_are_not() {
        let broken = [
            FaultKind::Crash {
                nodes: nodes(&[1]),
                loss: CrashLoss::Lost,
            },
            FaultKind::Pause { nodes: nodes(&[1]) },
            FaultKind::FailFlush {
                nodes: nodes(&[1]),
                probability_ppm: 1,
                kept_ppm: 0,
            },
            FaultKind::CorruptRead {
                node: NodeId(1),
                port: 0,
                file: 0,
                position: 0,
            },
        ];
        for kind in broken {
            let left = after(kind.clone());
            assert_eq!(working(&left), [(0, 2), (2, 0)], "{kind:?}");
            assert!(!left.is_up(NodeId(1)) && left.is_up(NodeId(0)));
        }
        let percent = 1_000;
        let nodes = nodes(&[1]);
        for kind in [
            FaultKind::Slow {
                nodes: nodes.clone(),
                percent,
            },
            FaultKind::SlowFlush {
                nodes: nodes.clone(),
                percent,
            },
            FaultKind::FailFlush {
                nodes: nodes.clone(),
                probability_ppm: 0,
                kept_ppm: 0,
            },
            FaultKind::ClockStep {
                nodes: nodes.clone(),
                by_ns: -1,
            },
            FaultKind::ClockDrift { nodes, by_ppm: 9 },
        ] {
            assert!(after(kind.clone()).is_whole(), "{kind:?}");
        }
    }
}
