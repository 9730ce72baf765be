//! Clocks and timers: a madsim simulator plugin.
//!
//! madsim has one clock for all nodes. Here every machine has its own rate, and a wall clock that may be
//! wrong, drift and step. Timers run on the machine's rate and do not notice steps. A crash disarms the
//! timers; a machine's clock goes on running while the machine is down.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};

use madsim::plugin::Simulator;
use madsim::rand::GlobalRng;
use madsim::time::TimeHandle;

use super::hosts::Hosts;
use crate::base::process::{Addr, Delay, NodeId, WallTime};
use crate::plan::Environment;
use crate::plan::fates::{Sequence, Teller};

const MILLION: i128 = 1_000_000;

/// The simulator; its state is filled in before the nodes are created.
pub(super) struct Clocks<T> {
    state: Mutex<ClockState<T>>,
}

impl<T> Clocks<T> {
    pub(super) fn lock(&self) -> MutexGuard<'_, ClockState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Ord + Debug + Send + Sync + 'static> Simulator for Clocks<T> {
    fn new(_: &GlobalRng, _: &TimeHandle, _: &madsim::Config) -> Self {
        Self {
            state: Mutex::new(ClockState {
                hosts: Hosts::default(),
                clocks: Vec::new(),
                timers: Vec::new(),
                next_arming: 0,
            }),
        }
    }

    fn create_node(&self, id: madsim::task::NodeId) {
        self.lock().hosts.add(id);
    }

    fn reset_node(&self, id: madsim::task::NodeId) {
        let mut state = self.lock();
        if let Some(node) = state.hosts.node(id) {
            for timers in &mut state.timers[usize::from(node.0)] {
                timers.armed.clear();
            }
        }
    }
}

/// Every machine's clock, and every process's armed timers.
pub(super) struct ClockState<T> {
    hosts: Hosts,
    clocks: Vec<Clock>,
    timers: Vec<Vec<Timers<T>>>,
    next_arming: u64,
}

struct Timers<T> {
    armed: BTreeMap<T, Armed>,
    fates: Sequence<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    /// Tells this arming from earlier ones of the same timer, whose events are still scheduled.
    arming: u64,
    /// When it fires, by the machine's monotonic clock.
    local_ns: u64,
}

/// A timer to schedule: it fires unless it is disarmed or armed anew before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Scheduled {
    /// The arming to show to [`ClockState::fire`].
    pub(super) arming: u64,
    /// True time, in nanoseconds.
    pub(super) at_ns: u64,
}

impl<T: Clone + Ord> ClockState<T> {
    pub(super) fn install(
        &mut self,
        environment: &Environment,
        ports: &[usize],
        teller: &mut Teller,
    ) {
        self.clocks = environment
            .machines
            .iter()
            .map(|machine| Clock::new(machine.clock_offset_ns, machine.clock_drift_ppm))
            .collect();
        self.timers = (0..environment.machines.len())
            .map(|node| {
                (0..ports.get(node).copied().unwrap_or(0))
                    .map(|port| Timers {
                        armed: BTreeMap::new(),
                        fates: teller.timers(Addr {
                            node: NodeId(node as u16),
                            port: port as u8,
                        }),
                    })
                    .collect()
            })
            .collect();
    }

    fn timers(&mut self, of: Addr) -> &mut Timers<T> {
        &mut self.timers[usize::from(of.node.0)][usize::from(of.port)]
    }

    /// The machine's clock as it runs now: good until the next step or change of drift.
    pub(super) fn clock(&self, node: NodeId) -> Clock {
        self.clocks[usize::from(node.0)]
    }

    /// Arms a timer. Returns when it fires, and whether it was armed already.
    pub(super) fn arm(
        &mut self,
        of: Addr,
        timer: T,
        after: Delay,
        now_ns: u64,
    ) -> (Scheduled, bool) {
        let arming = self.next_arming;
        self.next_arming += 1;
        let clock = self.clocks[usize::from(of.node.0)];
        let timers = self.timers(of);
        let after_ns = after.min_ns + timers.fates.timer(after, now_ns);
        let local_ns = clock.local(now_ns).saturating_add(after_ns);
        let replaced = timers.armed.insert(timer, Armed { arming, local_ns });
        let at_ns = clock.true_at(local_ns).max(now_ns);
        (Scheduled { arming, at_ns }, replaced.is_some())
    }

    /// The true time at which `after_ns` will have passed by the machine's clock.
    pub(super) fn after(&self, node: NodeId, after_ns: u64, now_ns: u64) -> u64 {
        let clock = self.clocks[usize::from(node.0)];
        clock
            .true_at(clock.local(now_ns).saturating_add(after_ns))
            .max(now_ns)
    }

    /// Disarms a timer; whether it was armed.
    pub(super) fn disarm(&mut self, of: Addr, timer: &T) -> bool {
        self.timers(of).armed.remove(timer).is_some()
    }

    /// The event of an arming is due: whether the timer fires.
    pub(super) fn fire(&mut self, of: Addr, timer: &T, arming: u64) -> bool {
        let armed = &mut self.timers(of).armed;
        let due = armed.get(timer).is_some_and(|armed| armed.arming == arming);
        if due {
            armed.remove(timer);
        }
        due
    }

    /// Whether the event of an arming still matters.
    pub(super) fn is_armed(&self, of: Addr, timer: &T, arming: u64) -> bool {
        let timers = &self.timers[usize::from(of.node.0)][usize::from(of.port)];
        timers
            .armed
            .get(timer)
            .is_some_and(|armed| armed.arming == arming)
    }

    /// Steps a machine's wall clock.
    pub(super) fn step_wall(&mut self, node: NodeId, by_ns: i64) {
        let clock = &mut self.clocks[usize::from(node.0)];
        clock.wall_offset_ns += i128::from(by_ns);
    }

    /// Changes a machine's drift. The timers armed there are to be scheduled anew.
    pub(super) fn drift(
        &mut self,
        node: NodeId,
        by_ppm: i32,
        now_ns: u64,
    ) -> Vec<(Addr, T, Scheduled)> {
        let clock = &mut self.clocks[usize::from(node.0)];
        clock.change_drift(by_ppm, now_ns);
        let clock = *clock;
        let mut anew = Vec::new();
        for (port, timers) in self.timers[usize::from(node.0)].iter_mut().enumerate() {
            for (timer, armed) in &mut timers.armed {
                armed.arming = self.next_arming;
                self.next_arming += 1;
                let scheduled = Scheduled {
                    arming: armed.arming,
                    at_ns: clock.true_at(armed.local_ns).max(now_ns),
                };
                anew.push((
                    Addr {
                        node,
                        port: port as u8,
                    },
                    timer.clone(),
                    scheduled,
                ));
            }
        }
        anew
    }

    /// The delays chosen for each process's timers, if they were recorded.
    pub(super) fn take_fates(&mut self) -> Vec<(Addr, Vec<u64>)> {
        let mut taken = Vec::new();
        for (node, processes) in self.timers.iter_mut().enumerate() {
            for (port, timers) in processes.iter_mut().enumerate() {
                let of = Addr {
                    node: NodeId(node as u16),
                    port: port as u8,
                };
                taken.push((of, timers.fates.take_record()));
            }
        }
        taken
    }
}

/// One machine's clock: a rate, and the wall clock's distance from the monotonic one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Where the rate last changed: true time and the monotonic clock's reading.
    anchor_true_ns: u64,
    anchor_local_ns: u64,
    drift_ppm: i32,
    wall_offset_ns: i128,
}

impl Clock {
    fn new(offset_ns: i64, drift_ppm: i32) -> Self {
        Self {
            anchor_true_ns: 0,
            anchor_local_ns: 0,
            drift_ppm,
            wall_offset_ns: i128::from(WallTime::START.0) + i128::from(offset_ns),
        }
    }

    fn rate_ppm(&self) -> i128 {
        // A clock that stands still would never fire a timer: the slowest runs at a thousandth.
        (MILLION + i128::from(self.drift_ppm)).max(1_000)
    }

    /// The monotonic clock at true time `now_ns`.
    fn local(&self, now_ns: u64) -> u64 {
        let elapsed_ns = now_ns - self.anchor_true_ns;
        if self.drift_ppm == 0 {
            return self.anchor_local_ns + elapsed_ns;
        }
        self.anchor_local_ns + (i128::from(elapsed_ns) * self.rate_ppm() / MILLION) as u64
    }

    /// The first true time at which the monotonic clock shows `local_ns`.
    fn true_at(&self, local_ns: u64) -> u64 {
        let elapsed_ns = local_ns.saturating_sub(self.anchor_local_ns);
        if self.drift_ppm == 0 {
            return self.anchor_true_ns.saturating_add(elapsed_ns);
        }
        let rate = self.rate_ppm();
        let true_ns = (i128::from(elapsed_ns) * MILLION + rate - 1) / rate;
        self.anchor_true_ns
            .saturating_add(u64::try_from(true_ns).unwrap_or(u64::MAX))
    }

    /// What the wall clock shows at true time `now_ns`.
    pub(super) fn wall(&self, now_ns: u64) -> WallTime {
        let wall_ns = i128::from(self.local(now_ns)) + self.wall_offset_ns;
        WallTime(wall_ns.clamp(0, i128::from(u64::MAX)) as u64)
    }

    fn change_drift(&mut self, by_ppm: i32, now_ns: u64) {
        self.anchor_local_ns = self.local(now_ns);
        self.anchor_true_ns = now_ns;
        self.drift_ppm += by_ppm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drifting_clock_gains_its_rate_and_keeps_what_it_gained() {
        let mut clock = Clock::new(-500, 100);
        assert_eq!(clock.local(1_000_000), 1_000_100);
        assert_eq!(clock.wall(0).0, WallTime::START.0 - 500);
        clock.change_drift(-100, 1_000_000);
        assert_eq!(clock.local(2_000_000), 2_000_100);
        assert_eq!(clock.true_at(2_000_100), 2_000_000);
    }

    #[test]
    fn a_timer_never_fires_before_its_local_deadline() {
        for drift_ppm in [-333_333, -7, 0, 13, 250_000] {
            let clock = Clock::new(0, drift_ppm);
            for deadline in [1, 17, 999, 1_000_003] {
                let at = clock.true_at(deadline);
                assert!(clock.local(at) >= deadline);
                assert!(at == 0 || clock.local(at - 1) < deadline);
            }
        }
    }
}
