//! What a run leaves behind.
use serde::Serialize;

/// A fact that a process states about itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub enum Observation {
    /// A rare branch was reached.
    Mark(&'static str),
}
