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
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::history::{History, HistoryBuilder, Status};
use batch::{Batch, Wrong};
use blocks::Block;
pub use blocks::Blocks;
use record::{Arg, Event, EventKind, Line, Names, RawOp, Verb, Versions};
pub use write::{Format, write, write_ndjson};

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

/// Whose word counts for what came before what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// The order of the records. Where time stamps disagree, a remark says so.
    #[default]
    Lines,
    /// The records' `time`: they may come in any order that keeps each process's own.
    Time,
}

/// How to read a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// How to treat records that do not fit together.
    pub strictness: Strictness,
    /// What came before what.
    pub order: Order,
    /// A read of nil means that the client does not know what was there, and not that nothing was.
    pub nil_is_unknown: bool,
}

impl From<Strictness> for Reading {
    fn from(strictness: Strictness) -> Self {
        Reading {
            strictness,
            ..Reading::default()
        }
    }
}

/// Reads a history from a file.
///
/// # Errors
/// If the file cannot be read, or is no history: with the line and the reason.
pub fn read_file(path: &Path, reading: impl Into<Reading>) -> Result<History, ParseError> {
    let io = |source| ParseError::Io {
        path: path.to_path_buf(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    read_named(file, path, reading)
}

/// Reads a history from a stream.
///
/// # Errors
/// As [`read_file`]; the path is `-`.
pub fn read(source: impl Read, reading: impl Into<Reading>) -> Result<History, ParseError> {
    read_named(source, Path::new("-"), reading)
}

/// Reads a history from a stream, which errors call by this path.
///
/// # Errors
/// As [`read_file`].
pub fn read_named(
    source: impl Read,
    path: &Path,
    reading: impl Into<Reading>,
) -> Result<History, ParseError> {
    read_in_blocks(source, path, reading, Blocks::default())
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
    reading: impl Into<Reading>,
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
    let mut reader = Reader::new(reading.into());
    let merge = |block: &mut Block| reader.merge(block);
    let result = match gzip {
        true => {
            let plain = flate2::bufread::MultiGzDecoder::new(source);
            let plain = without_mark(plain).map_err(io)?;
            blocks::read(plain, sizes, merge)
        }
        false => blocks::read(without_mark(source).map_err(io)?, sizes, merge),
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

/// The same without the byte order mark that some programs put before a text.
fn without_mark(mut source: impl Read) -> io::Result<impl Read> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let mut start = Vec::new();
    let wanted = MARK.len() as u64;
    source.by_ref().take(wanted).read_to_end(&mut start)?;
    if start == MARK {
        start.clear();
    }
    Ok(io::Cursor::new(start).chain(source))
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
    /// Instant of the invocation.
    invoke: u64,
    /// Index of its record.
    record: u64,
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
    reading: Reading,
    builder: HistoryBuilder,
    /// By process. A process has one, unless the strictness is lenient.
    outstanding: BTreeMap<Option<u64>, Vec<Outstanding>>,
    /// How many transactions of no process there were.
    anonymous: u64,
    /// How many records of a nemesis there were.
    nemesis: u64,
    /// The first operation that named its object, and the first that did not: their records.
    named: Option<u64>,
    bare: Option<u64>,
    /// The greatest time stamp and index so far.
    latest: [u64; 2],
    /// The first record whose time stamp, or index, is smaller than one before: its place in the text that is being taken, and
    /// then a remark.
    backwards: Option<(&'static str, usize)>,
    has_gone_back: bool,
    /// The instant of the record under way.
    now: u64,
    spare: Vec<Vec<RawOp>>,
    /// The index of the next record.
    index: u64,
    /// Lines before the block; once an error is found, before its record.
    line: u64,
}

impl Reader {
    fn new(reading: Reading) -> Self {
        Reader {
            reading,
            builder: HistoryBuilder::new(),
            outstanding: BTreeMap::new(),
            anonymous: 0,
            nemesis: 0,
            named: None,
            bare: None,
            latest: [0; 2],
            backwards: None,
            has_gone_back: false,
            now: 0,
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
            if let Some((stamp, at)) = self.backwards.take() {
                let line = self.line + newlines(&block.text[..at]) + 1;
                self.builder.remark(format!(
                    "the {stamp} at line {line} is smaller than one before it: the order of the lines is taken for that of \
                     events; --order time goes by the time stamps"
                ));
            }
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
                Line::Event(event) => self
                    .stamp(&event, record.end)
                    .and_then(|()| self.event(event, ops)),
                Line::Versions(at) => self.version_order(&batch.versions[at]),
                Line::Nemesis => {
                    self.nemesis += 1;
                    Ok(())
                }
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

    /// Takes note of when a record says that it was written.
    fn stamp(&mut self, event: &Event, at: usize) -> Result<(), String> {
        self.now = self.index;
        if self.reading.order == Order::Time {
            self.now = event.time.ok_or(
                "a record without a whole number for its time, by which records were to be ordered",
            )?;
            return Ok(());
        }
        let stamps = [("time", event.time), ("index", event.index)];
        for ((name, stamp), latest) in stamps.into_iter().zip(&mut self.latest) {
            let Some(stamp) = stamp else { continue };
            if stamp < *latest && !self.has_gone_back {
                self.has_gone_back = true;
                self.backwards = Some((name, at));
            }
            *latest = stamp.max(*latest);
        }
        Ok(())
    }

    fn event(&mut self, event: Event, ops: Ops<'_>) -> Result<(), String> {
        let strictness = self.reading.strictness;
        if event.process.is_none() && strictness == Strictness::Strict {
            return Err("a record without a process; --lenient accepts fragments without".into());
        }
        if event.kind == EventKind::Invoke {
            return self.invoke(event, ops);
        }
        let outstanding = self.outstanding.entry(event.process).or_default();
        let at = match strictness {
            Strictness::Strict => 0,
            Strictness::Lenient => {
                let fits = |open: &Outstanding| mismatch(&open.ops, ops.ops).is_none();
                outstanding.iter().position(fits).unwrap_or(0)
            }
        };
        if at < outstanding.len() {
            let open = outstanding.remove(at);
            let result = self.pair(event, &open, ops);
            self.spare.push(open.ops);
            return result;
        }
        if strictness == Strictness::Strict {
            let process = self.builder.show_value(event.process.unwrap_or_default());
            return Err(format!(
                "process {process} completes a transaction that it never invoked"
            ));
        }
        if event.unread && event.kind == EventKind::Info {
            return Err(
                "what an operation may have done is not understood, and no invocation says it"
                    .into(),
            );
        }
        // Nobody knows when it was invoked: it may have been concurrent with all before.
        self.complete(event, 0, ops)
    }

    fn invoke(&mut self, event: Event, ops: Ops<'_>) -> Result<(), String> {
        let outstanding = self.outstanding.entry(event.process).or_default();
        if let (Strictness::Strict, Some(open)) = (self.reading.strictness, outstanding.first()) {
            let process = self.builder.show_value(event.process.unwrap_or_default());
            return Err(format!(
                "process {process} invokes a transaction while that of record {} is outstanding",
                open.record
            ));
        }
        let mut kept = self.spare.pop().unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(ops.ops);
        outstanding.push(Outstanding {
            invoke: self.now,
            record: self.index,
            ops: kept,
        });
        Ok(())
    }

    fn pair(&mut self, event: Event, open: &Outstanding, ops: Ops<'_>) -> Result<(), String> {
        if self.now < open.invoke {
            return Err(format!(
                "the time of this completion is before that of its invocation, record {}",
                open.record
            ));
        }
        let set = as_set(&open.ops, ops);
        let ops = set.as_ref().map_or(ops, |read| Ops {
            ops: std::slice::from_ref(read),
            ..ops
        });
        // Only a success has results. What else there is may be cut short or hold nothing.
        match event.kind {
            EventKind::Ok if event.has_value => {
                let mismatch = mismatch(&open.ops, ops.ops);
                if let (Some(reason), Strictness::Strict) = (mismatch, self.reading.strictness) {
                    return Err(reason);
                }
                self.complete(event, open.invoke, ops)
            }
            EventKind::Ok
                if open.ops.is_empty() || open.ops.iter().any(|op| op.verb.has_result()) =>
            {
                Err("a successful transaction without a value".into())
            }
            _ => self.complete(event, open.invoke, open.as_ops()),
        }
    }

    fn complete(&mut self, event: Event, invoke: u64, ops: Ops<'_>) -> Result<(), String> {
        let status = match event.kind {
            EventKind::Ok => Status::Ok,
            EventKind::Fail => Status::Fail,
            EventKind::Info | EventKind::Invoke => Status::Info,
        };
        let times = (invoke, Some(self.now));
        let balances = event.balances && status == Status::Ok;
        self.transaction(event.process, times, status, ops, balances)
    }

    fn transaction(
        &mut self,
        process: Option<u64>,
        (invoke, complete): (u64, Option<u64>),
        status: Status,
        ops: Ops<'_>,
        balances: bool,
    ) -> Result<(), String> {
        let process = process.unwrap_or_else(|| {
            self.anonymous += 1;
            self.builder.name(&format!("?{}", self.anonymous))
        });
        self.builder.begin(process, invoke);
        if balances {
            self.builder.balances();
        }
        for op in ops.ops {
            self.push(op, ops.elements, status);
        }
        self.builder.end(status, complete);
        if let (Some(named), Some(bare)) = (self.named, self.bare) {
            return Err(format!(
                "record {bare} names no object and record {named} names one: whether they mean the same is open"
            ));
        }
        match self.builder.torn_key() {
            None => Ok(()),
            Some(key) => Err(format!(
                "key {key} is taken for a list (append, a read of a list) and for a register (w, cas, a read of one \
                 value): a key holds one or the other"
            )),
        }
    }

    fn push(&mut self, op: &RawOp, elements: &[u64], status: Status) {
        let builder = &mut self.builder;
        if op.account {
            builder.account(op.key);
        }
        let is_known = status == Status::Ok;
        if op.bare && (is_known || !op.verb.has_result()) {
            self.bare.get_or_insert(self.index);
        } else if !op.bare && !op.account {
            self.named.get_or_insert(self.index);
        }
        match (op.verb, op.arg) {
            (Verb::Read, Arg::Nil) if is_known && self.reading.nil_is_unknown => {
                builder.read_unknown(op.key);
            }
            (Verb::Read, _) if !is_known => builder.read_unknown(op.key),
            (Verb::Read, Arg::List(start, end)) => builder.read_list(op.key, &elements[start..end]),
            (Verb::Read, Arg::Value(value)) => builder.read(op.key, Some(value)),
            (Verb::Read, Arg::Pair(first, second)) => builder.read_list(op.key, &[first, second]),
            (Verb::Read, _) => builder.read(op.key, None),
            (Verb::Append, Arg::Value(value)) => builder.append(op.key, value),
            (Verb::Write, Arg::Value(value)) => builder.write(op.key, value),
            (Verb::Cas, Arg::Pair(expected, new)) => builder.cas(op.key, expected, new),
            (Verb::Add, Arg::Delta(delta)) => builder.add(op.key, delta),
            (Verb::Add, Arg::Value(element)) => builder.insert(op.key, element),
            (Verb::Acquire | Verb::Release, _) => {
                let (free, held) = (builder.name("free"), builder.name("held"));
                builder.initial(op.key, free);
                match op.verb {
                    Verb::Acquire => builder.cas(op.key, free, held),
                    _ => builder.cas(op.key, held, free),
                }
            }
            (Verb::Enqueue, Arg::Value(value)) => builder.enqueue(op.key, value),
            (Verb::Dequeue, _) if !is_known => builder.dequeue_unknown(op.key),
            (Verb::Dequeue, Arg::Value(value)) => builder.dequeue(op.key, Some(value)),
            (Verb::Dequeue, _) => builder.dequeue(op.key, None),
            (verb, arg) => unreachable!("{verb:?} with {arg:?}"),
        }
    }

    /// What never completed is indeterminate.
    fn finish(mut self, path: &Path) -> Result<History, ParseError> {
        for (process, outstanding) in std::mem::take(&mut self.outstanding) {
            for open in outstanding {
                let whose = process.map_or("nobody".into(), |process| {
                    format!("process {}", self.builder.show_value(process))
                });
                let times = (open.invoke, None);
                let taken = self.transaction(process, times, Status::Info, open.as_ops(), false);
                taken.map_err(|reason| ParseError::Content {
                    path: path.to_path_buf(),
                    line: self.line,
                    reason: format!(
                        "record {}, which {whose} invoked and never completed: {reason}",
                        open.record
                    ),
                })?;
            }
        }
        if self.nemesis > 0 {
            let what = "records of the process nemesis".into();
            self.builder.skip(what, self.nemesis, "it is no client");
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
        bare: asked.bare,
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
        let writes = !a.verb.has_result() && a.arg != b.arg;
        // A bank's read of one account was invoked without it.
        let moved = a.key != b.key && (completed.len() > 1 || !b.account);
        a.verb != b.verb || moved || writes
    };
    let (_, at) = pairs.find(|&(pair, _)| differs(pair))?;
    Some(format!(
        "operation {at} completed as another than was invoked"
    ))
}
