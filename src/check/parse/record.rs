//! One record of a history: a map with a type, a process, a function and a value.

use std::collections::BTreeMap;

use super::super::history::NAME_BASE;
use super::batch::Batch;
use super::cursor::{Cursor, Parsed, Scalar, Stop, bad};

/// What a record says happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EventKind {
    Invoke,
    Ok,
    Fail,
    Info,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Append,
    Read,
    Write,
    Cas,
    Add,
    /// Of a mutex.
    Acquire,
    /// Of a mutex.
    Release,
    Enqueue,
    Dequeue,
}

impl Verb {
    /// Does its completion say more than its invocation?
    pub fn has_result(self) -> bool {
        matches!(self, Verb::Read | Verb::Dequeue)
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Arg {
    Nil,
    Value(u64),
    /// Part of [`Batch::elements`].
    List(usize, usize),
    Pair(u64, u64),
    Delta(i64),
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct RawOp {
    pub verb: Verb,
    pub key: u64,
    pub arg: Arg,
    /// The key is an account of a bank.
    pub account: bool,
    /// The key stood before the value, `[key 3]`.
    pub keyed: bool,
    /// No key was named: there is one object.
    pub bare: bool,
}

/// What a record says of a transaction, without its operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Event {
    pub kind: EventKind,
    /// None if the record names no process.
    pub process: Option<u64>,
    /// Did the record hold a value other than nil?
    pub has_value: bool,
    /// Is the value a map from all accounts to their balances?
    pub balances: bool,
    /// Was the value of an indeterminate or failed operation not understood, and left out?
    pub unread: bool,
    /// The client's time stamp and index, if it has them.
    pub time: Option<u64>,
    pub index: Option<u64>,
}

/// A record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// Of a transaction.
    Event(Event),
    /// Of a key's versions: its index in the batch.
    Versions(usize),
    /// Of a nemesis, which is no client.
    Nemesis,
}

/// All versions of a key, oldest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Versions {
    pub key: u64,
    pub order: Vec<u64>,
}

/// Texts that stand where others have numbers. They get numbers that no number of a text has, in the order in
/// which they turn up in a batch.
#[derive(Default, Debug)]
pub(super) struct Names {
    numbers: BTreeMap<Box<str>, u64>,
    texts: Vec<Box<str>>,
}

impl Names {
    pub fn number(&mut self, text: &str) -> u64 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = NAME_BASE + self.texts.len() as u64;
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    /// The position in [`texts`](Self::texts) of what a number stands for, if it is a name's.
    pub fn index(number: u64) -> Option<usize> {
        number.checked_sub(NAME_BASE).map(|at| at as usize)
    }

    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    pub fn clear(&mut self) {
        self.numbers.clear();
        self.texts.clear();
    }
}

/// Reads the record under the cursor. Its operations and names go to the batch, and stay there in part if the
/// record turns out to be incomplete.
pub(super) fn record(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<Line> {
    if !cursor.json && cursor.token()? == b'#' {
        cursor.tag()?;
    }
    cursor.expect(b'{')?;
    let ops_before = batch.ops.len();
    let (mut kind, mut process, mut function) = (None, None, None);
    let (mut time, mut index) = (None, None);
    let mut value: Option<Cursor> = None;
    let mut key: Option<Cursor> = None;
    let mut wrong: Option<(usize, String)> = None;
    let mut has_txn = false;
    while !cursor.accept(b'}')? {
        match cursor.name()? {
            b"type" => kind = Some(cursor.scalar()?),
            b"key" => {
                cursor.blanks()?;
                key = Some(*cursor);
                cursor.skip()?;
            }
            b"process" => process = Some(cursor.scalar()?),
            b"f" => function = Some(cursor.scalar()?),
            b"time" => time = instant(cursor)?,
            b"index" => index = instant(cursor)?,
            b"value" => {
                cursor.blanks()?;
                let start = *cursor;
                (has_txn, wrong) = match txn(cursor, batch) {
                    Err(Stop::Bad(reason)) => (false, Some((cursor.at, reason))),
                    outcome => (outcome?, None),
                };
                // An empty vector may be a transaction, or what a set holds: that is for the function to say.
                let is_empty = has_txn && batch.ops.len() == ops_before;
                if !has_txn || is_empty {
                    value = Some(start);
                }
                if !has_txn {
                    *cursor = start;
                    cursor.skip()?;
                }
            }
            _ => cursor.skip()?,
        }
    }
    let Some(kind) = kind else {
        return bad("a record without a type");
    };
    if let Scalar::Text(b"versions" | b":versions") = kind {
        return version_order(key, value, batch);
    }
    let kind = event_kind(kind)?;
    let process = match process {
        Some(Scalar::Number(process)) => Some(process),
        Some(Scalar::Text(b"nemesis" | b":nemesis")) => {
            batch.ops.truncate(ops_before);
            return Ok(Line::Nemesis);
        }
        Some(Scalar::Text(text)) if !looks_like_a_number(text) => {
            Some(batch.names.number(&unescape(text)?))
        }
        None | Some(Scalar::Nil) => None,
        Some(other) => {
            return bad(format!(
                "a process is a whole number from 0 to 2^64-1, or a name, not {}",
                shown(other)
            ));
        }
    };
    let mut event = Event {
        kind,
        process,
        has_value: has_txn,
        balances: false,
        unread: false,
        time,
        index,
    };
    if has_txn && value.is_none() {
        return Ok(Line::Event(event));
    }
    let told = match wrong {
        Some((at, reason)) => Err((at, Stop::Bad(reason))),
        None => {
            let mut value = value;
            let told = plain(value.as_mut(), function, &mut event, batch);
            told.map_err(|stop| (value.map_or(cursor.at, |value| value.at), stop))
        }
    };
    match told {
        Ok(()) => {}
        // What these bring back is nobody's result, and may be anything.
        Err((_, Stop::Bad(_))) if matches!(kind, EventKind::Fail | EventKind::Info) => {
            self::function(function)?;
            batch.ops.truncate(ops_before);
            (event.has_value, event.unread) = (false, true);
        }
        Err((at, stop)) => {
            cursor.at = at;
            return Err(stop);
        }
    }
    Ok(Line::Event(event))
}

/// A number that grows with time; none if it is none.
fn instant(cursor: &mut Cursor) -> Parsed<Option<u64>> {
    cursor.blanks()?;
    match cursor.digits() {
        Some(number) => Ok(Some(number)),
        None => {
            cursor.skip()?;
            Ok(None)
        }
    }
}

/// A client's process, wrongly written: a nemesis has a name.
fn looks_like_a_number(text: &[u8]) -> bool {
    let begins = matches!(text, [b'0'..=b'9' | b'-' | b'+' | b'.', ..]);
    begins && std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok())
}

/// `{"type": "versions", "key": "x", "value": [1, 2]}`: all versions of a key that came to stand, oldest first, as
/// somebody saw them inside the database.
fn version_order(key: Option<Cursor>, value: Option<Cursor>, batch: &mut Batch) -> Parsed<Line> {
    let (Some(mut key), Some(mut value)) = (key, value) else {
        return bad("versions have a key, and a value: the list of them, oldest first");
    };
    let key = number(key.scalar()?, &mut batch.names)?;
    let mut order = Vec::new();
    value.expect(b'[')?;
    while !value.accept(b']')? {
        order.push(number(value.scalar()?, &mut batch.names)?);
    }
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return bad("a version comes twice in the order of a key's versions");
    }
    batch.versions.push(Versions { key, order });
    Ok(Line::Versions(batch.versions.len() - 1))
}

fn event_kind(scalar: Scalar) -> Parsed<EventKind> {
    match scalar {
        Scalar::Text(b"invoke" | b":invoke") => Ok(EventKind::Invoke),
        Scalar::Text(b"ok" | b":ok") => Ok(EventKind::Ok),
        Scalar::Text(b"fail" | b":fail") => Ok(EventKind::Fail),
        Scalar::Text(b"info" | b":info") => Ok(EventKind::Info),
        other => bad(format!(
            "a type is invoke, ok, fail, info or versions, not {}",
            shown(other)
        )),
    }
}

fn shown(scalar: Scalar) -> String {
    match scalar {
        Scalar::Nil => "nil".into(),
        Scalar::Number(number) => number.to_string(),
        Scalar::Negative(number) => number.to_string(),
        Scalar::Text(text) => String::from_utf8_lossy(text).into_owned(),
    }
}

/// The number of a scalar, or the one that stands for its text.
#[inline]
fn number(scalar: Scalar, names: &mut Names) -> Parsed<u64> {
    match scalar {
        Scalar::Number(number) => Ok(number),
        Scalar::Nil => bad("nil where a value is needed"),
        Scalar::Negative(number) => Ok(names.number(&number.to_string())),
        Scalar::Text(text) => Ok(names.number(&unescape(text)?)),
    }
}

/// Texts that are not UTF-8 cannot be told apart in a report, so they are refused.
fn unescape(text: &[u8]) -> Parsed<String> {
    let Ok(plain) = std::str::from_utf8(text) else {
        let text = String::from_utf8_lossy(text);
        return bad(format!("the text {text} is not UTF-8"));
    };
    if !plain.contains('\\') {
        return Ok(plain.to_owned());
    }
    Ok(serde_json::from_str(&format!("\"{plain}\"")).unwrap_or_else(|_| plain.to_owned()))
}

/// Reads a transaction, `[[:append 5 1] [:r 6 nil]]`; false, and nothing consumed, if the value is something else.
fn txn(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<bool> {
    let start = *cursor;
    if cursor.accept(b'[')? && matches!(cursor.token()?, b'[' | b']') {
        let is_txn = cursor.peek()? == b']' || {
            // The first thing in a micro-operation is its name, whereas `[[1 2] ...]` is something else.
            let mut ahead = *cursor;
            ahead.at += 1;
            matches!(ahead.token()?, b':' | b'"')
        };
        if is_txn {
            while !cursor.accept(b']')? {
                micro_op(cursor, batch)?;
            }
            return Ok(true);
        }
    }
    *cursor = start;
    Ok(false)
}

fn micro_op(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<()> {
    cursor.expect(b'[')?;
    let verb = match cursor.scalar()? {
        Scalar::Text(b"append" | b":append") => Verb::Append,
        Scalar::Text(b"r" | b":r" | b"read" | b":read") => Verb::Read,
        Scalar::Text(b"w" | b":w" | b"write" | b":write") => Verb::Write,
        Scalar::Text(b"cas" | b":cas") => Verb::Cas,
        Scalar::Text(b"add" | b":add") => Verb::Add,
        Scalar::Text(b"enqueue" | b":enqueue") => Verb::Enqueue,
        Scalar::Text(b"dequeue" | b":dequeue") => Verb::Dequeue,
        other => {
            let name = shown(other);
            return bad(format!(
                "unknown micro-operation {name}; one of append, r, w, cas, add, enqueue, dequeue"
            ));
        }
    };
    let key = number(cursor.scalar()?, &mut batch.names)?;
    let arg = match verb {
        Verb::Read | Verb::Dequeue if cursor.token()? == b']' => Arg::Nil,
        Verb::Read => read_result(cursor, batch)?,
        Verb::Dequeue => value_or_nil(cursor, batch)?,
        Verb::Cas => pair(cursor, batch)?,
        Verb::Add => addend(cursor, batch)?,
        _ => Arg::Value(number(cursor.scalar()?, &mut batch.names)?),
    };
    cursor.expect(b']')?;
    batch.push(verb, key, arg);
    Ok(())
}

/// Enters a list, an EDN sequence or an EDN set, if one is next: the byte that ends it.
fn enter(cursor: &mut Cursor) -> Parsed<Option<u8>> {
    let first = cursor.token()?;
    let mut inner = *cursor;
    inner.at += 1;
    let end = match first {
        b'[' => b']',
        b'(' if !cursor.json => b')',
        b'#' if !cursor.json && inner.peek()? == b'{' => {
            inner.at += 1;
            b'}'
        }
        _ => return Ok(None),
    };
    *cursor = inner;
    Ok(Some(end))
}

/// A list, a value or nil.
fn read_result(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<Arg> {
    let Some(end) = enter(cursor)? else {
        return value_or_nil(cursor, batch);
    };
    let start = batch.elements.len();
    // The one hot loop: elements are mostly numbers with a comma between them.
    while cursor.token()? != end {
        let element = match cursor.digits() {
            Some(number) => number,
            None => number(cursor.scalar()?, &mut batch.names)?,
        };
        batch.elements.push(element);
    }
    cursor.at += 1;
    Ok(Arg::List(start, batch.elements.len()))
}

fn value_or_nil(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<Arg> {
    Ok(match cursor.scalar()? {
        Scalar::Nil => Arg::Nil,
        scalar => Arg::Value(number(scalar, &mut batch.names)?),
    })
}

/// What is added: a number, or the name of an element. A number between quotes is a name.
fn addend(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<Arg> {
    let is_quoted = cursor.token()? == b'"';
    Ok(match cursor.scalar()? {
        Scalar::Number(number) => Arg::Delta(number as i64),
        Scalar::Negative(number) => Arg::Delta(number),
        Scalar::Text(text) if !is_quoted && looks_like_a_number(text) => {
            let text = String::from_utf8_lossy(text);
            return bad(format!(
                "what is added is an integer below 2^63 or a name, not {text}"
            ));
        }
        scalar => Arg::Value(number(scalar, &mut batch.names)?),
    })
}

fn pair(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<Arg> {
    cursor.expect(b'[')?;
    let expected = number(cursor.scalar()?, &mut batch.names)?;
    let new = number(cursor.scalar()?, &mut batch.names)?;
    cursor.expect(b']')?;
    Ok(Arg::Pair(expected, new))
}

/// What a record's `f` says was done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Function {
    Txn,
    Transfer,
    One(Verb),
}

fn function(f: Option<Scalar>) -> Parsed<Option<Function>> {
    let name = match f {
        None | Some(Scalar::Nil) => return Ok(None),
        Some(Scalar::Text(text)) => text.strip_prefix(b":").unwrap_or(text),
        Some(other) => return bad(format!("f is an operation's name, not {}", shown(other))),
    };
    let function = match name {
        b"txn" => Function::Txn,
        b"transfer" => Function::Transfer,
        b"read" | b"r" => Function::One(Verb::Read),
        b"write" | b"w" => Function::One(Verb::Write),
        b"cas" => Function::One(Verb::Cas),
        b"add" => Function::One(Verb::Add),
        b"acquire" => Function::One(Verb::Acquire),
        b"release" => Function::One(Verb::Release),
        b"enqueue" => Function::One(Verb::Enqueue),
        b"dequeue" => Function::One(Verb::Dequeue),
        other => {
            let name = String::from_utf8_lossy(other);
            return bad(format!(
                "unknown operation {name}; one of txn, read, write, cas, add, transfer, acquire, release, enqueue, \
                 dequeue, with a value to match"
            ));
        }
    };
    Ok(Some(function))
}

/// Reads the value of an operation on one object: `:f :read :value 3`, `:f :cas :value [1 2]`, with a key before
/// it (`[k 3]`) if there are several objects; a bank's `{:from 0 :to 1 :amount 5}` or `{0 10, 1 20}`; a set's
/// or counter's `:f :add :value 3`. No value is nil.
fn plain(
    value: Option<&mut Cursor>,
    f: Option<Scalar>,
    event: &mut Event,
    batch: &mut Batch,
) -> Parsed<()> {
    let function = function(f)?;
    let mut nil = Cursor::new(b"nil ", false);
    let cursor = value.unwrap_or(&mut nil);
    let mut ahead = *cursor;
    let is_nil = ahead.scalar() == Ok(Scalar::Nil);
    event.has_value = true;
    let verb = match function {
        None | Some(Function::Txn) if is_empty_vector(*cursor) => return Ok(()),
        None | Some(Function::Txn) if is_nil => {
            event.has_value = false;
            return Ok(());
        }
        None => {
            return bad("the value is no transaction, and the record has no f to say what it is");
        }
        Some(Function::Txn) => return bad("a txn has a vector of micro-operations for its value"),
        Some(Function::Transfer) if is_nil => {
            event.has_value = false;
            return without_value("transfer", event.kind);
        }
        Some(Function::Transfer) => return transfer(cursor, batch),
        Some(Function::One(verb)) => verb,
    };
    match (verb, cursor.token()?) {
        (Verb::Acquire | Verb::Release, first) => {
            let mut key = 0;
            if first == b'[' {
                cursor.at += 1;
                key = number(cursor.scalar()?, &mut batch.names)?;
            }
            batch.push(verb, key, Arg::Nil);
            match first {
                b'[' => batch.mark_keyed(),
                _ => batch.mark_bare(),
            }
        }
        (Verb::Write | Verb::Cas | Verb::Add | Verb::Enqueue, _) if is_nil => {
            event.has_value = false;
            let name = match verb {
                Verb::Write => "write",
                Verb::Cas => "cas",
                Verb::Add => "add",
                _ => "enqueue",
            };
            return without_value(name, event.kind);
        }
        (Verb::Read, b'{') => {
            balances(cursor, batch)?;
            event.balances = true;
        }
        (Verb::Cas, b'[') => cas(cursor, batch)?,
        (Verb::Read, b'[' | b'(' | b'#') if !is_keyed(*cursor)? => {
            let list = read_result(cursor, batch)?;
            batch.push(verb, 0, list);
            batch.mark_bare();
        }
        (_, b'[') => {
            cursor.at += 1;
            let key = number(cursor.scalar()?, &mut batch.names)?;
            single(cursor, verb, key, batch)?;
            cursor.expect(b']')?;
            batch.mark_keyed();
        }
        _ => {
            single(cursor, verb, 0, batch)?;
            batch.mark_bare();
        }
    }
    Ok(())
}

/// Only an invocation must say what it wants.
fn without_value(name: &str, kind: EventKind) -> Parsed<()> {
    match kind {
        EventKind::Invoke => bad(format!(
            "nil where a value is needed: the invocation of {name}"
        )),
        _ => Ok(()),
    }
}

fn is_empty_vector(mut cursor: Cursor) -> bool {
    cursor.accept(b'[') == Ok(true) && cursor.accept(b']') == Ok(true)
}

/// Is this a key with what it holds, `[k 3]`, and not all elements of a set? One of two elements is taken for
/// the former, until its invocation says otherwise.
fn is_keyed(mut cursor: Cursor) -> Parsed<bool> {
    if cursor.token()? != b'[' {
        return Ok(false);
    }
    cursor.at += 1;
    let mut elements = 0;
    while !cursor.accept(b']')? {
        cursor.skip()?;
        elements += 1;
    }
    Ok(elements == 2)
}

fn single(cursor: &mut Cursor, verb: Verb, key: u64, batch: &mut Batch) -> Parsed<()> {
    if verb == Verb::Read {
        let result = read_result(cursor, batch)?;
        batch.push(verb, key, result);
        return Ok(());
    }
    if verb == Verb::Add {
        let arg = addend(cursor, batch)?;
        batch.push(verb, key, arg);
        return Ok(());
    }
    let arg = match (verb, cursor.scalar()?) {
        (Verb::Dequeue, Scalar::Nil) => Arg::Nil,
        (Verb::Cas, _) => return bad("a cas has a pair of values"),
        (_, scalar) => Arg::Value(number(scalar, &mut batch.names)?),
    };
    batch.push(verb, key, arg);
    Ok(())
}

fn signed(scalar: Scalar) -> Parsed<i64> {
    match scalar {
        Scalar::Number(number) => Ok(number as i64),
        Scalar::Negative(number) => Ok(number),
        other => bad(format!(
            "expected an integer below 2^63, found {}",
            shown(other)
        )),
    }
}

/// `[1 2]` or `[key [1 2]]`.
fn cas(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<()> {
    cursor.expect(b'[')?;
    let first = number(cursor.scalar()?, &mut batch.names)?;
    if cursor.token()? == b'[' {
        let arg = pair(cursor, batch)?;
        batch.push(Verb::Cas, first, arg);
        batch.mark_keyed();
    } else {
        let new = number(cursor.scalar()?, &mut batch.names)?;
        batch.push(Verb::Cas, 0, Arg::Pair(first, new));
        batch.mark_bare();
    }
    cursor.expect(b']')
}

/// A transfer between accounts is two additions.
fn transfer(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<()> {
    cursor.expect(b'{')?;
    let (mut from, mut to, mut amount) = (None, None, None);
    while !cursor.accept(b'}')? {
        match cursor.name()? {
            b"from" => from = Some(number(cursor.scalar()?, &mut batch.names)?),
            b"to" => to = Some(number(cursor.scalar()?, &mut batch.names)?),
            b"amount" => amount = Some(signed(cursor.scalar()?)?),
            _ => cursor.skip()?,
        }
    }
    let (Some(from), Some(to), Some(amount)) = (from, to, amount) else {
        return bad("a transfer has from, to and amount");
    };
    batch.push_account(Verb::Add, from, Arg::Delta(amount.wrapping_neg()));
    batch.push_account(Verb::Add, to, Arg::Delta(amount));
    Ok(())
}

/// Every account's balance.
fn balances(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<()> {
    cursor.expect(b'{')?;
    while !cursor.accept(b'}')? {
        let account = match cursor.json {
            // JSON names are strings, even of numbers.
            true => {
                let name = cursor.name()?;
                let text = std::str::from_utf8(name).ok();
                let number = text.and_then(|text| text.parse::<u64>().ok());
                let number = number.filter(|&number| i64::try_from(number).is_ok());
                match number {
                    Some(number) => number,
                    None => batch.names.number(&unescape(name)?),
                }
            }
            false => number(cursor.scalar()?, &mut batch.names)?,
        };
        let arg = match cursor.scalar()? {
            Scalar::Nil => Arg::Nil,
            Scalar::Text(text) => {
                let text = String::from_utf8_lossy(text);
                return bad(format!("a balance is an integer below 2^63, not {text}"));
            }
            scalar => Arg::Value(number(scalar, &mut batch.names)?),
        };
        batch.push_account(Verb::Read, account, arg);
    }
    Ok(())
}
