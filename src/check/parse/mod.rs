//! Histories from files: native NDJSON, Jepsen's JSON and EDN, plain or gzipped.
//!
//! All three are a sequence of records, one for each invocation and each completion:
//!
//! ```text
//! {"type": "invoke", "process": 0, "f": "txn", "value": [["append", "x", 1], ["r", "y", null]]}
//! {:type :ok, :process 0, :f :txn, :value [[:append :x 1] [:r :y [2 3]]]}
//! ```
//!
//! A record of type `versions` states the order of a key's versions, where somebody saw it inside the database:
//!
//! ```text
//! {"type": "versions", "key": "x", "value": [1, 2, 3]}
//! ```
//!
//! Operations on one object at a time are `:f :read :value 3` and the like, and with several objects `[key 3]`, as
//! Jepsen's `independent` writes them, in invocations (`[key nil]`) as in completions. A set of two elements that is read
//! as `[1 2]` is told from a register's value by that: its read was invoked with nil. A key holds a list or a register:
//! one that is used as both is refused.
//!
//! JSON may be one record a line or one array; EDN may be bare maps, a vector of them, or tagged. Which it is
//! shows in the first bytes. The order of the records is real time: a record's index, from 0, is its instant.
//! The file is streamed, and read on all threads: memory goes to the history and a few blocks of text, and
//! what comes out does not depend on the threads.

mod batch;
mod blocks;
mod cursor;
mod record;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::history::{History, HistoryBuilder, NEVER, Op, Status};
use batch::{Batch, Wrong};
use blocks::Block;
pub use blocks::Blocks;
use record::{Arg, Event, EventKind, Line, Names, RawOp, Verb, Versions};

/// A file or stream that is no history.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is wrong.
    #[error("{}:{line}: {reason}", path.display())]
    Content {
        /// The file, or `-` for a stream.
        path: PathBuf,
        /// The line of the record, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// How to treat records that do not fit together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Strictness {
    /// A completion without an invocation, or an invocation by a busy process, is an error.
    #[default]
    Strict,
    /// A completion without an invocation was invoked at some time before, and a process may be busy with
    /// several transactions. For hand-written fragments.
    Lenient,
}

/// Reads a history from a file.
///
/// # Errors
/// If the file cannot be read, or is no history: with the line and the reason.
pub fn read_file(path: &Path, strictness: Strictness) -> Result<History, ParseError> {
    let io = |source| ParseError::Io {
        path: path.to_path_buf(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    read_named(file, path, strictness)
}

/// Reads a history from a stream.
///
/// # Errors
/// As [`read_file`]; the path is `-`.
pub fn read(source: impl Read, strictness: Strictness) -> Result<History, ParseError> {
    read_named(source, Path::new("-"), strictness)
}

/// Reads a history from a stream, which errors call by this path.
///
/// # Errors
/// As [`read_file`].
pub fn read_named(
    source: impl Read,
    path: &Path,
    strictness: Strictness,
) -> Result<History, ParseError> {
    read_in_blocks(source, path, strictness, Blocks::default())
}

/// The same, with the text cut as told: history or error are the same, whatever the sizes.
///
/// # Errors
/// As [`read_file`].
///
/// # Panics
/// If a size is 0.
pub fn read_in_blocks(
    source: impl Read,
    path: &Path,
    strictness: Strictness,
    sizes: Blocks,
) -> Result<History, ParseError> {
    let Blocks { first, block, part } = sizes;
    assert!(first.min(block).min(part) > 0, "{sizes:?}");
    let io = |source| ParseError::Io {
        path: path.to_path_buf(),
        source,
    };
    let mut source = BufReader::new(source);
    let gzip = source.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]);
    let mut reader = Reader::new(strictness);
    let merge = |block: &mut Block| reader.merge(block);
    let result = match gzip {
        true => blocks::read(flate2::bufread::MultiGzDecoder::new(source), sizes, merge),
        false => blocks::read(source, sizes, merge),
    };
    match result {
        Ok(()) => reader.finish(path),
        Err(Failure::Io(source)) => Err(io(source)),
        Err(Failure::Content(reason)) => Err(ParseError::Content {
            path: path.to_path_buf(),
            line: reader.line + 1,
            reason,
        }),
    }
}

enum Failure {
    Io(io::Error),
    Content(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

/// A transaction that was invoked and has not completed.
struct Outstanding {
    invoke: u64,
    ops: Vec<RawOp>,
}

impl Outstanding {
    /// The operations without what they returned, which an invocation cannot know.
    fn as_ops(&self) -> Ops<'_> {
        Ops {
            ops: &self.ops,
            elements: &[],
        }
    }
}

/// The operations of a record.
#[derive(Clone, Copy)]
struct Ops<'a> {
    ops: &'a [RawOp],
    elements: &'a [u64],
}

/// Puts records together to transactions.
struct Reader {
    strictness: Strictness,
    builder: HistoryBuilder,
    /// By process. A process has one, unless the strictness is lenient.
    outstanding: BTreeMap<u64, Vec<Outstanding>>,
    spare: Vec<Vec<RawOp>>,
    /// The index of the next record.
    index: u64,
    /// Lines before the block; once an error is found, before its record.
    line: u64,
}

impl Reader {
    fn new(strictness: Strictness) -> Self {
        Reader {
            strictness,
            builder: HistoryBuilder::new(),
            outstanding: BTreeMap::new(),
            spare: Vec::new(),
            index: 0,
            line: 0,
        }
    }

    /// Takes the records of a block, up to what is wrong with it.
    fn merge(&mut self, block: &mut Block) -> Result<(), Failure> {
        for batch in &mut block.batches {
            self.adopt_names(batch);
            let taken = self.records(batch);
            let wrong = taken.err().or_else(|| batch.wrong.take());
            if let Some(Wrong { at, reason }) = wrong {
                self.line += newlines(&block.text[..at]);
                return Err(Failure::Content(reason));
            }
        }
        self.line += newlines(&block.text[..block.end()]);
        Ok(())
    }

    /// Gives the names of a batch the numbers that they have in the history.
    fn adopt_names(&mut self, batch: &mut Batch) {
        if batch.names.is_empty() {
            return;
        }
        let texts = batch.names.texts();
        let numbers: Vec<u64> = texts.map(|text| self.builder.name(text)).collect();
        batch.rename(|value| Names::index(value).map_or(value, |at| numbers[at]));
    }

    /// Takes the records of a batch; those that fit to nothing end it.
    fn records(&mut self, batch: &Batch) -> Result<(), Wrong> {
        let mut start = 0;
        for record in &batch.records {
            let ops = Ops {
                ops: &batch.ops[start..record.ops_end],
                elements: &batch.elements,
            };
            start = record.ops_end;
            let taken = match record.line {
                Line::Event(event) => self.event(event, ops),
                Line::Versions(at) => self.version_order(&batch.versions[at]),
                Line::Other => Ok(()),
            };
            taken.map_err(|reason| Wrong {
                at: record.end,
                reason,
            })?;
            self.index += 1;
        }
        Ok(())
    }

    fn version_order(&mut self, versions: &Versions) -> Result<(), String> {
        match self.builder.version_order(versions.key, &versions.order) {
            true => Ok(()),
            false => Err("the order of this key's versions was given before".into()),
        }
    }

    fn event(&mut self, event: Event, ops: Ops<'_>) -> Result<(), String> {
        if event.kind == EventKind::Invoke {
            return self.invoke(event, ops);
        }
        let outstanding = self.outstanding.entry(event.process).or_default();
        let at = match self.strictness {
            Strictness::Strict => 0,
            Strictness::Lenient => {
                let fits = |open: &Outstanding| mismatch(&open.ops, ops.ops).is_none();
                outstanding.iter().position(fits).unwrap_or(0)
            }
        };
        if at >= outstanding.len() {
            return match self.strictness {
                Strictness::Strict => Err(format!(
                    "process {} completes a transaction that it never invoked",
                    event.process
                )),
                Strictness::Lenient => {
                    // Nobody knows when it was invoked: it may have been concurrent with all before.
                    self.complete(event, 0, ops)
                }
            };
        }
        let open = outstanding.remove(at);
        let result = self.pair(event, &open, ops);
        self.spare.push(open.ops);
        result
    }

    fn invoke(&mut self, event: Event, ops: Ops<'_>) -> Result<(), String> {
        let outstanding = self.outstanding.entry(event.process).or_default();
        if let (Strictness::Strict, Some(open)) = (self.strictness, outstanding.first()) {
            return Err(format!(
                "process {} invokes a transaction while that of record {} is outstanding",
                event.process, open.invoke
            ));
        }
        let mut kept = self.spare.pop().unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(ops.ops);
        outstanding.push(Outstanding {
            invoke: self.index,
            ops: kept,
        });
        Ok(())
    }

    fn pair(&mut self, event: Event, open: &Outstanding, ops: Ops<'_>) -> Result<(), String> {
        let set = as_set(&open.ops, ops);
        let ops = set.as_ref().map_or(ops, |read| Ops {
            ops: std::slice::from_ref(read),
            ..ops
        });
        // Only a success has results. What else there is may be cut short or hold nothing.
        match event.kind {
            EventKind::Ok if event.has_value => {
                let mismatch = mismatch(&open.ops, ops.ops);
                if let (Some(reason), Strictness::Strict) = (mismatch, self.strictness) {
                    return Err(reason);
                }
                self.complete(event, open.invoke, ops)
            }
            EventKind::Ok => Err("a successful transaction without a value".into()),
            _ => self.complete(event, open.invoke, open.as_ops()),
        }
    }

    fn complete(&mut self, event: Event, invoke: u64, ops: Ops<'_>) -> Result<(), String> {
        let status = match event.kind {
            EventKind::Ok => Status::Ok,
            EventKind::Fail => Status::Fail,
            EventKind::Info | EventKind::Invoke => Status::Info,
        };
        self.transaction(event.process, invoke, Some(self.index), status, ops)
    }

    fn transaction(
        &mut self,
        process: u64,
        invoke: u64,
        complete: Option<u64>,
        status: Status,
        ops: Ops<'_>,
    ) -> Result<(), String> {
        self.builder.begin(process, invoke);
        for op in ops.ops {
            push(&mut self.builder, op, ops.elements, status);
        }
        self.builder.end(status, complete);
        match self.builder.torn_key() {
            None => Ok(()),
            Some(key) => Err(format!(
                "key {key} is taken for a list (append, a read of a list) and for a register (w, cas, a read of one \
                 value): a key holds one or the other"
            )),
        }
    }

    /// What never completed is indeterminate.
    fn finish(mut self, path: &Path) -> Result<History, ParseError> {
        for (process, outstanding) in std::mem::take(&mut self.outstanding) {
            for open in outstanding {
                let taken =
                    self.transaction(process, open.invoke, None, Status::Info, open.as_ops());
                taken.map_err(|reason| ParseError::Content {
                    path: path.to_path_buf(),
                    line: self.line,
                    reason: format!(
                        "record {}, which process {process} invoked and never completed: {reason}",
                        open.invoke
                    ),
                })?;
            }
        }
        self.builder.nil_reads_of_lists();
        Ok(self.builder.finish())
    }
}

fn newlines(text: &[u8]) -> u64 {
    // Sums of bytes that cannot overflow a byte: compilers turn these into vector instructions.
    let count = |part: &[u8]| part.iter().map(|&byte| u8::from(byte == b'\n')).sum::<u8>();
    text.chunks(255).map(|part| u64::from(count(part))).sum()
}

/// The read of a set of two elements, `[1 2]`, which by itself looks like one of register 1. Jepsen's `independent`
/// wraps the value of the invocation too (`[1 nil]`), so a read that was invoked with nil returned the whole vector.
fn as_set(invoked: &[RawOp], completed: Ops<'_>) -> Option<RawOp> {
    let ([asked], [read]) = (invoked, completed.ops) else {
        return None;
    };
    let Arg::Value(second) = read.arg else {
        return None;
    };
    let whole = read.verb == Verb::Read && asked.verb == Verb::Read && read.keyed && !asked.keyed;
    whole.then_some(RawOp {
        key: asked.key,
        arg: Arg::Pair(read.key, second),
        keyed: false,
        ..*read
    })
}

/// Why a completion is not that of an invocation: it must have the same operations on the same keys.
fn mismatch(invoked: &[RawOp], completed: &[RawOp]) -> Option<String> {
    if invoked.len() != completed.len() {
        // A bank's reads are invoked without the accounts.
        let reads = |op: &RawOp| op.verb == Verb::Read;
        let whole_reads =
            invoked.len() < 2 && invoked.iter().all(reads) && completed.iter().all(reads);
        return (!whole_reads).then(|| {
            format!(
                "{} operations completed of {} that were invoked",
                completed.len(),
                invoked.len()
            )
        });
    }
    let mut pairs = invoked.iter().zip(completed).zip(1..);
    let differs = |(a, b): (&RawOp, &RawOp)| {
        let writes = a.verb != Verb::Read && a.arg != b.arg;
        // A bank's read of one account was invoked without it.
        let moved = a.key != b.key && (completed.len() > 1 || !b.account);
        a.verb != b.verb || moved || writes
    };
    let (_, at) = pairs.find(|&(pair, _)| differs(pair))?;
    Some(format!(
        "operation {at} completed as another than was invoked"
    ))
}

fn push(builder: &mut HistoryBuilder, op: &RawOp, elements: &[u64], status: Status) {
    if op.account {
        builder.account(op.key);
    }
    match (op.verb, op.arg) {
        (Verb::Read, _) if status != Status::Ok => builder.read_unknown(op.key),
        (Verb::Read, Arg::List(start, end)) => builder.read_list(op.key, &elements[start..end]),
        (Verb::Read, Arg::Value(value)) => builder.read(op.key, Some(value)),
        (Verb::Read, Arg::Pair(first, second)) => builder.read_list(op.key, &[first, second]),
        (Verb::Read, _) => builder.read(op.key, None),
        (Verb::Append, Arg::Value(value)) => builder.append(op.key, value),
        (Verb::Write, Arg::Value(value)) => builder.write(op.key, value),
        (Verb::Cas, Arg::Pair(expected, new)) => builder.cas(op.key, expected, new),
        (Verb::Add, Arg::Delta(delta)) => builder.add(op.key, delta),
        (verb, arg) => unreachable!("{verb:?} with {arg:?}"),
    }
}

/// Writes a history as native NDJSON, which [`read`] reads back.
///
/// # Errors
/// Those of the sink.
pub fn write_ndjson(history: &History, mut sink: impl Write) -> io::Result<()> {
    // Completions before invocations at the same instant would turn concurrency into precedence.
    let mut events: Vec<(u64, bool, u32)> = Vec::with_capacity(2 * history.len());
    for txn in history.txns() {
        events.push((txn.header.invoke, false, txn.id));
        if txn.header.complete != NEVER {
            events.push((txn.header.complete, true, txn.id));
        }
    }
    events.sort_unstable();
    for (time, completes, id) in events {
        let txn = history.txn(id);
        let kind = match (completes, txn.header.status) {
            (false, _) => "invoke",
            (_, Status::Ok) => "ok",
            (_, Status::Fail) => "fail",
            (_, Status::Info) => "info",
        };
        let shows_reads = completes && txn.header.status == Status::Ok;
        let ops: Vec<serde_json::Value> = txn
            .ops()
            .map(|op| micro_op(history, &op, shows_reads))
            .collect();
        let process = txn.header.process;
        let record = serde_json::json!({
            "type": kind, "process": process, "time": time, "f": "txn", "value": ops,
        });
        writeln!(sink, "{record}")?;
    }
    for key in 0..history.key_count() as u32 {
        let Some(order) = history.version_order(key) else {
            continue;
        };
        let order: Vec<serde_json::Value> = order.iter().map(|&v| history.json_value(v)).collect();
        let key = history.json_value(history.key_value(key));
        let record = serde_json::json!({"type": "versions", "key": key, "value": order});
        writeln!(sink, "{record}")?;
    }
    Ok(())
}

fn micro_op(history: &History, op: &Op, shows_reads: bool) -> serde_json::Value {
    use serde_json::{Value, json};
    let value = |value: u64| history.json_value(value);
    let key = value(history.key_value(op.key()));
    match *op {
        Op::Append { value: v, .. } => json!(["append", key, value(v)]),
        Op::Write { value: v, .. } => json!(["w", key, value(v)]),
        Op::Cas { expected, new, .. } => json!(["cas", key, [value(expected), value(new)]]),
        Op::Add { delta, .. } => json!(["add", key, delta]),
        Op::ReadList { list, .. } if shows_reads => {
            let list: Vec<Value> = list.iter().map(|&v| value(v)).collect();
            json!(["r", key, list])
        }
        Op::Read { value: Some(v), .. } if shows_reads => json!(["r", key, value(v)]),
        Op::ReadList { .. } | Op::Read { .. } | Op::ReadUnknown { .. } => {
            json!(["r", key, Value::Null])
        }
    }
}
