//! Names as people use them: `equities/3` for a row, `london/front0` for a machine, `T61` for a transaction.
//!
//! Messages, timers and observations reach a report as `Debug` prints them, whatever the protocol. This module turns
//! the ids in such a text into names. So a page needs to know no protocol.

use crate::base::process::{Addr, NodeId};
use crate::base::txn::{Key, ShardId, TxnId};
use crate::plan::Environment;
use crate::scenario::layout::Layout;

/// Longest text of one message or observation in a page, in characters.
pub const DETAIL_MAX: usize = 240;

/// The names of one run.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    environment: &'a Environment,
    layout: &'a Layout,
}

/// Ids that a text may hold, each as the literals around its numbers. Longer forms come first.
const FORMS: [(&[&str], Form); 9] = [
    (&["Key { table: TableId(", "), row: ", " }"], Form::Row),
    (&["Addr { node: NodeId(", "), port: ", " }"], Form::Process),
    (&["WriteId { txn: TxnId(", "), undo: false }"], Form::Txn),
    (&["WriteId { txn: TxnId(", "), undo: true }"], Form::Undo),
    (&["TxnId(", ")"], Form::Txn),
    (&["ShardId(", ")"], Form::Shard),
    (&["NodeId(", ")"], Form::Machine),
    (&["TableId(", ")"], Form::Table),
    (&["Int(", ")"], Form::Number),
];

/// Words after which a verdict names rows, as in `its effect on 0/3 stands`.
const BEFORE_ROWS: [&str; 7] = ["row", "rows", "list", "seat", "on", "of", "key"];

#[derive(Clone, Copy)]
enum Form {
    Row,
    Process,
    Txn,
    Undo,
    Shard,
    Machine,
    Table,
    Number,
}

/// The numbers between these literals at the start of the text, and how many bytes it all takes.
fn matched(text: &str, literals: &[&str]) -> Option<(Vec<u64>, usize)> {
    let (first, others) = literals.split_first()?;
    let mut rest = text.strip_prefix(first)?;
    let mut numbers = Vec::new();
    for literal in others {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        numbers.push(rest[..digits].parse().ok()?);
        rest = rest[digits..].strip_prefix(literal)?;
    }
    Some((numbers, text.len() - rest.len()))
}

/// The length in bytes of the word, or of the one character, that the text begins with.
fn word(text: &str) -> usize {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    let first = text.chars().next().map_or(0, char::len_utf8);
    text.find(|c: char| !is_letter(c))
        .unwrap_or(text.len())
        .max(first)
}

impl<'a> Names<'a> {
    /// The names of a run's machines, tables and shards.
    pub fn new(environment: &'a Environment, layout: &'a Layout) -> Self {
        Self {
            environment,
            layout,
        }
    }

    /// A machine.
    pub fn machine(&self, node: NodeId) -> String {
        let machine = self.environment.machines.get(usize::from(node.0));
        machine.map_or_else(|| node.to_string(), |machine| machine.name.clone())
    }

    /// A process: its machine's name, and its port where it is not the first.
    pub fn process(&self, of: Addr) -> String {
        match of.port {
            0 => self.machine(of.node),
            port => format!("{}:{port}", self.machine(of.node)),
        }
    }

    /// A row: its table and its number there.
    pub fn row(&self, key: Key) -> String {
        match self.layout.tables.get(usize::from(key.table.0)) {
            Some(table) => format!("{}/{}", table.name, key.row),
            None => key.to_string(),
        }
    }

    /// A shard, as its machines are called in every region: `equities0`.
    pub fn shard(&self, shard: ShardId) -> String {
        if usize::from(shard.0) >= self.layout.shards.len() {
            return shard.to_string();
        }
        let home = self.machine(self.layout.home(shard));
        home.rsplit('/').next().unwrap_or(&home).to_owned()
    }

    /// A text as `Debug` prints it, with names for ids.
    pub fn debug(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let (shown, taken) = match self.id(rest) {
                Some(found) => found,
                None => {
                    let taken = word(rest);
                    (rest[..taken].to_owned(), taken)
                }
            };
            out.push_str(&shown);
            rest = &rest[taken..];
        }
        out
    }

    fn id(&self, text: &str) -> Option<(String, usize)> {
        let (form, numbers, taken) = FORMS.iter().find_map(|(literals, form)| {
            matched(text, literals).map(|(numbers, taken)| (*form, numbers, taken))
        })?;
        let first = numbers[0];
        let shown = match form {
            Form::Row => {
                let table = u8::try_from(first).ok()?;
                self.row(Key {
                    table: crate::base::txn::TableId(table),
                    row: u32::try_from(numbers[1]).ok()?,
                })
            }
            Form::Process => self.process(Addr {
                node: NodeId(u16::try_from(first).ok()?),
                port: u8::try_from(numbers[1]).ok()?,
            }),
            Form::Txn => format!("T{first}"),
            Form::Undo => format!("undo of T{first}"),
            Form::Shard => self.shard(ShardId(u16::try_from(first).ok()?)),
            Form::Machine => self.machine(NodeId(u16::try_from(first).ok()?)),
            Form::Table => { self.layout.tables.get(usize::try_from(first).ok()?) }
                .map_or_else(|| format!("table {first}"), |table| table.name.clone()),
            Form::Number => first.to_string(),
        };
        Some((shown, taken))
    }

    /// A sentence of a verdict with names for ids: `n3` and `n3:0` are machines, `s2` is a shard, `row 0/3` a row.
    pub fn sentence(&self, text: &str) -> String {
        let text = self.debug(text);
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        let mut previous = "";
        while !rest.is_empty() {
            let taken = word(rest);
            match self.short(rest, taken, previous) {
                Some((shown, taken)) => {
                    out.push_str(&shown);
                    previous = "row";
                    rest = &rest[taken..];
                }
                None => {
                    let next = rest[..taken].trim();
                    // In a list each element is what the first one is.
                    if !next.is_empty() && next != "," {
                        previous = next;
                    }
                    out.push_str(&rest[..taken]);
                    rest = &rest[taken..];
                }
            }
        }
        out
    }

    /// An id in its short form at the start of the text, after the word `previous`.
    fn short(&self, rest: &str, taken: usize, previous: &str) -> Option<(String, usize)> {
        let (word, after) = rest.split_at(taken);
        let digits_after = |sign: char| {
            let digits = after.strip_prefix(sign)?;
            let end = digits.find(|c: char| !c.is_ascii_digit());
            let digits = &digits[..end.unwrap_or(digits.len())];
            Some((digits.parse::<u32>().ok()?, taken + 1 + digits.len()))
        };
        if let Some(Ok(node)) = word.strip_prefix('n').map(str::parse::<u16>) {
            let node = NodeId(node);
            if usize::from(node.0) >= self.environment.machines.len() {
                return None;
            }
            return Some(match digits_after(':') {
                Some((port, taken)) => {
                    let port = u8::try_from(port).ok()?;
                    (self.process(Addr { node, port }), taken)
                }
                None => (self.machine(node), taken),
            });
        }
        if let Some(Ok(shard)) = word.strip_prefix('s').map(str::parse::<u16>) {
            let known = usize::from(shard) < self.layout.shards.len();
            return known.then(|| (self.shard(ShardId(shard)), taken));
        }
        if BEFORE_ROWS.contains(&previous) {
            let table = word.parse::<u8>().ok()?;
            let (row, taken) = digits_after('/')?;
            let known = self.layout.tables.get(usize::from(table));
            known.filter(|known| row < known.rows)?;
            let table = crate::base::txn::TableId(table);
            return Some((self.row(Key { table, row }), taken));
        }
        None
    }
}

/// A text cut to a bounded length, with how much is left out.
pub fn bounded(text: &str) -> String {
    let length = text.chars().count();
    if length <= DETAIL_MAX {
        return text.to_owned();
    }
    let head: String = text.chars().take(DETAIL_MAX).collect();
    format!("{head}… ({} more characters)", length - DETAIL_MAX)
}

/// The transactions that a `Debug` text names, in order, each once.
pub fn transactions(text: &str) -> Vec<TxnId> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("TxnId(") {
        if let Some((numbers, _)) = matched(&text[at..], &["TxnId(", ")"]) {
            let txn = TxnId(numbers[0]);
            if !found.contains(&txn) {
                found.push(txn);
            }
        }
    }
    found
}

/// The transactions that a sentence names, in order, each once: `T61`.
pub fn mentioned(text: &str) -> Vec<TxnId> {
    let mut found = transactions(text);
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    for part in text.split(|c: char| !is_letter(c)) {
        if let Some(Ok(id)) = part.strip_prefix('T').map(str::parse) {
            let txn = TxnId(id);
            if !found.contains(&txn) {
                found.push(txn);
            }
        }
    }
    found
}
