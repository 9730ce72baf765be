//! Isolation, judged while a run happens: feeds what clients are told, and where it matters the versions as they
//! come to stand, to [`check::online`](crate::check::online), and reports the first violation.
//!
//! Lists show their own order of versions; of everything else the first copy of a row that performs a write says
//! that its version is the next. What it reports, the check of the whole history finds in what there is of it.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{key_number, version_number};
use crate::base::monitor::{Monitor, Violation};
use crate::base::observation::{Observation, Observed, Outcome};
use crate::base::process::Process;
use crate::base::txn::{Key, Op, Read, Txn, TxnId, Value, Write, WriteId};
use crate::check::Status;
use crate::check::online::{Action, Online, Stop, TimeOrder};
use crate::plan::Plan;
use crate::protocol::Isolation;
use crate::scenario::Scenario;

/// The name under which its violations are reported.
pub const PROPERTY: &str = "isolation";

/// The monitor.
#[derive(Clone, Debug)]
pub struct Along {
    online: Online,
    txns: BTreeMap<TxnId, Txn>,
    lists: bool,
    invoked: BTreeSet<TxnId>,
    returned: BTreeSet<TxnId>,
    /// Versions that some copy has performed.
    performed: BTreeSet<(Key, TxnId)>,
    /// Nothing after a violation is judged.
    done: bool,
}

impl Along {
    /// Watches a plan's transactions for the serializability that a protocol promises; none if it promises less:
    /// snapshot isolation is not decided by a graph, and a saga takes back versions that stood.
    pub fn new(scenario: &Scenario, plan: &Plan, promised: Isolation) -> Option<Self> {
        let order = match promised {
            Isolation::None
            | Isolation::ReadCommitted
            | Isolation::ReadAtomic
            | Isolation::SnapshotIsolation => return None,
            Isolation::Serializable => TimeOrder::Free,
            Isolation::StrictSerializable => TimeOrder::Realtime,
        };
        let txns = plan.operations.iter();
        Some(Along {
            online: Online::new(order),
            txns: txns.map(|op| (op.txn.id, op.txn.clone())).collect(),
            lists: scenario.workload.is_of_lists(),
            invoked: BTreeSet::new(),
            returned: BTreeSet::new(),
            performed: BTreeSet::new(),
            done: false,
        })
    }

    /// How many reads saw somebody's write.
    pub fn exercised(&self) -> u64 {
        self.online.exercised()
    }

    fn watch(&mut self, observed: &Observed) -> Result<(), Stop> {
        let at_ns = observed.at_ns;
        match &observed.what {
            Observation::Invoked { txn, session } => self.invoked(at_ns, *txn, *session),
            Observation::Returned { txn, outcome, .. } => self.returned(at_ns, *txn, outcome),
            Observation::Applied { txn, keys, .. } if !self.lists => self.performed(keys, *txn),
            _ => Ok(()),
        }
    }

    fn invoked(&mut self, at_ns: u64, txn: TxnId, session: u32) -> Result<(), Stop> {
        if !self.invoked.insert(txn) {
            return Ok(());
        }
        let planned = &self.txns[&txn];
        // Where a row depends on a value: the writes of either side; what both share is certain.
        let [low, high] = [i64::MIN, i64::MAX].map(|other| planned.writes(|_| other));
        let certain = low.iter().filter(|write| high.contains(write));
        let certain: Vec<(u64, u64)> = certain.map(|write| self.number(txn, write)).collect();
        let either = low.iter().chain(&high).map(|write| self.number(txn, write));
        let mut possible: Vec<(u64, u64)> = either.filter(|one| !certain.contains(one)).collect();
        possible.sort_unstable();
        possible.dedup();
        self.online
            .invoke(at_ns, txn.0, u64::from(session), &certain)?;
        for (key, value) in possible {
            self.online.may_write(txn.0, key, value)?;
        }
        Ok(())
    }

    /// A write as key and value.
    fn number(&self, txn: TxnId, write: &Write) -> (u64, u64) {
        let value = match write.op {
            Op::Append(element) if self.lists => element,
            _ => version_number(WriteId { txn, undo: false }),
        };
        (key_number(write.key), value)
    }

    fn returned(&mut self, at_ns: u64, txn: TxnId, outcome: &Outcome) -> Result<(), Stop> {
        if !self.returned.insert(txn) {
            return Ok(());
        }
        let (status, reads) = match outcome {
            Outcome::Committed { reads } => (Status::Ok, reads.as_slice()),
            Outcome::Aborted { .. } | Outcome::Declined { .. } => (Status::Fail, &[][..]),
            Outcome::Unknown => (Status::Info, &[][..]),
        };
        let mut actions: Vec<Action<'_>> = reads.iter().map(|read| self.read(read)).collect();
        let value_of = |pointer: Key| {
            let mut rows = reads.iter().filter(|read| read.key == pointer);
            rows.next().map_or(0, |read| read.row.value.as_int())
        };
        for write in self.txns[&txn].writes(value_of) {
            let (key, value) = self.number(txn, &write);
            actions.push(match self.lists {
                true => Action::Append { key, value },
                false => Action::Write { key, value },
            });
        }
        self.online.complete(at_ns, txn.0, status, &actions)
    }

    fn read<'a>(&self, read: &'a Read) -> Action<'a> {
        let key = key_number(read.key);
        match &read.row.value {
            Value::List(list) if self.lists => Action::ReadList { key, list },
            _ => Action::Read {
                key,
                value: (read.row.writer != WriteId::default())
                    .then(|| version_number(read.row.writer)),
            },
        }
    }

    fn performed(&mut self, keys: &[Key], txn: TxnId) -> Result<(), Stop> {
        let version = version_number(WriteId { txn, undo: false });
        for key in keys {
            if self.performed.insert((*key, txn)) {
                self.online.version(key_number(*key), version)?;
            }
        }
        Ok(())
    }
}

impl<P: Process> Monitor<P> for Along {
    fn observe(&mut self, observed: &Observed) -> Result<(), Violation> {
        if self.done {
            return Ok(());
        }
        self.watch(observed).map_err(|stop| {
            self.done = true;
            Violation {
                at_ns: observed.at_ns,
                by: observed.by,
                property: PROPERTY,
                explanation: stop.explanation,
            }
        })
    }
}
