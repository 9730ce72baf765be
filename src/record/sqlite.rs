//! SQLite, in this process, by the crate `rusqlite` with the library that it brings.
//!
//! `sqlite:FILE?journal=wal&begin=immediate`: the journal mode (`delete`, `wal`, ...), and how transactions begin (`deferred`,
//! `immediate`, `exclusive`).

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::database::{Database, Refused, Session, Target, level, options};
use super::statements::{self, Broke, Statements};
use super::workload::{Asked, Completion, Shape, Workload};
use crate::check::Model;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    Serializable,
    /// With one cache for all connections: `PRAGMA read_uncommitted` does nothing otherwise.
    ReadUncommitted,
}

const LEVELS: [(&str, Level); 2] = [
    ("serializable", Level::Serializable),
    ("read-uncommitted", Level::ReadUncommitted),
];

/// How a connection waits for another one's locks: long enough to let it commit.
const BUSY: Duration = Duration::from_millis(200);

/// A database in a file.
pub(super) struct Sqlite {
    file: PathBuf,
    level: Level,
    journal: String,
    begin: String,
}

impl Sqlite {
    pub fn new(target: &Target) -> Result<Self, Refused> {
        let (file, asked) = options(target.rest());
        let mut sqlite = Sqlite {
            file,
            level: level(&target.isolation, &LEVELS)?,
            journal: "delete".into(),
            begin: "deferred".into(),
        };
        if sqlite.file.as_os_str().is_empty() {
            return Err(Refused("sqlite: which file?\n  help: sqlite:FILE".into()));
        }
        for (name, value) in asked {
            let (field, allowed) = match name.as_str() {
                "journal" => {
                    let modes = ["delete", "truncate", "persist", "memory", "wal"];
                    (&mut sqlite.journal, modes.to_vec())
                }
                "begin" => (
                    &mut sqlite.begin,
                    vec!["deferred", "immediate", "exclusive"],
                ),
                _ => {
                    let why = format!("sqlite: no option {name}\n  help: journal, begin");
                    return Err(Refused(why));
                }
            };
            if !allowed.contains(&value.as_str()) {
                let allowed = allowed.join(", ");
                let why = format!("sqlite: {name}={value}: one of {allowed}");
                return Err(Refused(why));
            }
            *field = value;
        }
        Ok(sqlite)
    }

    fn open(&self) -> Result<Connection, Refused> {
        let opened = || {
            let mut flags = OpenFlags::default();
            if self.level == Level::ReadUncommitted {
                flags |= OpenFlags::SQLITE_OPEN_SHARED_CACHE;
            }
            let connection = Connection::open_with_flags(&self.file, flags)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", &self.journal)?;
            if self.level == Level::ReadUncommitted {
                connection.pragma_update(None, "read_uncommitted", true)?;
            }
            Ok(connection)
        };
        opened().map_err(|error: rusqlite::Error| {
            Refused(format!("cannot open {}: {error}", self.file.display()))
        })
    }
}

impl Database for Sqlite {
    fn name(&self) -> String {
        format!(
            "sqlite:{}?journal={}&begin={}",
            self.file.display(),
            self.journal,
            self.begin
        )
    }

    fn prepare(&self, workload: Workload, shape: &Shape) -> Result<(), Refused> {
        let connection = self.open()?;
        let (table, column) = match workload {
            Workload::ListAppend => ("ordain_lists", "TEXT"),
            Workload::Registers | Workload::LongFork => ("ordain_registers", "INTEGER"),
            Workload::Bank => ("ordain_accounts", "INTEGER"),
        };
        let made = || {
            connection.execute_batch(&format!(
                "DROP TABLE IF EXISTS {table};
                 CREATE TABLE {table} (k INTEGER PRIMARY KEY, v {column} NOT NULL)"
            ))?;
            for account in 0..shape.accounts {
                if workload == Workload::Bank {
                    let fill = "INSERT INTO ordain_accounts VALUES (?1, ?2)";
                    connection.execute(fill, params![account as i64, shape.balance as i64])?;
                }
            }
            Ok(())
        };
        made().map_err(|error: rusqlite::Error| {
            Refused(format!("{}: cannot create tables: {error}", self.name()))
        })
    }

    fn connect(&self, _: u64) -> Result<Box<dyn Session>, Refused> {
        Ok(Box::new(Open {
            connection: self.open()?,
            begin: format!("BEGIN {}", self.begin),
        }))
    }

    fn promises(&self, workload: Workload) -> Option<Model> {
        match self.level {
            Level::Serializable => Some(Model::StrictSerializable),
            Level::ReadUncommitted if workload == Workload::ListAppend => {
                Some(Model::StrongReadUncommitted)
            }
            Level::ReadUncommitted => Some(Model::ReadUncommitted),
        }
    }
}

struct Open {
    connection: Connection,
    begin: String,
}

fn broke(error: &rusqlite::Error) -> Broke {
    Broke {
        why: error.to_string(),
        undecided: false,
    }
}

impl Open {
    fn cell<T: rusqlite::types::FromSql>(&self, text: &str, key: u64) -> Result<Option<T>, Broke> {
        let read = || {
            let mut statement = self.connection.prepare_cached(text)?;
            statement
                .query_row([key as i64], |row| row.get(0))
                .optional()
        };
        read().map_err(|error| broke(&error))
    }

    fn run(&self, text: &str, key: u64, value: &dyn rusqlite::ToSql) -> Result<(), Broke> {
        let done = || {
            let mut statement = self.connection.prepare_cached(text)?;
            statement.execute(params![key as i64, value])
        };
        done().map(drop).map_err(|error| broke(&error))
    }
}

impl Statements for Open {
    fn begin(&mut self) -> Result<(), Broke> {
        let begun = self.connection.execute_batch(&self.begin);
        begun.map_err(|error| broke(&error))
    }

    fn append(&mut self, key: u64, value: u64) -> Result<(), Broke> {
        let text = "INSERT INTO ordain_lists VALUES (?1, ?2) \
                    ON CONFLICT (k) DO UPDATE SET v = v || ' ' || excluded.v";
        self.run(text, key, &value.to_string())
    }

    fn read_list(&mut self, key: u64) -> Result<Vec<u64>, Broke> {
        let list: Option<String> = self.cell("SELECT v FROM ordain_lists WHERE k = ?1", key)?;
        let values = list.iter().flat_map(|list| list.split(' '));
        let values: Result<Vec<u64>, _> = values.map(str::parse).collect();
        values.map_err(|error| Broke {
            why: format!("list {key}: {error}"),
            undecided: false,
        })
    }

    fn write(&mut self, key: u64, value: u64) -> Result<(), Broke> {
        let text = "INSERT INTO ordain_registers VALUES (?1, ?2) \
                    ON CONFLICT (k) DO UPDATE SET v = excluded.v";
        self.run(text, key, &(value as i64))
    }

    fn read(&mut self, key: u64) -> Result<Option<u64>, Broke> {
        let text = "SELECT v FROM ordain_registers WHERE k = ?1";
        let value: Option<i64> = self.cell(text, key)?;
        Ok(value.map(|value| value as u64))
    }

    fn balance(&mut self, account: u64) -> Result<i64, Broke> {
        let text = "SELECT v FROM ordain_accounts WHERE k = ?1";
        self.cell(text, account)?.ok_or_else(|| Broke {
            why: format!("account {account} is missing"),
            undecided: false,
        })
    }

    fn set_balance(&mut self, account: u64, held: i64) -> Result<(), Broke> {
        let text = "UPDATE ordain_accounts SET v = ?2 WHERE k = ?1";
        self.run(text, account, &held)
    }

    /// A commit that found another connection's lock has no effect yet, and is rolled back.
    fn commit(&mut self) -> Result<(), Broke> {
        let committed = self.connection.execute_batch("COMMIT");
        committed.map_err(|error| {
            let waits = [
                ErrorCode::DatabaseBusy,
                ErrorCode::DatabaseLocked,
                ErrorCode::ConstraintViolation,
            ];
            let refused = error
                .sqlite_error_code()
                .is_some_and(|code| waits.contains(&code));
            Broke {
                why: error.to_string(),
                undecided: !refused,
            }
        })
    }

    fn rollback(&mut self) {
        let _ = self.connection.execute_batch("ROLLBACK");
    }
}

impl Session for Open {
    fn execute(&mut self, asked: &Asked) -> Result<Completion, Refused> {
        let completion = statements::execute(self, asked);
        if matches!(completion, Completion::Info(_)) {
            // Nothing may be open when the next transaction begins.
            self.rollback();
        }
        Ok(completion)
    }

    fn is_alive(&self) -> bool {
        true
    }
}
