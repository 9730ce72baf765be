//! The history, written while it happens: one record for each invocation and each completion, in the order in which they
//! were made. Each line is handed to the system at once, so that a run that dies leaves what it saw.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, LineWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::workload::{Answer, Asked, Completion, Op, Request, Seen, Workload};
use crate::check::online::{Action, Online, TimeOrder};
use crate::check::{Model, Status};

/// How transactions ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Transactions that were invoked.
    pub invoked: u64,
    /// Those that committed, and whose client was told.
    pub committed: u64,
    /// Those that certainly did not.
    pub failed: u64,
    /// Those of which nobody knows.
    pub indeterminate: u64,
}

/// Where the history goes.
pub(super) struct Journal {
    inner: Mutex<Inner>,
    started: Instant,
}

struct Inner {
    out: LineWriter<File>,
    /// What is under way, by process.
    open: BTreeMap<u64, Asked>,
    closed: bool,
    counts: Counts,
    errors: BTreeMap<String, u64>,
    failed_in_a_row: u64,
    online: Option<Watch>,
    /// The first failure to write.
    unwritten: Option<String>,
}

/// What is known once the history is closed.
pub(super) struct Closed {
    pub counts: Counts,
    pub errors: BTreeMap<String, u64>,
    pub violation: Option<String>,
    pub online_reads: Option<u64>,
    pub unwritten: Option<String>,
}

/// What a client has to know after a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    GoOn,
    /// The online judge has found a violation.
    Violation,
    /// The history cannot be written any more.
    Unwritten,
    /// So many transactions in a row failed.
    Failing(u64),
}

impl Journal {
    /// Creates the file, which must not exist yet.
    pub fn create(path: &Path, workload: Workload, model: Model) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let inner = Inner {
            out: LineWriter::new(File::create_new(path)?),
            open: BTreeMap::new(),
            closed: false,
            counts: Counts::default(),
            errors: BTreeMap::new(),
            failed_in_a_row: 0,
            online: Watch::new(workload, model),
            unwritten: None,
        };
        Ok(Journal {
            inner: Mutex::new(inner),
            started: Instant::now(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while holding it")
    }

    fn nanos(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Writes that a process is about to execute a transaction. False, and nothing written, if the history is closed.
    pub fn invoke(&self, process: u64, asked: &Asked) -> bool {
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        let (f, value) = asked.record();
        let time = self.nanos();
        inner.write(
            json!({ "type": "invoke", "process": process, "time": time, "f": f, "value": value }),
        );
        inner.counts.invoked += 1;
        if let Some(online) = &mut inner.online {
            online.invoke(process, asked);
        }
        let before = inner.open.insert(process, asked.clone());
        assert!(before.is_none(), "process {process} is busy");
        true
    }

    /// Writes how the transaction of a process ended.
    pub fn complete(&self, process: u64, completion: &Completion) -> Next {
        let mut inner = self.lock();
        let time = self.nanos();
        inner.complete(process, completion, time)
    }

    /// Writes what was done to the database beside its clients.
    pub fn fault(&self, f: &str, what: &str) {
        let mut inner = self.lock();
        if !inner.closed {
            let time = self.nanos();
            inner.write(json!({ "type": "info", "process": "nemesis", "time": time, "f": f, "value": what }));
        }
    }

    /// How many transactions have completed.
    pub fn completed(&self) -> u64 {
        let inner = self.lock();
        let counts = inner.counts;
        counts.committed + counts.failed + counts.indeterminate
    }

    /// Ends what is still under way as indeterminate, and takes nothing more.
    pub fn close(&self) -> Closed {
        let mut inner = self.lock();
        let time = self.nanos();
        let open: Vec<u64> = inner.open.keys().copied().collect();
        for process in open {
            let unanswered = Completion::Info("no answer when the run ended".into());
            inner.complete(process, &unanswered, time);
        }
        inner.closed = true;
        if let Err(error) = inner.out.flush() {
            inner.unwritten.get_or_insert(error.to_string());
        }
        let online = inner.online.take();
        Closed {
            counts: inner.counts,
            errors: std::mem::take(&mut inner.errors),
            online_reads: online.as_ref().map(|watch| watch.online.exercised()),
            violation: online.and_then(|watch| watch.violation),
            unwritten: inner.unwritten.clone(),
        }
    }
}

impl Inner {
    fn write(&mut self, record: Value) {
        if let Err(error) = writeln!(self.out, "{record}") {
            self.unwritten.get_or_insert(error.to_string());
        }
    }

    fn complete(&mut self, process: u64, completion: &Completion, time: u64) -> Next {
        // What comes after the end was written as indeterminate.
        let Some(asked) = self.open.remove(&process).filter(|_| !self.closed) else {
            return Next::GoOn;
        };
        let (f, value) = asked.record();
        let record = match completion {
            Completion::Ok(answer) => {
                let value = asked.answered(answer);
                json!({ "type": "ok", "process": process, "time": time, "f": f, "value": value })
            }
            Completion::Fail(why) => {
                json!({ "type": "fail", "process": process, "time": time, "f": f, "value": value, "error": why })
            }
            Completion::Info(why) => {
                json!({ "type": "info", "process": process, "time": time, "f": f, "value": value, "error": why })
            }
        };
        self.write(record);
        match completion {
            Completion::Ok(_) => {
                self.counts.committed += 1;
                self.failed_in_a_row = 0;
            }
            Completion::Fail(why) => {
                self.counts.failed += 1;
                self.failed_in_a_row += 1;
                *self.errors.entry(format!("fail: {why}")).or_default() += 1;
            }
            Completion::Info(why) => {
                self.counts.indeterminate += 1;
                *self.errors.entry(format!("info: {why}")).or_default() += 1;
            }
        }
        if let Some(online) = &mut self.online {
            online.complete(process, &asked, completion);
        }
        let violation = self
            .online
            .as_ref()
            .and_then(|watch| watch.violation.as_ref());
        match self.failed_in_a_row {
            _ if self.unwritten.is_some() => Next::Unwritten,
            _ if violation.is_some() => Next::Violation,
            0 => Next::GoOn,
            row => Next::Failing(row),
        }
    }
}

/// The online judge, for lists under the serializable models.
struct Watch {
    online: Online,
    /// The transaction of each process, and the next one's number.
    txns: BTreeMap<u64, u64>,
    next: u64,
    now: u64,
    violation: Option<String>,
}

impl Watch {
    fn new(workload: Workload, model: Model) -> Option<Self> {
        let order = match model {
            Model::Serializable => TimeOrder::Free,
            Model::StrongSessionSerializable => TimeOrder::Session,
            Model::StrictSerializable => TimeOrder::Realtime,
            _ => return None,
        };
        (workload == Workload::ListAppend).then(|| Watch {
            online: Online::new(order),
            txns: BTreeMap::new(),
            next: 0,
            now: 0,
            violation: None,
        })
    }

    fn invoke(&mut self, process: u64, asked: &Asked) {
        if self.violation.is_some() {
            return;
        }
        let Request::Txn(ops) = &asked.request else {
            return;
        };
        let writes = ops.iter().filter_map(|op| match *op {
            Op::Append { key, value } => Some((key, value)),
            _ => None,
        });
        let writes: Vec<(u64, u64)> = writes.collect();
        let txn = self.next;
        (self.next, self.now) = (txn + 1, self.now + 1);
        self.txns.insert(process, txn);
        if let Err(stop) = self.online.invoke(self.now, txn, process, &writes) {
            self.violation = Some(stop.explanation);
        }
    }

    fn complete(&mut self, process: u64, asked: &Asked, completion: &Completion) {
        if self.violation.is_some() {
            return;
        }
        let (Request::Txn(ops), Some(txn)) = (&asked.request, self.txns.remove(&process)) else {
            return;
        };
        self.now += 1;
        let (status, seen) = match completion {
            Completion::Ok(Answer::Txn(seen)) => (Status::Ok, &seen[..]),
            Completion::Info(_) => (Status::Info, &[][..]),
            _ => (Status::Fail, &[][..]),
        };
        let actions = ops
            .iter()
            .zip(seen)
            .filter_map(|(op, seen)| match (*op, seen) {
                (Op::Append { key, value }, _) => Some(Action::Append { key, value }),
                (Op::ReadList { key }, Seen::List(list)) => Some(Action::ReadList { key, list }),
                _ => None,
            });
        let actions: Vec<Action<'_>> = actions.collect();
        if let Err(stop) = self.online.complete(self.now, txn, status, &actions) {
            self.violation = Some(stop.explanation);
        }
    }
}
