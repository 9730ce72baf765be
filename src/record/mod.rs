//! Drives a real database with a workload, and writes down what its clients saw.
//!
//! ```text
//! workload -> clients (one thread and one session each) -> journal (history.ndjson, while it happens) -> check
//!                    ^
//!                  faults (signals and commands, on this machine)
//! ```
//!
//! Real threads, real time and a real server: nothing here repeats byte for byte. The seed fixes what is asked, not
//! what happens. What happened is in the history, and the verdict is a function of the history alone.
//!
//! What a client does not know is written as such: a transaction whose `COMMIT` was sent and not answered is `info`.
//! One whose `COMMIT` was never sent is `fail`.

mod child;
mod clients;
pub mod database;
mod faults;
mod journal;
pub mod judge;
mod postgres;
mod sqlite;
mod statements;
pub mod workload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;

use self::child::Child;
use self::postgres::Postgres;
use self::sqlite::Sqlite;
use crate::check::Model;
use database::{Database, Refused, Target};
pub use faults::{Fault, Process, Strike};
pub use journal::Counts;
use workload::{Shape, Workload};

/// What to do with a database.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the clients do.
    pub workload: Workload,
    /// How much of it.
    pub shape: Shape,
    /// What the workload is drawn with.
    pub seed: u64,
    /// How many clients at once.
    pub clients: u64,
    /// When to end: after so many transactions.
    pub transactions: Option<u64>,
    /// When to end: after this time.
    pub duration: Option<Duration>,
    /// How long a client waits for one answer, and for a server that is not there.
    pub patience: Duration,
    /// What the history is judged by.
    pub model: Model,
    /// End at the first violation that is seen while the run goes on.
    pub stop_at_violation: bool,
    /// What to break meanwhile.
    pub faults: Vec<Fault>,
    /// Where the history goes: a file that does not exist yet.
    pub history: PathBuf,
}

/// Why a run ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "how", content = "why", rename_all = "kebab-case")]
pub enum Ended {
    /// All transactions were invoked, or the time was over.
    Done,
    /// Somebody interrupted it.
    Interrupted,
    /// The online judge found a violation.
    Violation,
    /// The database was not reachable for as long as a client is patient.
    Lost(String),
    /// A long row of transactions failed, and none committed.
    NothingCommits(String),
    /// What answered does not keep to the protocol, or the history could not be written.
    Broken(String),
}

/// What came of a run, beside its history.
#[derive(Clone, Debug, Serialize)]
pub struct Recording {
    /// Why it ended.
    pub ended: Ended,
    /// How the transactions ended.
    pub counts: Counts,
    /// What clients were told of transactions that did not commit, and how often.
    pub errors: BTreeMap<String, u64>,
    /// How often each fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// What went wrong with faults, such as a command that failed.
    pub fault_errors: Vec<String>,
    /// How often a client lost its connection, or could not make one.
    pub disconnects: u64,
    /// The first violation that was seen while the run went on, in words.
    pub online: Option<String>,
    /// How many reads the online judge held against the order that it knows; none if it does not know the model.
    pub online_reads: Option<u64>,
    /// How long it took, in milliseconds of real time.
    pub elapsed_ms: u64,
}

/// The database that a URL names, not connected to yet.
///
/// # Errors
/// If the URL is not understood, or the database has no such isolation level.
pub fn open(target: &Target, workload: Workload) -> Result<Arc<dyn Database>, Refused> {
    let scheme = target.url.split(':').next().unwrap_or_default();
    Ok(match scheme {
        "postgres" | "postgresql" => Arc::new(Postgres::new(target)?),
        "sqlite" => Arc::new(Sqlite::new(target)?),
        "child" => Arc::new(Child::new(target, workload)?),
        _ => {
            return Err(Refused(format!(
                "{}: no database is reached like that\n  help: postgres://USER@HOST/DATABASE, sqlite:FILE, or \
                 child:COMMAND for any other",
                target.url
            )));
        }
    })
}

/// Prepares the database, runs the clients and the faults, and closes the history.
///
/// `interrupted` ends the run early; `show` is told of the transactions that completed, every now and then.
///
/// # Errors
/// If the database cannot be prepared or reached at the start, or the history cannot be created. Whatever goes wrong
/// later ends the run, and is in the [`Recording`].
pub fn record(
    database: Arc<dyn Database>,
    settings: &Settings,
    interrupted: &Arc<AtomicBool>,
    show: &mut dyn FnMut(u64),
) -> Result<Recording, Refused> {
    clients::run(database, settings, interrupted, show)
}
