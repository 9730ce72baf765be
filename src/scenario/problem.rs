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
