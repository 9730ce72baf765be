//! Histories of a list-append database that exists only here: transactions take effect at one instant between
//! invocation and completion, except where it is told to misbehave.
#![allow(dead_code, reason = "each user needs a part")]

use std::collections::VecDeque;
use std::io::{self, Write};

use ordain::check::{History, HistoryBuilder, Status};

/// A small generator of random numbers (splitmix64), so that a seed means the same for ever.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True in `n` of a million cases.
    pub fn per_million(&mut self, n: u64) -> bool {
        self.below(1_000_000) < n
    }
}

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub seed: u64,
    pub txns: u64,
    pub processes: u64,
    /// Keys in use at a time.
    pub keys: u64,
    /// A key is replaced by a fresh one after so many appends.
    pub appends_per_key: u64,
    pub ops_max: u64,
    /// Of a million transactions: so many fail, end indeterminate, read the state of a while ago.
    pub fail: u64,
    pub info: u64,
    pub stale: u64,
}

impl Default for Spec {
    fn default() -> Self {
        Spec {
            seed: 1,
            txns: 1000,
            processes: 20,
            keys: 10,
            appends_per_key: 32,
            ops_max: 4,
            fail: 10_000,
            info: 1_000,
            stale: 0,
        }
    }
}

pub enum Op {
    Append(u64, u64),
    Read(u64, Vec<u64>),
}

pub struct Txn {
    pub process: u64,
    pub invoke: u64,
    pub complete: u64,
    pub status: Status,
    pub ops: Vec<Op>,
}

/// The database: the lists of the keys in use, and the key that comes next.
struct Database {
    lists: VecDeque<(u64, u64, Vec<u64>)>,
    next_key: u64,
}

/// Transactions in the order of their completions.
pub fn transactions(spec: &Spec) -> Vec<Txn> {
    let mut random = Random(spec.seed);
    let mut database = Database {
        lists: (0..spec.keys).map(|key| (key, 0, Vec::new())).collect(),
        next_key: spec.keys,
    };
    let mut invoked: Vec<Option<u64>> = vec![None; spec.processes as usize];
    let mut crashes = 0;
    let (mut txns, mut instant) = (Vec::new(), 0);
    while (txns.len() as u64) < spec.txns {
        let slot = random.below(spec.processes) as usize;
        let now = instant;
        instant += 1;
        let Some(invoke) = invoked[slot].take() else {
            invoked[slot] = Some(now);
            continue;
        };
        let status = match random.below(1_000_000) {
            n if n < spec.fail => Status::Fail,
            n if n < spec.fail + spec.info => Status::Info,
            _ => Status::Ok,
        };
        let ops = database.execute(spec, &mut random, status);
        txns.push(Txn {
            process: slot as u64 + crashes * spec.processes,
            invoke,
            complete: now,
            status,
            ops,
        });
        if status == Status::Info {
            // A crashed process never comes back; its slot runs one with a new number.
            crashes += 1;
        }
    }
    txns
}

impl Database {
    fn execute(&mut self, spec: &Spec, random: &mut Random, status: Status) -> Vec<Op> {
        let stale = random.per_million(spec.stale);
        let took_effect = match status {
            Status::Ok => true,
            Status::Fail => false,
            Status::Info => random.below(2) == 0,
        };
        let count = 1 + random.below(spec.ops_max);
        let mut ops = Vec::new();
        let mut own: Vec<u64> = Vec::new();
        for _ in 0..count {
            let at = random.below(spec.keys) as usize;
            let (key, next, list) = &mut self.lists[at];
            if random.below(2) == 0 {
                let seen = match stale && !own.contains(key) {
                    true => list.len().saturating_sub(2),
                    false => list.len(),
                };
                ops.push(Op::Read(*key, list[..seen].to_vec()));
                continue;
            }
            *next += 1;
            ops.push(Op::Append(*key, *next));
            own.push(*key);
            if took_effect {
                list.push(*next);
            }
        }
        for (key, next, list) in &mut self.lists {
            if *next >= spec.appends_per_key {
                (*key, *next) = (self.next_key, 0);
                list.clear();
                self.next_key += 1;
            }
        }
        ops
    }
}

/// The history in memory.
pub fn history(spec: &Spec) -> History {
    let mut builder = HistoryBuilder::new();
    for txn in transactions(spec) {
        builder.begin(txn.process, txn.invoke);
        for op in &txn.ops {
            match op {
                Op::Append(key, value) => builder.append(*key, *value),
                Op::Read(key, list) if txn.status == Status::Ok => builder.read_list(*key, list),
                Op::Read(key, _) => builder.read_unknown(*key),
            }
        }
        builder.end(txn.status, Some(txn.complete));
    }
    builder.finish()
}

/// The same transactions on registers: each append is a write, and a read returns the newest element.
pub fn registers(spec: &Spec) -> History {
    let mut builder = HistoryBuilder::new();
    for txn in transactions(spec) {
        builder.begin(txn.process, txn.invoke);
        for op in &txn.ops {
            match op {
                Op::Append(key, value) => builder.write(*key, *value),
                Op::Read(key, list) if txn.status == Status::Ok => {
                    builder.read(*key, list.last().copied());
                }
                Op::Read(key, _) => builder.read_unknown(*key),
            }
        }
        builder.end(txn.status, Some(txn.complete));
    }
    builder.finish()
}

/// The history as Jepsen writes it to JSON.
pub fn write_json(spec: &Spec, mut sink: impl Write) -> io::Result<()> {
    let txns = transactions(spec);
    let mut events: Vec<(u64, bool, &Txn)> = Vec::with_capacity(2 * txns.len());
    for txn in &txns {
        events.push((txn.invoke, false, txn));
        events.push((txn.complete, true, txn));
    }
    events.sort_unstable_by_key(|&(instant, _, _)| instant);
    for (index, (instant, completes, txn)) in events.into_iter().enumerate() {
        let kind = match (completes, txn.status) {
            (false, _) => "invoke",
            (_, Status::Ok) => "ok",
            (_, Status::Fail) => "fail",
            (_, Status::Info) => "info",
        };
        let (process, time) = (txn.process, instant * 1000);
        write!(
            sink,
            r#"{{"index":{index},"type":"{kind}","process":{process},"time":{time},"f":"txn","value":["#
        )?;
        for (at, op) in txn.ops.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match op {
                Op::Append(key, value) => write!(sink, r#"{comma}["append",{key},{value}]"#)?,
                Op::Read(key, list) if completes && txn.status == Status::Ok => {
                    let list: Vec<String> = list.iter().map(u64::to_string).collect();
                    write!(sink, r#"{comma}["r",{key},[{}]]"#, list.join(","))?;
                }
                Op::Read(key, _) => write!(sink, r#"{comma}["r",{key},null]"#)?,
            }
        }
        writeln!(sink, "]}}")?;
    }
    Ok(())
}
