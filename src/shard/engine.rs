//! One interface to engines with different primitives: the same final state for the same log, whatever the
//! engine.
//!
//! A *position* is where a write stands in the shard's order of application: a log position where the
//! protocol has a log, a counter elsewhere. Positions of one row only rise; a write whose position is not
//! above its row's newest has been applied before, and changes nothing. That makes replay of a log idempotent
//! whatever an engine's primitives are: row versions for the PostgreSQL-like one, write timestamps for the
//! ScyllaDB-like one.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::postgres::Postgres;
use super::scylla::Scylla;
use crate::base::txn::{Key, Row, TxnId, Value, Write, WriteId};
use crate::scenario::layout::EngineKind;

/// What a write to a row that was never loaded starts from.
pub(super) const ABSENT: Value = Value::Int(0);

/// Why an engine refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum EngineError {
    /// Another prepared transaction has written the row. A protocol that locks rows before it writes them never
    /// sees this.
    #[error("row {key} carries an undecided write of {holder}")]
    Conflict {
        /// The row.
        key: Key,
        /// The prepared transaction.
        holder: TxnId,
    },
    /// No transaction is prepared under this name.
    #[error("no transaction is prepared as {0}")]
    NotPrepared(TxnId),
    /// Another transaction is prepared under this name.
    #[error("a transaction is prepared as {0} already")]
    AlreadyPrepared(TxnId),
}

/// What a shard asks of its storage.
pub trait Engine {
    /// Puts a row of the initial state in place. It lies below every position.
    fn load(&mut self, key: Key, row: Row);

    /// The newest committed version of a row.
    fn read(&self, key: Key) -> Option<&Row>;

    /// The position of a row's newest committed write; 0 for the initial state.
    fn position_of(&self, key: Key) -> u64;

    /// Commits writes in one local transaction at `position`. Rows written at or above it stay as they are.
    ///
    /// # Errors
    ///
    /// [`EngineError::Conflict`], and then nothing has changed.
    fn apply(
        &mut self,
        position: u64,
        writer: WriteId,
        writes: &[Write],
    ) -> Result<(), EngineError>;

    /// Prepares writes under the name `gid`, to be committed or rolled back later. They are not visible yet.
    ///
    /// # Errors
    ///
    /// [`EngineError::Conflict`] or [`EngineError::AlreadyPrepared`], and then nothing has changed.
    fn prepare(&mut self, gid: TxnId, writes: &[Write]) -> Result<(), EngineError>;

    /// Commits a prepared transaction at `position`.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotPrepared`], and then nothing has changed.
    fn commit_prepared(&mut self, position: u64, gid: TxnId) -> Result<(), EngineError>;

    /// Forgets a prepared transaction.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotPrepared`], and then nothing has changed.
    fn rollback_prepared(&mut self, gid: TxnId) -> Result<(), EngineError>;

    /// Every row's newest committed version, by key.
    fn rows(&self) -> impl Iterator<Item = (Key, &Row)>;
}

/// Either engine: a plain value, so that a process that owns one is a plain value too.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum AnyEngine {
    /// PostgreSQL-like.
    Postgres(Postgres),
    /// ScyllaDB-like.
    Scylla(Scylla),
}

impl AnyEngine {
    /// An empty engine of this kind.
    pub fn new(kind: EngineKind) -> Self {
        match kind {
            EngineKind::Postgres => AnyEngine::Postgres(Postgres::default()),
            EngineKind::Scylla => AnyEngine::Scylla(Scylla::default()),
        }
    }
}

/// Calls the same method of whichever engine it is.
macro_rules! either {
    ($self:expr, $engine:ident => $call:expr) => {
        match $self {
            AnyEngine::Postgres($engine) => $call,
            AnyEngine::Scylla($engine) => $call,
        }
    };
}

impl Engine for AnyEngine {
    fn load(&mut self, key: Key, row: Row) {
        either!(self, engine => engine.load(key, row))
    }

    fn read(&self, key: Key) -> Option<&Row> {
        either!(self, engine => engine.read(key))
    }

    fn position_of(&self, key: Key) -> u64 {
        either!(self, engine => engine.position_of(key))
    }

    fn apply(
        &mut self,
        position: u64,
        writer: WriteId,
        writes: &[Write],
    ) -> Result<(), EngineError> {
        either!(self, engine => engine.apply(position, writer, writes))
    }

    fn prepare(&mut self, gid: TxnId, writes: &[Write]) -> Result<(), EngineError> {
        either!(self, engine => engine.prepare(gid, writes))
    }

    fn commit_prepared(&mut self, position: u64, gid: TxnId) -> Result<(), EngineError> {
        either!(self, engine => engine.commit_prepared(position, gid))
    }

    fn rollback_prepared(&mut self, gid: TxnId) -> Result<(), EngineError> {
        either!(self, engine => engine.rollback_prepared(gid))
    }

    fn rows(&self) -> impl Iterator<Item = (Key, &Row)> {
        let (postgres, scylla) = match self {
            AnyEngine::Postgres(engine) => (Some(engine.rows()), None),
            AnyEngine::Scylla(engine) => (None, Some(engine.rows())),
        };
        let postgres = postgres.into_iter().flatten();
        postgres.chain(scylla.into_iter().flatten())
    }
}
