//! Writes histories in the formats that are read.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::super::history::{History, NEVER, Op, Status};

/// A format of histories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// One JSON record a line.
    Ndjson,
    /// Jepsen's, one map a line, as Elle reads it.
    Edn,
    /// One JSON array of records.
    Json,
}

/// Writes a history as native NDJSON, which [`read`](super::read) reads back.
///
/// # Errors
/// Those of the sink.
pub fn write_ndjson(history: &History, sink: impl Write) -> io::Result<()> {
    write(history, Format::Ndjson, sink)
}

/// Writes a history in a format, which [`read`](super::read) reads back.
///
/// Every operation is written as a transaction, though it be the only one in it. The order of the records is the order of the
/// instants.
///
/// # Errors
/// Those of the sink.
pub fn write(history: &History, format: Format, mut sink: impl Write) -> io::Result<()> {
    let mut before = match format {
        Format::Json => "[\n",
        Format::Ndjson | Format::Edn => "",
    };
    let mut text = String::new();
    let mut put = |record: &Value| {
        text.clear();
        match format {
            Format::Edn => edn_record(record, &mut text),
            Format::Ndjson | Format::Json => text = record.to_string(),
        }
        write!(sink, "{before}{text}")?;
        before = match format {
            Format::Json => ",\n",
            Format::Ndjson | Format::Edn => "\n",
        };
        Ok(())
    };
    events(history, &mut put)?;
    let is_empty = text.is_empty();
    match (format, is_empty) {
        (Format::Json, true) => writeln!(sink, "[]"),
        (Format::Json, false) => writeln!(sink, "\n]"),
        (_, true) => Ok(()),
        (_, false) => writeln!(sink),
    }
}

fn events(history: &History, put: &mut dyn FnMut(&Value) -> io::Result<()>) -> io::Result<()> {
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
            (true, status) => status.name(),
        };
        let shows_reads = completes && txn.header.status == Status::Ok;
        let ops: Vec<Value> = txn
            .ops()
            .map(|op| micro_op(history, &op, shows_reads))
            .collect();
        let process = txn.header.process;
        put(&json!({
            "type": kind, "process": history.json_value(process), "time": time, "f": "txn", "value": ops,
        }))?;
    }
    for key in 0..history.key_count() as u32 {
        let Some(order) = history.version_order(key) else {
            continue;
        };
        let order: Vec<Value> = order.iter().map(|&v| history.json_value(v)).collect();
        let key = history.json_value(history.key_value(key));
        put(&json!({"type": "versions", "key": key, "value": order}))?;
    }
    Ok(())
}

fn micro_op(history: &History, op: &Op, shows_reads: bool) -> Value {
    let value = |value: u64| history.json_value(value);
    let key = value(history.key_value(op.key()));
    match *op {
        Op::Append { value: v, .. } => json!(["append", key, value(v)]),
        Op::Write { value: v, .. } => json!(["w", key, value(v)]),
        Op::Cas { expected, new, .. } => json!(["cas", key, [value(expected), value(new)]]),
        Op::Add { delta, .. } => json!(["add", key, delta]),
        Op::Insert { value: v, .. } => json!(["add", key, value(v)]),
        Op::Enqueue { value: v, .. } => json!(["enqueue", key, value(v)]),
        Op::Dequeue { value: Some(v), .. } if shows_reads => json!(["dequeue", key, value(v)]),
        Op::Dequeue { .. } | Op::DequeueUnknown { .. } => json!(["dequeue", key, Value::Null]),
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

/// A record as EDN: names of fields, types and functions are keywords, and so is what an operation does.
fn edn_record(record: &Value, out: &mut String) {
    let fields = record.as_object().expect("a record is a map");
    out.push('{');
    for (at, (name, field)) in fields.iter().enumerate() {
        let between = if at > 0 { ", " } else { "" };
        let _ = write!(out, "{between}:{name} ");
        match field {
            Value::String(word) if name == "type" || name == "f" => {
                let _ = write!(out, ":{word}");
            }
            Value::Array(ops) if fields.contains_key("f") => {
                edn_list(
                    ops,
                    |op, out| {
                        let parts = op.as_array().expect("an operation is a list");
                        let mut is_verb = true;
                        edn_list(
                            parts,
                            |part, out| {
                                if std::mem::take(&mut is_verb) {
                                    out.push(':');
                                    out.push_str(
                                        part.as_str().expect("it begins with what it does"),
                                    );
                                } else {
                                    edn(part, out);
                                }
                            },
                            out,
                        );
                    },
                    out,
                );
            }
            field => edn(field, out),
        }
    }
    out.push('}');
}

fn edn_list(items: &[Value], mut each: impl FnMut(&Value, &mut String), out: &mut String) {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        each(item, out);
    }
    out.push(']');
}

/// A value as EDN, which has JSON's numbers and strings.
fn edn(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("nil"),
        Value::Array(items) => edn_list(items, edn, out),
        value => {
            let _ = write!(out, "{value}");
        }
    }
}
