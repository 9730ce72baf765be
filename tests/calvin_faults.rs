//! Calvin in the simulated world, under faults, against an oracle that executes the merged log serially.
//!
//! For every seed: everything ends, nothing aborts, every reply is what serial execution in log order gives,
//! the order respects real time, and after a power cut of all machines every copy of every shard holds the rows
//! that serial execution gives.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use ordain::base::monitor::{Monitor, Violation};
use ordain::base::observation::{Observation, Observed, Outcome};
use ordain::base::process::Addr;
use ordain::base::txn::{Evaluation, Key, Read, Row, TxnId, WriteId};
use ordain::plan::Plan;
use ordain::protocol::calvin::messages::{Batch, Entry};
use ordain::protocol::calvin::{Calvin, Node, Options};
use ordain::protocol::{Autopsy, Protocol};
use ordain::scenario::Scenario;
use ordain::sim::{self, Record, Run};

/// Watches what clients see and what fronts merge.
#[derive(Default)]
struct Watch {
    invoked: BTreeMap<TxnId, u64>,
    returned: BTreeMap<TxnId, (u64, Outcome)>,
    initiated: BTreeSet<TxnId>,
    ended: BTreeSet<TxnId>,
    transactions: usize,
    /// The merged log, by position of a batch's first transaction, over all fronts.
    log: BTreeMap<u64, Arc<Batch>>,
}

impl Monitor<Node> for Watch {
    fn observe(&mut self, observed: &Observed) -> Result<(), Violation> {
        match &observed.what {
            Observation::Invoked { txn, .. } => {
                self.invoked.insert(*txn, observed.at_ns);
            }
            Observation::Returned { txn, outcome, .. } => {
                self.returned
                    .insert(*txn, (observed.at_ns, outcome.clone()));
            }
            Observation::Initiated { txn } => {
                self.initiated.insert(*txn);
            }
            Observation::Ended { txn, .. } => {
                self.ended.insert(*txn);
            }
            _ => {}
        }
        Ok(())
    }

    fn watches_steps(&self) -> bool {
        true
    }

    fn after_step(&mut self, at_ns: u64, by: Addr, process: &Node) -> Result<(), Violation> {
        let Node::Coordinator(front) = process else {
            return Ok(());
        };
        for (first, batch) in front.merged_log().rev() {
            match self.log.get(&first) {
                Some(known) if known == batch => break,
                Some(known) => {
                    return Err(Violation {
                        at_ns,
                        by,
                        property: "one-merged-log",
                        explanation: format!("{first}: {batch:?} here, {known:?} elsewhere"),
                    });
                }
                None => {
                    self.log.insert(first, Arc::clone(batch));
                }
            }
        }
        Ok(())
    }

    fn settled(&self) -> bool {
        self.returned.len() == self.transactions && self.initiated.is_subset(&self.ended)
    }
}

/// The oracle: executes the merged log one transaction after another.
struct Serial {
    rows: BTreeMap<Key, Row>,
    outcomes: BTreeMap<TxnId, Outcome>,
    /// Where each transaction took effect.
    positions: BTreeMap<TxnId, u64>,
}

impl Serial {
    fn execute(rows: BTreeMap<Key, Row>, log: &BTreeMap<u64, Arc<Batch>>) -> Self {
        let (outcomes, positions) = (BTreeMap::new(), BTreeMap::new());
        let mut serial = Self {
            rows,
            outcomes,
            positions,
        };
        let mut next = 1;
        for (first, batch) in log {
            assert_eq!(*first, next, "the watch has seen the whole log");
            for entry in &batch.entries {
                serial.one(next, entry);
                next += 1;
            }
        }
        serial
    }

    fn one(&mut self, position: u64, entry: &Entry) {
        let txn = entry.txn.id;
        if self.outcomes.contains_key(&txn) {
            return;
        }
        let row = |key: &Key| (*key, self.rows[key].clone());
        let seen: BTreeMap<Key, Row> = entry.footprint.reads.iter().map(row).collect();
        let outcome = match entry.txn.evaluate(&entry.footprint, |key| seen.get(&key)) {
            Evaluation::Moved => return,
            Evaluation::Declined(guard) => Outcome::Declined { guard },
            Evaluation::Commit(writes) => {
                for write in writes {
                    let value = write.op.apply(&self.rows[&write.key].value);
                    let writer = WriteId { txn, undo: false };
                    self.rows.insert(write.key, Row { value, writer });
                }
                let reads = seen.into_iter().map(|(key, row)| Read { key, row });
                Outcome::Committed {
                    reads: reads.collect(),
                }
            }
        };
        self.outcomes.insert(txn, outcome);
        self.positions.insert(txn, position);
    }
}

/// Three regions, two tables with a shard each, and these faults and options.
fn scenario(
    workload: &str,
    network: &str,
    machines: &str,
    faults: &str,
    options: &str,
) -> Scenario {
    read(&text(workload, network, machines, faults, options))
}

fn read(text: &str) -> Scenario {
    let scenario = Scenario::read("test.toml", text, &["calvin"], &[]);
    scenario.unwrap_or_else(|bad| panic!("{bad:?}"))
}

fn text(workload: &str, network: &str, machines: &str, faults: &str, options: &str) -> String {
    format!(
        r#"
name = "test"
summary = "a test"
protocols = ["calvin"]

[phases]
safety = "6s"
settle = "30s"
power-cycle = "6s"

[[region]]
name = "a"
cloud = "x"

[[region]]
name = "b"
cloud = "x"

[[region]]
name = "c"
cloud = "y"

[network]
between-regions = "20ms"
{network}

[machines]
{machines}

[[table]]
name = "left"
engine = "postgres"
rows = 12
initial = 50
homes = ["a"]

[[table]]
name = "right"
engine = "scylla"
rows = 12
initial = 50
homes = ["b"]

[workload]
transactions = 100
rate = 25.0
{workload}

[protocol.calvin]
{options}

{faults}
"#
    )
}

const BOTH_LAYOUTS: [&str; 2] = ["one-group", "group-per-region"];

/// What a batch of seeds did, for judging whether the faults bit.
#[derive(Default, Debug)]
struct Tally {
    marks: BTreeMap<&'static str, u64>,
    events: u64,
    messages: BTreeMap<&'static str, u64>,
    latencies_ns: Vec<u64>,
    halts: u64,
}

impl Tally {
    fn p50_ms(&mut self) -> u64 {
        self.latencies_ns.sort_unstable();
        self.latencies_ns[self.latencies_ns.len() / 2] / 1_000_000
    }
}

fn run_seed(scenario: &Scenario, seed: u64, tally: &mut Tally) -> Result<Record<Node>, String> {
    let plan = Plan::draw(scenario, seed);
    let options: Options = match scenario.options.get("calvin") {
        Some((_, table)) => table.clone().try_into().map_err(|e| format!("{e}"))?,
        None => Options::default(),
    };
    let deployment = Calvin::deploy(&scenario.layout, &options, &plan.operations)?;
    let mut run = Run::new(&plan.environment, deployment, seed);
    run.faults = &plan.faults;
    run.monitors.push(Box::new(Watch {
        transactions: plan.operations.len(),
        ..Watch::default()
    }));
    let record = sim::simulate(run).map_err(|error| error.to_string())?;
    count(&record, tally);
    if let Some(panicked) = record.panics.first() {
        return Err(format!("{panicked:?}"));
    }
    if let Some(violation) = record.violations.first() {
        return Err(format!("{violation:?}"));
    }
    judge(scenario, &record, tally)?;
    Ok(record)
}

fn count(record: &Record<Node>, tally: &mut Tally) {
    tally.events += record.events;
    tally.halts += record.halts.len() as u64;
    for observed in &record.observations {
        if let Observation::Mark(mark) = observed.what {
            *tally.marks.entry(mark).or_default() += 1;
        }
    }
    for (label, counts) in &record.messages {
        *tally.messages.entry(label).or_default() += counts.sent;
    }
}

fn judge(scenario: &Scenario, record: &Record<Node>, tally: &mut Tally) -> Result<(), String> {
    let watch: &dyn Any = &*record.monitors[0];
    let watch: &Watch = watch.downcast_ref().ok_or("the watch")?;
    if watch.returned.len() != watch.transactions {
        return Err(format!(
            "{} of {} returned",
            watch.returned.len(),
            watch.transactions
        ));
    }
    let unended: Vec<_> = watch.initiated.difference(&watch.ended).collect();
    if !unended.is_empty() {
        return Err(format!("{unended:?} never end"));
    }
    let shards = 0..scenario.layout.shards.len() as u16;
    let shards = shards.map(ordain::base::txn::ShardId);
    let rows = shards.flat_map(|shard| scenario.layout.initial_rows(shard));
    let rows = rows.map(|(key, value)| (key, Row::initial(value)));
    let serial = Serial::execute(rows.collect(), &watch.log);
    judge_replies(watch, &serial, tally)?;
    judge_real_time(watch, &serial)?;
    judge_copies(scenario, record, &serial)
}

fn judge_replies(watch: &Watch, serial: &Serial, tally: &mut Tally) -> Result<(), String> {
    for (txn, (at_ns, outcome)) in &watch.returned {
        tally.latencies_ns.push(at_ns - watch.invoked[txn]);
        if serial.outcomes.get(txn) != Some(outcome) {
            return Err(format!(
                "{txn}: the client saw {outcome:?}, serial execution gives {:?}",
                serial.outcomes.get(txn)
            ));
        }
    }
    Ok(())
}

/// Whatever returned before a transaction was invoked lies before it in the log.
fn judge_real_time(watch: &Watch, serial: &Serial) -> Result<(), String> {
    let mut returns: Vec<(u64, TxnId)> = Vec::new();
    returns.extend(watch.returned.iter().map(|(txn, (at, _))| (*at, *txn)));
    returns.sort_unstable();
    let mut invocations: Vec<(u64, TxnId)> = Vec::new();
    invocations.extend(watch.invoked.iter().map(|(txn, at)| (*at, *txn)));
    invocations.sort_unstable();
    let (mut highest, mut next) = ((0, TxnId(0)), 0);
    for (at, txn) in invocations {
        while next < returns.len() && returns[next].0 < at {
            let before = returns[next].1;
            highest = highest.max((serial.positions[&before], before));
            next += 1;
        }
        if serial.positions[&txn] < highest.0 {
            return Err(format!(
                "{} returned before {txn} was invoked, and lies after it in the log",
                highest.1
            ));
        }
    }
    Ok(())
}

fn judge_copies(scenario: &Scenario, record: &Record<Node>, serial: &Serial) -> Result<(), String> {
    let mut copies = 0;
    for (_, process) in &record.processes {
        let Some(copy) = process.autopsy() else {
            continue;
        };
        copies += 1;
        let here = |key: &Key| scenario.layout.shard_of(*key) == copy.shard;
        for (key, row) in serial.rows.iter().filter(|(key, _)| here(key)) {
            if copy.rows.get(key) != Some(row) {
                return Err(format!(
                    "{} in region {} (applied to {}) holds {:?} at {key}, serial execution {row:?}",
                    copy.shard,
                    copy.region,
                    copy.applied_to,
                    copy.rows.get(key)
                ));
            }
        }
        let writes: BTreeSet<_> = copy.ledger.iter().collect();
        if writes.len() != copy.ledger.len() {
            return Err(format!("{}: a write twice in the ledger", copy.shard));
        }
    }
    let expected = scenario.layout.regions.len() * scenario.layout.shards.len();
    match copies == expected {
        true => Ok(()),
        false => Err(format!("{copies} of {expected} copies are up at the end")),
    }
}

fn run_seeds(scenario: &Scenario, seeds: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    let mut failures = String::new();
    for seed in seeds {
        if let Err(why) = run_seed(scenario, seed, &mut tally) {
            let _ = writeln!(failures, "seed {seed}: {}", &why[..why.len().min(600)]);
        }
    }
    assert!(failures.is_empty(), "{failures}{:?}", tally.marks);
    tally
}

/// Seeds for each case: enough to see every branch here; `ORDAIN_SEEDS` asks for more.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("ORDAIN_SEEDS").ok();
    0..asked.and_then(|seeds| seeds.parse().ok()).unwrap_or(25)
}

const MIXED: &str = r#"
kind = "list-append"
reads = "20%"
dependent = "20%"
legs = 3
skew = 0.8
"#;

const LOSSY: &str = r#"
loss = "1%"
duplicate = "2%"
reorder = "5%"
"#;

const SKEWED: &str = r#"
clock-skew = "500ms"
clock-drift-ppm = 200
"#;

/// Crashes, a dark region, a partition and failing flushes, at times that differ from seed to seed.
const FAULTS: &str = r#"
[[fault]]
kind = "dark"
nodes = ["b"]
at = ["1s", "4s"]
for = ["500ms", "3s"]
unflushed = "torn"

[[fault]]
kind = "crash"
nodes = ["*/front0"]
at = ["1s", "5s"]
for = ["100ms", "1s"]

[[fault]]
kind = "crash"
nodes = ["a/left0"]
at = ["1s", "5s"]
for = ["100ms", "2s"]
unflushed = "kept"

[[fault]]
kind = "partition"
nodes = ["c"]
at = ["1s", "5s"]
for = ["500ms", "2s"]

[[fault]]
kind = "fail-flush"
nodes = ["c", "a/right0"]
at = ["1s", "5s"]
for = "200ms"
probability = "10%"

[[fault]]
kind = "clock-step"
nodes = ["a/front0"]
at = ["2s", "4s"]
by = "-300ms"
"#;

#[test]
fn without_faults_everything_commits_in_both_layouts() {
    for layout in BOTH_LAYOUTS {
        let options = format!("sequencers = \"{layout}\"");
        let scenario = scenario(MIXED, "", "", "", &options);
        let mut tally = run_seeds(&scenario, 0..5);
        assert_eq!(tally.halts, 0);
        // A round trip between regions is 40 ms; the merge needs a little more than one of consensus.
        assert!(tally.p50_ms() < 150, "{layout}: {} ms", tally.p50_ms());
    }
}

/// Branches that these faults must lead into: a run that avoids them proves less than it says.
const REACHED: [&str; 6] = [
    "calvin.duplicate-in-log",
    "calvin.front-silent",
    "calvin.gap-in-feed",
    "calvin.log-starts-at-a-cut",
    "calvin.remote-reads-asked-again",
    "calvin.submitted-again",
];

fn assert_reached(tally: &Tally, marks: &[&'static str]) {
    for mark in marks {
        assert!(tally.marks.contains_key(mark), "{mark}: {:?}", tally.marks);
    }
}

#[test]
fn with_one_group_faults_cost_latency_and_no_promise() {
    let options = "sequencers = \"one-group\"\ncheckpoint-every = 16";
    let tally = run_seeds(&scenario(MIXED, LOSSY, SKEWED, FAULTS, options), seeds());
    assert_reached(&tally, &REACHED);
}

#[test]
fn with_a_group_for_each_region_faults_cost_latency_and_no_promise() {
    let options = "sequencers = \"group-per-region\"\ncheckpoint-every = 16";
    let tally = run_seeds(&scenario(MIXED, LOSSY, SKEWED, FAULTS, options), seeds());
    assert_reached(&tally, &REACHED);
    let merging = [
        "calvin.watermark",
        "calvin.leader-change-while-merging",
        "calvin.leader-lost-with-open-epoch",
    ];
    assert_reached(&tally, &merging);
}

/// Registers that are set to ever larger numbers, and decide on both sides of what they start with where most
/// of the transactions go.
const DEPENDENT: &str = r#"
kind = "register"
dependent = "60%"
reads = "20%"
legs = 2
skew = 1.2
"#;

#[test]
fn dependent_transactions_restart_until_they_end_under_faults() {
    for layout in BOTH_LAYOUTS {
        let options = format!("sequencers = \"{layout}\"\ncheckpoint-every = 16");
        let scenario = scenario(DEPENDENT, LOSSY, SKEWED, FAULTS, &options);
        let tally = run_seeds(&scenario, seeds());
        let restarts = [
            "calvin.reconnaissance-overtaken",
            "calvin.dependent-restart",
        ];
        assert_reached(&tally, &restarts);
    }
}

#[test]
fn clocks_half_a_second_apart_cost_at_most_a_message_and_an_epoch() {
    for layout in BOTH_LAYOUTS {
        let options = format!("sequencers = \"{layout}\"");
        let p50_ms =
            |machines| run_seeds(&scenario(MIXED, "", machines, "", &options), 0..10).p50_ms();
        let (honest, skewed) = (p50_ms(""), p50_ms(SKEWED));
        // 20 ms is the way between two regions, 10 ms an epoch.
        assert!(
            skewed <= honest + 30,
            "{layout}: {honest} ms, skewed {skewed} ms"
        );
    }
}

#[test]
fn a_region_that_was_dark_for_long_catches_up_by_state_transfer() {
    for layout in BOTH_LAYOUTS {
        let options = format!("sequencers = \"{layout}\"\ncheckpoint-every = 5\nlog-retained = 5");
        let dark = r#"
[[fault]]
kind = "dark"
nodes = ["b"]
at = "1500ms"
for = "4s"
"#;
        let tally = run_seeds(&scenario(MIXED, LOSSY, SKEWED, dark, &options), 0..10);
        assert!(
            tally.marks["calvin.state-transfer"] > 0,
            "{:?}",
            tally.marks
        );
    }
}

#[test]
fn several_zones_in_a_region_share_its_work_and_replace_one_another() {
    for layout in BOTH_LAYOUTS {
        let options = format!("sequencers = \"{layout}\"\ncheckpoint-every = 16");
        let text = text(MIXED, LOSSY, SKEWED, FAULTS, &options);
        let text = text.replace("name = \"a\"\n", "name = \"a\"\nzones = 3\n");
        let scenario = read(&text);
        assert_eq!(scenario.layout.fronts().count(), 5);
        run_seeds(&scenario, 0..10);
    }
}

#[test]
fn a_front_forgets_the_log_that_every_checkpoint_covers() {
    for layout in BOTH_LAYOUTS {
        let options = format!("sequencers = \"{layout}\"\ncheckpoint-every = 16");
        let text = text(MIXED, "", "", "", &options);
        let text = text.replace("transactions = 100", "transactions = 500");
        let scenario = read(&text.replace("rate = 25.0", "rate = 100.0"));
        let record = run_seed(&scenario, 1, &mut Tally::default()).unwrap();
        let mut fronts = 0;
        for (_, process) in &record.processes {
            if let Node::Coordinator(front) = process {
                let kept: usize = front.merged_log().map(|(_, b)| b.entries.len()).sum();
                assert!(kept < 100, "{layout}: {kept} of 500 transactions kept");
                fronts += 1;
            }
        }
        assert_eq!(fronts, 3);
    }
}
