//! The scenario file as it is written: every key, before names are resolved.
//!
//! This is the reference of the format. Unknown keys are refused. Durations are strings with a unit
//! (`"10ms"`), probabilities are percentages (`"2%"`).

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::layout::EngineKind;
use super::load::ShapeName;
use super::units::{Bandwidth, Quantity, Ranged, Share, Span};

/// A whole scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// The scenario's name, of letters, digits and dashes: it names folders.
    pub name: Spanned<String>,
    /// One sentence: what happens, and what it shows.
    pub summary: String,
    /// The protocols that `compare` runs, by name; all that the machines carry if absent.
    pub protocols: Option<Vec<Spanned<String>>>,
    /// How long things take.
    pub phases: Phases,
    /// The machines' places. At least one.
    #[serde(rename = "region")]
    pub regions: Vec<Region>,
    /// Delays and losses.
    pub network: Network,
    /// What the machines are like.
    #[serde(default)]
    pub machines: Machines,
    /// The data. At least one.
    #[serde(rename = "table")]
    pub tables: Vec<Table>,
    /// What clients do.
    pub workload: Workload,
    /// How clients behave when answers do not come.
    #[serde(default)]
    pub clients: Clients,
    /// What goes wrong.
    #[serde(default, rename = "fault")]
    pub faults: Vec<FaultEntry>,
    /// How far the plans of `ordain fuzz` may go.
    #[serde(default)]
    pub swarm: Swarm,
    /// Options of protocols, by name: see each protocol's `Options`.
    #[serde(default)]
    pub protocol: BTreeMap<Spanned<String>, toml::Table>,
    /// What runs are expected to show, by protocol.
    #[serde(default)]
    pub expect: BTreeMap<Spanned<String>, Expectation>,
}

/// The phases of a run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Phases {
    /// How long faults may strike. Operations of an open loop start within it.
    pub safety: Spanned<Span>,
    /// By when, after healing, every initiated transaction must have ended.
    pub settle: Spanned<Span>,
    /// How long machines get to recover, at least, when all power is cut at the end, before the autopsy. It waits until all
    /// have recovered, for at most ten settle phases more. `"0s"`: no power cut. Default `"5s"`.
    pub power_cycle: Option<Spanned<Span>>,
    /// From when on a transaction that has not ended counts as blocked. Default `"1s"`.
    pub patience: Option<Spanned<Span>>,
}

/// A region: a place with machines in one or more zones.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Region {
    /// Its name.
    pub name: Spanned<String>,
    /// The cloud that it belongs to.
    pub cloud: Spanned<String>,
    /// Number of zones, each with one front machine. Default 1.
    pub zones: Option<Spanned<u16>>,
    /// Offset of the wall clocks of its machines from true time; may be negative. Default: drawn for
    /// each machine within `machines.clock-skew`.
    pub clock_offset: Option<Spanned<Span>>,
}

/// The network without faults. Delays are one way.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// Between machines of one zone. Default `"100us"`.
    pub within_zone: Option<Spanned<Span>>,
    /// Between zones of a region. Default `"500us"`.
    pub between_zones: Option<Spanned<Span>>,
    /// Between regions without a `link` of their own.
    pub between_regions: Option<Spanned<Span>>,
    /// Mean of the exponential jitter on top, as a share of the delay. Default `"5%"`.
    pub jitter: Option<Share>,
    /// Probability that a message is lost. Default `"0%"`.
    #[serde(default)]
    pub loss: Share,
    /// Probability that a message arrives twice. Default `"0%"`.
    #[serde(default)]
    pub duplicate: Share,
    /// Probability that others may overtake a message. Default `"0%"`: links are first in, first out.
    #[serde(default)]
    pub reorder: Share,
    /// Bandwidth of each link between regions. Default: unlimited.
    pub bandwidth: Option<Bandwidth>,
    /// Delays between pairs of regions.
    #[serde(default, rename = "link")]
    pub links: Vec<LinkEntry>,
}

/// What is between two regions, both ways (`between`) or from one to the other (`from` and `to`). What it does not say is
/// as [network] has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LinkEntry {
    /// The two regions, for both directions. Exactly one of `between`, and `from` with `to`.
    pub between: Option<(Spanned<String>, Spanned<String>)>,
    /// One direction: the region of the senders. Takes precedence over a `between` of the same two.
    pub from: Option<Spanned<String>>,
    /// One direction: the region of the receivers.
    pub to: Option<Spanned<String>>,
    /// The delay, one way.
    pub latency: Spanned<Span>,
    /// Mean of the exponential jitter on top, as a share of the delay.
    pub jitter: Option<Share>,
    /// Probability that a message is lost.
    pub loss: Option<Share>,
    /// Probability that a message arrives twice.
    pub duplicate: Option<Share>,
    /// Probability that others may overtake a message.
    pub reorder: Option<Share>,
    /// Bandwidth.
    pub bandwidth: Option<Bandwidth>,
}

/// What every machine is like.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Machines {
    /// CPU time to handle one input. Default `"10us"`.
    pub handle: Option<Spanned<Span>>,
    /// CPU time of one operation on a row. Default `"2us"`.
    pub operation: Option<Spanned<Span>>,
    /// Time of a flush. Default `"500us"`.
    pub flush: Option<Spanned<Span>>,
    /// Mean of the exponential jitter of a flush. Default `"100us"`.
    pub flush_jitter: Option<Spanned<Span>>,
    /// The declared bound: each wall clock is at most this far from true time, either way. Protocols that read time as an
    /// interval rely on it. Only a `clock-liar` breaks it. Default: nothing is declared.
    pub clock_bound: Option<Spanned<Span>>,
    /// Wall clocks start within this much of true time, either way. Swarm plans move them within it, too. Default: what
    /// `clock-bound` leaves beside drift and the scenario's own clock faults; `"0s"` without a bound.
    pub clock_skew: Option<Spanned<Span>>,
    /// Wall clocks drift by up to this many parts per million, either way. Default 0.
    #[serde(default)]
    pub clock_drift_ppm: u32,
    /// How long a machine that stopped itself takes to come back. Default `"1s"`.
    pub supervisor: Option<Spanned<Span>>,
}

/// A table of rows, spread over shards of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Table {
    /// Its name.
    pub name: Spanned<String>,
    /// The engine of its shards.
    pub engine: EngineKind,
    /// Number of rows.
    pub rows: Spanned<u32>,
    /// Quantity that every row starts with; ignored by list workloads, whose rows start empty. Default 0.
    #[serde(default)]
    pub initial: i64,
    /// One shard for each entry: the region that holds the only copy under protocols that do not
    /// replicate shards.
    pub homes: Spanned<Vec<Spanned<String>>>,
    /// CPU time of one operation on a row of this table: the service time of whoever keeps it. Default: `operation` of
    /// [machines].
    pub operation: Option<Spanned<Span>>,
}

/// What kind of transactions clients run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadKind {
    /// Delivery versus payment between two accounts, over the first two tables: a quantity of the first
    /// against a quantity of the second.
    Settlement,
    /// Moves an amount from a row to `legs - 1` others. From the first table to the last.
    Transfer,
    /// Reads of and appends to lists, as Elle generates them.
    ListAppend,
    /// Reads of and writes to registers.
    Register,
    /// Reserve a seat, charge a wallet, emit a ticket, notify: over the tables, in this order. A row of the first table
    /// is one seat (`initial = 1`).
    SeatBooking,
    /// Transactions that `[[workload.transaction]]` describes step by step; what a workload without `kind` is.
    Steps,
}

/// What clients do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Workload {
    /// The kind of transactions. Needed unless `[[workload.transaction]]` describes them.
    pub kind: Option<Spanned<WorkloadKind>>,
    /// The mix of transactions, each described by its steps.
    #[serde(default, rename = "transaction")]
    pub mix: Vec<TransactionEntry>,
    /// Tables whose rows hold the same in all, whatever transactions do: money that moves and is neither made nor lost.
    /// Judged as the workload's invariant; transactions that would change the sum by themselves are refused. Only with
    /// `[[workload.transaction]]`.
    #[serde(default)]
    pub conserved: Vec<Spanned<String>>,
    /// How many transactions in all.
    pub transactions: Spanned<u32>,
    /// Open loop: arrivals a second, over all regions (Poisson). Exactly one of `rate` and `sessions`.
    pub rate: Option<Spanned<f64>>,
    /// Arrivals of an open loop come at even distances instead of Poisson. Default false.
    #[serde(default)]
    pub evenly: bool,
    /// Closed loop: sessions, spread over the regions; each has one transaction under way.
    pub sessions: Option<Spanned<u32>>,
    /// Closed loop: mean time between a reply and the session's next transaction. Default `"10ms"`.
    pub think: Option<Spanned<Span>>,
    /// Open loop: how the rate changes in the course of the run. Default: it does not.
    pub profile: Option<ProfileEntry>,
    /// When the first operations start. Default `"1s"`, which lets elections finish.
    pub start: Option<Spanned<Span>>,
    /// The regions from which clients connect. Default: all.
    pub clients: Option<Vec<Spanned<String>>>,
    /// Share of transactions that only read. Default `"0%"`.
    #[serde(default)]
    pub reads: Share,
    /// Share of transactions whose rows are spread over several shards; the others stay on one where the
    /// kind allows. Default `"100%"`.
    pub multi_shard: Option<Share>,
    /// Share of transactions whose footprint depends on a value that they read. Default `"0%"`.
    #[serde(default)]
    pub dependent: Share,
    /// Zipf exponent of the choice of rows: 0 is uniform. Default 0.
    #[serde(default)]
    pub skew: f64,
    /// Number of hot rows at the start of the last table. Default 0.
    #[serde(default)]
    pub hot_rows: u32,
    /// Share of transactions that go to a hot row. Default `"0%"`.
    #[serde(default)]
    pub hot_share: Share,
    /// Rows for each transaction (lists and registers; `legs` of a transfer). Default 2.
    pub legs: Option<Spanned<u32>>,
    /// Largest amount moved; amounts are uniform from 1. Default 10.
    pub amount: Option<Spanned<u32>>,
    /// Move exactly `amount` each time. Default false.
    #[serde(default)]
    pub amount_fixed: bool,
    /// Seat booking: share of customers whose wallet is empty. Default `"0%"`.
    #[serde(default)]
    pub broke: Share,
    /// Seat booking: share of attempts that go to a seat somebody has just tried to book. Default `"0%"`.
    #[serde(default)]
    pub again: Share,
}

/// How the rate of an open loop changes. Arrivals stay random (Poisson) unless `evenly`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProfileEntry {
    /// What the change looks like.
    pub shape: ShapeName,
    /// The highest rate, in terms of `rate`.
    pub times: Spanned<f64>,
    /// When it begins. Default: with the first operation.
    pub from: Option<Spanned<Span>>,
    /// How long it takes.
    #[serde(rename = "for")]
    pub duration: Spanned<Span>,
}

/// A transaction of a mix. Its steps happen in the order in which they are written, where a protocol performs them one by
/// one (sagas).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TransactionEntry {
    /// Its name.
    pub name: Spanned<String>,
    /// How often it comes, relative to the others of the mix. Default 1.
    pub weight: Option<Spanned<u32>>,
    /// A quantity, or a range to draw it from once for each transaction: steps add it `times` so often. Default 1.
    pub amount: Option<Spanned<Quantity>>,
    /// What it does. At least one.
    #[serde(rename = "step")]
    pub steps: Vec<StepEntry>,
}

/// What a step does to its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionName {
    /// Read it.
    Read,
    /// Add to it: `by`, or `times` the transaction's amount. Compensated by the opposite.
    Add,
    /// Write a number that nobody has written before. Compensated by the value before.
    Put,
    /// Append an element to the list that it holds. Compensated by its removal. Rows of such a table are lists.
    Append,
    /// Refuse the transaction unless it holds `at-least` or `at-most` so much.
    Guard,
}

/// How a step chooses its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowName {
    /// Each row of the table is as likely.
    Uniform,
    /// By Zipf's law with exponent `skew`: the first row most often.
    Zipf,
    /// One of the first `hot-rows` in a `hot-share` of the cases, else any.
    Hot,
    /// A row that one of the last eight writing transactions touched, or any where there is none.
    Latest,
    /// The rows one after another: a row of its own for each order, seat or payment, as long as there are any.
    Next,
}

/// A step of a transaction, on one row. A transaction's steps on the same table go to different rows, unless `same-as`
/// says otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StepEntry {
    /// A name, for `same-as` and `with` of later steps.
    pub name: Option<Spanned<String>>,
    /// The table.
    pub table: Spanned<String>,
    /// What it does to the row.
    #[serde(rename = "do")]
    pub action: Spanned<ActionName>,
    /// How the row is chosen. Default: by `skew` of [workload], which is uniform if absent.
    pub row: Option<Spanned<RowName>>,
    /// The row has the number of that earlier step's row: the account of this customer, the ledger entry of this order.
    pub same_as: Option<Spanned<String>>,
    /// Zipf: the exponent. Default 0.99.
    pub skew: Option<Spanned<f64>>,
    /// Hot: how many rows are hot. Default 1.
    pub hot_rows: Option<Spanned<u32>>,
    /// Hot: how often one of them is chosen. Default `"80%"`.
    pub hot_share: Option<Spanned<Share>>,
    /// Next: share that goes for a row that somebody has just taken. Default `"0%"`.
    pub again: Option<Spanned<Share>>,
    /// Add: so much; may be negative.
    pub by: Option<Spanned<i64>>,
    /// Add: so often the transaction's amount; may be negative.
    pub times: Option<Spanned<i32>>,
    /// Add: refuse the transaction if the row holds less than what is taken from it. Default false.
    pub covered: Option<Spanned<bool>>,
    /// Refuse the transaction if the row (with those of `with`) holds less.
    pub at_least: Option<Spanned<i64>>,
    /// Refuse the transaction if the row (with those of `with`) holds more.
    pub at_most: Option<Spanned<i64>>,
    /// Guard: earlier steps whose rows count, too: the sum has to be within the bounds.
    #[serde(default)]
    pub with: Vec<Spanned<String>>,
    /// Chance that the row's keeper refuses, whatever the row holds: a card that is declined. Default `"0%"`.
    pub refused: Option<Spanned<Share>>,
    /// So many rows instead of one, or a range to draw it from. Default 1.
    pub repeat: Option<Spanned<Quantity>>,
    /// Sagas: the step is the pivot. Steps before it are compensated when the transaction fails, those after it have to
    /// succeed and may not refuse. Default: the last step that writes.
    #[serde(default)]
    pub pivot: bool,
}

/// How clients behave when answers do not come, under all protocols alike. What is not said here is as the options of each
/// protocol have it (`client-resend-ms`, `client-give-up-ms`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Clients {
    /// How long a client waits for an answer until it tries again.
    pub timeout: Option<Spanned<Span>>,
    /// How often it asks in all, before it takes the outcome for unknown. Default: until the deadline.
    pub attempts: Option<Spanned<u32>>,
    /// How long it waits before the second attempt: between half of this and all of it; twice as long before each further
    /// one. Default `"0s"`.
    pub backoff: Option<Spanned<Span>>,
    /// The longest such wait. Default `"10s"`.
    pub backoff_max: Option<Spanned<Span>>,
    /// When it takes the outcome for unknown, from the time on at which it was to ask. Default: never.
    pub deadline: Option<Spanned<Span>>,
    /// How many retries a client machine may make, as a share of its requests; it begins with ten in hand. A retry that the
    /// budget does not allow is not made, and the outcome is unknown. Default: no limit.
    pub retry_budget: Option<Spanned<Share>>,
    /// After how long without an answer it asks a second entry as well, under the same id, where the protocol has one.
    pub hedge: Option<Spanned<Span>>,
    /// Whether each attempt is a transaction of its own with another id, as where a client sends no idempotency key.
    /// Default false: all attempts have the id of the first.
    pub new_id: Option<Spanned<bool>>,
    /// Most requests of a client machine under way at once. Default: no limit.
    pub in_flight: Option<Spanned<u32>>,
    /// How many more may wait for their turn at the client machine. Others are turned away at once: aborted, and counted so.
    /// Default 0.
    pub queue: Option<Spanned<u32>>,
}

/// What kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultName {
    /// A zone, region or cloud loses power, and its machines start again when the fault ends.
    Dark,
    /// Machines crash, and start again when the fault ends.
    Crash,
    /// Machines stand still.
    Pause,
    /// Machines compute and flush at `percent` of their usual time.
    Slow,
    /// Nothing passes between `from` and `to` (one way if `one-way`).
    Partition,
    /// As a partition that comes (`down`) and goes (`up`).
    Flap,
    /// Links between `from` and `to` lose, duplicate, reorder or delay more.
    Degrade,
    /// Flushes take `percent` of their usual time.
    SlowFlush,
    /// Flushes fail with `probability`.
    FailFlush,
    /// The next boot reads its disk with a bit flipped.
    CorruptRead,
    /// Wall clocks step by `by`.
    ClockStep,
    /// Wall clocks drift by `ppm` more.
    ClockDrift,
    /// Wall clocks leave the declared `machines.clock-bound`: they step by `by` (at `"0s"`: an offset), or drift by `ppm`
    /// more. Always further than twice the bound, so that true time is outside of the interval whatever else the clock does.
    ClockLiar,
}

/// A fault. Machines are named by region (`"tokyo"`), by cloud (`"cloud:north"`), by zone
/// (`"tokyo/zone0"`), by role (`"tokyo/front0"`, `"tokyo/equities1"`, `"tokyo/clients"`), by role over
/// all regions (`"*/front0"`), or `"*"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FaultEntry {
    /// What happens.
    pub kind: Spanned<FaultName>,
    /// A name, for `follows` of later faults.
    pub name: Option<Spanned<String>>,
    /// When: a time, or a range to draw it from. Exactly one of `at`, `after` and `follows`.
    pub at: Option<Spanned<Ranged>>,
    /// When: the moment at which an observation has been made `count` times from `from` on.
    pub after: Option<Spanned<Moment>>,
    /// When: at the end of the fault of that name, which begins at a time and ends. (At the end of one that waits for a
    /// moment: `after` the observation `booted`.)
    pub follows: Option<Spanned<String>>,
    /// Follows: so long after that end, or a range to draw it from. Default `"0s"`.
    pub delay: Option<Spanned<Ranged>>,
    /// Follows: which end of a fault that comes several times. Default: its last.
    pub nth: Option<Spanned<u32>>,
    /// From one beginning to the next, where it comes several `times`.
    pub every: Option<Spanned<Span>>,
    /// How often it comes. Default 1.
    pub times: Option<Spanned<u32>>,
    /// How long, or a range to draw it from. Default: to the end of the safety phase.
    #[serde(rename = "for")]
    pub duration: Option<Spanned<Ranged>>,
    /// Whether the settle phase leaves it as it is. Default false.
    #[serde(default)]
    pub permanent: bool,
    /// The machines struck, or one side of the links.
    pub nodes: Option<Spanned<Vec<Spanned<String>>>>,
    /// The other side of the links. Default: all machines that are not in `nodes`.
    pub to: Option<Spanned<Vec<Spanned<String>>>>,
    /// Partition, degrade: only messages from `nodes` to `to` are struck. Default false.
    pub one_way: Option<Spanned<bool>>,
    /// Crash, dark: what becomes of unflushed bytes: `"lost"` (default), `"kept"` or `"torn"`.
    pub unflushed: Option<Spanned<String>>,
    /// Slow, slow-flush: percent of the usual time.
    pub percent: Option<Spanned<u32>>,
    /// Fail-flush: probability that a flush fails.
    pub probability: Option<Spanned<Share>>,
    /// Fail-flush: how often a failed flush leaves bytes on the disk all the same: as often all of them as a prefix.
    /// Default 50 %: nobody can tell.
    pub kept: Option<Spanned<Share>>,
    /// Flap: how long the link is down each time.
    pub down: Option<Spanned<Span>>,
    /// Flap: how long it works in between.
    pub up: Option<Spanned<Span>>,
    /// Degrade: added loss.
    pub loss: Option<Spanned<Share>>,
    /// Degrade: added duplication.
    pub duplicate: Option<Spanned<Share>>,
    /// Degrade: added reordering.
    pub reorder: Option<Spanned<Share>>,
    /// Degrade: added delay.
    pub latency: Option<Spanned<Span>>,
    /// Degrade: mean of the added jitter.
    pub jitter: Option<Spanned<Span>>,
    /// Degrade: bandwidth while it lasts.
    pub bandwidth: Option<Spanned<Bandwidth>>,
    /// Clock-step, clock-liar: by how much; may be negative.
    pub by: Option<Spanned<Span>>,
    /// Clock-drift, clock-liar: parts per million; may be negative.
    pub ppm: Option<Spanned<i32>>,
    /// Corrupt-read: the process on the machine, from 0. Default 0.
    pub port: Option<Spanned<u8>>,
    /// Corrupt-read: the file, from 0. Default 0.
    pub file: Option<Spanned<u8>>,
}

/// Bounds of swarm plans: what `ordain fuzz`, and `--swarm` elsewhere, may draw for this scenario. Every key has
/// a default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Swarm {
    /// The classes of fault that may strike, by name: see [`super::swarm::Class`]. Default: all of them but `clock-liar`.
    pub classes: Option<Vec<Spanned<String>>>,
    /// Classes that may not.
    #[serde(default)]
    pub without: Vec<Spanned<String>>,
    /// Probability that a class takes part in a run. Default `"50%"`.
    pub probability: Option<Share>,
    /// Most episodes of a class in a run. Default 3.
    pub episodes: Option<Spanned<u32>>,
    /// Longest episode. Default: a third of the safety phase.
    pub longest: Option<Spanned<Span>>,
    /// Whether each `[[fault]]` of this scenario is a class of its own, which takes part with the same
    /// probability. Default true; false: the scenario's faults do not strike swarm runs.
    pub own_faults: Option<bool>,
    /// Whether the workload's parameters are drawn as well (rate, skew, shares, rows, legs, sessions).
    /// Default true; false: as written.
    pub workload: Option<bool>,
    /// Share of runs in which the protocols' options are drawn as well, so that in the long run each value of each
    /// option meets each value of every other. An option that the scenario states stays as stated. Default `"0%"`.
    pub options: Option<Share>,
    /// Share of runs in which something stays broken for ever: a machine that is off, stands still or cannot write to its
    /// disk, a zone or a region without power, links that are cut (one way, too), flap, or lose messages. Default `"0%"`.
    pub permanent: Option<Share>,
    /// Most transactions in a run. Default: the workload's, at most 100, and at most as many as could pass one
    /// by one through a single row in half of the settle phase.
    pub transactions: Option<Spanned<u32>>,
    /// Whether the class `clock-liar` may strike, besides `classes`: clocks leave `machines.clock-bound` by up to ten times
    /// that much. Default false.
    pub clock_lies: Option<Spanned<bool>>,
}

/// A moment to aim a fault at.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Moment {
    /// The observation, as traces print it: `"voted"`, `"decided"`, `"log.became-leader"`, or a mark; or one
    /// of the world's: `"booted"`, `"flush.asked"`, `"flush.completed"`.
    pub observation: Spanned<String>,
    /// The machine whose observations count, as in `"east/front0"`. Default: every machine's.
    pub by: Option<Spanned<String>>,
    /// Watch from this time on. Default: from the start.
    pub from: Option<Spanned<Span>>,
    /// How many of them. Default 1.
    pub count: Option<Spanned<u32>>,
    /// Strike at this time if the moment has not come by then. Default: then never.
    pub latest: Option<Spanned<Span>>,
}

/// What a run of a protocol is expected to show. Where a scenario states it, meeting it is success.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expectation {
    /// The verdict of the whole run: `"kept"` (default), `"violation"`, or `"vacuous"` (nothing is put to the test).
    pub verdict: Option<String>,
    /// Properties by name, each `"held"`, `"broken"` or `"vacuous"`, promised or not.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}
