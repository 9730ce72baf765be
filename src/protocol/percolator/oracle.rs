//! The timestamp oracle: hands out timestamps in strictly increasing order (Peng and Dabek 2010, section 2.3).
//!
//! It leases a range of timestamps by one write to its disk, and hands those out from memory. A restart goes on above the
//! last lease, so that it repeats none.

use std::collections::VecDeque;

use super::{Message, Options, Out, Timer};
use crate::base::process::{Addr, FileId, Input, Process, WallTime};
use crate::base::txn::TxnId;
use crate::base::zoo::{self, Bug};
use crate::protocol::kit::durable::{self, Durable};
use crate::protocol::kit::journal::Journal;
use crate::protocol::kit::lease::{Lease, Leased};
use crate::shard::versions::Timestamp;

const LOG: FileId = FileId(0);

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
    journal: Journal<Lease, Lease>,
    timestamps: Leased,
    waiting: VecDeque<Request>,
}

impl Oracle {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            journal: Journal::new(LOG, options.checkpoint_min_bytes()),
            timestamps: Leased::new(options.timestamp_lease.get()),
            waiting: VecDeque::new(),
        }
    }

    fn hand_out(&mut self, out: &mut Out) {
        while !self.waiting.is_empty()
            && let Some(next) = self.timestamps.next()
            && let Some(request) = self.waiting.pop_front()
        {
            let Request {
                from,
                txn,
                attempt,
                start,
            } = request;
            let at = Timestamp(next);
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
}

impl Process for Oracle {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        durable::step(self, now, input, out);
    }
}

impl Durable<Lease, Lease> for Oracle {
    const DAMAGED: &'static str = "the oracle's log is damaged";

    fn journal(&mut self) -> &mut Journal<Lease, Lease> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Lease {
        self.timestamps.lease()
    }

    fn recover(&mut self, leases: Vec<Lease>, _: &mut Out) {
        self.timestamps.recover(leases);
        if zoo::planted(Bug::OracleRepeatsAfterRestart) {
            self.timestamps.repeat();
        }
    }

    fn on_message(&mut self, _: WallTime, from: Addr, message: Message, _: &mut Out) {
        match message {
            Message::GetTimestamp {
                txn,
                attempt,
                start,
            } => {
                self.waiting.push_back(Request {
                    from,
                    txn,
                    attempt,
                    start,
                });
            }
            message => unreachable!("{message:?} is not for the oracle"),
        }
    }

    fn on_durable(&mut self, _: WallTime, lease: Lease, _: &mut Out) {
        self.timestamps.granted(lease);
    }

    fn on_lost(&mut self, _: Lease, _: &mut Out) {
        self.timestamps.lost();
    }

    fn settle(&mut self, _: WallTime, out: &mut Out) {
        self.hand_out(out);
        if let Some(lease) = self.timestamps.renew(!self.waiting.is_empty()) {
            self.journal.force(lease, lease);
        }
    }
}
