//! PostgreSQL over its wire protocol, by the crate `postgres`.
//!
//! A commit that was refused with SQLSTATE class 40 (transaction rollback; not 40003, which says that nobody knows) or 23 (a
//! deferred constraint) did not take effect: PostgreSQL documentation, Appendix A. Any other end of a `COMMIT` leaves it open.

use std::time::Duration;

use postgres::{Client, Config, NoTls, Statement};

use super::database::{Database, Refused, Session, Target, level};
use super::statements::{self, Broke, Statements};
use super::workload::{Asked, Completion, Shape, Workload};
use crate::check::Model;

/// How its transactions begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
    /// As the server is configured.
    Default,
}

const LEVELS: [(&str, Level); 5] = [
    ("serializable", Level::Serializable),
    ("repeatable-read", Level::RepeatableRead),
    ("read-committed", Level::ReadCommitted),
    ("read-uncommitted", Level::ReadUncommitted),
    ("default", Level::Default),
];

impl Level {
    fn begin(self) -> &'static str {
        match self {
            Level::ReadUncommitted => "BEGIN ISOLATION LEVEL READ UNCOMMITTED",
            Level::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Level::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Level::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
            Level::Default => "BEGIN",
        }
    }
}

/// A PostgreSQL server.
pub(super) struct Postgres {
    config: Config,
    level: Level,
    patience: Duration,
}

impl Postgres {
    pub fn new(target: &Target) -> Result<Self, Refused> {
        let wrong = |error| Refused(format!("not a PostgreSQL URL: {}", chain(&error)));
        let mut config: Config = target.url.parse().map_err(wrong)?;
        if let (None, Some(password)) = (config.get_password(), &target.password) {
            config.password(password);
        }
        config.connect_timeout(target.patience);
        // A server that stands still is not waited for longer than that; one that is only slow is.
        config.tcp_user_timeout(target.patience);
        if config.get_application_name().is_none() {
            config.application_name("ordain");
        }
        Ok(Postgres {
            config,
            level: level(&target.isolation, &LEVELS)?,
            patience: target.patience,
        })
    }

    fn client(&self) -> Result<Client, Refused> {
        let refused = |error: postgres::Error| {
            let why = format!("cannot connect to {}: {}", self.name(), chain(&error));
            Refused(why)
        };
        let mut client = self.config.connect(NoTls).map_err(refused)?;
        let patience = format!("SET statement_timeout = {}", self.patience.as_millis());
        client.batch_execute(&patience).map_err(refused)?;
        Ok(client)
    }
}

impl Database for Postgres {
    fn name(&self) -> String {
        let hosts: Vec<String> = (self.config.get_hosts().iter())
            .map(|host| match host {
                postgres::config::Host::Tcp(name) => name.clone(),
                postgres::config::Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let ports = self.config.get_ports().first();
        let port = ports.map_or(String::new(), |port| format!(":{port}"));
        let database = self.config.get_dbname().or(self.config.get_user());
        format!(
            "postgres://{}{port}/{}",
            hosts.join(","),
            database.unwrap_or_default()
        )
    }

    fn prepare(&self, workload: Workload, shape: &Shape) -> Result<(), Refused> {
        let mut client = self.client()?;
        let tables = match workload {
            Workload::ListAppend => {
                "DROP TABLE IF EXISTS ordain_lists;
                 CREATE TABLE ordain_lists (k bigint PRIMARY KEY, v bigint[] NOT NULL)"
            }
            Workload::Registers | Workload::LongFork => {
                "DROP TABLE IF EXISTS ordain_registers;
                 CREATE TABLE ordain_registers (k bigint PRIMARY KEY, v bigint NOT NULL)"
            }
            Workload::Bank => {
                "DROP TABLE IF EXISTS ordain_accounts;
                 CREATE TABLE ordain_accounts (k bigint PRIMARY KEY, v bigint NOT NULL)"
            }
        };
        let mut made = client.batch_execute(tables);
        if workload == Workload::Bank {
            let fill = "INSERT INTO ordain_accounts SELECT k, $2::bigint FROM generate_series(0, $1::bigint - 1) k";
            let (accounts, balance) = (shape.accounts as i64, shape.balance as i64);
            made = made.and_then(|()| client.execute(fill, &[&accounts, &balance]).map(drop));
        }
        let name = self.name();
        made.map_err(|error| Refused(format!("{name}: cannot create tables: {}", chain(&error))))
    }

    fn connect(&self, _: u64) -> Result<Box<dyn Session>, Refused> {
        let client = self.client()?;
        Ok(Box::new(Connection {
            client,
            begin: self.level.begin(),
            prepared: Vec::new(),
        }))
    }

    fn promises(&self, workload: Workload) -> Option<Model> {
        let lists = workload == Workload::ListAppend;
        match self.level {
            Level::ReadUncommitted | Level::ReadCommitted if lists => {
                Some(Model::StrongReadCommitted)
            }
            Level::ReadUncommitted | Level::ReadCommitted => Some(Model::ReadCommitted),
            Level::RepeatableRead => Some(Model::StrongSnapshotIsolation),
            Level::Serializable => Some(Model::StrictSerializable),
            Level::Default => None,
        }
    }
}

/// What went wrong, with its causes.
fn chain(error: &postgres::Error) -> String {
    if let Some(told) = error.as_db_error() {
        return format!("{} {}", told.code().code(), told.message());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}

struct Connection {
    client: Client,
    begin: &'static str,
    /// By their text, in the order of their first use.
    prepared: Vec<(&'static str, Statement)>,
}

impl Connection {
    fn statement(&mut self, text: &'static str) -> Result<Statement, Broke> {
        if let Some((_, known)) = self.prepared.iter().find(|(known, _)| *known == text) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(text).map_err(|error| broke(&error))?;
        self.prepared.push((text, statement.clone()));
        Ok(statement)
    }

    fn write(&mut self, text: &'static str, key: u64, value: i64) -> Result<(), Broke> {
        let statement = self.statement(text)?;
        let done = self.client.execute(&statement, &[&(key as i64), &value]);
        done.map(drop).map_err(|error| broke(&error))
    }

    fn cell<T: for<'a> postgres::types::FromSql<'a>>(
        &mut self,
        text: &'static str,
        key: u64,
    ) -> Result<Option<T>, Broke> {
        let statement = self.statement(text)?;
        let row = self.client.query_opt(&statement, &[&(key as i64)]);
        let row = row.map_err(|error| broke(&error))?;
        row.map(|row| row.try_get(0))
            .transpose()
            .map_err(|error| broke(&error))
    }
}

/// Of a statement other than a commit.
fn broke(error: &postgres::Error) -> Broke {
    Broke {
        why: chain(error),
        undecided: false,
    }
}

impl Statements for Connection {
    fn begin(&mut self) -> Result<(), Broke> {
        let begun = self.client.batch_execute(self.begin);
        begun.map_err(|error| broke(&error))
    }

    fn append(&mut self, key: u64, value: u64) -> Result<(), Broke> {
        let text = "INSERT INTO ordain_lists VALUES ($1, ARRAY[$2::bigint]) \
                    ON CONFLICT (k) DO UPDATE SET v = ordain_lists.v || EXCLUDED.v";
        self.write(text, key, value as i64)
    }

    fn read_list(&mut self, key: u64) -> Result<Vec<u64>, Broke> {
        let list: Option<Vec<i64>> = self.cell("SELECT v FROM ordain_lists WHERE k = $1", key)?;
        let list = list.unwrap_or_default().into_iter();
        Ok(list.map(|value| value as u64).collect())
    }

    fn write(&mut self, key: u64, value: u64) -> Result<(), Broke> {
        let text = "INSERT INTO ordain_registers VALUES ($1, $2) \
                    ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v";
        self.write(text, key, value as i64)
    }

    fn read(&mut self, key: u64) -> Result<Option<u64>, Broke> {
        let value: Option<i64> = self.cell("SELECT v FROM ordain_registers WHERE k = $1", key)?;
        Ok(value.map(|value| value as u64))
    }

    fn balance(&mut self, account: u64) -> Result<i64, Broke> {
        let text = "SELECT v FROM ordain_accounts WHERE k = $1";
        let held: Option<i64> = self.cell(text, account)?;
        held.ok_or_else(|| Broke {
            why: format!("account {account} is missing"),
            undecided: false,
        })
    }

    fn set_balance(&mut self, account: u64, held: i64) -> Result<(), Broke> {
        let text = "UPDATE ordain_accounts SET v = $2 WHERE k = $1";
        self.write(text, account, held)
    }

    fn commit(&mut self) -> Result<(), Broke> {
        let committed = self.client.batch_execute("COMMIT");
        committed.map_err(|error| Broke {
            why: chain(&error),
            undecided: !error.code().is_some_and(|state| refuses(state.code())),
        })
    }

    fn rollback(&mut self) {
        let _ = self.client.batch_execute("ROLLBACK");
    }
}

/// Whether a commit that ended with this SQLSTATE certainly did not take effect.
fn refuses(state: &str) -> bool {
    (state.starts_with("40") && state != "40003") || state.starts_with("23")
}

impl Session for Connection {
    fn execute(&mut self, asked: &Asked) -> Result<Completion, Refused> {
        Ok(statements::execute(self, asked))
    }

    fn is_alive(&self) -> bool {
        !self.client.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::refuses;

    #[test]
    fn only_a_refused_commit_is_known_to_have_no_effect() {
        assert!(refuses("40001") && refuses("40P01") && refuses("23505"));
        for open in ["40003", "57P01", "08006", "53100", "XX000"] {
            assert!(!refuses(open), "{open}");
        }
    }
}
