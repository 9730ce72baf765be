//! What a database is to the recorder: something to prepare, and sessions that execute transactions.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::workload::{Asked, Completion, Shape, Workload};
use crate::check::Model;

/// Why a database cannot be used, in words that say what to do.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A database.
pub trait Database: Send + Sync {
    /// What it is, without secrets.
    fn name(&self) -> String;

    /// Creates what the workload needs, empty, in the place of what an earlier run left.
    ///
    /// # Errors
    /// If it cannot be reached, or refuses.
    fn prepare(&self, workload: Workload, shape: &Shape) -> Result<(), Refused>;

    /// A session of its own for a client.
    ///
    /// # Errors
    /// If there is none to be had.
    fn connect(&self, client: u64) -> Result<Box<dyn Session>, Refused>;

    /// The model that its documentation promises for the level that was asked for, where that is known.
    fn promises(&self, workload: Workload) -> Option<Model>;
}

/// One client's connection.
pub trait Session: Send {
    /// Executes one transaction, and says what is known of its end.
    ///
    /// # Errors
    /// If what answers does not keep to the protocol: nothing it says can be believed.
    fn execute(&mut self, asked: &Asked) -> Result<Completion, Refused>;

    /// Whether it can be used again.
    fn is_alive(&self) -> bool;
}

/// How to reach a database, and what to ask of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// `postgres://...`, `sqlite:FILE` or `child:COMMAND`.
    pub url: String,
    /// The isolation level, by the database's own name for it.
    pub isolation: String,
    /// A password, where the URL has none.
    pub password: Option<String>,
    /// How long to wait for one answer.
    pub patience: Duration,
}

impl Target {
    /// What follows the scheme.
    pub(super) fn rest(&self) -> &str {
        self.url.split_once(':').map_or("", |(_, rest)| rest)
    }
}

/// One of the names, or an error that lists them.
pub(super) fn level<T: Copy>(asked: &str, known: &[(&str, T)]) -> Result<T, Refused> {
    let found = known.iter().find(|(name, _)| *name == asked);
    found.map(|(_, level)| *level).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        Refused(format!(
            "--isolation {asked}: this database has no such level; it has {}",
            names.join(", ")
        ))
    })
}

/// The options behind a `?` in a URL: `a=1&b=2`.
pub(super) fn options(text: &str) -> (PathBuf, Vec<(String, String)>) {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (PathBuf::from(path), owned.collect())
}
