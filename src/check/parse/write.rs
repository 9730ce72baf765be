//! Histories to files, in each of the formats that [`read`](super::read) takes.
//!
//! What comes out is read back as the same history: transactions, their order in time, orders of versions, first values and a bank's
//! accounts. What nobody judges (records of a nemesis, further fields, the reasons of an error) is not written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use super::super::history::{History, KeyId, NAME_BASE, NEVER, Op, Predicate, Status, Txn};

/// How a history is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// One JSON record a line.
    Ndjson,
    /// One JSON array.
    Json,
    /// One EDN map a line, as Jepsen and Elle write them.
    Edn,
}

/// A value in either notation.
enum Node {
    Nil,
    Number(u64),
    Signed(i64),
    /// A word of the format itself: a keyword in EDN.
    Word(&'static str),
    /// A name that somebody gave: a keyword in EDN if it was one.
    Name(String),
    /// A text between quotes, whatever it looks like.
    Quoted(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// Writes a history in a format.
///
/// # Errors
/// Those of the sink.
pub fn write(history: &History, format: Format, mut sink: impl Write) -> io::Result<()> {
    let mut separator = match format {
        Format::Json => "[\n",
        Format::Ndjson | Format::Edn => "",
    };
    let mut put = |record: Node| {
        let mut text = String::from(separator);
        record.show(format == Format::Edn, &mut text);
        separator = match format {
            Format::Json => ",\n",
            Format::Ndjson | Format::Edn => "",
        };
        if format != Format::Json {
            text.push('\n');
        }
        sink.write_all(text.as_bytes())
    };
    let scribe = Scribe::of(history);
    if let Some((invoke, ok)) = scribe.first_values() {
        put(invoke)?;
        put(ok)?;
    }
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
        put(scribe.event(time, completes, &history.txn(id)))?;
    }
    for key in 0..history.key_count() as u32 {
        let Some(order) = history.version_order(key) else {
            continue;
        };
        let order = order.iter().map(|&value| scribe.value(value)).collect();
        put(Node::Map(vec![
            (Node::Word("key"), scribe.key(key)),
            (Node::Word("type"), Node::Word("versions")),
            (Node::Word("value"), Node::List(order)),
        ]))?;
    }
    match (format, separator) {
        (Format::Json, "[\n") => sink.write_all(b"[]\n"),
        (Format::Json, _) => sink.write_all(b"\n]\n"),
        _ => Ok(()),
    }
}

/// Writes a history as native NDJSON, which [`read`](super::read) reads back.
///
/// # Errors
/// Those of the sink.
pub fn write_ndjson(history: &History, sink: impl Write) -> io::Result<()> {
    write(history, Format::Ndjson, sink)
}

/// Turns transactions to records.
struct Scribe<'h> {
    history: &'h History,
    /// The keys of mutexes: these start free.
    mutexes: BTreeSet<KeyId>,
    /// By the key that stands for it, each predicate whose answer is known somewhere.
    predicates: BTreeMap<KeyId, Predicate>,
}

impl<'h> Scribe<'h> {
    fn of(history: &'h History) -> Self {
        let is_mutex = |&key: &KeyId| {
            let first = history.initial_value(key);
            first.is_some_and(|value| history.show_value(value) == "free")
        };
        let mut predicates = BTreeMap::new();
        if history.has_predicates() {
            for op in history.txns().flat_map(|txn| txn.ops().collect::<Vec<_>>()) {
                if let Op::ReadPredicate { key, predicate, .. } = op {
                    predicates.insert(key, predicate);
                }
            }
        }
        Scribe {
            history,
            mutexes: (0..history.key_count() as KeyId).filter(is_mutex).collect(),
            predicates,
        }
    }

    fn value(&self, value: u64) -> Node {
        let text = self.history.show_value(value);
        if value < NAME_BASE || text == value.to_string() {
            return Node::Number(value);
        }
        match text.parse::<i64>() {
            // As it was read, and not a text of digits.
            Ok(number) if number < 0 && number.to_string() == text => Node::Signed(number),
            _ => Node::Name(text),
        }
    }

    fn key(&self, key: KeyId) -> Node {
        self.value(self.history.key_value(key))
    }

    /// The records that say what objects held at first; mutexes say it by themselves.
    fn first_values(&self) -> Option<(Node, Node)> {
        let keys = 0..self.history.key_count() as KeyId;
        let named = keys.filter(|key| !self.mutexes.contains(key));
        let values = || {
            let known = named.clone().filter_map(|key| {
                let value = self.history.initial_value(key)?;
                Some((self.key(key), self.value(value)))
            });
            known.collect::<Vec<_>>()
        };
        (!values().is_empty()).then(|| {
            let record = |kind| {
                Node::Map(vec![
                    (Node::Word("f"), Node::Word("init")),
                    (Node::Word("process"), Node::Number(0)),
                    (Node::Word("time"), Node::Number(0)),
                    (Node::Word("type"), Node::Word(kind)),
                    (Node::Word("value"), Node::Map(values())),
                ])
            };
            (record("invoke"), record("ok"))
        })
    }

    fn event(&self, time: u64, completes: bool, txn: &Txn<'_>) -> Node {
        let kind = match (completes, txn.header.status) {
            (false, _) => "invoke",
            (_, Status::Ok) => "ok",
            (_, Status::Fail) => "fail",
            (_, Status::Info) => "info",
        };
        let shows_reads = completes && txn.header.status == Status::Ok;
        let (function, value) = self.operation(txn, shows_reads);
        Node::Map(vec![
            (Node::Word("f"), Node::Word(function)),
            (Node::Word("process"), self.value(txn.header.process)),
            (Node::Word("time"), Node::Number(time)),
            (Node::Word("type"), Node::Word(kind)),
            (Node::Word("value"), value),
        ])
    }

    /// A record's `f` and `value`.
    fn operation(&self, txn: &Txn<'_>, shows_reads: bool) -> (&'static str, Node) {
        let ops: Vec<Op<'_>> = txn.ops().collect();
        let accounts = self.history.accounts();
        let of_bank = !ops.is_empty() && ops.iter().all(|op| accounts.contains(&op.key()));
        match ops[..] {
            [Op::Cas { key, expected, .. }] if self.mutexes.contains(&key) => {
                let acquires = self.history.initial_value(key) == Some(expected);
                let function = if acquires { "acquire" } else { "release" };
                (function, Node::List(vec![self.key(key), Node::Nil]))
            }
            [Op::Add { key: from, .. }, Op::Add { key: to, delta }] if of_bank => {
                let entry = |name, node| (Node::Word(name), node);
                let map = vec![
                    entry("amount", Node::Signed(delta)),
                    entry("from", self.key(from)),
                    entry("to", self.key(to)),
                ];
                ("transfer", Node::Map(map))
            }
            _ if of_bank || ops.is_empty() && self.history.balances().contains(&txn.id) => {
                let balance = |op: &Op<'_>| match *op {
                    Op::Read {
                        value: Some(value), ..
                    } if shows_reads => self.value(value),
                    _ => Node::Nil,
                };
                let map = ops.iter().map(|op| (self.key(op.key()), balance(op)));
                ("read", Node::Map(map.collect()))
            }
            _ => {
                let ops = ops.iter().map(|op| self.micro_op(op, shows_reads));
                ("txn", Node::List(ops.collect()))
            }
        }
    }

    fn micro_op(&self, op: &Op<'_>, shows_reads: bool) -> Node {
        let (name, value) = match *op {
            Op::Append { value, .. } => ("append", self.value(value)),
            Op::Write { value, .. } => ("w", self.value(value)),
            Op::Cas { expected, new, .. } => {
                let pair = vec![self.value(expected), self.value(new)];
                ("cas", Node::List(pair))
            }
            Op::Add { delta, .. } => ("add", Node::Signed(delta)),
            Op::Insert { value, .. } => ("add", Node::Quoted(self.history.show_value(value))),
            Op::Enqueue { value, .. } => ("enqueue", self.value(value)),
            Op::Dequeue {
                value: Some(value), ..
            } if shows_reads => ("dequeue", self.value(value)),
            Op::Dequeue { .. } | Op::DequeueUnknown { .. } => ("dequeue", Node::Nil),
            Op::ReadList { list, .. } if shows_reads => {
                let list = list.iter().map(|&value| self.value(value));
                ("r", Node::List(list.collect()))
            }
            Op::Read {
                value: Some(value), ..
            } if shows_reads => ("r", self.value(value)),
            Op::Delete { key } => {
                return Node::List(vec![Node::Word("delete"), self.key(key)]);
            }
            Op::ReadPredicate {
                predicate, found, ..
            } => {
                let found = found.iter();
                let found = found.map(|&(key, value)| (self.key(key), self.value(value)));
                let found = if shows_reads {
                    Node::Map(found.collect())
                } else {
                    Node::Nil
                };
                let predicate = self.predicate(predicate);
                return Node::List(vec![Node::Word("rp"), predicate, found]);
            }
            Op::ReadUnknown { key } if self.predicates.contains_key(&key) => {
                let predicate = self.predicate(self.predicates[&key]);
                return Node::List(vec![Node::Word("rp"), predicate, Node::Nil]);
            }
            Op::ReadList { .. } | Op::Read { .. } | Op::ReadUnknown { .. } => ("r", Node::Nil),
        };
        Node::List(vec![Node::Word(name), self.key(op.key()), value])
    }

    fn predicate(&self, predicate: Predicate) -> Node {
        match predicate {
            Predicate::True => Node::Word("true"),
            Predicate::Equal(value) => Node::List(vec![Node::Word("="), self.value(value)]),
            Predicate::Mod { modulus, rest } => {
                let numbers = [modulus, rest].map(Node::Number);
                Node::List([Node::Word("mod")].into_iter().chain(numbers).collect())
            }
        }
    }
}

impl Node {
    fn show(&self, edn: bool, out: &mut String) {
        match self {
            Node::Nil => out.push_str(if edn { "nil" } else { "null" }),
            Node::Number(number) => *out += &number.to_string(),
            Node::Signed(number) => *out += &number.to_string(),
            Node::Word(word) if edn => {
                out.push(':');
                out.push_str(word);
            }
            Node::Word(word) => quote(word, out),
            Node::Name(name) if edn && is_keyword(name) => out.push_str(name),
            Node::Name(name) => quote(name, out),
            Node::Quoted(text) => quote(text, out),
            Node::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(if edn { ' ' } else { ',' });
                    }
                    item.show(edn, out);
                }
                out.push(']');
            }
            Node::Map(entries) => {
                out.push('{');
                for (at, (key, value)) in entries.iter().enumerate() {
                    if at > 0 {
                        out.push_str(if edn { ", " } else { "," });
                    }
                    key.show_as_name(edn, out);
                    out.push(if edn { ' ' } else { ':' });
                    value.show(edn, out);
                }
                out.push('}');
            }
        }
    }

    /// The names of a JSON map are texts, those of numbers too.
    fn show_as_name(&self, edn: bool, out: &mut String) {
        match self {
            Node::Number(number) if !edn => quote(&number.to_string(), out),
            Node::Signed(number) if !edn => quote(&number.to_string(), out),
            node => node.show(edn, out),
        }
    }
}

fn quote(text: &str, out: &mut String) {
    *out += &serde_json::Value::from(text).to_string();
}

/// Is it a keyword of EDN, that no other reader would take apart?
fn is_keyword(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+*?!/".contains(c);
    let rest = name.strip_prefix(':');
    rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(is_plain))
}
