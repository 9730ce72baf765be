//! The simulated PostgreSQL beside a real one: the same schedules, step by step, and every answer compared.
//!
//! What the simulated engine has is compared: transactions that write at once, prepared transactions by name, snapshots, a
//! backend that is killed, and a restart. It has no transaction of several statements and no isolation levels, and it refuses
//! where PostgreSQL waits. So `Blocked` is a refusal there, and a lock that is not had in time (SQLSTATE 55P03) here. A row that
//! nobody loaded counts as 0 in the engine, and is missing here until it is written: both read as 0.
//!
//! `tests/real/postgres` starts a server and runs this. ORDAIN_POSTGRES is its URL, ORDAIN_POSTGRES_RESTART a command that kills and
//! starts it, ORDAIN_POSTGRES_SCHEDULES how many schedules.

use std::collections::BTreeMap;
use std::process::Command;

use ordain::base::txn::{Key, Op, Row, TableId, TxnId, Value, Write, WriteId};
use ordain::plan::random::Stream;
use ordain::shard::engine::{Engine, EngineError};
use ordain::shard::postgres::Postgres;
use postgres::{Client, Config, NoTls};

const SESSIONS: usize = 4;
const ROWS: u32 = 4;
const GIDS: u64 = 3;

/// A session's step. One that has a snapshot open only reads in it, closes it, or is killed.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Do {
    /// A transaction of these writes.
    Commit(Vec<(u32, Change)>),
    /// The same, prepared under a name.
    Prepare(u64, Vec<(u32, Change)>),
    CommitPrepared(u64),
    RollbackPrepared(u64),
    /// A read of its own.
    Read(u32),
    /// Begins at repeatable read, and takes its snapshot.
    Open,
    Close,
    /// The session's backend is terminated, in the middle of a transaction that has written this.
    Killed(Vec<(u32, Change)>),
    /// The server is killed and started again.
    Restart,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Add(i64),
    Put(i64),
}

/// What a step came to.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Told {
    Done,
    Value(i64),
    /// It waits for a prepared transaction.
    Blocked,
    /// Refused with this SQLSTATE.
    Refused(String),
    /// The session is not in a state to do this.
    Skipped,
}

fn key(row: u32) -> Key {
    Key {
        table: TableId(0),
        row,
    }
}

fn writes(changes: &[(u32, Change)]) -> Vec<Write> {
    let write = |&(row, change): &(u32, Change)| Write {
        key: key(row),
        op: match change {
            Change::Add(amount) => Op::Add(amount),
            Change::Put(value) => Op::Put(value),
        },
    };
    changes.iter().map(write).collect()
}

/// The simulated side.
struct Simulated {
    engine: Postgres,
    position: u64,
    snapshots: [Option<u64>; SESSIONS],
}

impl Simulated {
    fn new() -> Self {
        let mut engine = Postgres::default();
        for row in 0..ROWS - 1 {
            engine.load(key(row), Row::initial(Value::Int(10)));
        }
        Simulated {
            engine,
            position: 1,
            snapshots: [None; SESSIONS],
        }
    }

    fn close(&mut self, session: usize) {
        if let Some(at) = self.snapshots[session].take() {
            self.engine.close_snapshot(at);
        }
    }

    fn step(&mut self, session: usize, what: &Do) -> Told {
        let told = |result: Result<(), EngineError>| match result {
            Ok(()) => Told::Done,
            Err(EngineError::Conflict { .. }) => Told::Blocked,
            Err(EngineError::NotPrepared(_)) => Told::Refused("42704".into()),
            Err(EngineError::AlreadyPrepared(_)) => Told::Refused("42710".into()),
        };
        let value = |row: Option<&Row>| Told::Value(row.map_or(0, |row| row.value.as_int()));
        let open = self.snapshots[session];
        match what {
            Do::Read(row) => match open {
                Some(at) => value(self.engine.read_at(key(*row), at)),
                None => value(self.engine.read(key(*row))),
            },
            Do::Close if open.is_some() => {
                self.close(session);
                Told::Done
            }
            Do::Close => Told::Skipped,
            Do::Killed(changes) => {
                // What waits for a prepared transaction has written nothing when it is killed; neither has any other.
                let _ = changes;
                self.close(session);
                Told::Done
            }
            Do::Restart => {
                (0..SESSIONS).for_each(|session| self.close(session));
                let bytes = postcard::to_allocvec(&self.engine).expect("an engine is plain data");
                self.engine = postcard::from_bytes(&bytes).expect("what was written can be read");
                Told::Done
            }
            _ if open.is_some() => Told::Skipped,
            Do::Open => {
                self.engine.open_snapshot(self.position);
                self.snapshots[session] = Some(self.position);
                Told::Done
            }
            Do::Commit(changes) => {
                self.position += 1;
                let writer = WriteId {
                    txn: TxnId(1_000 + self.position),
                    undo: false,
                };
                told(self.engine.apply(self.position, writer, &writes(changes)))
            }
            Do::Prepare(gid, changes) => told(self.engine.prepare(TxnId(*gid), &writes(changes))),
            Do::CommitPrepared(gid) => {
                self.position += 1;
                told(self.engine.commit_prepared(self.position, TxnId(*gid)))
            }
            Do::RollbackPrepared(gid) => told(self.engine.rollback_prepared(TxnId(*gid))),
        }
    }
}

/// The real side.
struct Real {
    config: Config,
    restart: String,
    clients: Vec<Client>,
    open: [bool; SESSIONS],
}

impl Real {
    fn new() -> Self {
        let url = std::env::var("ORDAIN_POSTGRES").expect("tests/real/postgres sets it");
        let restart = std::env::var("ORDAIN_POSTGRES_RESTART").expect("tests/real/postgres sets it");
        let mut config: Config = url.parse().expect("a URL");
        config.password(std::env::var("PGPASSWORD").unwrap_or_default());
        let mut real = Real {
            config,
            restart,
            clients: Vec::new(),
            open: [false; SESSIONS],
        };
        real.clients = (0..SESSIONS).map(|_| real.connect()).collect();
        let table = "DROP TABLE IF EXISTS beside; CREATE TABLE beside (k int PRIMARY KEY, v bigint NOT NULL)";
        real.clients[0].batch_execute(table).expect("a table");
        real
    }

    fn connect(&self) -> Client {
        let mut client = self.config.connect(NoTls).expect("a server");
        let wait = "SET lock_timeout = '25ms'; SET client_min_messages = error";
        client.batch_execute(wait).expect("settings");
        client
    }

    /// Forgets what an earlier schedule left.
    fn clear(&mut self) {
        for session in 0..SESSIONS {
            let _ = self.clients[session].batch_execute("ROLLBACK");
            self.open[session] = false;
        }
        for gid in 0..GIDS {
            let _ = self.clients[0].batch_execute(&format!("ROLLBACK PREPARED 'g{gid}'"));
        }
        let fill = format!(
            "TRUNCATE beside; INSERT INTO beside SELECT k, 10 FROM generate_series(0, {}) k",
            ROWS - 2
        );
        self.clients[0].batch_execute(&fill).expect("rows");
    }

    fn updates(changes: &[(u32, Change)]) -> String {
        let update = |&(row, change): &(u32, Change)| match change {
            Change::Add(amount) => format!(
                "INSERT INTO beside VALUES ({row}, {amount}) ON CONFLICT (k) DO UPDATE SET v = beside.v + {amount};"
            ),
            Change::Put(value) => format!(
                "INSERT INTO beside VALUES ({row}, {value}) ON CONFLICT (k) DO UPDATE SET v = {value};"
            ),
        };
        changes.iter().map(update).collect()
    }

    /// Runs statements. What fails is rolled back.
    fn run(&mut self, session: usize, text: &str) -> Told {
        let client = &mut self.clients[session];
        let Err(error) = client.batch_execute(text) else {
            return Told::Done;
        };
        let state = error.code().unwrap_or_else(|| panic!("{text}: {error}"));
        let told = match state.code() {
            "55P03" => Told::Blocked,
            code => Told::Refused(code.to_owned()),
        };
        let _ = client.batch_execute("ROLLBACK");
        told
    }

    fn step(&mut self, session: usize, what: &Do) -> Told {
        let open = self.open[session];
        match what {
            Do::Read(row) => {
                let text = "SELECT v FROM beside WHERE k = $1";
                let row = self.clients[session].query_opt(text, &[&(*row as i32)]);
                let row = row.expect("a read never waits");
                Told::Value(row.map_or(0, |row| row.get(0)))
            }
            Do::Close if open => {
                self.open[session] = false;
                self.run(session, "COMMIT")
            }
            Do::Close => Told::Skipped,
            Do::Killed(changes) => {
                if !open {
                    let _ = self.clients[session]
                        .batch_execute(&format!("BEGIN; {}", Self::updates(changes)));
                }
                self.kill(session);
                self.open[session] = false;
                Told::Done
            }
            Do::Restart => {
                let shell = Command::new("sh").args(["-c", &self.restart]).status();
                assert!(shell.expect("a shell").success(), "the server did not come back");
                self.clients = (0..SESSIONS).map(|_| self.connect()).collect();
                self.open = [false; SESSIONS];
                Told::Done
            }
            _ if open => Told::Skipped,
            Do::Open => {
                self.open[session] = true;
                self.run(session, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM beside")
            }
            Do::Commit(changes) => {
                self.run(session, &format!("BEGIN; {} COMMIT", Self::updates(changes)))
            }
            Do::Prepare(gid, changes) => {
                let updates = Self::updates(changes);
                self.run(session, &format!("BEGIN; {updates} PREPARE TRANSACTION 'g{gid}'"))
            }
            Do::CommitPrepared(gid) => self.run(session, &format!("COMMIT PREPARED 'g{gid}'")),
            Do::RollbackPrepared(gid) => self.run(session, &format!("ROLLBACK PREPARED 'g{gid}'")),
        }
    }

    /// Terminates a backend, and waits until its locks are gone.
    fn kill(&mut self, session: usize) {
        let row = self.clients[session].query_one("SELECT pg_backend_pid()", &[]);
        let other = (session + 1) % SESSIONS;
        // In a transaction that has failed a backend tells nothing: then there is nothing to kill it in the middle of.
        let Ok(row) = row else {
            self.clients[session] = self.connect();
            return;
        };
        let pid: i32 = row.get(0);
        let end = "SELECT pg_terminate_backend($1, 5000)";
        let ended = self.clients[other].query_one(end, &[&pid]);
        assert!(ended.expect("an answer").get::<_, bool>(0), "backend {pid} is still there");
        self.clients[session] = self.connect();
    }
}

fn changes(stream: &mut Stream) -> Vec<(u32, Change)> {
    let count = stream.between(1, 3);
    // A transaction of the protocols writes a row once.
    let mut drawn = BTreeMap::new();
    for _ in 0..count {
        let row = stream.below(u64::from(ROWS)) as u32;
        let amount = stream.between(1, 99) as i64;
        let change = match stream.chance(0.5) {
            true => Change::Add(amount),
            false => Change::Put(amount),
        };
        drawn.insert(row, change);
    }
    drawn.into_iter().collect()
}

fn draw(stream: &mut Stream, restarts: bool) -> Vec<(usize, Do)> {
    let sessions = stream.between(2, SESSIONS as u64);
    let length = stream.between(6, 16);
    let mut schedule = Vec::new();
    for _ in 0..length {
        let gid = stream.below(GIDS);
        let what = match stream.below(16) {
            0..3 => Do::Commit(changes(stream)),
            3..6 => Do::Prepare(gid, changes(stream)),
            6..8 => Do::CommitPrepared(gid),
            8 => Do::RollbackPrepared(gid),
            9..12 => Do::Read(stream.below(u64::from(ROWS)) as u32),
            12 | 13 => Do::Open,
            14 => Do::Close,
            _ if restarts => Do::Restart,
            _ => Do::Killed(changes(stream)),
        };
        schedule.push((stream.below(sessions) as usize, what));
    }
    // At the end everything is looked at, and each name asked for.
    schedule.extend((0..ROWS).map(|row| (0, Do::Read(row))));
    schedule.extend((0..GIDS).map(|gid| (0, Do::RollbackPrepared(gid))));
    schedule.push((0, Do::Close));
    schedule.extend((0..ROWS).map(|row| (0, Do::Read(row))));
    schedule
}

/// Whether the two say different things for a reason that is known: the engine looks at the name first, and PostgreSQL at the rows.
/// Both refuse.
fn is_explained(simulated: &Told, real: &Told) -> bool {
    *simulated == Told::Refused("42710".into()) && *real == Told::Blocked
}

/// The first step at which they differ. Counts what they agree on.
fn play(
    real: &mut Real,
    schedule: &[(usize, Do)],
    seen: &mut BTreeMap<String, u64>,
) -> Option<String> {
    real.clear();
    let mut simulated = Simulated::new();
    for (at, (session, what)) in schedule.iter().enumerate() {
        let (ours, theirs) = (simulated.step(*session, what), real.step(*session, what));
        let shown = match &ours {
            Told::Value(_) => "value".to_owned(),
            other => format!("{other:?}"),
        };
        let name = format!("{what:?}");
        let name = name.split(['(', ' ']).next().unwrap_or_default();
        if ours == theirs {
            *seen.entry(format!("{name}: {shown}")).or_default() += 1;
        } else if is_explained(&ours, &theirs) {
            *seen.entry(format!("{name}: {shown}, there {theirs:?} (explained)")).or_default() += 1;
        } else {
            return Some(format!("step {at}, {what:?}: simulated {ours:?}, real {theirs:?}"));
        }
    }
    None
}

/// Leaves steps out for as long as the two still differ.
fn shrink(real: &mut Real, mut schedule: Vec<(usize, Do)>) -> (Vec<(usize, Do)>, String) {
    let mut unseen = BTreeMap::new();
    let mut why = play(real, &schedule, &mut unseen).expect("it differs");
    let mut at = 0;
    while at < schedule.len() {
        let mut shorter = schedule.clone();
        shorter.remove(at);
        match play(real, &shorter, &mut unseen) {
            Some(still) => (schedule, why) = (shorter, still),
            None => at += 1,
        }
    }
    (schedule, why)
}

#[test]
#[ignore = "needs a server: tests/real/postgres starts one and runs this"]
fn the_simulated_engine_and_a_real_postgresql_answer_alike() {
    let wanted = std::env::var("ORDAIN_POSTGRES_SCHEDULES").ok();
    let wanted: u64 = wanted.map_or(500, |text| text.parse().expect("a number"));
    let mut real = Real::new();
    let mut seen = BTreeMap::new();
    for seed in 0..wanted {
        let mut stream = Stream::new(seed, &"schedules for two");
        // A restart takes longer than all else together.
        let schedule = draw(&mut stream, seed % 50 == 0);
        if play(&mut real, &schedule, &mut seen).is_some() {
            let (shrunk, why) = shrink(&mut real, schedule);
            panic!("seed {seed}: {why}\n{shrunk:#?}");
        }
    }
    println!("{wanted} schedules");
    for (what, count) in &seen {
        println!("{count:6} {what}");
    }
    for must in [
        "Commit: Done",
        "Commit: Blocked",
        "Prepare: Done",
        "Prepare: Blocked",
        "Prepare: Refused(\"42710\")",
        "CommitPrepared: Done",
        "CommitPrepared: Refused(\"42704\")",
        "RollbackPrepared: Done",
        "RollbackPrepared: Refused(\"42704\")",
        "Read: value",
        "Open: Done",
        "Killed: Done",
        "Restart: Done",
    ] {
        assert!(seen.contains_key(must), "no schedule had `{must}`");
    }
}
