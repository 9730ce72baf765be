//! Faults: when each begins and ends, and what it does to network, disks, clocks and machines.

use std::collections::VecDeque;

use super::disk::{Corruption, Failing};
use super::network::Degradation;
use super::world::{Event, Phase, Tag, World};
use crate::base::digest::stable_hash;
use crate::base::process::{FileId, NodeId, Process};
use crate::fault::{Fault, FaultKind, When};
use crate::sim::trace::TraceKind;

/// The plan's faults and how far each has come.
pub(super) struct Strikes {
    faults: Vec<Fault>,
    states: Vec<State>,
    /// By event count, then position in the plan.
    after_events: VecDeque<(u64, usize)>,
    aims: Vec<Aim>,
    /// Faults whose moment has come.
    due: VecDeque<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Pending,
    Active {
        since_ns: u64,
        /// Whether a flapping link is down.
        down: bool,
    },
    Over {
        since_ns: u64,
        until_ns: u64,
    },
}

/// A fault that waits for an observation.
struct Aim {
    fault: usize,
    from_ns: u64,
    observation: String,
    by: Option<NodeId>,
    left: u32,
}

impl Strikes {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        let mut after_events = Vec::new();
        let mut aims = Vec::new();
        for (fault, planned) in faults.iter().enumerate() {
            match &planned.when {
                When::At(_) => {}
                When::AfterEvent(event) => after_events.push((*event, fault)),
                When::Moment {
                    from_ns,
                    observation,
                    by,
                    count,
                    ..
                } => aims.push(Aim {
                    fault,
                    from_ns: *from_ns,
                    observation: observation.clone(),
                    by: *by,
                    left: (*count).max(1),
                }),
            }
        }
        after_events.sort_unstable();
        Self {
            states: vec![State::Pending; faults.len()],
            faults,
            after_events: after_events.into(),
            aims,
            due: VecDeque::new(),
        }
    }

    /// The faults that begin at a time before `safety_ns`, at the latest.
    pub(super) fn timed(&self, safety_ns: u64) -> Vec<(usize, u64)> {
        let faults = self.faults.iter().enumerate();
        faults
            .filter_map(|(fault, planned)| match planned.when {
                When::At(at_ns)
                | When::Moment {
                    latest_ns: Some(at_ns),
                    ..
                } if at_ns < safety_ns => Some((fault, at_ns)),
                _ => None,
            })
            .collect()
    }

    /// An observation was made on this machine, or the world's own moment came there.
    pub(super) fn watch(&mut self, name: &str, on: NodeId, now_ns: u64) {
        let due = &mut self.due;
        self.aims.retain_mut(|aim| {
            let counts = aim.by.is_none_or(|by| by == on);
            if now_ns >= aim.from_ns && counts && aim.observation == name {
                aim.left -= 1;
                if aim.left == 0 {
                    due.push_back(aim.fault);
                }
            }
            aim.left > 0
        });
    }

    /// No moment counts any more: faults strike in the safety phase only.
    fn stop_watching(&mut self) {
        self.aims.clear();
    }

    /// A fault that begins right now, after this many events.
    pub(super) fn due(&mut self, events: u64) -> Option<usize> {
        if let Some(fault) = self.due.pop_front() {
            return Some(fault);
        }
        if self.after_events.front()?.0 <= events {
            return self.after_events.pop_front().map(|(_, fault)| fault);
        }
        None
    }

    /// Whether a fault begins right now.
    pub(super) fn is_due(&self, events: u64) -> bool {
        let next = self.after_events.front();
        !self.due.is_empty() || next.is_some_and(|(after, _)| *after <= events)
    }

    /// When each fault of the plan struck, and until when; nothing for those that did not. A permanent one does not end:
    /// that it is repaired for the autopsy is no part of the run.
    pub(super) fn struck(&self) -> Vec<Option<(u64, Option<u64>)>> {
        let struck = |(state, fault): (&State, &Fault)| match *state {
            State::Pending => None,
            State::Active { since_ns, .. } => Some((since_ns, None)),
            State::Over { since_ns, until_ns } => {
                Some((since_ns, (!fault.permanent).then_some(until_ns)))
            }
        };
        self.states.iter().zip(&self.faults).map(struck).collect()
    }

    /// The faults, every moment replaced by the number of events after which it came. Those whose moment
    /// never came are left out.
    pub(super) fn resolved(self) -> Vec<Fault> {
        let moment = |fault: &Fault| matches!(fault.when, When::Moment { .. });
        self.faults
            .into_iter()
            .filter(|fault| !moment(fault))
            .collect()
    }
}

impl<P: Process> World<P> {
    pub(super) fn begin_fault(&mut self, fault: usize) {
        if self.phase != Phase::Safety || self.strikes.states[fault] != State::Pending {
            return;
        }
        self.strikes.states[fault] = State::Active {
            since_ns: self.now_ns,
            down: true,
        };
        let events = self.events;
        let planned = &mut self.strikes.faults[fault];
        if let When::Moment { latest_ns, .. } = planned.when {
            planned.when = match latest_ns == Some(self.now_ns) {
                // At equal times the heap hands out the fault before the event that would be its moment.
                true => When::At(self.now_ns),
                false => When::AfterEvent(events),
            };
        }
        let (kind, for_ns) = (planned.kind.clone(), planned.for_ns);
        self.note(Tag::FaultBegin, None, stable_hash(&kind), || {
            TraceKind::FaultBegan { fault }
        });
        if let Some(for_ns) = for_ns {
            self.heap
                .push(self.now_ns.saturating_add(for_ns), Event::FaultEnds(fault));
        }
        self.strike(fault, &kind);
    }

    pub(super) fn end_fault(&mut self, fault: usize) {
        let State::Active { since_ns, down } = self.strikes.states[fault] else {
            return;
        };
        self.strikes.states[fault] = State::Over {
            since_ns,
            until_ns: self.now_ns,
        };
        let kind = self.strikes.faults[fault].kind.clone();
        self.note(Tag::FaultEnd, None, stable_hash(&kind), || {
            TraceKind::FaultEnded { fault }
        });
        self.heal(fault, &kind, since_ns, down);
    }

    /// The safety phase is over: what is not permanent ends, and nothing begins any more.
    pub(super) fn heal_all(&mut self) {
        self.strikes.stop_watching();
        for fault in 0..self.strikes.faults.len() {
            if !self.strikes.faults[fault].permanent {
                self.end_fault(fault);
            }
        }
    }

    /// The settle phase is over: what has stayed broken until now, and keeps machines from recovering, ends. Damage on a
    /// disk stays, and clocks run as they do.
    pub(super) fn end_what_keeps_from_recovery(&mut self) {
        for fault in 0..self.strikes.faults.len() {
            match self.strikes.faults[fault].kind {
                FaultKind::CorruptRead { .. }
                | FaultKind::ClockStep { .. }
                | FaultKind::ClockDrift { .. } => {}
                _ => self.end_fault(fault),
            }
        }
    }

    fn strike(&mut self, fault: usize, kind: &FaultKind) {
        match kind {
            FaultKind::Cut {
                from,
                to,
                both_ways,
            } => {
                self.network.lock().cut(from, to);
                if *both_ways {
                    self.network.lock().cut(to, from);
                }
            }
            FaultKind::Flap {
                from, to, down_ns, ..
            } => {
                self.cut_both_ways(from, to);
                self.heap.push(self.now_ns + down_ns, Event::Flap(fault));
            }
            FaultKind::Degrade {
                from,
                to,
                loss_ppm,
                duplicate_ppm,
                reorder_ppm,
                latency,
                bandwidth,
                one_way,
            } => {
                let by = Degradation {
                    loss_ppm: *loss_ppm,
                    duplicate_ppm: *duplicate_ppm,
                    reorder_ppm: *reorder_ppm,
                    latency: *latency,
                    bandwidth: *bandwidth,
                };
                self.network.lock().degrade(fault, (from, to, *one_way), by);
            }
            FaultKind::Crash { nodes, loss } => each(nodes, |node| self.hold_down(node, *loss)),
            FaultKind::Pause { nodes } => each(nodes, |node| self.pause(node)),
            FaultKind::Slow { nodes, percent } => each(nodes, |node| {
                self.machine(node).slowdowns.push(*percent);
                self.disks.lock().slow(node, *percent);
            }),
            FaultKind::SlowFlush { nodes, percent } => {
                each(nodes, |node| self.disks.lock().slow(node, *percent));
            }
            FaultKind::FailFlush {
                nodes,
                probability_ppm,
                kept_ppm,
            } => {
                let failing = failing(*probability_ppm, *kept_ppm);
                each(nodes, |node| self.disks.lock().fail(node, failing));
            }
            FaultKind::CorruptRead { node, .. } => {
                self.disks.lock().corrupt(*node, corruption(kind))
            }
            FaultKind::ClockStep { nodes, by_ns } => {
                each(nodes, |node| self.step_clock(node, *by_ns));
            }
            FaultKind::ClockDrift { nodes, by_ppm } => {
                each(nodes, |node| self.drift(node, *by_ppm))
            }
        }
    }

    fn heal(&mut self, fault: usize, kind: &FaultKind, since_ns: u64, down: bool) {
        match kind {
            FaultKind::Cut {
                from,
                to,
                both_ways,
            } => {
                self.network.lock().mend(from, to);
                if *both_ways {
                    self.network.lock().mend(to, from);
                }
            }
            FaultKind::Flap { from, to, .. } if down => self.mend_both_ways(from, to),
            FaultKind::Flap { .. } => {}
            FaultKind::Degrade { .. } => self.network.lock().restore(fault),
            FaultKind::Crash { nodes, .. } => each(nodes, |node| self.release(node)),
            FaultKind::Pause { nodes } => each(nodes, |node| self.resume(node)),
            FaultKind::Slow { nodes, percent } => each(nodes, |node| {
                super::disk::remove_one(&mut self.machine(node).slowdowns, percent);
                self.disks.lock().unslow(node, *percent);
            }),
            FaultKind::SlowFlush { nodes, percent } => {
                each(nodes, |node| self.disks.lock().unslow(node, *percent));
            }
            FaultKind::FailFlush {
                nodes,
                probability_ppm,
                kept_ppm,
            } => {
                let failing = failing(*probability_ppm, *kept_ppm);
                each(nodes, |node| self.disks.lock().unfail(node, failing));
            }
            FaultKind::CorruptRead { node, .. } => {
                self.disks.lock().uncorrupt(*node, corruption(kind))
            }
            FaultKind::ClockStep { nodes, by_ns } => {
                each(nodes, |node| self.step_clock(node, -by_ns));
            }
            FaultKind::ClockDrift { nodes, by_ppm } => {
                let elapsed_ns = i128::from(self.now_ns - since_ns);
                let gained_ns = (elapsed_ns * i128::from(*by_ppm) / 1_000_000) as i64;
                each(nodes, |node| {
                    self.drift(node, -by_ppm);
                    self.step_clock(node, -gained_ns);
                });
            }
        }
    }

    /// A flapping link changes.
    pub(super) fn flap(&mut self, fault: usize) {
        let State::Active { since_ns, down } = self.strikes.states[fault] else {
            return;
        };
        let FaultKind::Flap {
            from,
            to,
            down_ns,
            up_ns,
        } = self.strikes.faults[fault].kind.clone()
        else {
            unreachable!("only flapping links flap");
        };
        self.strikes.states[fault] = State::Active {
            since_ns,
            down: !down,
        };
        let lasts_ns = if down {
            self.mend_both_ways(&from, &to);
            up_ns
        } else {
            self.cut_both_ways(&from, &to);
            down_ns
        };
        self.heap.push(self.now_ns + lasts_ns, Event::Flap(fault));
    }

    fn cut_both_ways(&mut self, from: &[NodeId], to: &[NodeId]) {
        let mut network = self.network.lock();
        network.cut(from, to);
        network.cut(to, from);
    }

    fn mend_both_ways(&mut self, from: &[NodeId], to: &[NodeId]) {
        let mut network = self.network.lock();
        network.mend(from, to);
        network.mend(to, from);
    }

    fn step_clock(&mut self, node: NodeId, by_ns: i64) {
        self.clocks.lock().step_wall(node, by_ns);
        self.read_clock_anew(node);
    }

    fn drift(&mut self, node: NodeId, by_ppm: i32) {
        let anew = self.clocks.lock().drift(node, by_ppm, self.now_ns);
        self.read_clock_anew(node);
        for (of, timer, scheduled) in anew {
            self.one_more_stale_timer();
            self.heap.push(
                scheduled.at_ns,
                Event::Timer {
                    of,
                    timer,
                    arming: scheduled.arming,
                },
            );
        }
    }
}

/// Every machine that a fault names, once.
fn each(nodes: &[NodeId], mut apply: impl FnMut(NodeId)) {
    let mut distinct = nodes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct.into_iter().for_each(&mut apply);
}

fn failing(probability_ppm: u32, kept_ppm: u32) -> Failing {
    Failing {
        probability_ppm,
        kept_ppm,
    }
}

fn corruption(kind: &FaultKind) -> Corruption {
    match kind {
        FaultKind::CorruptRead {
            port,
            file,
            position,
            ..
        } => Corruption {
            port: *port,
            file: FileId(*file),
            position: *position,
        },
        _ => unreachable!("only corrupted reads corrupt"),
    }
}
