//! The clients of a run, one thread each, and the faults beside them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::database::{Database, Refused, Session};
use super::faults::{self, Struck};
use super::journal::{Journal, Next};
use super::workload::{Asked, Completion, Generator};
use super::{Ended, Recording, Settings};

/// So many transactions in a row that fail end a run.
const FAILED_IN_A_ROW_MAX: u64 = 2_000;

/// How long a client that has lost its connection waits before it tries again.
const RECONNECT: Duration = Duration::from_millis(20);

/// No thread panics while it holds a lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

/// What threads share.
struct Shared {
    database: Arc<dyn Database>,
    journal: Arc<Journal>,
    patience: Duration,
    clients: u64,
    stop_at_violation: bool,
    generator: Mutex<Generator>,
    /// How many transactions may still be invoked.
    left: AtomicU64,
    deadline: Option<Instant>,
    interrupted: Arc<AtomicBool>,
    /// Why the run ends before its time.
    ended: Mutex<Option<Ended>>,
    stop: AtomicBool,
    disconnects: AtomicU64,
    /// After the clients' own work: what has to be read at last.
    finals: Mutex<Vec<Asked>>,
}

impl Shared {
    fn end(&self, why: Ended) {
        locked(&self.ended).get_or_insert(why);
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether the clients' own work is over.
    fn is_over(&self) -> bool {
        if self.interrupted.load(Ordering::SeqCst) {
            self.end(Ended::Interrupted);
        }
        let late = self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline);
        late || self.left.load(Ordering::SeqCst) == 0 || self.stop.load(Ordering::SeqCst)
    }

    fn next(&self) -> Option<Asked> {
        if self.is_over() {
            return None;
        }
        let take = |left: u64| left.checked_sub(1);
        let order = Ordering::SeqCst;
        let taken = self.left.fetch_update(order, order, take);
        taken.ok()?;
        Some(locked(&self.generator).next_asked())
    }
}

pub(super) fn run(
    database: Arc<dyn Database>,
    settings: &Settings,
    interrupted: &Arc<AtomicBool>,
    show: &mut dyn FnMut(u64),
) -> Result<Recording, Refused> {
    database.prepare(settings.workload, &settings.shape)?;
    let sessions = (0..settings.clients).map(|client| database.connect(client));
    let sessions = sessions.collect::<Result<Vec<_>, _>>()?;
    let path = &settings.history;
    let journal = Journal::create(path, settings.workload, settings.model)
        .map_err(|error| Refused(format!("{}: {error}", path.display())))?;
    let journal = Arc::new(journal);
    let began = Instant::now();
    let shared = Arc::new(Shared {
        database,
        journal: Arc::clone(&journal),
        patience: settings.patience,
        clients: settings.clients,
        stop_at_violation: settings.stop_at_violation,
        generator: Mutex::new(Generator::new(
            settings.workload,
            settings.shape,
            settings.seed,
        )),
        left: AtomicU64::new(settings.transactions.unwrap_or(u64::MAX)),
        deadline: settings.duration.map(|duration| began + duration),
        interrupted: Arc::clone(interrupted),
        ended: Mutex::new(None),
        stop: AtomicBool::new(false),
        disconnects: AtomicU64::new(0),
        finals: Mutex::new(Vec::new()),
    });
    let struck = Arc::new(Mutex::new(Struck::default()));
    let over = Arc::new(AtomicBool::new(false));
    let faults: Vec<JoinHandle<()>> = (settings.faults.iter().cloned())
        .map(|fault| {
            let (journal, struck, over) =
                (Arc::clone(&journal), Arc::clone(&struck), Arc::clone(&over));
            let stop = move || over.load(Ordering::SeqCst);
            std::thread::spawn(move || faults::strike(&fault, &journal, &struck, &stop))
        })
        .collect();
    let threads: Vec<JoinHandle<Client>> = (0..)
        .zip(sessions)
        .map(|(process, session)| {
            let mut client = Client {
                shared: Arc::clone(&shared),
                process,
                session: Some(session),
            };
            std::thread::spawn(move || {
                client.work();
                client
            })
        })
        .collect();
    let clients = join(threads, &shared, show);
    // A pause ends and a killed database comes back before anybody reads for the last time.
    over.store(true, Ordering::SeqCst);
    for fault in faults {
        fault.join().expect("a fault does not panic");
    }
    if locked(&shared.ended).is_none() {
        read_at_last(&shared, clients, show);
    }
    let closed = journal.close();
    if let Some(why) = closed.unwritten {
        shared.end(Ended::Broken(format!("{}: {why}", path.display())));
    }
    let struck = locked(&struck).clone();
    let ended = locked(&shared.ended).clone();
    Ok(Recording {
        ended: ended.unwrap_or(Ended::Done),
        counts: closed.counts,
        errors: closed.errors,
        faults: struck.counts,
        fault_errors: struck.errors,
        disconnects: shared.disconnects.load(Ordering::SeqCst),
        online: closed.violation,
        online_reads: closed.online_reads,
        elapsed_ms: began.elapsed().as_millis() as u64,
    })
}

/// Waits for threads. One that is stuck in a call to the database is left behind when the others are through and it had the
/// time of a patient client: its transaction stays without an answer.
fn join(
    mut threads: Vec<JoinHandle<Client>>,
    shared: &Shared,
    show: &mut dyn FnMut(u64),
) -> Vec<Client> {
    const SLICE: Duration = Duration::from_millis(10);
    let mut done = Vec::new();
    let mut over_since: Option<Instant> = None;
    let mut completed = 0;
    while !threads.is_empty() {
        let (finished, running): (Vec<_>, Vec<_>) =
            threads.into_iter().partition(JoinHandle::is_finished);
        threads = running;
        for thread in finished {
            done.push(thread.join().expect("a client does not panic"));
        }
        let now = shared.journal.completed();
        show(now);
        if now > completed {
            (completed, over_since) = (now, None);
        }
        if !threads.is_empty() && shared.is_over() {
            let since = over_since.get_or_insert_with(Instant::now);
            if since.elapsed() > shared.patience {
                let stuck = threads.len();
                let why = format!(
                    "{stuck} clients had no answer for {:?}, and were left behind",
                    shared.patience
                );
                shared.end(Ended::Lost(why));
                break;
            }
        }
        if !threads.is_empty() {
            std::thread::sleep(SLICE);
        }
    }
    done
}

/// Reads everything, so that what was acknowledged and is gone shows.
fn read_at_last(shared: &Arc<Shared>, clients: Vec<Client>, show: &mut dyn FnMut(u64)) {
    *locked(&shared.finals) = locked(&shared.generator).final_reads();
    let threads = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || {
            client.read_at_last();
            client
        })
    });
    join(threads.collect(), shared, show);
}

/// One client: a process of the history, and its session.
struct Client {
    shared: Arc<Shared>,
    process: u64,
    session: Option<Box<dyn Session>>,
}

impl Client {
    /// Executes transactions until there are no more.
    fn work(&mut self) {
        let shared = Arc::clone(&self.shared);
        while self.connected(&|| shared.is_over()) {
            let Some(asked) = shared.next() else { return };
            if self.execute(&asked).is_none() {
                return;
            }
        }
    }

    /// Executes reads until none is left; one that fails is tried again for a while.
    fn read_at_last(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut since = Instant::now();
        while since.elapsed() < shared.patience {
            if !self.connected(&|| shared.stop.load(Ordering::SeqCst)) {
                return;
            }
            let next = locked(&shared.finals).pop();
            let Some(asked) = next else { return };
            match self.execute(&asked) {
                Some(Completion::Ok(_)) => since = Instant::now(),
                Some(_) => locked(&shared.finals).push(asked),
                None => return,
            }
        }
        shared.end(Ended::Lost(
            "what was written could not be read at the end".into(),
        ));
    }

    /// Makes sure that there is a session. False if the run ended before there was one.
    fn connected(&mut self, over: &dyn Fn() -> bool) -> bool {
        let began = Instant::now();
        while self.session.is_none() {
            if over() {
                return false;
            }
            match self
                .shared
                .database
                .connect(self.process % self.shared.clients)
            {
                Ok(session) => self.session = Some(session),
                Err(why) if began.elapsed() >= self.shared.patience => {
                    let patience = self.shared.patience;
                    let why = format!("{why} (tried again for {patience:?})");
                    self.shared.end(Ended::Lost(why));
                    return false;
                }
                Err(_) => std::thread::sleep(RECONNECT),
            }
        }
        true
    }

    /// Executes one transaction and writes both of its records. None if the run is to end.
    fn execute(&mut self, asked: &Asked) -> Option<Completion> {
        let shared = &self.shared;
        let session = self.session.as_mut().expect("it was connected");
        if !shared.journal.invoke(self.process, asked) {
            return None;
        }
        let completion = match session.execute(asked) {
            Ok(completion) => completion,
            Err(Refused(why)) => {
                let unknown = Completion::Info(why.clone());
                shared.journal.complete(self.process, &unknown);
                shared.end(Ended::Broken(why));
                return None;
            }
        };
        if !session.is_alive() {
            self.session = None;
            shared.disconnects.fetch_add(1, Ordering::SeqCst);
        }
        let next = shared.journal.complete(self.process, &completion);
        if matches!(completion, Completion::Info(_)) {
            // Nothing is known of that process any more: the client goes on as another one.
            self.process += shared.clients;
        }
        match next {
            Next::Unwritten => {
                shared.stop.store(true, Ordering::SeqCst);
                return None;
            }
            Next::Violation if shared.stop_at_violation => {
                shared.end(Ended::Violation);
                return None;
            }
            Next::Failing(row) if row >= FAILED_IN_A_ROW_MAX => {
                let why = match &completion {
                    Completion::Fail(why) => why.clone(),
                    _ => "see the errors".into(),
                };
                shared.end(Ended::NothingCommits(format!(
                    "{row} transactions in a row failed: {why}"
                )));
                return None;
            }
            _ => {}
        }
        Some(completion)
    }
}
