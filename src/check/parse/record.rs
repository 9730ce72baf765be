//! One record of a history: a map with a type, a process, a function and a value.

use std::collections::BTreeMap;

use super::super::history::NAME_BASE;
use super::batch::Batch;
use super::cursor::{Cursor, Parsed, Scalar, bad};

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
}

/// What a record says of a transaction, without its operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Event {
    pub kind: EventKind,
    pub process: u64,
    /// Did the record hold a value other than nil?
    pub has_value: bool,
}

/// A record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// Of a transaction.
    Event(Event),
    /// Of a key's versions: its index in the batch.
    Versions(usize),
    /// Of something that no client did (a nemesis, say).
    Other,
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
    fn number(&mut self, text: &str) -> u64 {
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
    let mut value: Option<Cursor> = None;
    let mut key: Option<Cursor> = None;
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
            b"value" => {
                has_txn = txn(cursor, batch)?;
                if !has_txn {
                    cursor.blanks()?;
                    value = Some(*cursor);
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
        let is_empty = has_txn && batch.ops.len() == ops_before;
        return version_order(key, value, is_empty, batch);
    }
    let kind = event_kind(kind)?;
    let process = match process {
        Some(Scalar::Number(process)) => process,
        Some(Scalar::Text(text)) if !looks_like_a_number(text) => return Ok(Line::Other),
        Some(other) => {
            return bad(format!(
                "a process is a whole number from 0 to 2^64-1, not {}",
                shown(other)
            ));
        }
        None => return bad("a record without a process"),
    };
    if let Some(mut value) = value {
        has_txn = plain(&mut value, function, batch)?;
    }
    Ok(Line::Event(Event {
        kind,
        process,
        has_value: has_txn,
    }))
}

/// A client's process, wrongly written: a nemesis has a name.
fn looks_like_a_number(text: &[u8]) -> bool {
    let begins = matches!(text, [b'0'..=b'9' | b'-' | b'+' | b'.', ..]);
    begins && std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok())
}

/// `{"type": "versions", "key": "x", "value": [1, 2]}`: all versions of a key that came to stand, oldest first, as
/// somebody saw them inside the database.
fn version_order(
    key: Option<Cursor>,
    value: Option<Cursor>,
    is_empty: bool,
    batch: &mut Batch,
) -> Parsed<Line> {
    let (Some(mut key), true) = (key, is_empty || value.is_some()) else {
        return bad("versions have a key, and a value: the list of them, oldest first");
    };
    let key = number(key.scalar()?, &mut batch.names)?;
    let mut order = Vec::new();
    if let Some(mut value) = value {
        value.expect(b'[')?;
        while !value.accept(b']')? {
            order.push(number(value.scalar()?, &mut batch.names)?);
        }
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
        other => {
            let name = shown(other);
            return bad(format!(
                "unknown micro-operation {name}; one of append, r, w, cas, add"
            ));
        }
    };
    let key = number(cursor.scalar()?, &mut batch.names)?;
    let arg = match verb {
        Verb::Read if cursor.token()? == b']' => Arg::Nil,
        Verb::Read => read_result(cursor, batch)?,
        Verb::Cas => pair(cursor, batch)?,
        Verb::Add => Arg::Delta(signed(cursor.scalar()?)?),
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
        return Ok(match cursor.scalar()? {
            Scalar::Nil => Arg::Nil,
            scalar => Arg::Value(number(scalar, &mut batch.names)?),
        });
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

fn pair(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<Arg> {
    cursor.expect(b'[')?;
    let expected = number(cursor.scalar()?, &mut batch.names)?;
    let new = number(cursor.scalar()?, &mut batch.names)?;
    cursor.expect(b']')?;
    Ok(Arg::Pair(expected, new))
}

/// Reads the value of an operation on one object: `:f :read :value 3`, `:f :cas :value [1 2]`, with a key before
/// it (`[k 3]`) if there are several objects; a bank's `{:from 0 :to 1 :amount 5}` or `{0 10, 1 20}`; a set's
/// or counter's `:f :add :value 3`. False if it is nil.
fn plain(cursor: &mut Cursor, function: Option<Scalar>, batch: &mut Batch) -> Parsed<bool> {
    let function = match function {
        Some(Scalar::Text(text)) => text.strip_prefix(b":").unwrap_or(text),
        _ => return bad("the value is no transaction, and the record has no f to say what it is"),
    };
    let verb = match function {
        b"read" | b"r" => Verb::Read,
        b"write" | b"w" => Verb::Write,
        b"cas" => Verb::Cas,
        b"add" => Verb::Add,
        b"transfer" => return transfer(cursor, batch),
        b"txn" if cursor.scalar() == Ok(Scalar::Nil) => return Ok(false),
        other => {
            let name = String::from_utf8_lossy(other);
            return bad(format!(
                "unknown operation {name}; one of txn, read, write, cas, add, transfer, with a value to match"
            ));
        }
    };
    match (verb, cursor.token()?) {
        (Verb::Read, b'{') => return balances(cursor, batch),
        (Verb::Cas, b'[') => return cas(cursor, batch),
        (Verb::Read, b'[' | b'(' | b'#') if !is_keyed(*cursor)? => {
            let list = read_result(cursor, batch)?;
            batch.push(verb, 0, list);
        }
        (Verb::Read | Verb::Write | Verb::Add, b'[') => {
            cursor.at += 1;
            let key = number(cursor.scalar()?, &mut batch.names)?;
            single(cursor, verb, key, batch)?;
            cursor.expect(b']')?;
            batch.mark_keyed();
        }
        _ => single(cursor, verb, 0, batch)?,
    }
    Ok(true)
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
    let arg = match (verb, cursor.scalar()?) {
        (Verb::Add, scalar) => Arg::Delta(signed(scalar)?),
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
fn cas(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<bool> {
    cursor.expect(b'[')?;
    let first = number(cursor.scalar()?, &mut batch.names)?;
    let (key, arg) = match cursor.token()? {
        b'[' => (first, pair(cursor, batch)?),
        _ => (
            0,
            Arg::Pair(first, number(cursor.scalar()?, &mut batch.names)?),
        ),
    };
    cursor.expect(b']')?;
    batch.push(Verb::Cas, key, arg);
    Ok(true)
}

/// A transfer between accounts is two additions.
fn transfer(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<bool> {
    if cursor.token()? != b'{' {
        return match cursor.scalar()? {
            Scalar::Nil => Ok(false),
            other => bad(format!("a transfer is a map, not {}", shown(other))),
        };
    }
    cursor.at += 1;
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
    Ok(true)
}

/// Every account's balance.
fn balances(cursor: &mut Cursor, batch: &mut Batch) -> Parsed<bool> {
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
            scalar => Arg::Value(number(scalar, &mut batch.names)?),
        };
        batch.push_account(Verb::Read, account, arg);
    }
    Ok(true)
}
