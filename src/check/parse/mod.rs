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
//! JSON may be one record a line or one array; EDN may be bare maps, a vector of them, or tagged. Which it is
//! shows in the first bytes. The order of the records is real time: a record's index, from 0, is its instant.
//! The file is streamed: memory goes to the history and one buffer.

mod cursor;
mod record;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::history::{History, HistoryBuilder, NEVER, Op, Status};
use cursor::{Cursor, Stop};
use record::{Arg, Event, EventKind, Ops, RawOp, Verb};

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
    let io = |source| ParseError::Io {
        path: path.to_path_buf(),
        source,
    };
    let mut source = BufReader::new(source);
    let gzip = source.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]);
    let mut reader = Reader::new(strictness);
    let result = match gzip {
        true => reader.stream(flate2::bufread::MultiGzDecoder::new(source)),
        false => reader.stream(source),
    };
    match result {
        Ok(()) => Ok(reader.finish()),
        Err(Failure::Io(source)) => Err(io(source)),
        Err(Failure::Content(reason)) => Err(ParseError::Content {
            path: path.to_path_buf(),
            line: reader.line + 1,
            reason,
        }),
    }
}

/// How much is read at a time.
const CHUNK: usize = 1 << 20;

enum Failure {
    Io(io::Error),
    Content(String),
}

/// A transaction that was invoked and has not completed.
struct Outstanding {
    invoke: u64,
    ops: Ops,
}

struct Reader {
    strictness: Strictness,
    builder: HistoryBuilder,
    /// By process. A process has one, unless the strictness is lenient.
    outstanding: BTreeMap<u64, Vec<Outstanding>>,
    spare: Vec<Ops>,
    ops: Ops,
    /// The index of the next record.
    index: u64,
    /// Lines before the buffer; once an error is found, before its record.
    line: u64,
    json: Option<bool>,
    /// Are the records in an array, and is it closed?
    array: Option<bool>,
}

impl Reader {
    fn new(strictness: Strictness) -> Self {
        Reader {
            strictness,
            builder: HistoryBuilder::new(),
            outstanding: BTreeMap::new(),
            spare: Vec::new(),
            ops: Ops::default(),
            index: 0,
            line: 0,
            json: None,
            array: None,
        }
    }

    /// Reads records until the end. What is incomplete at the end of the buffer is read again with more.
    fn stream(&mut self, mut source: impl Read) -> Result<(), Failure> {
        let mut buffer: Vec<u8> = Vec::new();
        let mut want = CHUNK;
        loop {
            let had = buffer.len();
            let mut limited = source.by_ref().take(want as u64);
            let got = limited.read_to_end(&mut buffer).map_err(Failure::Io)?;
            if got == 0 {
                // A blank ends whatever the text left open.
                buffer.push(b'\n');
            }
            let used = self.records(&buffer, got == 0)?;
            self.line += newlines(&buffer[..used]);
            buffer.drain(..used);
            if got == 0 {
                return Ok(());
            }
            // A record larger than the buffer: double it, so that reading again stays linear.
            want = if used == 0 { had + got } else { CHUNK };
        }
    }

    /// Reads the records in a text; how many bytes they took.
    fn records(&mut self, text: &[u8], last: bool) -> Result<usize, Failure> {
        let mut cursor = Cursor::new(text, self.json.unwrap_or(false));
        loop {
            let start = cursor.at;
            let reason = match self.next(&mut cursor) {
                Ok(()) => continue,
                Err(Stop::Bad(reason)) => reason,
                Err(Stop::Incomplete) if !last => return Ok(start),
                Err(Stop::Incomplete) => {
                    // Nothing but blanks and comments is the end.
                    let mut rest = Cursor {
                        at: start,
                        ..cursor
                    };
                    if rest.blanks() == Err(Stop::Incomplete) && self.array != Some(false) {
                        return Ok(text.len());
                    }
                    cursor.at = rest.at;
                    "the text ends within a record".into()
                }
            };
            let at = text.len().min(cursor.at);
            self.line += newlines(&text[..at]);
            return Err(Failure::Content(reason));
        }
    }

    /// Reads one record, or a bracket of the array around them.
    fn next(&mut self, cursor: &mut Cursor) -> Result<(), Stop> {
        let byte = cursor.token()?;
        match (byte, self.array) {
            (b'[', None) if self.index == 0 => {
                self.array = Some(false);
                cursor.at += 1;
                return Ok(());
            }
            (b']', Some(false)) => {
                self.array = Some(true);
                cursor.at += 1;
                return Ok(());
            }
            (b'{' | b'#', None | Some(false)) => {}
            _ => {
                let found = char::from(byte);
                return cursor::bad(format!("expected a record, '{{', found '{found}'"));
            }
        }
        if self.json.is_none() {
            let mut ahead = *cursor;
            ahead.at += 1;
            let json = byte == b'{' && ahead.token()? == b'"';
            (self.json, cursor.json) = (Some(json), json);
        }
        let mut ops = std::mem::take(&mut self.ops);
        let event = record::record(cursor, &mut self.builder, &mut ops);
        self.ops = ops;
        if let Some(event) = event? {
            self.event(event).map_err(Stop::Bad)?;
        }
        self.index += 1;
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<(), String> {
        if event.kind == EventKind::Invoke {
            return self.invoke(event);
        }
        let outstanding = self.outstanding.entry(event.process).or_default();
        let at = match self.strictness {
            Strictness::Strict => 0,
            Strictness::Lenient => {
                let fits = |open: &Outstanding| mismatch(&open.ops, &self.ops).is_none();
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
                    let ops = std::mem::take(&mut self.ops);
                    // Nobody knows when it was invoked: it may have been concurrent with all before.
                    self.complete(event, 0, &ops);
                    self.ops = ops;
                    Ok(())
                }
            };
        }
        let open = outstanding.remove(at);
        let result = self.pair(event, &open);
        self.spare.push(open.ops);
        result
    }

    fn invoke(&mut self, event: Event) -> Result<(), String> {
        let outstanding = self.outstanding.entry(event.process).or_default();
        if let (Strictness::Strict, Some(open)) = (self.strictness, outstanding.first()) {
            return Err(format!(
                "process {} invokes a transaction while that of record {} is outstanding",
                event.process, open.invoke
            ));
        }
        let mut ops = self.spare.pop().unwrap_or_default();
        std::mem::swap(&mut ops, &mut self.ops);
        outstanding.push(Outstanding {
            invoke: self.index,
            ops,
        });
        Ok(())
    }

    fn pair(&mut self, event: Event, open: &Outstanding) -> Result<(), String> {
        let ops = std::mem::take(&mut self.ops);
        // Only a success has results. What else there is may be cut short or hold nothing.
        let result = match event.kind {
            EventKind::Ok if event.has_value => match mismatch(&open.ops, &ops) {
                Some(reason) if self.strictness == Strictness::Strict => Err(reason),
                _ => {
                    self.complete(event, open.invoke, &ops);
                    Ok(())
                }
            },
            EventKind::Ok => Err("a successful transaction without a value".into()),
            _ => {
                self.complete(event, open.invoke, &open.ops);
                Ok(())
            }
        };
        self.ops = ops;
        result
    }

    fn complete(&mut self, event: Event, invoke: u64, ops: &Ops) {
        let status = match event.kind {
            EventKind::Ok => Status::Ok,
            EventKind::Fail => Status::Fail,
            EventKind::Info | EventKind::Invoke => Status::Info,
        };
        self.builder.begin(event.process, invoke);
        for op in &ops.ops {
            push(&mut self.builder, op, &ops.elements, status);
        }
        self.builder.end(status, Some(self.index));
    }

    /// What never completed is indeterminate.
    fn finish(mut self) -> History {
        for (process, outstanding) in std::mem::take(&mut self.outstanding) {
            for open in outstanding {
                self.builder.begin(process, open.invoke);
                for op in &open.ops.ops {
                    push(&mut self.builder, op, &open.ops.elements, Status::Info);
                }
                self.builder.end(Status::Info, None);
            }
        }
        self.builder.nil_reads_of_lists();
        self.builder.finish()
    }
}

fn newlines(text: &[u8]) -> u64 {
    text.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// Why a completion is not that of an invocation: it must have the same operations on the same keys.
fn mismatch(invoked: &Ops, completed: &Ops) -> Option<String> {
    if invoked.ops.len() != completed.ops.len() {
        // A bank's reads are invoked without the accounts.
        let whole_reads =
            invoked.ops.len() < 2 && invoked.ops.iter().all(|op| op.verb == Verb::Read);
        return (!whole_reads).then(|| {
            format!(
                "{} operations completed of {} that were invoked",
                completed.ops.len(),
                invoked.ops.len()
            )
        });
    }
    let mut pairs = invoked.ops.iter().zip(&completed.ops).zip(1..);
    let differs = |(a, b): (&RawOp, &RawOp)| {
        let writes = a.verb != Verb::Read && a.arg != b.arg;
        a.verb != b.verb || a.key != b.key && completed.ops.len() > 1 || writes
    };
    let (_, at) = pairs.find(|&(pair, _)| differs(pair))?;
    Some(format!(
        "operation {at} completed as another than was invoked"
    ))
}

fn push(builder: &mut HistoryBuilder, op: &RawOp, elements: &[u64], status: Status) {
    match (op.verb, op.arg) {
        (Verb::Read, _) if status != Status::Ok => builder.read_unknown(op.key),
        (Verb::Read, Arg::List(start, end)) => builder.read_list(op.key, &elements[start..end]),
        (Verb::Read, Arg::Value(value)) => builder.read(op.key, Some(value)),
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
