//! Swarm plans: which faults strike a run, drawn from its seed over the scenario's machines.
//!
//! Groce, Zhang, Eide, Chen and Regehr, "Swarm Testing" (ISSTA 2012): leaving features out of a test at random
//! finds more than always mixing all of them, because some features keep others from doing harm. So every
//! [`Class`] of fault is on with probability one half, and each draws from a stream of its own: leaving one out
//! leaves the others as they were. Each `[[fault]]` that the scenario itself lists is such a class, too. The
//! workload is drawn likewise, parameter by parameter.
//!
//! # What a plan never does
//!
//! A false alarm is worse than a bug not found, so a swarm plan stays within what protocols may rely on:
//! - every fault begins and ends in the safety phase, and nothing is permanent unless the scenario says so, in its own list or
//!   by `[swarm] permanent`: then one thing or two stay broken, drawn from a stream of their own;
//! - client machines are cut off, paused and slowed, and never crash: they keep nothing on disk;
//! - a crash takes what was not flushed, or a part of it, and nothing else; flushes that fail say so;
//! - corrupted reads strike fewer than half of the fronts, and the copies in fewer than half of the regions;
//! - wall clocks stay within the scenario's `clock-skew`, and so within its `clock-bound`, but for the class `clock-liar`;
//! - added delays, queues and slow flushes are short against the settle phase, even where faults compound: what
//!   was asked for while a disk or a link was slow takes that long, also after it has healed;
//! - the load is such that all of its transactions could pass through one row, one by one, in half of the settle
//!   phase;
//! - machines get ten seconds at least to recover from the final power cut, where there is one: an election may have to
//!   be repeated several times before a copy of a shard can catch up, and one that has not is no lost write.
//!
//! Protocols' options are drawn, too, in a share of the runs: see [`super::covering`]. The plan says which, so that a
//! replay draws nothing, and what is drawn can be shrunk away.
//!
//! Faults aimed at a moment ([`When::Moment`]) are resolved by the run: the plan that it keeps says
//! [`When::AfterEvent`] instead, and replays without the aim.

use std::collections::{BTreeMap, BTreeSet};

use super::covering;
use crate::base::options::{self, Chosen, Described};
use crate::base::process::NodeId;
use crate::base::txn::{ShardId, Value};
use crate::fault::{CrashLoss, Fault, FaultKind, Latency, OneWay, When};
use crate::plan::random::Stream;
use crate::plan::{Plan, faults, workload};
use crate::scenario::layout::Layout;
use crate::scenario::steps::Rows;
use crate::scenario::swarm::{Class, OptionSpace, RECOVERY_NS};
use crate::scenario::units::Share;
use crate::scenario::{Arrivals, Scenario, Workload};

/// Most transactions of a swarm run where the scenario does not say.
const TRANSACTIONS_MAX: u32 = 100;
/// One-way delays that a transaction may hold a row for: lock and read, two rounds of commitment, a reply.
const HOPS: u64 = 10;
/// How much slower a machine may get, in percent of the usual time.
const SLOW_PERCENT_MAX: u64 = 1_000;
/// Greatest drift of a lying clock: a twentieth.
const LIAR_PPM_MAX: i32 = 50_000;
/// Most of what a link loses that stays lossy and counts as one that works: its messages pass when they are resent, well within
/// the settle phase.
const LASTING_LOSS_PPM_MAX: u64 = 200_000;
/// Shortest episode.
const SHORTEST_NS: u64 = 10_000_000;

/// Draws the swarm plan of a seed: the same for all protocols.
pub fn draw(scenario: &Scenario, seed: u64) -> Plan {
    let swarmed = match scenario.swarm.workload {
        true => swarm_workload(scenario, seed),
        false => limit_transactions(scenario),
    };
    let mut calm = scenario.clone();
    calm.faults.clear();
    if calm.power_cycle_ns > 0 {
        calm.power_cycle_ns = calm.power_cycle_ns.max(RECOVERY_NS);
    }
    let mut plan = Plan::draw(&calm, seed);
    plan.operations = workload::draw(&swarmed, seed);
    plan.faults = own_faults(scenario, seed);
    for class in &scenario.swarm.classes {
        plan.faults.extend(faults_of(*class, scenario, &plan, seed));
    }
    plan.faults.extend(permanent_faults(scenario, &plan, seed));
    plan.options = drawn_options(scenario, seed);
    plan
}

/// The protocols' options in this run, where they are drawn: for each protocol a row of its covering array.
fn drawn_options(scenario: &Scenario, seed: u64) -> BTreeMap<String, Chosen> {
    let drawn = |(protocol, space): (&String, &OptionSpace)| {
        let mut stream = Stream::new(seed, &("swarm", "options", protocol));
        let rows = option_rows(scenario, protocol, space);
        if rows.is_empty() || !stream.chance(scenario.swarm.options) {
            return None;
        }
        // Neighbouring seeds take neighbouring rows: a campaign tries all of them equally often.
        let row = &rows[(seed % rows.len() as u64) as usize];
        Some((protocol.clone(), row.clone()))
    };
    scenario.option_spaces.iter().filter_map(drawn).collect()
}

/// Rows in which each value of each option meets each value of every other, but for the options that the scenario
/// states.
pub fn option_rows<'a>(
    scenario: &Scenario,
    protocol: &str,
    space: &'a OptionSpace,
) -> &'a [Chosen] {
    space.rows.get_or_init(|| {
        let stated = scenario.options.get(protocol).map(|(_, table)| table);
        let is_open = |option: &&Described| {
            !stated.is_some_and(|table| options::is_stated(table, &option.name))
        };
        let open: Vec<Described> = space.described.iter().filter(is_open).cloned().collect();
        covering::rows(&open, |chosen| (space.fit)(scenario, chosen))
    })
}

/// The scenario's own list: each entry on or off.
fn own_faults(scenario: &Scenario, seed: u64) -> Vec<Fault> {
    let bounds = &scenario.swarm;
    let is_on = |at: usize| {
        let mut stream = Stream::new(seed, &("swarm", "own", at));
        bounds.own_faults && stream.chance(bounds.probability)
    };
    let on = (0..scenario.faults.len()).filter(|at| is_on(*at));
    on.flat_map(|at| faults(&scenario.faults, seed, at))
        .collect()
}

/// What a class does in this run; nothing if it is off.
fn faults_of(class: Class, scenario: &Scenario, plan: &Plan, seed: u64) -> Vec<Fault> {
    let mut draw = Draw {
        stream: Stream::new(seed, &("swarm", class.name())),
        seed,
        scenario,
        layout: &scenario.layout,
        plan,
    };
    if !draw.stream.chance(scenario.swarm.probability) {
        return Vec::new();
    }
    let episodes = draw.stream.between(1, u64::from(scenario.swarm.episodes));
    let mut drawn: Vec<Fault> = (0..episodes)
        .flat_map(|_| draw.episode(class))
        .filter(|fault| !is_void(&fault.kind))
        .collect();
    if matches!(
        class,
        Class::ClockStep | Class::ClockDrift | Class::ClockLiar | Class::Slow | Class::SlowFlush
    ) {
        // One machine is struck once in a run: two steps add up, and two slowdowns multiply, beyond the bound.
        let mut struck = BTreeSet::new();
        drawn.retain(|fault| {
            let nodes = fault.kind.nodes();
            let fresh = nodes.iter().all(|node| !struck.contains(node));
            struck.extend(nodes);
            fresh
        });
    }
    drawn
}

/// What stays broken in this run, from some time in the safety phase on: mostly nothing.
fn permanent_faults(scenario: &Scenario, plan: &Plan, seed: u64) -> Vec<Fault> {
    let mut draw = Draw {
        stream: Stream::new(seed, &("swarm", "permanent")),
        seed,
        scenario,
        layout: &scenario.layout,
        plan,
    };
    if !draw.stream.chance(scenario.swarm.permanent) {
        return Vec::new();
    }
    let count = if draw.stream.chance(0.25) { 2 } else { 1 };
    (0..count)
        .flat_map(|_| draw.permanent())
        .filter(|fault| !is_void(&fault.kind))
        .collect()
}

/// Whether it strikes nothing: a scenario may be too small for a shape.
fn is_void(kind: &FaultKind) -> bool {
    match kind {
        FaultKind::Cut { from, to, .. }
        | FaultKind::Flap { from, to, .. }
        | FaultKind::Degrade { from, to, .. } => from.is_empty() || to.is_empty(),
        kind => kind.nodes().is_empty(),
    }
}

/// One class's draws.
struct Draw<'a> {
    stream: Stream,
    seed: u64,
    scenario: &'a Scenario,
    layout: &'a Layout,
    plan: &'a Plan,
}

/// When an episode begins, and how long it lasts.
#[derive(Clone, Copy)]
struct Time {
    at_ns: u64,
    for_ns: u64,
}

impl Time {
    fn fault(self, kind: FaultKind) -> Fault {
        Fault {
            when: When::At(self.at_ns),
            for_ns: Some(self.for_ns),
            permanent: false,
            kind,
        }
    }
}

impl Draw<'_> {
    fn episode(&mut self, class: Class) -> Vec<Fault> {
        match class {
            Class::Halves => self.halves(),
            Class::Minority => self.minority(),
            Class::Ring => self.ring(),
            Class::Bridge => self.bridge(),
            Class::OneWay => self.one_way(),
            Class::Flapping => self.flapping(),
            Class::Clients => self.clients(),
            Class::IsolatedLeader => self.isolated_leader(),
            Class::IsolatedCoordinator => self.isolated_coordinator(),
            Class::Zone => self.place(Granularity::Zone),
            Class::Region => self.place(Granularity::Region),
            Class::Cloud => self.place(Granularity::Cloud),
            Class::Crash => self.crash(),
            Class::CrashStorm => self.crash_storm(),
            Class::RollingRestart => self.rolling_restart(),
            Class::Pause => self.on_a_machine(|_, nodes| FaultKind::Pause { nodes }),
            Class::Slow => self.on_a_machine(|draw, nodes| FaultKind::Slow {
                nodes,
                percent: draw.log_uniform(110, SLOW_PERCENT_MAX) as u32,
            }),
            Class::SlowFlush => {
                let most = slow_flush_percent_max(self.scenario);
                self.on_a_machine(|draw, nodes| FaultKind::SlowFlush {
                    nodes,
                    percent: draw.log_uniform(110, most) as u32,
                })
            }
            Class::FailFlush => self.on_a_machine(|draw, nodes| FaultKind::FailFlush {
                nodes,
                probability_ppm: draw.log_uniform(10_000, 1_000_000) as u32,
                kept_ppm: draw.stream.between(0, 1_000_000) as u32,
            }),
            Class::CorruptRead => self.corrupt_read(),
            Class::ClockStep => self.clock_step(),
            Class::ClockDrift => self.clock_drift(),
            Class::ClockLiar => self.clock_liar(),
            Class::Loss => self.degrade(|draw, link| {
                link.loss_ppm = draw.log_uniform(10_000, 900_000) as u32;
            }),
            Class::Duplicate => self.degrade(|draw, link| {
                link.duplicate_ppm = draw.log_uniform(10_000, 500_000) as u32;
            }),
            Class::Reorder => self.degrade(|draw, link| {
                link.reorder_ppm = draw.log_uniform(50_000, 1_000_000) as u32;
                link.latency = draw.delay();
            }),
            Class::Delay => self.degrade(|draw, link| link.latency = draw.delay()),
            Class::Bandwidth => self.bandwidth(),
            Class::OldMessages => self.old_messages(),
            Class::AfterVotes => self.after_votes(),
            Class::AtDecision => self.at_decision(),
            Class::AtElection => self.at_election(),
            Class::BeforeSend => self.around_a_flush("flush.completed", CrashLoss::Lost),
            Class::TornFlush => {
                let loss = self.loss();
                self.around_a_flush("flush.asked", loss)
            }
            Class::InRecovery => self.in_recovery(),
        }
    }

    // ---- Times and numbers -----------------------------------------------------------------------------

    /// Uniform over the orders of magnitude from `low` to `high`.
    fn log_uniform(&mut self, low: u64, high: u64) -> u64 {
        assert!(0 < low && low <= high);
        let doublings = (high / low).ilog2();
        let from = low << self.stream.between(0, u64::from(doublings));
        self.stream.between(from, (from * 2 - 1).min(high))
    }

    /// How long an episode lasts, at most `most_ns`.
    fn length_up_to(&mut self, most_ns: u64) -> u64 {
        let most_ns = most_ns.min(self.scenario.swarm.longest_ns).max(1);
        self.log_uniform(SHORTEST_NS.min(most_ns), most_ns)
    }

    /// Some time in the safety phase.
    fn time(&mut self) -> Time {
        self.time_up_to(u64::MAX)
    }

    /// Some time in the safety phase, not longer than `most_ns`.
    fn time_up_to(&mut self, most_ns: u64) -> Time {
        let at_ns = self.stream.below(self.safety_ns());
        let for_ns = self.length_up_to(most_ns);
        self.within(at_ns, for_ns)
    }

    /// The time, cut at the end of the safety phase.
    fn within(&self, at_ns: u64, for_ns: u64) -> Time {
        let at_ns = at_ns.min(self.safety_ns() - 1);
        let for_ns = for_ns.clamp(1, self.safety_ns() - at_ns);
        Time { at_ns, for_ns }
    }

    fn safety_ns(&self) -> u64 {
        self.scenario.safety_ns.max(1)
    }

    /// A moment in the safety phase: the first few times that `by` observes this. Half of the time the fault
    /// strikes at a drawn time where the moment does not come: protocols differ in what they observe.
    fn moment(&mut self, observation: &str, by: Option<NodeId>, count_max: u64) -> When {
        let from_ns = self.stream.below(self.safety_ns());
        let latest_ns = self.stream.between(from_ns, self.safety_ns() - 1);
        When::Moment {
            from_ns,
            observation: observation.to_owned(),
            by,
            count: self.log_uniform(1, count_max) as u32,
            latest_ns: self.stream.chance(0.5).then_some(latest_ns),
        }
    }

    fn loss(&mut self) -> CrashLoss {
        match self.stream.below(4) {
            0 => CrashLoss::Lost,
            1 => CrashLoss::Kept,
            _ => CrashLoss::Torn(self.stream.word() as u16),
        }
    }

    // ---- Machines --------------------------------------------------------------------------------------

    fn everyone(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.layout.nodes).map(NodeId)
    }

    fn is_client(&self, node: NodeId) -> bool {
        self.layout
            .regions
            .iter()
            .any(|region| region.client == node)
    }

    /// Everyone but these.
    fn others(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        self.everyone()
            .filter(|node| !nodes.contains(node))
            .collect()
    }

    /// Machines that may crash.
    fn servers(&self) -> Vec<NodeId> {
        self.everyone()
            .filter(|node| !self.is_client(*node))
            .collect()
    }

    fn fronts(&self) -> Vec<NodeId> {
        self.layout.fronts().collect()
    }

    /// Machines that hold the only copy of a shard where shards are not replicated.
    fn homes(&self) -> Vec<NodeId> {
        let shards = 0..self.layout.shards.len() as u16;
        shards
            .map(|shard| self.layout.home(ShardId(shard)))
            .collect()
    }

    fn server(&mut self) -> NodeId {
        // Machines that every protocol uses are struck more often than those that only some do.
        let from = match self.stream.below(3) {
            0 => self.fronts(),
            1 => self.homes(),
            _ => self.servers(),
        };
        *self.stream.pick(&from)
    }

    fn front(&mut self) -> NodeId {
        let fronts = self.fronts();
        *self.stream.pick(&fronts)
    }

    /// The machines in groups that fail together, in a drawn order.
    fn groups(&mut self, by: Granularity) -> Vec<Vec<NodeId>> {
        let mut groups = self.groups_in_order(by);
        self.shuffle(&mut groups);
        groups
    }

    fn groups_in_order(&self, by: Granularity) -> Vec<Vec<NodeId>> {
        let place = |node: NodeId| {
            let place = &self.scenario.places[usize::from(node.0)];
            let cloud = &self.layout.regions[usize::from(place.region)].cloud;
            match by {
                Granularity::Machine => (String::new(), node.0, 0),
                Granularity::Zone => (String::new(), place.region, place.zone),
                Granularity::Region => (String::new(), place.region, 0),
                Granularity::Cloud => (cloud.clone(), 0, 0),
            }
        };
        let mut groups = BTreeMap::<_, Vec<NodeId>>::new();
        for node in self.everyone() {
            groups.entry(place(node)).or_default().push(node);
        }
        groups.into_values().collect()
    }

    /// Groups of a drawn granularity, at least `least` of them: single machines if places are too few.
    fn some_groups(&mut self, least: usize) -> Vec<Vec<NodeId>> {
        let by = *self.stream.pick(&[
            Granularity::Machine,
            Granularity::Machine,
            Granularity::Zone,
            Granularity::Region,
        ]);
        let groups = self.groups(by);
        match groups.len() >= least {
            true => groups,
            false => self.groups(Granularity::Machine),
        }
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            let other = self.stream.between(0, at as u64) as usize;
            list.swap(at, other);
        }
    }

    // ---- Partitions ------------------------------------------------------------------------------------

    /// The groups before `at` on one side, the others on the other.
    fn split(&mut self, groups: &[Vec<NodeId>], at: usize) -> (Vec<NodeId>, Vec<NodeId>) {
        let (one, other) = groups.split_at(at);
        (one.concat(), other.concat())
    }

    fn halves(&mut self) -> Vec<Fault> {
        let groups = self.some_groups(2);
        let (from, to) = self.split(&groups, groups.len() / 2);
        let time = self.time();
        vec![time.fault(cut(from, to))]
    }

    fn minority(&mut self) -> Vec<Fault> {
        let (from, to) = self.few_and_rest();
        let time = self.time();
        vec![time.fault(cut(from, to))]
    }

    /// Everybody sees the `reach` next groups on either side: from a thin ring up to one in which everybody
    /// sees a majority, and nobody the same one.
    fn ring(&mut self) -> Vec<Fault> {
        let groups = self.some_groups(4);
        let count = groups.len();
        let reach = self.stream.between(1, (count as u64 / 4).max(1)) as usize;
        let time = self.time();
        let beyond = |at: usize| {
            let later = (at + 1..count).filter(|other| {
                let distance = other - at;
                distance.min(count - distance) > reach
            });
            later.flat_map(|other| groups[other].clone()).collect()
        };
        (0..count)
            .map(|at| time.fault(cut(groups[at].clone(), beyond(at))))
            .collect()
    }

    fn bridge(&mut self) -> Vec<Fault> {
        let groups = self.some_groups(3);
        let (from, to) = self.split(&groups[1..], (groups.len() - 1) / 2);
        let time = self.time();
        vec![time.fault(cut(from, to))]
    }

    fn one_way(&mut self) -> Vec<Fault> {
        let groups = self.some_groups(2);
        let some = self.stream.between(1, groups.len() as u64 - 1) as usize;
        let (from, to) = self.split(&groups, some);
        let time = self.time();
        vec![time.fault(FaultKind::Cut {
            from,
            to,
            both_ways: false,
        })]
    }

    fn flapping(&mut self) -> Vec<Fault> {
        let groups = self.some_groups(2);
        let some = self.stream.between(1, groups.len() as u64 - 1) as usize;
        let (from, to) = self.split(&groups, some);
        let time = self.time();
        let kind = FaultKind::Flap {
            from,
            to,
            down_ns: self.log_uniform(SHORTEST_NS, 50 * SHORTEST_NS),
            up_ns: self.log_uniform(SHORTEST_NS, 50 * SHORTEST_NS),
        };
        vec![time.fault(kind)]
    }

    fn clients(&mut self) -> Vec<Fault> {
        let mut clients: Vec<NodeId> = self
            .everyone()
            .filter(|node| self.is_client(*node))
            .collect();
        self.shuffle(&mut clients);
        let some = self.stream.between(1, clients.len() as u64) as usize;
        clients.truncate(some);
        let to = self.others(&clients);
        let time = self.time();
        vec![time.fault(cut(clients, to))]
    }

    /// A replica is cut off as soon as it becomes leader; or a front is cut off at some time, which may catch a leader in
    /// office.
    fn isolated_leader(&mut self) -> Vec<Fault> {
        let fronts = self.fronts();
        let from_peers_alone = self.stream.chance(0.5);
        let to = |draw: &Self, front: NodeId| match from_peers_alone {
            true => fronts.iter().copied().filter(|f| *f != front).collect(),
            false => draw.others(&[front]),
        };
        if self.stream.chance(0.5) {
            let front = *self.stream.pick(&fronts);
            let time = self.time();
            return vec![time.fault(cut(vec![front], to(self, front)))];
        }
        let from_ns = match self.stream.chance(0.5) {
            true => 0,
            false => self.stream.below(self.safety_ns()),
        };
        let for_ns = self.length_up_to(u64::MAX);
        let hunt = |front: &NodeId| Fault {
            when: When::Moment {
                from_ns,
                observation: "log.became-leader".to_owned(),
                by: Some(*front),
                count: 1,
                latest_ns: None,
            },
            for_ns: Some(for_ns),
            permanent: false,
            kind: cut(vec![*front], to(self, *front)),
        };
        fronts.iter().map(hunt).collect()
    }

    fn isolated_coordinator(&mut self) -> Vec<Fault> {
        let region = self.stream.below(self.layout.regions.len() as u64) as usize;
        let coordinators = self.layout.regions[region].fronts.clone();
        let to = self.others(&coordinators);
        let when = self.moment("voted", None, 32);
        let for_ns = self.length_up_to(u64::MAX);
        vec![aimed(when, for_ns, cut(coordinators, to))]
    }

    /// A place loses power, and its clients are cut off; or it is cut off as a whole.
    fn place(&mut self, by: Granularity) -> Vec<Fault> {
        let groups = self.groups(by);
        let (clients, servers): (Vec<_>, Vec<_>) =
            groups[0].iter().partition(|node| self.is_client(**node));
        let time = self.time();
        if self.stream.chance(0.5) {
            return vec![time.fault(cut(groups[0].clone(), self.others(&groups[0])))];
        }
        let loss = self.loss();
        let power = FaultKind::Crash {
            nodes: servers,
            loss,
        };
        let to = self.others(&clients);
        vec![time.fault(power), time.fault(cut(clients, to))]
    }

    // ---- Machines, disks and clocks --------------------------------------------------------------------

    fn crash(&mut self) -> Vec<Fault> {
        let nodes = vec![self.server()];
        let loss = self.loss();
        let time = self.time();
        vec![time.fault(FaultKind::Crash { nodes, loss })]
    }

    /// Three or more crashes within one episode, each short; the same machine may be struck again.
    fn crash_storm(&mut self) -> Vec<Fault> {
        let storm = self.time();
        let strikes = self.stream.between(3, 10);
        let strike = |_| {
            let at_ns = storm.at_ns + self.stream.below(storm.for_ns);
            let for_ns = self.length_up_to(storm.for_ns);
            let nodes = vec![self.server()];
            let loss = self.loss();
            let time = self.within(at_ns, for_ns);
            time.fault(FaultKind::Crash { nodes, loss })
        };
        (0..strikes).map(strike).collect()
    }

    /// Fronts, the copies of shards, or all of them, one after the other.
    fn rolling_restart(&mut self) -> Vec<Fault> {
        let mut nodes = match self.stream.below(3) {
            0 => self.fronts(),
            1 => self.homes(),
            _ => self.servers(),
        };
        nodes.sort_unstable();
        nodes.dedup();
        let round = self.time();
        let each_ns = (round.for_ns / nodes.len() as u64).max(1);
        let down_ns = self.stream.between(1, each_ns);
        let loss = self.loss();
        let strike = |(at, node): (usize, &NodeId)| {
            let time = self.within(round.at_ns + at as u64 * each_ns, down_ns);
            let nodes = vec![*node];
            time.fault(FaultKind::Crash { nodes, loss })
        };
        nodes.iter().enumerate().map(strike).collect()
    }

    /// One machine, or rarely a few, any of them a client's.
    fn on_a_machine(&mut self, kind: impl Fn(&mut Self, Vec<NodeId>) -> FaultKind) -> Vec<Fault> {
        let mut nodes = vec![self.server()];
        match self.stream.below(8) {
            0 => nodes = self.groups(Granularity::Zone).swap_remove(0),
            1 => nodes = self.fronts(),
            _ => {}
        }
        let time = self.time();
        let kind = kind(self, nodes);
        vec![time.fault(kind)]
    }

    /// A machine restarts and reads a flipped bit. The machines that this may happen to are chosen once for
    /// a run, whatever the number of episodes.
    fn corrupt_read(&mut self) -> Vec<Fault> {
        let may = corruptible(self.layout, self.seed);
        if may.is_empty() {
            return Vec::new();
        }
        let node = *self.stream.pick(&may);
        let loss = self.loss();
        let time = self.time();
        let flip = FaultKind::CorruptRead {
            node,
            port: u8::from(self.stream.chance(0.1)),
            file: self.stream.below(2) as u8,
            position: self.stream.word() as u32,
        };
        // The flip waits for whichever boot comes next.
        let flip = self.within(time.at_ns, u64::MAX).fault(flip);
        let nodes = vec![node];
        vec![flip, time.fault(FaultKind::Crash { nodes, loss })]
    }

    /// How far the machine's clock may be from true time, and where it starts.
    fn clock_bounds(&self, node: NodeId) -> (i64, i64) {
        let bound_ns = self.scenario.clocks.skew_ns as i64;
        let machine = &self.plan.environment.machines[usize::from(node.0)];
        (bound_ns, machine.clock_offset_ns)
    }

    /// A machine whose clock this class may move. Steps and drifts share the machines out between them:
    /// together they could add up beyond the bound.
    fn clock_machine(&mut self, steps: bool) -> Option<NodeId> {
        let is_mine =
            |node: &NodeId| Stream::new(self.seed, &("swarm", "clock", node)).chance(0.5) == steps;
        let mine: Vec<NodeId> = self.everyone().filter(is_mine).collect();
        let (bound_ns, _) = self.clock_bounds(NodeId(0));
        match mine.is_empty() || bound_ns == 0 {
            true => None,
            false => Some(mine[self.stream.below(mine.len() as u64) as usize]),
        }
    }

    fn clock_step(&mut self) -> Vec<Fault> {
        let Some(node) = self.clock_machine(true) else {
            return Vec::new();
        };
        let (bound_ns, offset_ns) = self.clock_bounds(node);
        let target_ns = self.stream.between(0, 2 * bound_ns as u64) as i64 - bound_ns;
        let time = self.time();
        let by_ns = target_ns - offset_ns;
        let nodes = vec![node];
        vec![time.fault(FaultKind::ClockStep { nodes, by_ns })]
    }

    fn clock_drift(&mut self) -> Vec<Fault> {
        let Some(node) = self.clock_machine(false) else {
            return Vec::new();
        };
        let (bound_ns, offset_ns) = self.clock_bounds(node);
        let fast = self.stream.chance(0.5);
        let time = self.time();
        let room_ns = if fast {
            bound_ns - offset_ns
        } else {
            bound_ns + offset_ns
        };
        let most_ppm = i128::from(room_ns.max(0)) * 1_000_000 / i128::from(time.for_ns);
        let most_ppm = most_ppm.min(50_000) as u64;
        if most_ppm == 0 {
            return Vec::new();
        }
        let ppm = self.log_uniform(1, most_ppm) as i32;
        let by_ppm = if fast { ppm } else { -ppm };
        let nodes = vec![node];
        vec![time.fault(FaultKind::ClockDrift { nodes, by_ppm })]
    }

    /// A clock leaves the declared bound: by more than three times as much, so that no honest fault of the same machine
    /// brings it back, and up to ten times. It steps, or drifts where it gets that far.
    fn clock_liar(&mut self) -> Vec<Fault> {
        let Some(bound_ns) = self.scenario.clocks.bound_ns else {
            return Vec::new();
        };
        let machines: Vec<NodeId> = self.everyone().collect();
        let node = *self.stream.pick(&machines);
        let by_ns = self.stream.between(3 * bound_ns + 1, 10 * bound_ns);
        let forwards = self.stream.chance(0.5);
        let drifts = self.stream.chance(0.33);
        let time = self.time();
        let nodes = vec![node];
        let ppm = u128::from(by_ns) * 1_000_000 / u128::from(time.for_ns) + 1;
        let kind = match i32::try_from(ppm) {
            Ok(ppm) if drifts && ppm <= LIAR_PPM_MAX => FaultKind::ClockDrift {
                nodes,
                by_ppm: if forwards { ppm } else { -ppm },
            },
            _ => FaultKind::ClockStep {
                nodes,
                by_ns: if forwards {
                    by_ns as i64
                } else {
                    -(by_ns as i64)
                },
            },
        };
        vec![time.fault(kind)]
    }

    // ---- Links -----------------------------------------------------------------------------------------

    /// An added delay. The jitter has a tail of ten times its mean, later messages wait behind it, and delays add up:
    /// nine of them, three episodes of each class that delays, stay within half of the settle phase.
    fn delay(&mut self) -> Latency {
        let most_ns = (self.scenario.settle_ns / 40).clamp(2_000_000, 1_000_000_000);
        Latency {
            base_ns: self.log_uniform(1_000_000, most_ns),
            jitter_ns: self.log_uniform(100_000, most_ns / 10),
        }
    }

    /// Links of one group, or all links.
    fn some_links(&mut self) -> (Vec<NodeId>, Vec<NodeId>) {
        if self.stream.chance(0.25) {
            return (self.everyone().collect(), self.everyone().collect());
        }
        let groups = self.some_groups(2);
        (groups[0].clone(), self.others(&groups[0]))
    }

    fn degrade(&mut self, worsen: impl Fn(&mut Self, &mut Worse)) -> Vec<Fault> {
        let (from, to) = self.some_links();
        let time = self.time();
        let mut by = Worse::NOT;
        worsen(self, &mut by);
        vec![time.fault(by.fault(from, to))]
    }

    /// What queues up behind a thin link still arrives after it is mended, in order: short and not too thin.
    fn bandwidth(&mut self) -> Vec<Fault> {
        let (from, to) = self.some_links();
        let time = self.time_up_to(self.scenario.settle_ns / 32);
        let by = Worse {
            bandwidth: self.log_uniform(200_000, 5_000_000),
            ..Worse::NOT
        };
        vec![time.fault(by.fault(from, to))]
    }

    /// Messages to a machine are held up and overtaken, and it restarts in the meantime.
    fn old_messages(&mut self) -> Vec<Fault> {
        let node = self.server();
        let latency = self.delay();
        let held = self.time();
        let by = Worse {
            latency,
            reorder_ppm: 500_000,
            duplicate_ppm: 200_000,
            ..Worse::NOT
        };
        let at_ns = held.at_ns + self.stream.below(held.for_ns);
        let down_ns = self.stream.between(1, latency.base_ns);
        let down = self.within(at_ns, down_ns);
        let loss = self.loss();
        let nodes = vec![node];
        let crash = down.fault(FaultKind::Crash { nodes, loss });
        let others = self.others(&[node]);
        vec![held.fault(by.fault(vec![node], others)), crash]
    }

    // ---- What stays broken -----------------------------------------------------------------------------

    fn permanent(&mut self) -> Vec<Fault> {
        let kinds = match self.stream.below(9) {
            0 | 1 => {
                let nodes = vec![self.server()];
                let loss = self.loss();
                vec![FaultKind::Crash { nodes, loss }]
            }
            2 => vec![FaultKind::Pause {
                nodes: vec![self.server()],
            }],
            3 => self.dark(),
            4 => {
                let (few, rest) = self.few_and_rest();
                vec![cut(few, rest)]
            }
            5 => {
                let (few, rest) = self.few_and_rest();
                let (from, to) = match self.stream.chance(0.5) {
                    true => (few, rest),
                    false => (rest, few),
                };
                let both_ways = false;
                vec![FaultKind::Cut {
                    from,
                    to,
                    both_ways,
                }]
            }
            6 => {
                let (few, rest) = self.few_and_rest();
                let loss_ppm = match self.stream.chance(0.5) {
                    true => 1_000_000,
                    false => self.log_uniform(10_000, LASTING_LOSS_PPM_MAX) as u32,
                };
                let by = Worse {
                    loss_ppm,
                    ..Worse::NOT
                };
                vec![by.fault(few, rest)]
            }
            7 => {
                let nodes = vec![self.server()];
                let probability_ppm = match self.stream.chance(0.5) {
                    true => 1_000_000,
                    false => self.log_uniform(10_000, 900_000) as u32,
                };
                vec![FaultKind::FailFlush {
                    nodes,
                    probability_ppm,
                    kept_ppm: self.stream.between(0, 1_000_000) as u32,
                }]
            }
            _ => {
                let (from, to) = self.few_and_rest();
                let down_ns = self.log_uniform(SHORTEST_NS, 50 * SHORTEST_NS);
                let up_ns = self.log_uniform(SHORTEST_NS, 50 * SHORTEST_NS);
                vec![FaultKind::Flap {
                    from,
                    to,
                    down_ns,
                    up_ns,
                }]
            }
        };
        let when = When::At(self.stream.below(self.safety_ns()));
        let lasting = |kind| Fault {
            when: when.clone(),
            for_ns: None,
            permanent: true,
            kind,
        };
        kinds.into_iter().map(lasting).collect()
    }

    /// A zone or a region without power; its clients, which keep nothing on disk, are cut off instead.
    fn dark(&mut self) -> Vec<FaultKind> {
        let by = *self.stream.pick(&[Granularity::Zone, Granularity::Region]);
        let groups = self.groups(by);
        let (clients, nodes): (Vec<_>, Vec<_>) =
            groups[0].iter().partition(|node| self.is_client(**node));
        let loss = self.loss();
        let to = self.others(&clients);
        vec![FaultKind::Crash { nodes, loss }, cut(clients, to)]
    }

    /// Fewer than half of the machines, zones or regions, and all others.
    fn few_and_rest(&mut self) -> (Vec<NodeId>, Vec<NodeId>) {
        let groups = self.some_groups(3);
        let most = (groups.len() - 1) / 2;
        let few = self.stream.between(1, most.max(1) as u64) as usize;
        self.split(&groups, few)
    }

    // ---- Aims ------------------------------------------------------------------------------------------

    fn after_votes(&mut self) -> Vec<Fault> {
        let region = self.stream.below(self.layout.regions.len() as u64) as usize;
        let home = { self.homes() }[self.stream.below(self.layout.shards.len() as u64) as usize];
        let (nodes, by) = match self.stream.below(3) {
            0 => (vec![self.layout.regions[region].fronts[0]], None),
            1 => (self.layout.regions[region].fronts.clone(), None),
            _ => (vec![home], Some(home)),
        };
        let when = self.moment("voted", by, 32);
        self.crash_at(when, nodes)
    }

    fn at_decision(&mut self) -> Vec<Fault> {
        let node = self.server();
        let when = self.moment("decided", Some(node), 32);
        if self.stream.chance(0.7) {
            return self.crash_at(when, vec![node]);
        }
        let for_ns = self.length_up_to(u64::MAX);
        let others = self.others(&[node]);
        vec![aimed(when, for_ns, cut(vec![node], others))]
    }

    fn at_election(&mut self) -> Vec<Fault> {
        let front = self.front();
        let observation = *self.stream.pick(&[
            "log.became-leader",
            "log.became-leader",
            "log.truncated",
            "log.committed",
            "log.compacted",
            "log.restarted",
        ]);
        let victim = match self.stream.chance(0.7) {
            true => front,
            false => self.front(),
        };
        let when = self.moment(observation, Some(front), 4);
        self.crash_at(when, vec![victim])
    }

    fn around_a_flush(&mut self, observation: &str, loss: CrashLoss) -> Vec<Fault> {
        let node = self.server();
        let when = self.moment(observation, Some(node), 64);
        let for_ns = self.length_up_to(u64::MAX);
        let nodes = vec![node];
        vec![aimed(when, for_ns, FaultKind::Crash { nodes, loss })]
    }

    fn in_recovery(&mut self) -> Vec<Fault> {
        let first = self.server();
        let second = match self.stream.chance(0.6) {
            true => first,
            false => self.server(),
        };
        let time = self.time();
        let loss = self.loss();
        let nodes = vec![first];
        let crash = time.fault(FaultKind::Crash { nodes, loss });
        let when = When::Moment {
            from_ns: time.at_ns,
            observation: "booted".to_owned(),
            by: Some(first),
            count: 1,
            latest_ns: None,
        };
        let mut faults = vec![crash];
        faults.extend(self.crash_at(when, vec![second]));
        faults
    }

    fn crash_at(&mut self, when: When, nodes: Vec<NodeId>) -> Vec<Fault> {
        let for_ns = self.length_up_to(u64::MAX);
        let loss = self.loss();
        vec![aimed(when, for_ns, FaultKind::Crash { nodes, loss })]
    }
}

/// How much slower flushes may get: slowdowns multiply, the scenario's own ones too, and a flush that was asked for
/// under all of them still completes within a quarter of the settle phase.
fn slow_flush_percent_max(scenario: &Scenario) -> u64 {
    let own = scenario.faults.iter().flat_map(|spec| &spec.kinds);
    let own: f64 = own
        .map(|kind| match kind {
            FaultKind::Slow { percent, .. } | FaultKind::SlowFlush { percent, .. } => {
                f64::from(*percent).max(100.0) / 100.0
            }
            _ => 1.0,
        })
        .product();
    let worst_ns = (scenario.flush.base_ns + 10 * scenario.flush.jitter_ns).max(1) as f64;
    let most = scenario.settle_ns as f64 / 4.0 / worst_ns / own;
    (most / (SLOW_PERCENT_MAX as f64 / 100.0) * 100.0).clamp(110.0, 20_000.0) as u64
}

/// What machines have in common that fail together.
#[derive(Clone, Copy)]
enum Granularity {
    Machine,
    Zone,
    Region,
    Cloud,
}

fn aimed(when: When, for_ns: u64, kind: FaultKind) -> Fault {
    Fault {
        when,
        for_ns: Some(for_ns),
        permanent: false,
        kind,
    }
}

fn cut(from: Vec<NodeId>, to: Vec<NodeId>) -> FaultKind {
    FaultKind::Cut {
        from,
        to,
        both_ways: true,
    }
}

/// How links behave worse.
struct Worse {
    loss_ppm: u32,
    duplicate_ppm: u32,
    reorder_ppm: u32,
    latency: Latency,
    bandwidth: u64,
}

impl Worse {
    const NOT: Worse = Worse {
        loss_ppm: 0,
        duplicate_ppm: 0,
        reorder_ppm: 0,
        latency: Latency {
            base_ns: 0,
            jitter_ns: 0,
        },
        bandwidth: 0,
    };

    fn fault(self, from: Vec<NodeId>, to: Vec<NodeId>) -> FaultKind {
        FaultKind::Degrade {
            from,
            to,
            loss_ppm: self.loss_ppm,
            duplicate_ppm: self.duplicate_ppm,
            reorder_ppm: self.reorder_ppm,
            latency: self.latency,
            bandwidth: self.bandwidth,
            one_way: OneWay::NO,
        }
    }
}

/// The machines that may read a flipped bit in this run: fewer than half of the fronts, which form quorums, and
/// the data machines of fewer than half of the regions, each of which holds a copy of every shard.
pub fn corruptible(layout: &Layout, seed: u64) -> Vec<NodeId> {
    let mut stream = Stream::new(seed, &("swarm", "corruptible"));
    let mut fewer_than_half = |count: usize| {
        let mut all: Vec<usize> = (0..count).collect();
        let spared = count - count.saturating_sub(1) / 2;
        for _ in 0..spared {
            let at = stream.below(all.len() as u64) as usize;
            all.remove(at);
        }
        all
    };
    let fronts: Vec<NodeId> = layout.fronts().collect();
    let mut nodes: Vec<NodeId> = { fewer_than_half(fronts.len()).into_iter() }
        .map(|at| fronts[at])
        .collect();
    for region in fewer_than_half(layout.regions.len()) {
        nodes.extend(&layout.regions[region].data);
    }
    nodes.sort_unstable();
    nodes
}

// ---- The workload --------------------------------------------------------------------------------------

/// How many transactions a run may have; see [`crate::scenario::file::Swarm::transactions`].
fn transactions_max(scenario: &Scenario) -> u32 {
    let one_by_one = scenario.settle_ns / 2 / hold_ns(scenario);
    let most = scenario.swarm.transactions.unwrap_or(TRANSACTIONS_MAX);
    let most = most.min(scenario.workload.transactions);
    match scenario.swarm.transactions {
        Some(_) => most,
        None => most.min(one_by_one.min(u64::from(u32::MAX)) as u32).max(1),
    }
}

/// How long a transaction may hold a row when nothing goes wrong: [`HOPS`] of the slowest link.
fn hold_ns(scenario: &Scenario) -> u64 {
    let links = scenario.link_classes.iter();
    let slowest = links
        .map(|link| link.latency.base_ns + link.latency.jitter_ns)
        .max();
    let flush_ns = scenario.flush.base_ns + scenario.flush.jitter_ns;
    (HOPS * (slowest.unwrap_or(0) + flush_ns)).max(1)
}

fn limit_transactions(scenario: &Scenario) -> Scenario {
    let mut limited = scenario.clone();
    limited.workload.transactions = transactions_max(scenario);
    limited
}

/// The scenario with another workload of its kind, for drawing operations only: its tables may have fewer rows
/// than there are, so that transactions meet.
fn swarm_workload(scenario: &Scenario, seed: u64) -> Scenario {
    let mut swarmed = limit_transactions(scenario);
    let stream = |parameter: &str| Stream::new(seed, &("swarm", "workload", parameter));
    let share = |parameter: &str, usual: Share, others: [u32; 3]| {
        let mut stream = stream(parameter);
        match stream.chance(0.25) {
            true => usual,
            false => Share {
                ppm: *stream.pick(&others),
            },
        }
    };
    let most = swarmed.workload.transactions;
    let workload = &mut swarmed.workload;
    workload.transactions =
        stream("transactions").between(u64::from(most.div_ceil(4)), most.into()) as u32;
    workload.reads = share("reads", workload.reads, [0, 100_000, 500_000]);
    workload.multi_shard = share("multi-shard", workload.multi_shard, [0, 500_000, 1_000_000]);
    workload.dependent = share("dependent", workload.dependent, [0, 100_000, 500_000]);
    workload.broke = share("broke", workload.broke, [0, 50_000, 300_000]);
    workload.again = share("again", workload.again, [0, 50_000, 300_000]);
    workload.hot_share = share("hot-share", workload.hot_share, [0, 500_000, 1_000_000]);
    let mut skew = stream("skew");
    if skew.chance(0.75) {
        workload.skew = *skew.pick(&[0.0, 0.5, 0.99, 2.0]);
    }
    let mut rows = stream("rows");
    for (position, table) in swarmed.layout.tables.iter_mut().enumerate() {
        let of_mix = { workload.transactions_of_steps.iter() }.map(|one| one.rows_of(position));
        let legs = workload.legs.max(of_mix.max().unwrap_or(0) as u32);
        let least = (legs + 2).max(2 * table.shards.len() as u32);
        if least < table.rows && rows.chance(0.75) {
            let doublings = u64::from((table.rows / least).ilog2());
            table.rows = (least << rows.between(0, doublings)).min(table.rows);
        }
    }
    let fewest = swarmed
        .layout
        .tables
        .iter()
        .map(|table| table.rows)
        .min()
        .unwrap_or(1);
    let mut legs = stream("legs");
    if legs.chance(0.75) {
        workload.legs = legs.between(1, u64::from(fewest.min(5))) as u32;
    }
    swarm_mix(&mut swarmed, &mut stream("mix"));
    let workload = &mut swarmed.workload;
    let last_rows = swarmed.layout.tables.last().map_or(1, |table| table.rows);
    workload.hot_rows = workload.hot_rows.min(last_rows);
    swarm_amount(&mut swarmed, &mut stream("amount"));
    swarm_arrivals(&mut swarmed, &mut stream("arrivals"));
    swarmed
}

/// Other weights, another choice of rows, and other chances to be refused, transaction by transaction.
fn swarm_mix(scenario: &mut Scenario, stream: &mut Stream) {
    let tables = &scenario.layout.tables;
    for transaction in &mut scenario.workload.transactions_of_steps {
        if stream.chance(0.5) {
            transaction.weight = *stream.pick(&[1, 10, 100]);
        }
        for step in &mut transaction.steps {
            if step.refused.is_some() && stream.chance(0.5) {
                let ppm = *stream.pick(&[0, 50_000, 300_000]);
                step.refused = Some(Share { ppm });
            }
            let is_drawn = !matches!(step.rows, Rows::SameAs(_) | Rows::Next { .. });
            if is_drawn && stream.chance(0.5) {
                let share = Share { ppm: 800_000 };
                let others = [
                    Rows::Usual,
                    Rows::Uniform,
                    Rows::Zipf(0.99),
                    Rows::Latest,
                    Rows::Hot { rows: 1, share },
                ];
                step.rows = *stream.pick(&others);
            }
            if let Rows::Hot { rows, .. } = &mut step.rows {
                *rows = (*rows).min(tables[step.table].rows);
            }
        }
    }
}

/// Now and then amounts so large that guards decline.
fn swarm_amount(scenario: &mut Scenario, stream: &mut Stream) {
    let initial = match scenario.layout.tables[0].initial {
        Value::Int(quantity) => quantity,
        Value::List(_) => 0,
    };
    let large = (initial / 2).clamp(0, i64::from(u32::MAX)) as u32;
    if stream.chance(0.25) && large > scenario.workload.amount {
        scenario.workload.amount = large;
    }
}

/// Open or closed loop; arrivals within the safety phase, from spread out to all at once.
fn swarm_arrivals(scenario: &mut Scenario, stream: &mut Stream) {
    let safety_ns = scenario.safety_ns.max(1);
    let hold_ns = hold_ns(scenario);
    let settle_ns = scenario.settle_ns;
    let Workload {
        transactions,
        arrivals,
        start_ns,
        ..
    } = &mut scenario.workload;
    *start_ns = (*start_ns).min(safety_ns - 1);
    let evenly = stream.chance(0.25);
    if stream.chance(0.75) {
        // Half, a quarter, ... of the rest of the phase.
        let rest_s = (safety_ns - *start_ns) as f64 / 1e9;
        let span_s = rest_s / f64::from(1u32 << stream.below(6)) * (0.5 + 0.45 * stream.unit());
        let per_s = (f64::from(*transactions) / span_s).min(1e6);
        *arrivals = Arrivals::Open { per_s, evenly };
        return;
    }
    // Each session's transactions follow one another: few enough that they are through early in the
    // settle phase, even if the faults have held up all of them.
    let think_ns = 1_000_000 << stream.below(6);
    let in_turn = (settle_ns / 4 / (hold_ns + think_ns)).max(1);
    let fewest = u64::from(*transactions).div_ceil(in_turn).max(1);
    let sessions = stream.between(fewest, u64::from(*transactions).max(fewest)) as u32;
    *arrivals = Arrivals::Closed { sessions, think_ns };
}
