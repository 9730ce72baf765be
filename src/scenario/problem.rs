//! What is wrong with an input file, and where: every problem has a place and a way out.

use std::fmt::{self, Display};
use std::ops::Range;

/// One problem in a text that somebody wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where in the text, in bytes; empty where the whole file is meant.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right; may be empty where the message says it.
    pub help: String,
}

impl Problem {
    /// A problem at a place.
    pub fn new(span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            help: help.into(),
        }
    }
}

/// The one among `names` that somebody who wrote `name` may have meant: at most every third letter is another.
pub fn meant<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| {
        let other: Vec<char> = other.chars().collect();
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (at, letter) in name.chars().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], at + 1);
            for (column, with) in other.iter().enumerate() {
                let replaced = diagonal + usize::from(letter != *with);
                diagonal = row[column + 1];
                row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
            }
        }
        row[other.len()]
    };
    let close = names.into_iter().map(|other| (distance(other), other));
    let nearest = close.min_by_key(|(distance, _)| *distance)?;
    (nearest.0 * 3 <= name.chars().count()).then_some(nearest.1)
}

/// The problems of one file, ready to show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadInput {
    /// The file's name as the user gave it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// At least one problem, in the order of the text.
    pub problems: Vec<Problem>,
}

impl std::error::Error for BadInput {}

impl BadInput {
    /// Line and column, from 1, of a byte offset.
    pub fn place(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..offset.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }
}

impl Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            if position > 0 {
                writeln!(f)?;
            }
            let (line, column) = self.place(problem.span.start);
            writeln!(f, "{}:{line}:{column}: {}", self.file, problem.message)?;
            if let Some(source) = self.text.lines().nth(line - 1)
                && !problem.span.is_empty()
            {
                let number = line.to_string();
                let width = self.text[problem.span.clone()]
                    .lines()
                    .next()
                    .unwrap_or("")
                    .chars();
                let carets = "^".repeat(width.count().max(1));
                let indent = " ".repeat(column - 1);
                writeln!(f, "{number} | {source}")?;
                writeln!(f, "{} | {indent}{carets}", " ".repeat(number.len()))?;
            }
            if !problem.help.is_empty() {
                writeln!(f, "  help: {}", problem.help)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn a_slip_finds_its_name_and_another_word_finds_none() {
        let names = ["log.became-leader", "voted", "decided"];
        assert_eq!(meant("log.becameleader", names), Some("log.became-leader"));
        assert_eq!(meant("votde", names), None);
        assert_eq!(meant("decidde", names), Some("decided"));
        assert_eq!(meant("elected", names), None);
        assert_eq!(meant("", []), None);
    }
}
