//! The timestamp oracle: hands out timestamps in strictly increasing order (Peng and Dabek 2010, section 2.3).
//!
//! It leases a range of timestamps by one write to its disk, and hands those out from memory. A restart goes on above the
//! last lease, so that it repeats none.

use serde::{Deserialize, Serialize};

use super::{Message, Options, Out, Timer};
use crate::base::process::{Addr, Disk, FileId, Input};
use crate::base::txn::TxnId;
use crate::base::zoo::{self, Bug};
use crate::protocol::kit::journal::Journal;
use crate::shard::versions::Timestamp;

const LOG: FileId = FileId(0);

/// What the oracle's log holds: it may hand out timestamps up to this one. Forced before it does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Lease(u64);

/// A request that waits for the next lease.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Request {
    from: Addr,
    txn: TxnId,
    attempt: u64,
    start: Option<Timestamp>,
}

/// The oracle.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Oracle {
    journal: Journal<Lease, u64>,
    /// How many timestamps a lease has.
    lease: u64,
    /// The last timestamp that was handed out.
    last: u64,
    /// The last one of the lease, which is durable.
    leased: u64,
    /// A lease is on its way to the disk.
    is_leasing: bool,
    waiting: Vec<Request>,
}

impl Oracle {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            journal: Journal::new(LOG, options.checkpoint_min_bytes()),
            lease: options.timestamp_lease.get(),
            last: 0,
            leased: 0,
            is_leasing: false,
            waiting: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, input: Input<Message, Timer>, out: &mut Out) {
        match input {
            Input::Boot(disk) => self.boot(&disk, out),
            Input::Message { from, message } => match message {
                Message::GetTimestamp {
                    txn,
                    attempt,
                    start,
                } => {
                    self.waiting.push(Request {
                        from,
                        txn,
                        attempt,
                        start,
                    });
                }
                message => unreachable!("{message:?} is not for the oracle"),
            },
            Input::Timer(_) => {}
            Input::Flushed(flush) => {
                let settled = self.journal.flushed(flush);
                self.is_leasing &= settled.durable.is_empty() && settled.lost.is_empty();
                self.leased = settled.durable.into_iter().fold(self.leased, u64::max);
            }
            Input::FlushFailed(flush) => self.journal.flush_failed(flush, out),
        }
        self.hand_out(out);
        self.renew();
        let leased = self.leased;
        self.journal.pump(|| Lease(leased), out);
    }

    fn boot(&mut self, disk: &Disk, out: &mut Out) {
        let Ok(records) = self.journal.open(disk.file(LOG), out) else {
            return out.halt("the oracle's log is damaged");
        };
        for Lease(leased) in records {
            self.leased = self.leased.max(leased);
        }
        // Some of the last lease may have been handed out.
        self.last = self.leased;
        if zoo::planted(Bug::OracleRepeatsAfterRestart) {
            self.last = self.leased.saturating_sub(self.lease);
        }
    }

    fn hand_out(&mut self, out: &mut Out) {
        let rest = (self.leased - self.last) as usize;
        let served = self.waiting.len().min(rest);
        for Request {
            from,
            txn,
            attempt,
            start,
        } in self.waiting.drain(..served)
        {
            self.last += 1;
            let at = Timestamp(self.last);
            out.send(
                from,
                Message::Timestamp {
                    txn,
                    attempt,
                    start,
                    at,
                },
            );
        }
    }

    /// Asks for the next lease when half of the last one is gone, so that nobody waits for the disk.
    fn renew(&mut self) {
        let rest = self.leased - self.last;
        if !self.is_leasing && (!self.waiting.is_empty() || rest < self.lease / 2) {
            let leased = self.leased + self.lease;
            self.journal.force(Lease(leased), leased);
            self.is_leasing = true;
        }
    }
}
