//! A stretch of text to records, without knowing what came before it: the part of reading that runs in parallel.

use super::cursor::{self, Cursor, Stop};
use super::record::{self, Arg, Line, Names, RawOp, Verb, Versions};

/// What the beginning of a text showed of its form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Form {
    /// JSON or EDN; unknown before the first record.
    pub json: Option<bool>,
    /// Are the records in an array, and is it closed?
    pub array: Option<bool>,
    /// Is it an EDN list, in parentheses?
    pub round: bool,
}

/// What is wrong with a text, and up to where it was read to find that out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    pub at: usize,
    pub reason: String,
}

/// A record, and where it ends in the text and in its batch's columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub line: Line,
    pub ops_end: usize,
    pub end: usize,
}

/// The records of a stretch of text, in columns that are used again.
#[derive(Default, Debug)]
pub(super) struct Batch {
    pub records: Vec<Record>,
    pub ops: Vec<RawOp>,
    /// The elements of all lists.
    pub elements: Vec<u64>,
    pub names: Names,
    pub versions: Vec<Versions>,
    /// The form after the last record.
    pub form: Form,
    /// Where the first record begins that is not here: it is incomplete, or wrong.
    pub end: usize,
    pub wrong: Option<Wrong>,
}

impl Batch {
    /// Reads records from `start` to the end of the text. Only the `last` text may not end within one.
    pub fn read(&mut self, text: &[u8], start: usize, form: Form, last: bool) {
        self.clear();
        (self.form, self.end) = (form, start);
        let mut cursor = Cursor::new(text, form.json.unwrap_or(false));
        cursor.at = start;
        loop {
            self.end = cursor.at;
            let (ops, elements, form) = (self.ops.len(), self.elements.len(), self.form);
            let mut rest = cursor;
            let reason = match self.next(&mut cursor) {
                Ok(()) => continue,
                Err(Stop::Bad(reason)) => reason,
                Err(Stop::Incomplete) => {
                    self.ops.truncate(ops);
                    self.elements.truncate(elements);
                    self.form = form;
                    // Blanks and comments may be left, if no array is open.
                    let is_over = rest.blanks().is_err() && form.array != Some(false);
                    if !last || is_over {
                        return;
                    }
                    cursor.at = rest.at;
                    "the text ends within a record".into()
                }
            };
            let at = text.len().min(cursor.at);
            self.wrong = Some(Wrong { at, reason });
            return;
        }
    }

    /// Adds an operation to the record under way.
    pub fn push(&mut self, verb: Verb, key: u64, arg: Arg) {
        self.push_on(verb, key, arg, false);
    }

    /// Adds an operation on a bank's account to the record under way.
    pub fn push_account(&mut self, verb: Verb, key: u64, arg: Arg) {
        self.push_on(verb, key, arg, true);
    }

    fn push_on(&mut self, verb: Verb, key: u64, arg: Arg, account: bool) {
        self.ops.push(RawOp {
            verb,
            key,
            arg,
            account,
            keyed: false,
            bare: false,
        });
    }

    /// Says of the last operation that its key stood before its value.
    pub fn mark_keyed(&mut self) {
        let last = self.ops.last_mut();
        last.expect("an operation was added").keyed = true;
    }

    /// Says of the last operation that it named no key.
    pub fn mark_bare(&mut self) {
        let last = self.ops.last_mut();
        last.expect("an operation was added").bare = true;
    }

    /// Changes all keys and values.
    pub fn rename(&mut self, rename: impl Fn(u64) -> u64) {
        for record in &mut self.records {
            if let Line::Event(event) = &mut record.line {
                event.process = event.process.map(&rename);
            }
        }
        for op in &mut self.ops {
            op.key = rename(op.key);
            op.arg = match op.arg {
                Arg::Value(value) => Arg::Value(rename(value)),
                Arg::Pair(expected, new) => Arg::Pair(rename(expected), rename(new)),
                arg @ (Arg::Nil | Arg::List(..) | Arg::Delta(_)) => arg,
            };
        }
        for element in &mut self.elements {
            *element = rename(*element);
        }
        for versions in &mut self.versions {
            versions.key = rename(versions.key);
            for version in &mut versions.order {
                *version = rename(*version);
            }
        }
    }

    fn clear(&mut self) {
        self.records.clear();
        self.ops.clear();
        self.elements.clear();
        self.names.clear();
        self.versions.clear();
        self.wrong = None;
    }

    /// Reads one record, or a bracket of the array around them.
    fn next(&mut self, cursor: &mut Cursor) -> Result<(), Stop> {
        let byte = cursor.token()?;
        match (byte, self.form.array) {
            (b'{' | b'#', None | Some(false)) => {}
            (b'[' | b'(', None) if self.form.json.is_none() => {
                self.form.array = Some(false);
                self.form.round = byte == b'(';
                cursor.at += 1;
                return Ok(());
            }
            (b']', Some(false)) if !self.form.round => {
                self.form.array = Some(true);
                cursor.at += 1;
                return Ok(());
            }
            (b')', Some(false)) if self.form.round => {
                self.form.array = Some(true);
                cursor.at += 1;
                return Ok(());
            }
            _ => {
                let found = char::from(byte);
                return cursor::bad(format!("expected a record, '{{', found '{found}'"));
            }
        }
        if self.form.json.is_none() {
            let mut ahead = *cursor;
            ahead.at += 1;
            let json = byte == b'{' && ahead.token()? == b'"';
            (self.form.json, cursor.json) = (Some(json), json);
        }
        let line = record::record(cursor, self)?;
        self.records.push(Record {
            line,
            ops_end: self.ops.len(),
            end: cursor.at,
        });
        Ok(())
    }
}
