//! Disks: a madsim simulator plugin.
//!
//! madsim's file system has no crash semantics. Here every process has append-only files; what was appended
//! is pending until a flush completes, and a crash (madsim's `kill`, which resets the node in every plugin)
//! loses, keeps or tears it. Flushes of a machine queue, take time and may fail. The bytes of a failed flush may be on
//! the disk all the same: all, a prefix, or none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use madsim::plugin::Simulator;
use madsim::rand::GlobalRng;
use madsim::time::TimeHandle;

use super::hosts::Hosts;
use crate::base::process::{Addr, Disk, FileId, FlushId, NodeId};
use crate::fault::{CrashLoss, Latency};
use crate::plan::Environment;
use crate::plan::fates::{FlushFate, Sequence, Teller};

/// The simulator; its state is filled in before the nodes are created.
pub(super) struct Disks {
    state: Mutex<DiskState>,
}

impl Disks {
    pub(super) fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Simulator for Disks {
    fn new(_: &GlobalRng, _: &TimeHandle, _: &madsim::Config) -> Self {
        Self {
            state: Mutex::new(DiskState::default()),
        }
    }

    fn create_node(&self, id: madsim::task::NodeId) {
        self.lock().hosts.add(id);
    }

    fn reset_node(&self, id: madsim::task::NodeId) {
        let mut state = self.lock();
        if let Some(node) = state.hosts.node(id) {
            state.machines[usize::from(node.0)].crash();
        }
    }
}

/// Every machine's disk.
#[derive(Default)]
pub(super) struct DiskState {
    hosts: Hosts,
    machines: Vec<MachineDisk>,
}

struct MachineDisk {
    processes: Vec<ProcessDisk>,
    latency: Latency,
    fates: Sequence<FlushFate>,
    /// When the flushes asked for so far will be done.
    free_ns: u64,
    next_ticket: u64,
    crash_loss: CrashLoss,
    slowdowns: Vec<u32>,
    failing: Vec<Failing>,
    corrupt: Vec<Corruption>,
}

/// How a disk fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Failing {
    /// How many of its flushes fail, in parts per million.
    pub(super) probability_ppm: u32,
    /// How many of these leave bytes on the disk, in parts per million.
    pub(super) kept_ppm: u32,
}

/// A bit that is read wrongly at the next boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Corruption {
    pub(super) port: u8,
    pub(super) file: FileId,
    /// In 2^32ths of the file's length.
    pub(super) position: u32,
}

#[derive(Default)]
struct ProcessDisk {
    durable: Disk,
    pending: Vec<Write>,
    under_way: VecDeque<Flush>,
}

enum Write {
    Append(FileId, Vec<u8>),
    Replace(FileId, Vec<u8>),
}

struct Flush {
    id: FlushId,
    ticket: FlushTicket,
    /// How many of the pending writes it makes durable.
    covers: usize,
}

/// Identifies a flush under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct FlushTicket {
    number: u64,
    /// What it leaves on the disk, if it fails.
    failed: Option<CrashLoss>,
}

impl DiskState {
    pub(super) fn install(
        &mut self,
        environment: &Environment,
        ports: &[usize],
        teller: &mut Teller,
    ) {
        let disks = environment.machines.iter().enumerate();
        self.machines = disks
            .map(|(node, machine)| MachineDisk {
                processes: (0..ports.get(node).copied().unwrap_or(0))
                    .map(|_| ProcessDisk::default())
                    .collect(),
                latency: machine.flush,
                fates: teller.flushes(NodeId(node as u16)),
                free_ns: 0,
                next_ticket: 0,
                crash_loss: CrashLoss::Lost,
                slowdowns: Vec::new(),
                failing: Vec::new(),
                corrupt: Vec::new(),
            })
            .collect();
    }

    fn machine(&mut self, node: NodeId) -> &mut MachineDisk {
        &mut self.machines[usize::from(node.0)]
    }

    fn process(&mut self, of: Addr) -> &mut ProcessDisk {
        &mut self.machines[usize::from(of.node.0)].processes[usize::from(of.port)]
    }

    pub(super) fn append(&mut self, of: Addr, file: FileId, bytes: Vec<u8>) {
        self.process(of).pending.push(Write::Append(file, bytes));
    }

    pub(super) fn replace(&mut self, of: Addr, file: FileId, bytes: Vec<u8>) {
        self.process(of).pending.push(Write::Replace(file, bytes));
    }

    /// Starts a flush of everything that the process has written. Returns when it will be done; show the
    /// ticket to [`DiskState::complete`] then.
    pub(super) fn flush(&mut self, of: Addr, id: FlushId, now_ns: u64) -> (u64, FlushTicket) {
        let machine = self.machine(of.node);
        let alive = machine.failing.iter().fold(1_000_000u64, |alive, failing| {
            alive * u64::from(1_000_000 - failing.probability_ppm.min(1_000_000)) / 1_000_000
        });
        let kept_ppm = machine.failing.iter().map(|failing| failing.kept_ppm).max();
        let fate = machine.fates.flush(
            machine.latency.jitter_ns,
            1_000_000 - alive as u32,
            kept_ppm.unwrap_or(0),
            now_ns,
        );
        let service_ns = slowed(
            machine.latency.base_ns + fate.extra_ns(),
            &machine.slowdowns,
        );
        machine.free_ns = machine.free_ns.max(now_ns) + service_ns;
        let done_ns = machine.free_ns;
        let ticket = FlushTicket {
            number: machine.next_ticket,
            failed: fate.failed().then(|| fate.left()),
        };
        machine.next_ticket += 1;
        let process = self.process(of);
        let covers = process.pending.len();
        process.under_way.push_back(Flush { id, ticket, covers });
        (done_ns, ticket)
    }

    /// A flush is done: what to tell the process. Nothing, if a crash or an earlier failure settled it.
    pub(super) fn complete(&mut self, of: Addr, ticket: FlushTicket) -> Vec<(FlushId, bool)> {
        let process = self.process(of);
        if process
            .under_way
            .front()
            .is_none_or(|flush| flush.ticket != ticket)
        {
            return Vec::new();
        }
        if let Some(left) = ticket.failed {
            // The kernel dropped the dirty pages. Which of them had reached the disk before, nobody says.
            process.leave(left);
            let failed = process.under_way.drain(..);
            return failed.map(|flush| (flush.id, false)).collect();
        }
        let flush = process
            .under_way
            .pop_front()
            .expect("it was just looked at");
        for write in process.pending.drain(..flush.covers) {
            apply(&mut process.durable, write);
        }
        for later in &mut process.under_way {
            later.covers -= flush.covers;
        }
        vec![(flush.id, true)]
    }

    /// What a process reads when it boots.
    pub(super) fn read(&mut self, of: Addr) -> Disk {
        let machine = self.machine(of.node);
        let mut disk = machine.processes[usize::from(of.port)].durable.clone();
        let (mine, others) = machine
            .corrupt
            .drain(..)
            .partition(|corruption| corruption.port == of.port);
        machine.corrupt = others;
        let mine: Vec<Corruption> = mine;
        for corruption in mine {
            let bytes = disk.file_mut(corruption.file);
            let bits = bytes.len() as u128 * 8;
            let bit = ((bits * u128::from(corruption.position)) >> 32) as usize;
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
        disk
    }

    /// What the next crash does with unflushed bytes.
    pub(super) fn set_crash_loss(&mut self, node: NodeId, loss: CrashLoss) {
        self.machine(node).crash_loss = loss;
    }

    /// Flushes take `percent` of their time until [`DiskState::unslow`].
    pub(super) fn slow(&mut self, node: NodeId, percent: u32) {
        self.machine(node).slowdowns.push(percent);
    }

    pub(super) fn unslow(&mut self, node: NodeId, percent: u32) {
        remove_one(&mut self.machine(node).slowdowns, &percent);
    }

    /// Flushes fail like this until [`DiskState::unfail`].
    pub(super) fn fail(&mut self, node: NodeId, failing: Failing) {
        self.machine(node).failing.push(failing);
    }

    pub(super) fn unfail(&mut self, node: NodeId, failing: Failing) {
        remove_one(&mut self.machine(node).failing, &failing);
    }

    pub(super) fn corrupt(&mut self, node: NodeId, corruption: Corruption) {
        self.machine(node).corrupt.push(corruption);
    }

    pub(super) fn uncorrupt(&mut self, node: NodeId, corruption: Corruption) {
        remove_one(&mut self.machine(node).corrupt, &corruption);
    }

    /// The fates of each machine's flushes, if they were recorded.
    pub(super) fn take_fates(&mut self) -> Vec<(NodeId, Vec<FlushFate>)> {
        let machines = self.machines.iter_mut().enumerate();
        machines
            .map(|(node, machine)| (NodeId(node as u16), machine.fates.take_record()))
            .collect()
    }
}

impl MachineDisk {
    fn crash(&mut self) {
        let loss = self.crash_loss;
        for process in &mut self.processes {
            process.under_way.clear();
            process.leave(loss);
        }
        self.free_ns = 0;
    }
}

impl ProcessDisk {
    /// Decides what becomes of the writes that no completed flush covers.
    fn leave(&mut self, loss: CrashLoss) {
        let kept = match loss {
            CrashLoss::Lost => 0,
            CrashLoss::Kept => 1 << 16,
            CrashLoss::Torn(cut) => u64::from(cut),
        };
        // Each file keeps its own prefix: a file system promises no order between files.
        let mut budget: BTreeMap<FileId, u64> = BTreeMap::new();
        for write in &self.pending {
            let (Write::Append(file, bytes) | Write::Replace(file, bytes)) = write;
            *budget.entry(*file).or_default() += bytes.len() as u64;
        }
        for bytes in budget.values_mut() {
            *bytes = ((u128::from(*bytes) * u128::from(kept)) >> 16) as u64;
        }
        for write in self.pending.drain(..) {
            let (Write::Append(file, bytes) | Write::Replace(file, bytes)) = &write;
            let left = budget.get_mut(file).expect("every file was counted");
            let length = bytes.len() as u64;
            if kept > 0 && *left >= length {
                *left -= length;
                apply(&mut self.durable, write);
            } else {
                if let Write::Append(file, bytes) = write {
                    self.durable
                        .file_mut(file)
                        .extend_from_slice(&bytes[..*left as usize]);
                }
                *left = 0;
            }
        }
    }
}

fn apply(disk: &mut Disk, write: Write) {
    match write {
        Write::Append(file, bytes) => disk.file_mut(file).extend_from_slice(&bytes),
        Write::Replace(file, bytes) => *disk.file_mut(file) = bytes,
    }
}

/// A time under percentages that multiply.
pub(super) fn slowed(ns: u64, percents: &[u32]) -> u64 {
    percents.iter().fold(ns, |ns, percent| {
        (u128::from(ns) * u128::from(*percent) / 100) as u64
    })
}

/// Removes one element equal to `what`.
pub(super) fn remove_one<E: PartialEq>(from: &mut Vec<E>, what: &E) {
    if let Some(position) = from.iter().position(|element| element == what) {
        from.remove(position);
    }
}
