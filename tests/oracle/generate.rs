//! Small random histories: executed under some discipline and then damaged, or plainly random.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::{Op, Status, Txn};

/// What the transactions work on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Read-write registers.
    Registers,
    /// Lists with append.
    Lists,
    /// Registers under the even keys, lists under the odd ones.
    Mixed,
}

/// How the transactions are executed before the damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Discipline {
    /// One after another, each at an instant of its interval.
    Strict,
    /// One after another, in an order that ignores time.
    Serial,
    /// With a snapshot, at two instants of its interval.
    Snapshot,
    /// With a snapshot that may be old.
    OldSnapshot,
    /// Reads return anything that somebody writes.
    Random,
    /// One after another, each seeing some of those before it.
    Sighted,
}

/// The generator of history number `seed`: two to six transactions.
pub struct Generator {
    rng: ChaCha8Rng,
    kind: Kind,
    keys: u32,
    /// Whether values of registers repeat.
    repeats: bool,
    /// Operations of the shortest transaction.
    ops_min: usize,
    next_value: i64,
}

/// History number `seed` of a kind, executed under any discipline but that of [`sighted`].
pub fn history(kind: Kind, seed: u64) -> Vec<Txn> {
    draw(kind, seed, None)
}

/// History number `seed` of those in which each transaction sees some of the earlier ones: mostly such as read atomicity
/// allows, and many of them such as causal consistency forbids.
pub fn sighted(kind: Kind, seed: u64) -> Vec<Txn> {
    draw(kind, seed, Some(Discipline::Sighted))
}

fn draw(kind: Kind, seed: u64, discipline: Option<Discipline>) -> Vec<Txn> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let keys = 1 + rng.next_u32() % 3;
    let repeats = kind == Kind::Registers && rng.next_u32() % 6 == 0;
    let (keys, ops_min) = match discipline {
        // Whom one sees through others shows only where there are others.
        Some(Discipline::Sighted) => (keys + 1, 2),
        // One key of each sort at least.
        _ => (keys + u32::from(kind == Kind::Mixed && keys == 1), 1),
    };
    let mut generator = Generator {
        rng,
        kind,
        keys,
        repeats,
        ops_min,
        next_value: 0,
    };
    generator.draw(discipline)
}

impl Generator {
    fn below(&mut self, bound: usize) -> usize {
        self.rng.next_u32() as usize % bound
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn draw(&mut self, discipline: Option<Discipline>) -> Vec<Txn> {
        let count = 2 + self.below(5);
        let mut history = self.timeline(count);
        for txn in &mut history {
            txn.ops = self.intentions();
            txn.status = match self.below(20) {
                0 => Status::Fail,
                1..=3 => Status::Info,
                _ => Status::Ok,
            };
        }
        let disciplines = [
            Discipline::Strict,
            Discipline::Serial,
            Discipline::Snapshot,
            Discipline::OldSnapshot,
            Discipline::Random,
        ];
        let discipline = discipline.unwrap_or_else(|| disciplines[self.below(disciplines.len())]);
        self.execute(&mut history, discipline);
        for _ in 0..[0, 0, 1, 1, 2][self.below(5)] {
            self.damage(&mut history);
        }
        for txn in history.iter_mut().filter(|txn| txn.status == Status::Info) {
            // A client that heard nothing knows no results. A few do know some: only of registers, where the
            // checker draws conclusions from that.
            if self.kind == Kind::Lists || self.below(10) > 0 {
                txn.ops
                    .retain(|op| matches!(op, Op::Write(..) | Op::Append(..)));
            }
        }
        history
    }

    /// Transactions without operations: processes that run one at a time, and instants.
    fn timeline(&mut self, count: usize) -> Vec<Txn> {
        let processes = 1 + self.below(count.min(4));
        let mut open: Vec<Option<usize>> = vec![None; processes];
        let mut free_from = vec![0; processes];
        let mut history: Vec<Txn> = Vec::new();
        let mut clock = 0;
        while history.len() < count || open.iter().any(Option::is_some) {
            let process = self.below(processes);
            match open[process].take() {
                Some(at) => {
                    history[at].complete = clock;
                    free_from[process] = clock + 1;
                }
                None if history.len() < count => {
                    // A process's own events never share an instant.
                    clock = clock.max(free_from[process]);
                    open[process] = Some(history.len());
                    let (process, status) = (process as u32, Status::Ok);
                    history.push(Txn {
                        process,
                        invoke: clock,
                        complete: 0,
                        status,
                        ops: vec![],
                    });
                }
                None => continue,
            }
            // Now and then two events share an instant, and are concurrent then.
            clock += u64::from(!self.chance(10));
        }
        history
    }

    fn intentions(&mut self) -> Vec<Op> {
        (0..self.ops_min + self.below(4 - self.ops_min))
            .map(|_| {
                let key = self.below(self.keys as usize) as u32;
                let is_list = match self.kind {
                    Kind::Registers => false,
                    Kind::Lists => true,
                    Kind::Mixed => key % 2 == 1,
                };
                match (self.chance(50), is_list) {
                    (true, false) => Op::Read(key, None),
                    (true, true) => Op::ReadList(key, vec![]),
                    (false, false) => Op::Write(key, self.value()),
                    (false, true) => Op::Append(key, self.value()),
                }
            })
            .collect()
    }

    fn value(&mut self) -> i64 {
        if self.repeats {
            return 1 + self.below(3) as i64;
        }
        self.next_value += 1;
        self.next_value
    }

    /// Fills in what the reads return.
    fn execute(&mut self, history: &mut [Txn], discipline: Discipline) {
        match discipline {
            Discipline::Random => return self.guess(history),
            Discipline::Sighted => return self.see(history),
            _ => {}
        }
        // Each transaction's snapshot and commit, in sixteenths of an instant.
        let mut moments: Vec<(u64, u64, usize)> = Vec::new();
        for (at, txn) in history.iter().enumerate() {
            let end = if txn.status == Status::Info {
                txn.complete + 8
            } else {
                txn.complete
            };
            let (from, span) = match discipline {
                Discipline::Serial | Discipline::OldSnapshot => (0, 400),
                _ => (16 * txn.invoke, (16 * (end - txn.invoke)).max(1)),
            };
            let one = from + self.below(span as usize) as u64;
            let two = from + self.below(span as usize) as u64;
            let snapshot = match discipline {
                Discipline::Snapshot | Discipline::OldSnapshot => one.min(two),
                _ => one.max(two),
            };
            let happens = txn.status == Status::Ok || txn.status == Status::Info && self.chance(60);
            if happens {
                moments.push((one.max(two), snapshot, at));
            }
        }
        moments.sort_unstable();
        let mut commits: Vec<(u64, Vec<Op>)> = Vec::new();
        for (commit, snapshot, at) in moments {
            let effects = run(&mut history[at].ops, &commits, snapshot.min(commit));
            commits.push((commit, effects));
        }
    }

    /// Each transaction reads the versions of the last ones that it sees: of a list, all that had been appended by then.
    fn see(&mut self, history: &mut [Txn]) {
        let mut commits: Vec<(u64, Vec<Op>)> = Vec::new();
        for txn in history {
            if txn.status == Status::Fail {
                continue;
            }
            let seen: Vec<bool> = commits.iter().map(|_| self.chance(40)).collect();
            let mut own: Vec<Op> = Vec::new();
            for op in &mut txn.ops {
                let (Op::Read(key, _) | Op::ReadList(key, _)) = *op else {
                    own.push(op.clone());
                    continue;
                };
                let writes =
                    |op: &Op| matches!(op, Op::Write(k, _) | Op::Append(k, _) if *k == key);
                let sees = |&at: &usize| seen[at] && commits[at].1.iter().any(writes);
                let last = (0..commits.len()).rev().find(sees);
                let before = last.map_or(&[][..], |last| &commits[..=last]);
                let with_own = [before, &[(0, own.clone())]].concat();
                run(std::slice::from_mut(op), &with_own, 0);
            }
            commits.push((0, own));
        }
    }

    fn guess(&mut self, history: &mut [Txn]) {
        let written = if self.chance(15) {
            written(history)
        } else {
            readable(history)
        };
        for txn in history {
            for op in &mut txn.ops {
                self.guess_read(op, &written);
            }
        }
    }

    fn guess_read(&mut self, op: &mut Op, written: &[Op]) {
        let of_key = |key: u32| {
            written.iter().filter_map(move |op| match *op {
                Op::Write(k, value) | Op::Append(k, value) if k == key => Some(value),
                _ => None,
            })
        };
        match op {
            Op::Read(key, value) => {
                let values: Vec<i64> = of_key(*key).collect();
                let choice = self.below(values.len() + 1);
                *value = values.get(choice).copied();
            }
            Op::ReadList(key, list) => {
                let mut values: Vec<i64> = of_key(*key).collect();
                let length = self.below(values.len() + 1);
                // Mostly in the order of writing, or hardly any two reads would be compatible.
                if self.chance(30) && values.len() > 1 {
                    let at = self.below(values.len() - 1);
                    values.swap(at, at + 1);
                }
                values.truncate(length);
                *list = values;
            }
            Op::Write(..) | Op::Append(..) => {}
        }
    }

    fn damage(&mut self, history: &mut [Txn]) {
        let written = if self.chance(15) {
            written(history)
        } else {
            readable(history)
        };
        let at = self.below(history.len());
        let txn = &mut history[at];
        match self.below(6) {
            0 => {
                txn.status = match txn.status {
                    Status::Ok => Status::Fail,
                    _ => Status::Ok,
                }
            }
            1 => txn.status = Status::Info,
            2 => {
                // Pushed later, as a whole: what it saw may be stale by then.
                let by = self.below(6) as u64;
                txn.invoke += by;
                txn.complete += by;
                txn.process = 90 + at as u32;
            }
            _ => {
                let op = self.below(txn.ops.len());
                self.guess_read(&mut txn.ops[op], &written);
            }
        }
    }
}

fn written(history: &[Txn]) -> Vec<Op> {
    let ops = history.iter().flat_map(|txn| &txn.ops);
    ops.filter(|op| matches!(op, Op::Write(..) | Op::Append(..)))
        .cloned()
        .collect()
}

/// What a read can return by right: no aborted and no intermediate value of a register.
fn readable(history: &[Txn]) -> Vec<Op> {
    let mut found = Vec::new();
    for txn in history.iter().filter(|txn| txn.status != Status::Fail) {
        let writes = written(std::slice::from_ref(txn));
        let last = |at: usize| match writes[at] {
            Op::Write(key, _) => !writes[at + 1..]
                .iter()
                .any(|op| matches!(op, Op::Write(k, _) if *k == key)),
            _ => true,
        };
        found.extend(
            (0..writes.len())
                .filter(|&at| last(at))
                .map(|at| writes[at].clone()),
        );
    }
    found
}

/// Runs the operations on what was committed by the snapshot; returns the writes.
fn run(ops: &mut [Op], commits: &[(u64, Vec<Op>)], snapshot: u64) -> Vec<Op> {
    let seen = commits.iter().filter(|(commit, _)| *commit <= snapshot);
    let mut effects: Vec<Op> = seen.flat_map(|(_, effects)| effects.clone()).collect();
    let before = effects.len();
    for op in ops {
        match op {
            Op::Write(..) | Op::Append(..) => effects.push(op.clone()),
            Op::Read(key, value) => {
                *value = effects.iter().rev().find_map(|effect| match effect {
                    Op::Write(k, value) if k == key => Some(*value),
                    _ => None,
                });
            }
            Op::ReadList(key, list) => {
                let appended = |effect: &Op| match effect {
                    Op::Append(k, value) if k == key => Some(*value),
                    _ => None,
                };
                *list = effects.iter().filter_map(appended).collect();
            }
        }
    }
    effects.split_off(before)
}
