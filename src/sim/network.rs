//! The network between machines: a madsim simulator plugin.
//!
//! madsim's network has one latency for all links and no duplication. Here every directed link has its own
//! latency, bandwidth, loss, duplication and reordering, may be degraded or cut, and keeps its own sequence
//! of fates. Messages of a link arrive in the order in which they were sent, unless their fate says otherwise.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use madsim::plugin::Simulator;
use madsim::rand::GlobalRng;
use madsim::time::TimeHandle;

use super::hosts::Hosts;
use crate::base::process::NodeId;
use crate::fault::{Latency, Link, OneWay};
use crate::plan::Environment;
use crate::plan::fates::{MessageFate, Sequence, Teller};
use crate::sim::trace::DropReason;

/// The simulator; its state is filled in before the nodes are created.
pub(super) struct Network {
    state: Mutex<NetworkState>,
}

impl Network {
    pub(super) fn lock(&self) -> MutexGuard<'_, NetworkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Simulator for Network {
    fn new(_: &GlobalRng, _: &TimeHandle, _: &madsim::Config) -> Self {
        Self {
            state: Mutex::new(NetworkState::default()),
        }
    }

    fn create_node(&self, id: madsim::task::NodeId) {
        self.lock().hosts.add(id);
    }

    fn reset_node(&self, id: madsim::task::NodeId) {
        let mut state = self.lock();
        if let Some(node) = state.hosts.node(id) {
            state.empty_send_queues(node);
        }
    }
}

/// Every directed link.
#[derive(Default)]
pub(super) struct NetworkState {
    hosts: Hosts,
    machines: usize,
    links: Vec<DirectedLink>,
    /// Active degradations by fault, with the links that each strikes.
    degradations: BTreeMap<usize, (Degradation, Vec<usize>)>,
}

/// What a degraded link suffers on top of its usual behaviour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Degradation {
    pub(super) loss_ppm: u32,
    pub(super) duplicate_ppm: u32,
    pub(super) reorder_ppm: u32,
    pub(super) latency: Latency,
    /// In bytes a second; 0 changes nothing.
    pub(super) bandwidth: u64,
}

struct DirectedLink {
    usual: Link,
    /// The usual behaviour under the active degradations.
    current: Link,
    /// How many faults cut it.
    cuts: u32,
    /// When the messages sent so far will have left, for links with a bandwidth.
    free_ns: u64,
    /// When the last message that keeps its order arrives.
    last_arrival_ns: u64,
    fates: Sequence<MessageFate>,
}

/// What becomes of a message that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Routed {
    /// It arrives, and a duplicate of it perhaps.
    Arrives { at_ns: u64, copy_at_ns: Option<u64> },
    /// It does not.
    Dropped(DropReason),
}

impl NetworkState {
    pub(super) fn install(&mut self, environment: &Environment, teller: &mut Teller) {
        self.machines = environment.machines.len();
        for (from, row) in environment.links.iter().enumerate() {
            for (to, class) in row.iter().enumerate() {
                let usual = environment.link_classes[usize::from(*class)];
                self.links.push(DirectedLink {
                    usual,
                    current: usual,
                    cuts: 0,
                    free_ns: 0,
                    last_arrival_ns: 0,
                    fates: teller.link(NodeId(from as u16), NodeId(to as u16)),
                });
            }
        }
    }

    fn position(&self, from: NodeId, to: NodeId) -> usize {
        usize::from(from.0) * self.machines + usize::from(to.0)
    }

    /// Sends a message of `size_bytes` at `now_ns`.
    pub(super) fn send(
        &mut self,
        from: NodeId,
        to: NodeId,
        size_bytes: u32,
        now_ns: u64,
    ) -> Routed {
        let position = self.position(from, to);
        let link = &mut self.links[position];
        // The fate comes first, whatever happens to the link: the n-th message has the n-th fate.
        let fate = link.fates.message(&link.current, now_ns);
        let mut left_ns = now_ns;
        if link.current.bandwidth > 0 {
            let transfer_ns = (u128::from(size_bytes) * 1_000_000_000)
                .div_ceil(u128::from(link.current.bandwidth));
            left_ns = now_ns.max(link.free_ns) + transfer_ns as u64;
            link.free_ns = left_ns;
        }
        if link.cuts > 0 {
            return Routed::Dropped(DropReason::Cut);
        }
        if fate.lost() {
            return Routed::Dropped(DropReason::Lost);
        }
        let mut at_ns = left_ns + link.current.latency.base_ns + fate.extra_ns();
        if !fate.reordered() {
            at_ns = at_ns.max(link.last_arrival_ns);
            link.last_arrival_ns = at_ns;
        }
        let copy_at_ns = fate.copy_lag_ns().map(|lag_ns| at_ns + lag_ns);
        Routed::Arrives { at_ns, copy_at_ns }
    }

    /// Cuts the links from any of `from` to any of `to`, until [`NetworkState::mend`].
    pub(super) fn cut(&mut self, from: &[NodeId], to: &[NodeId]) {
        for position in self.between(from, to) {
            self.links[position].cuts += 1;
        }
    }

    pub(super) fn mend(&mut self, from: &[NodeId], to: &[NodeId]) {
        for position in self.between(from, to) {
            self.links[position].cuts -= 1;
        }
    }

    /// The links from any of `from` to any of `to`, each once.
    fn between(&self, from: &[NodeId], to: &[NodeId]) -> Vec<usize> {
        let pairs = from.iter().flat_map(|a| to.iter().map(move |b| (a, b)));
        let different = pairs.filter(|(a, b)| a != b);
        let mut positions: Vec<usize> = different.map(|(a, b)| self.position(*a, *b)).collect();
        positions.sort_unstable();
        positions.dedup();
        positions
    }

    /// Degrades the links from one side to the other, and back unless in one way, until [`NetworkState::restore`].
    pub(super) fn degrade(
        &mut self,
        fault: usize,
        (from, to, one_way): (&[NodeId], &[NodeId], OneWay),
        by: Degradation,
    ) {
        let mut struck = self.between(from, to);
        if one_way == OneWay::NO {
            struck.extend(self.between(to, from));
        }
        struck.sort_unstable();
        struck.dedup();
        self.degradations.insert(fault, (by, struck.clone()));
        self.recompute(&struck);
    }

    pub(super) fn restore(&mut self, fault: usize) {
        if let Some((_, struck)) = self.degradations.remove(&fault) {
            self.recompute(&struck);
        }
    }

    fn recompute(&mut self, positions: &[usize]) {
        for &position in positions {
            let striking = self
                .degradations
                .values()
                .filter(|(_, struck)| struck.binary_search(&position).is_ok());
            let link = &mut self.links[position];
            link.current = striking.fold(link.usual, |link, (by, _)| degraded(link, by));
        }
    }

    fn empty_send_queues(&mut self, node: NodeId) {
        for to in 0..self.machines {
            let position = self.position(node, NodeId(to as u16));
            self.links[position].free_ns = 0;
        }
    }

    /// The fates of each link's messages, if they were recorded.
    pub(super) fn take_fates(&mut self) -> Vec<(NodeId, NodeId, Vec<MessageFate>)> {
        let machines = self.machines;
        let links = self.links.iter_mut().enumerate();
        links
            .map(|(position, link)| {
                let (from, to) = (position / machines, position % machines);
                (
                    NodeId(from as u16),
                    NodeId(to as u16),
                    link.fates.take_record(),
                )
            })
            .collect()
    }
}

fn degraded(link: Link, by: &Degradation) -> Link {
    let bandwidth = match (link.bandwidth, by.bandwidth) {
        (usual, 0) => usual,
        (0, limit) => limit,
        (usual, limit) => usual.min(limit),
    };
    Link {
        latency: Latency {
            base_ns: link.latency.base_ns + by.latency.base_ns,
            jitter_ns: link.latency.jitter_ns + by.latency.jitter_ns,
        },
        bandwidth,
        loss_ppm: link.loss_ppm.saturating_add(by.loss_ppm),
        duplicate_ppm: link.duplicate_ppm.saturating_add(by.duplicate_ppm),
        reorder_ppm: link.reorder_ppm.saturating_add(by.reorder_ppm),
    }
}
