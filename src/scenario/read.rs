//! From text to the file as it is written, with everything that is wrong with its form at once.
//!
//! A reader stops at the first key that it does not know. So what it refuses is taken out, and it reads again.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::file::File;
use super::problem::{Problem, meant};

/// More problems than anybody mends at once.
const PROBLEMS_MAX: usize = 50;

/// The file, and what is wrong with its form. There is none where what is left of it says too little to look at its meaning.
pub(super) fn file(text: &str) -> (Option<File>, Vec<Problem>) {
    let mut table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => return (None, vec![problem(&error)]),
    };
    let mut problems = Vec::new();
    let mut removed: Vec<String> = Vec::new();
    let mut only_unknown = true;
    loop {
        let error = match File::deserialize(Deserializer::from(table.clone())) {
            Ok(file) => return (Some(file).filter(|_| only_unknown), problems),
            Err(error) => error,
        };
        // What is missing because it was taken out is no problem of its own.
        let missing = error.message().strip_prefix("missing field `");
        let missing = missing.and_then(|rest| rest.split('`').next());
        if !missing.is_some_and(|name| removed.iter().any(|removed| removed == name)) {
            problems.push(problem(&error));
        }
        only_unknown &= error.message().starts_with("unknown field");
        let gone = error.span().and_then(|span| remove(table.get_mut(), &span));
        match gone {
            Some(name) if problems.len() < PROBLEMS_MAX => removed.push(name),
            _ => return (None, problems),
        }
    }
}

fn problem(error: &Error) -> Problem {
    let message = error.message().trim_end();
    let names = |text: &str| -> Vec<String> {
        let quoted = text.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    };
    let mut help = String::new();
    if let Some((found, known)) = message.split_once(", expected ")
        && found.starts_with("unknown ")
        && let Some(wrong) = names(found).first()
        && let Some(meant) = meant(wrong, names(known).iter().map(String::as_str))
    {
        help = format!("did you mean `{meant}`?");
    }
    Problem::new(error.span().unwrap_or(0..0), message, help)
}

/// Takes out the key that stands there, or that whose value, or an element of it, does. Returns its name.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let is_it = |key: &Spanned<_>, value: &Spanned<DeValue<'_>>| {
        key.span() == *span || value.span() == *span || is_element(value.get_ref(), span)
    };
    let mut entries = table.iter();
    let found = entries.find(|(key, value)| is_it(key, value));
    if let Some(name) = found.map(|(key, _)| key.get_ref().to_string()) {
        table.remove(name.as_str());
        return Some(name);
    }
    table.iter_mut().find_map(|(_, value)| within(value, span))
}

/// Whether a simple element of a list stands there.
fn is_element(value: &DeValue<'_>, span: &Range<usize>) -> bool {
    let DeValue::Array(elements) = value else {
        return false;
    };
    let is_table = |element: &Spanned<DeValue<'_>>| matches!(element.get_ref(), DeValue::Table(_));
    let mut elements = elements.iter();
    elements.any(|element| !is_table(element) && element.span() == *span)
}

fn within(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<String> {
    match value.get_mut() {
        DeValue::Table(table) => remove(table, span),
        DeValue::Array(elements) => {
            let whole = { elements.iter() }.position(|element| element.span() == *span);
            if let Some(at) = whole {
                let others = { elements.iter().enumerate() }.filter(|(other, _)| *other != at);
                *elements = others.map(|(_, element)| element.clone()).collect();
                return Some(String::new());
            }
            elements
                .iter_mut()
                .find_map(|element| within(element, span))
        }
        _ => None,
    }
}
