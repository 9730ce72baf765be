//! Checks that a workload asks for by name: what its transactions must find whatever the database is, and
//! anomalies that a pattern of operations shows without any order being inferred.
//!
//! All of them are sound: what they report happened. They are complete for the workload that they are named
//! after and say nothing about others, so each states what it looks at. Numbers in registers are two's complement.
//!
//! Sources: the bank, long-fork, causal-reverse and set workloads of Jepsen; Bailis et al., *Scalable Atomic
//! Visibility with RAMP Transactions* (SIGMOD 2014), for fractured reads; Terry et al., *Session Guarantees for
//! Weakly Consistent Replicated Data* (PDIS 1994); Garcia-Molina and Salem, *Sagas* (SIGMOD 1987).

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::explain::{self, Cast};
use super::{Anomaly, AnomalyKind, History, KeyId, Op, Status, Txn, TxnId};

/// A check of this module that takes no more than the history and, of seats, how many there are. (The bank, which
/// also needs to know its total, is [`Options::bank`](super::Options::bank).)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Property {
    /// [`long_fork`].
    LongFork,
    /// [`causal_reverse`].
    CausalReverse,
    /// [`fractured_reads`].
    ReadAtomicity,
    /// One of the guarantees of [`sessions`].
    MonotonicReads,
    /// One of the guarantees of [`sessions`].
    MonotonicWrites,
    /// One of the guarantees of [`sessions`].
    ReadYourWrites,
    /// One of the guarantees of [`sessions`].
    WritesFollowReads,
    /// [`seats`], of so many for each key.
    Seats(usize),
}

/// The text is not a property's name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown property {0:?}; one of: {names}", names = Property::NAMED.map(Property::name).join(", "))]
pub struct UnknownProperty(String);

impl FromStr for Property {
    type Err = UnknownProperty;

    fn from_str(text: &str) -> Result<Self, UnknownProperty> {
        let mut named = Property::NAMED.into_iter();
        let found = named.find(|property| property.name() == text);
        found.ok_or_else(|| UnknownProperty(text.into()))
    }
}

/// A history in which nothing is of the sort that the property speaks of.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("nothing to judge by {name}: it looks at {looks_at}, and this history holds none", name = .0.name(), looks_at = .0.looks_at())]
pub struct Unfit(Property);

impl Property {
    /// Those that are asked for by name alone.
    pub const NAMED: [Property; 7] = [
        Property::LongFork,
        Property::CausalReverse,
        Property::ReadAtomicity,
        Property::MonotonicReads,
        Property::MonotonicWrites,
        Property::ReadYourWrites,
        Property::WritesFollowReads,
    ];

    /// The name, as it is written in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Property::LongFork => "long-fork",
            Property::CausalReverse => "causal-reverse",
            Property::ReadAtomicity => "read-atomicity",
            Property::MonotonicReads => "monotonic-reads",
            Property::MonotonicWrites => "monotonic-writes",
            Property::ReadYourWrites => "read-your-writes",
            Property::WritesFollowReads => "writes-follow-reads",
            Property::Seats(_) => "seats",
        }
    }

    /// What the property is judged by.
    pub fn looks_at(self) -> &'static str {
        match self {
            Property::LongFork | Property::CausalReverse => {
                "committed transactions that read two registers, each written by one other transaction"
            }
            Property::ReadAtomicity => "committed transactions that read two keys",
            Property::Seats(_) => "lists that committed transactions read",
            _ => "lists that committed transactions read, by session",
        }
    }

    /// Judges a history: how much of it the property looks at, and what breaks it.
    ///
    /// # Errors
    /// If it looks at nothing, for then it would hold of any database.
    pub fn judge(self, history: &History) -> Result<(u64, Vec<Anomaly>), Unfit> {
        let judged = self.chances(history);
        if judged == 0 {
            return Err(Unfit(self));
        }
        let of_session = |kind: AnomalyKind| {
            let mut found = sessions(history);
            found.retain(|anomaly| anomaly.kind == kind);
            found
        };
        let found = match self {
            Property::LongFork => long_fork(history),
            Property::CausalReverse => causal_reverse(history),
            Property::ReadAtomicity => fractured_reads(history),
            Property::MonotonicReads => of_session(AnomalyKind::NonMonotonicRead),
            Property::MonotonicWrites => of_session(AnomalyKind::NonMonotonicWrite),
            Property::ReadYourWrites => of_session(AnomalyKind::ReadYourWritesViolation),
            Property::WritesFollowReads => of_session(AnomalyKind::WritesFollowReadsViolation),
            Property::Seats(capacity) => seats(history, capacity),
        };
        Ok((judged, found))
    }

    /// How many committed transactions it looks at.
    fn chances(self, history: &History) -> u64 {
        let once = written_once(history);
        let counts = |txn: &Txn<'_>| match self {
            Property::LongFork | Property::CausalReverse => {
                let (seen, unseen) = seen_and_unseen(history, &once, txn);
                seen.len() + unseen.len() > 1
            }
            Property::ReadAtomicity => register_reads(txn).len() + list_reads(txn).len() > 1,
            _ => !list_reads(txn).is_empty(),
        };
        committed(history).filter(counts).count() as u64
    }
}

fn committed(history: &History) -> impl Iterator<Item = Txn<'_>> {
    history.txns().filter(|txn| txn.header.status == Status::Ok)
}

/// The first read of each register, where it precedes the transaction's own writes to it.
fn register_reads(txn: &Txn<'_>) -> BTreeMap<KeyId, Option<u64>> {
    let mut reads = BTreeMap::new();
    let mut written = BTreeSet::new();
    for op in txn.ops() {
        match op {
            Op::Read { key, value } if !written.contains(&key) => {
                reads.entry(key).or_insert(value);
            }
            Op::Write { key, .. } | Op::Cas { key, .. } => {
                written.insert(key);
            }
            _ => {}
        }
    }
    reads
}

/// The first read of each list, where it precedes the transaction's own appends to it.
fn list_reads<'a>(txn: &Txn<'a>) -> BTreeMap<KeyId, &'a [u64]> {
    let mut reads = BTreeMap::new();
    let mut written = BTreeSet::new();
    for op in txn.ops() {
        match op {
            Op::ReadList { key, list } if !written.contains(&key) => {
                reads.entry(key).or_insert(list);
            }
            Op::Append { key, .. } => {
                written.insert(key);
            }
            _ => {}
        }
    }
    reads
}

/// Who wrote or appended a value, where only one transaction did.
fn only_writers(history: &History) -> BTreeMap<(KeyId, u64), TxnId> {
    let mut writers = BTreeMap::<(KeyId, u64), Option<TxnId>>::new();
    for txn in history.txns() {
        for op in txn.ops() {
            if let Op::Write { key, value } | Op::Append { key, value } = op {
                let first = writers.entry((key, value)).or_insert(Some(txn.id));
                *first = first.filter(|&id| id == txn.id);
            }
        }
    }
    writers
        .into_iter()
        .filter_map(|(version, id)| Some((version, id?)))
        .collect()
}

/// What came of judging a bank.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BankAudit {
    /// What is wrong.
    pub anomalies: Vec<Anomaly>,
    /// How many reads were compared with the total.
    pub judged: u64,
    /// How many committed transactions read some accounts and not all, so that their sum says nothing.
    pub partial: u64,
}

/// Bank: money moves between accounts, so that all of them always sum up to the same.
///
/// Two kinds of committed transactions are judged. Some read the balances as a map, which must have all accounts: an account
/// without a balance is an anomaly, as in Jepsen. Others read all these accounts (keys as the client names them) before they
/// wrote any: an account that was never written holds zero. With `overdraft`, balances may be below zero.
pub fn bank(history: &History, accounts: &[u64], total: i64, overdraft: bool) -> BankAudit {
    let names: BTreeSet<u64> = accounts.iter().copied().collect();
    let mut audit = BankAudit::default();
    for txn in committed(history) {
        let is_map = history.balances().contains(&txn.id);
        let mut balances = register_reads(&txn);
        balances.retain(|&key, _| names.contains(&history.key_value(key)));
        let is_whole = is_map || !names.is_empty() && balances.len() == names.len();
        if !is_whole && balances.is_empty() {
            continue;
        }
        let mut report = |kind: AnomalyKind, key: Option<KeyId>, text: &str| {
            let cast = Cast::of([txn.id]);
            audit
                .anomalies
                .push(explain::fact(history, kind, key, cast, text));
        };
        let name = Cast::default().name(txn.id);
        let amount =
            |value: Option<u64>| value.map_or(Some(0), |value| history.signed_value(value));
        let mut sum = 0i128;
        let (mut lacks, mut below_zero) = (None, None);
        for (&key, &value) in &balances {
            match amount(value) {
                None => lacks = lacks.or(Some(key)),
                Some(_) if is_map && value.is_none() => lacks = lacks.or(Some(key)),
                Some(amount) => {
                    sum += i128::from(amount);
                    below_zero = below_zero.or((amount < 0).then_some((key, amount)));
                }
            }
        }
        if is_whole {
            audit.judged += 1;
        } else {
            audit.partial += 1;
        }
        if let (Some(key), true) = (lacks, is_whole) {
            let account = history.show_key(key);
            let text = format!("{name} found no balance in account {account}.");
            report(AnomalyKind::NilBalance, Some(key), &text);
        } else if is_whole && sum != i128::from(total) {
            let read = match balances.len() == names.len() {
                true => "read all accounts".to_owned(),
                false => format!("read {} of {} accounts", balances.len(), names.len()),
            };
            let text = format!("{name} {read} and found {sum} in them instead of {total}.");
            report(AnomalyKind::WrongTotal, None, &text);
        }
        if let (Some((key, amount)), false) = (below_zero, overdraft) {
            let account = history.show_key(key);
            let text = format!("{name} found {amount} in account {account}.");
            report(AnomalyKind::NegativeBalance, Some(key), &text);
        }
    }
    audit
}

/// Seats: each sale appends the buyer to the list of what is sold, of which there are `capacity` for each key.
///
/// No committed transaction may read more than were there, and each read that began after a sale was
/// acknowledged must hold it.
pub fn seats(history: &History, capacity: usize) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let mut sales = BTreeMap::<KeyId, Vec<(u64, u64, TxnId)>>::new();
    for txn in committed(history) {
        for op in txn.ops() {
            if let Op::Append { key, value } = op {
                sales
                    .entry(key)
                    .or_default()
                    .push((txn.header.complete, value, txn.id));
            }
        }
    }
    sales.values_mut().for_each(|sold| sold.sort_unstable());
    for txn in committed(history) {
        for (key, list) in list_reads(&txn) {
            let (mut cast, seats) = (Cast::of([txn.id]), history.show_key(key));
            let name = cast.name(txn.id);
            if list.len() > capacity {
                let text = format!(
                    "{name} found {} sold of {seats}, which holds {capacity}.",
                    list.len()
                );
                anomalies.push(explain::fact(
                    history,
                    AnomalyKind::Oversold,
                    Some(key),
                    cast,
                    &text,
                ));
                continue;
            }
            let sold = sales.get(&key).map_or(&[][..], Vec::as_slice);
            let acknowledged = sold.partition_point(|&(complete, ..)| complete < txn.header.invoke);
            let held: BTreeSet<u64> = list.iter().copied().collect();
            let lost = sold[..acknowledged]
                .iter()
                .find(|(_, buyer, _)| !held.contains(buyer));
            if let Some(&(_, buyer, sale)) = lost {
                let seller = cast.name(sale);
                let buyer = history.show_value(buyer);
                let text = format!(
                    "{seller} had sold {seats} to {buyer} when {name} began, which did not find that sale."
                );
                anomalies.push(explain::fact(
                    history,
                    AnomalyKind::LostElement,
                    Some(key),
                    cast,
                    &text,
                ));
            }
        }
    }
    anomalies
}

/// The keys that only one transaction wrote, and which one.
fn written_once(history: &History) -> BTreeMap<KeyId, TxnId> {
    let mut writers = BTreeMap::<KeyId, Option<TxnId>>::new();
    for txn in history.txns().filter(Txn::may_have_happened) {
        for op in txn.ops() {
            if let Op::Write { key, .. } | Op::Cas { key, .. } = op {
                let first = writers.entry(key).or_insert(Some(txn.id));
                *first = first.filter(|&id| id == txn.id);
            }
        }
    }
    writers
        .into_iter()
        .filter_map(|(key, id)| Some((key, id?)))
        .collect()
}

/// Of the keys that one transaction wrote: those of which a reader saw that write, and those that it found in their
/// initial state. Neither, if it is the writer.
fn seen_and_unseen(
    history: &History,
    once: &BTreeMap<KeyId, TxnId>,
    reader: &Txn<'_>,
) -> (Vec<KeyId>, Vec<KeyId>) {
    let wrote = |id: TxnId, key: KeyId, value: u64| {
        history.txn(id).ops().any(|op| match op {
            Op::Write { key: k, value: v } | Op::Cas { key: k, new: v, .. } => {
                (k, v) == (key, value)
            }
            _ => false,
        })
    };
    let (mut seen, mut unseen) = (Vec::new(), Vec::new());
    for (key, value) in register_reads(reader) {
        match (once.get(&key), value) {
            (Some(&writer), _) if writer == reader.id => {}
            (Some(_), None) => unseen.push(key),
            (Some(&writer), Some(value)) if wrote(writer, key, value) => seen.push(key),
            _ => {}
        }
    }
    (seen, unseen)
}

/// Long fork: two readers that saw two writes in opposite orders.
///
/// Looks at registers that one transaction wrote, in reads by others; one report for each pair of keys.
pub fn long_fork(history: &History) -> Vec<Anomaly> {
    let once = written_once(history);
    let mut saw_first_only = BTreeMap::<(KeyId, KeyId), TxnId>::new();
    let mut reported = BTreeSet::new();
    let mut anomalies = Vec::new();
    for txn in committed(history) {
        let (seen, unseen) = seen_and_unseen(history, &once, &txn);
        for &one in &seen {
            for &other in &unseen {
                saw_first_only.entry((one, other)).or_insert(txn.id);
                let Some(&opposite) = saw_first_only.get(&(other, one)) else {
                    continue;
                };
                if !reported.insert((one.min(other), one.max(other))) {
                    continue;
                }
                let mut cast = Cast::of([opposite, txn.id, once[&one], once[&other]]);
                let (a, b) = (cast.name(opposite), cast.name(txn.id));
                let (first, second) = (history.show_key(other), history.show_key(one));
                let text = format!(
                    "{a} saw the write of {first} and not that of {second}, so {first} was written first; \
                     {b} saw the write of {second} and not that of {first}: a contradiction!"
                );
                anomalies.push(explain::fact(
                    history,
                    AnomalyKind::LongFork,
                    None,
                    cast,
                    &text,
                ));
            }
        }
    }
    anomalies
}

/// Causal reverse: a reader that saw a write and not one that had completed before it was invoked.
///
/// Looks at registers that one transaction wrote, in reads by others; one report for each reader.
pub fn causal_reverse(history: &History) -> Vec<Anomaly> {
    let once = written_once(history);
    let mut anomalies = Vec::new();
    for txn in committed(history) {
        let (seen, unseen) = seen_and_unseen(history, &once, &txn);
        let writer = |key: KeyId| (history.header(once[&key]), once[&key], key);
        let unseen = unseen.into_iter().map(writer);
        let certain = unseen.filter(|(header, ..)| header.status == Status::Ok);
        let earliest = certain.min_by_key(|(header, ..)| header.complete);
        let latest = seen.into_iter().map(writer);
        let latest = latest.max_by_key(|(header, ..)| header.invoke);
        let (Some((early, first, missing)), Some((late, second, found))) = (earliest, latest)
        else {
            continue;
        };
        if early.complete < late.invoke {
            let mut cast = Cast::of([first, second, txn.id]);
            let (a, b, reader) = (cast.name(first), cast.name(second), cast.name(txn.id));
            let text = format!(
                "{a} completed before {b} was invoked; {reader} saw {b}'s write of {} and not {a}'s of {}.",
                history.show_key(found),
                history.show_key(missing)
            );
            anomalies.push(explain::fact(
                history,
                AnomalyKind::CausalReverse,
                Some(missing),
                cast,
                &text,
            ));
        }
    }
    anomalies
}

/// Read atomicity: a transaction that saw one of another's writes and, of another key, a version from before it.
///
/// Looks at lists (the element is missing), and at registers where the version read is plainly older: the initial
/// one, or one that the writer itself had read.
pub fn fractured_reads(history: &History) -> Vec<Anomaly> {
    let writers = only_writers(history);
    let mut anomalies = Vec::new();
    for txn in committed(history) {
        let (registers, lists) = (register_reads(&txn), list_reads(&txn));
        let versions = registers
            .iter()
            .filter_map(|(&key, &value)| Some((key, value?)));
        let elements = lists
            .iter()
            .flat_map(|(&key, list)| list.iter().map(move |&v| (key, v)));
        let mut judged = BTreeSet::from([txn.id]);
        for (seen_key, value) in versions.chain(elements) {
            let Some(&writer) = writers.get(&(seen_key, value)) else {
                continue;
            };
            if !judged.insert(writer) {
                continue;
            }
            let Some(missed) = missed_key(&history.txn(writer), &registers, &lists) else {
                continue;
            };
            let mut cast = Cast::of([writer, txn.id]);
            let (a, b) = (cast.name(writer), cast.name(txn.id));
            let (seen, missed_name) = (history.show_key(seen_key), history.show_key(missed));
            let text = format!(
                "{b} saw {a}'s write of {seen}, and {missed_name} as it was before {a} wrote it."
            );
            anomalies.push(explain::fact(
                history,
                AnomalyKind::FracturedRead,
                Some(missed),
                cast,
                &text,
            ));
        }
    }
    anomalies
}

/// A key that the writer wrote and that was read as it had been before.
fn missed_key(
    writer: &Txn<'_>,
    registers: &BTreeMap<KeyId, Option<u64>>,
    lists: &BTreeMap<KeyId, &[u64]>,
) -> Option<KeyId> {
    let replaced = register_reads(writer);
    writer.ops().find_map(|op| match op {
        Op::Append { key, value } => lists
            .get(&key)
            .filter(|list| !list.contains(&value))
            .map(|_| key),
        Op::Write { key, .. } => {
            let read = registers.get(&key)?;
            (read.is_none() || replaced.get(&key) == Some(read)).then_some(key)
        }
        _ => None,
    })
}

/// The elements of one list that somebody read, by their first place in it. Lists that are prefixes of one
/// another share their elements, so one index serves all of them.
type Places = BTreeMap<u64, usize>;

/// Where the elements of a read begin in memory: the same for reads that are prefixes of one another.
type Trunk = (KeyId, *const u64);

fn trunk(key: KeyId, list: &[u64]) -> Trunk {
    match list.is_empty() {
        true => (key, std::ptr::null()),
        false => (key, list.as_ptr()),
    }
}

/// Is the one list a prefix of the other? Without looking at the elements, if they share them.
fn is_prefix(short: &[u64], long: &[u64]) -> bool {
    let shared = short.as_ptr() == long.as_ptr() && short.len() <= long.len();
    shared || long.starts_with(short)
}

/// What a session (a process) has done to a list so far.
#[derive(Default)]
struct Session<'a> {
    /// What it read, but for prefixes of other reads of it.
    reads: Vec<(&'a [u64], TxnId)>,
    /// What it appended, as far as it is known to have committed.
    appended: Vec<(u64, TxnId)>,
    /// So many of `appended` are known to be in this read.
    held: (usize, &'a [u64]),
}

/// What an element must come after wherever it is seen.
struct Demand<'a> {
    /// The element that its session had appended before it, which in turn comes after those before.
    append: Option<(u64, TxnId)>,
    /// What its session had read before.
    reads: Vec<(&'a [u64], TxnId)>,
}

/// An element that comes without, or before, one that it must follow.
#[derive(Clone, Copy)]
struct Misplaced {
    place: usize,
    value: u64,
    needed: u64,
    /// The transaction that appended or read what was needed.
    why: TxnId,
}

/// The first misplaced elements of a list, of either guarantee.
#[derive(Clone, Copy, Default)]
struct Flaws {
    writes: Option<Misplaced>,
    follow_reads: Option<Misplaced>,
}

/// The four session guarantees, on lists: there a read shows the versions before it, in their order.
///
/// A session is a process: the operations of its committed transactions, in the order of invocation. Key by key,
/// after Terry et al., section 3:
/// - *monotonic reads*: a read extends every earlier read of its session;
/// - *read your writes*: it holds every element that its session appended before;
/// - *monotonic writes*: wherever an element is read, those that its session had appended before come before it;
/// - *writes follow reads*: so do those that its session had read before.
///
/// An append of unknown fate that somebody saw must follow what was before it; nothing need follow it. Elements that two
/// transactions appended prove nothing of the last two. One report for each guarantee, reader (first among the
/// anomaly's transactions) and key.
pub fn sessions(history: &History) -> Vec<Anomaly> {
    let mut order: Vec<Txn<'_>> = history.txns().filter(Txn::may_have_happened).collect();
    order.sort_by_key(|txn| (txn.header.invoke, txn.id));
    let longest = longest_reads(history);
    let places: BTreeMap<Trunk, Places> = longest
        .iter()
        .map(|(&at, list)| (at, first_places(list)))
        .collect();
    let (mut sessions, mut demands) = (BTreeMap::new(), BTreeMap::new());
    let mut found = Vec::new();
    for txn in &order {
        for op in txn.ops() {
            let session: &mut Session<'_> =
                sessions.entry((txn.header.process, op.key())).or_default();
            match op {
                Op::ReadList { key, list } if txn.header.status == Status::Ok => {
                    let places = &places[&trunk(key, list)];
                    found.extend(session.judge(history, txn.id, key, list, places));
                }
                Op::Append { key, value } => {
                    demands.entry((key, value)).or_insert(Demand {
                        append: session.appended.last().copied(),
                        reads: session.reads.clone(),
                    });
                    if txn.header.status == Status::Ok {
                        session.appended.push((value, txn.id));
                    }
                }
                _ => {}
            }
        }
    }
    found.extend(misplaced_elements(history, &longest, &places, &demands));
    let mut reported = BTreeSet::new();
    found.retain(|anomaly: &Anomaly| {
        reported.insert((anomaly.kind, anomaly.transactions[0], anomaly.key.clone()))
    });
    found
}

/// The longest read of each family of reads that share their elements.
fn longest_reads(history: &History) -> BTreeMap<Trunk, &[u64]> {
    let mut longest = BTreeMap::new();
    for txn in committed(history) {
        for op in txn.ops() {
            if let Op::ReadList { key, list } = op {
                let known: &mut &[u64] = longest.entry(trunk(key, list)).or_default();
                if known.len() < list.len() {
                    *known = list;
                }
            }
        }
    }
    longest
}

fn first_places(list: &[u64]) -> Places {
    let mut places = Places::new();
    for (place, &value) in list.iter().enumerate() {
        places.entry(value).or_insert(place);
    }
    places
}

impl<'a> Session<'a> {
    /// Judges a read by what the session did before it, and remembers it. `places` are those of all lists that
    /// share this one's elements.
    fn judge(
        &mut self,
        history: &History,
        reader: TxnId,
        key: KeyId,
        list: &'a [u64],
        places: &Places,
    ) -> Vec<Anomaly> {
        let anomalies = [
            self.went_back(history, reader, key, list),
            self.lacks_own(history, reader, key, list, places),
        ];
        self.reads.retain(|(read, _)| !is_prefix(read, list));
        if !self.reads.iter().any(|(read, _)| is_prefix(list, read)) {
            self.reads.push((list, reader));
        }
        anomalies.into_iter().flatten().collect()
    }

    fn went_back(
        &self,
        history: &History,
        reader: TxnId,
        key: KeyId,
        list: &[u64],
    ) -> Option<Anomaly> {
        let (read, earlier) = *self.reads.iter().find(|(read, _)| !is_prefix(read, list))?;
        let mut cast = Cast::of([reader, earlier]);
        let (a, b) = (cast.name(earlier), cast.name(reader));
        let (old, new) = (explain::list(history, read), explain::list(history, list));
        let name = history.show_key(key);
        let text = format!(
            "One session read {name} as {old} in {a} and then as {new} in {b}, which does not extend it."
        );
        let kind = AnomalyKind::NonMonotonicRead;
        Some(explain::fact(history, kind, Some(key), cast, &text))
    }

    fn lacks_own(
        &mut self,
        history: &History,
        reader: TxnId,
        key: KeyId,
        list: &'a [u64],
        places: &Places,
    ) -> Option<Anomaly> {
        let known = is_prefix(self.held.1, list).then_some(self.held.0);
        let known = known.unwrap_or(0);
        let holds = |value: u64| places.get(&value).is_some_and(|&place| place < list.len());
        let missing = self.appended[known..]
            .iter()
            .find(|&&(value, _)| !holds(value));
        let Some(&(value, writer)) = missing else {
            self.held = (self.appended.len(), list);
            return None;
        };
        let mut cast = Cast::of([reader, writer]);
        let (a, b) = (cast.name(writer), cast.name(reader));
        let (value, name) = (history.show_value(value), history.show_key(key));
        let text = format!(
            "One session appended {value} to {name} in {a}, and then did not find it in {b}."
        );
        let kind = AnomalyKind::ReadYourWritesViolation;
        Some(explain::fact(history, kind, Some(key), cast, &text))
    }
}

/// The reads of misplaced elements, in the order of the readers' ids.
fn misplaced_elements(
    history: &History,
    longest: &BTreeMap<Trunk, &[u64]>,
    places: &BTreeMap<Trunk, Places>,
    demands: &BTreeMap<(KeyId, u64), Demand<'_>>,
) -> Vec<Anomaly> {
    let writers = only_writers(history);
    let known = |key, value| {
        let demand = demands.get(&(key, value));
        demand.filter(|_| writers.contains_key(&(key, value)))
    };
    let flaws: BTreeMap<Trunk, Flaws> = longest
        .iter()
        .map(|(&at, list)| (at, flaws(list, &places[&at], |value| known(at.0, value))))
        .collect();
    let mut anomalies = Vec::new();
    for txn in committed(history) {
        for op in txn.ops() {
            let Op::ReadList { key, list } = op else {
                continue;
            };
            let Flaws {
                writes,
                follow_reads,
            } = flaws[&trunk(key, list)];
            let both = [
                (writes, AnomalyKind::NonMonotonicWrite, "appended"),
                (
                    follow_reads,
                    AnomalyKind::WritesFollowReadsViolation,
                    "read",
                ),
            ];
            for (flaw, kind, did) in both {
                let Some(flaw) = flaw.filter(|flaw| flaw.place < list.len()) else {
                    continue;
                };
                let writer = writers[&(key, flaw.value)];
                let mut cast = Cast::of([txn.id, flaw.why, writer]);
                let (a, b, c) = (cast.name(flaw.why), cast.name(writer), cast.name(txn.id));
                let (needed, value) = (
                    history.show_value(flaw.needed),
                    history.show_value(flaw.value),
                );
                let text = format!(
                    "A session {did} {needed} in {a} and then appended {value} in {b}; {c} found {value} with no \
                     {needed} before it."
                );
                anomalies.push(explain::fact(history, kind, Some(key), cast, &text));
            }
        }
    }
    anomalies
}

/// The first elements of a list that come without, or before, one that they must follow.
fn flaws<'a, 'd: 'a>(
    list: &[u64],
    places: &Places,
    demand: impl Fn(u64) -> Option<&'a Demand<'d>>,
) -> Flaws {
    let mut flaws = Flaws::default();
    for (place, &value) in list.iter().enumerate() {
        let Some(demand) = demand(value).filter(|_| places[&value] == place) else {
            continue;
        };
        let late = |needed: u64| places.get(&needed).is_none_or(|&at| at > place);
        let misplaced = |needed, why| Misplaced {
            place,
            value,
            needed,
            why,
        };
        let append = demand.append.filter(|&(needed, _)| late(needed));
        flaws.writes = flaws
            .writes
            .or_else(|| append.map(|(needed, why)| misplaced(needed, why)));
        let mut unfollowed = demand.reads.iter().filter_map(|&(read, why)| {
            let needed = match is_prefix(read, &list[..place]) {
                true => None,
                false => read.iter().find(|&&needed| late(needed)),
            };
            Some(misplaced(*needed?, why))
        });
        flaws.follow_reads = flaws.follow_reads.or_else(|| unfollowed.next());
    }
    flaws
}

/// A saga: the transactions that are its steps, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Saga {
    /// The steps that did the work.
    pub steps: Vec<TxnId>,
    /// The steps that took it back; none, if the saga completed.
    pub compensations: Vec<TxnId>,
}

impl Saga {
    /// The last of its transactions, compensations included, that wrote the key.
    fn last_writer(&self, history: &History, key: KeyId) -> Option<TxnId> {
        let all = self.steps.iter().chain(&self.compensations).rev().copied();
        all.filter(|&id| history.header(id).status != Status::Fail)
            .find(|&id| writes(&history.txn(id), key))
    }
}

fn writes(txn: &Txn<'_>, key: KeyId) -> bool {
    txn.ops().any(|op| {
        op.key() == key && matches!(op, Op::Write { .. } | Op::Append { .. } | Op::Cas { .. })
    })
}

/// Sagas judged as if each were one transaction, which it does not promise to be: this says what the steps'
/// being visible did. That each step is a transaction is for [`check`](super::check) to say, on the same history.
///
/// A read by somebody else of a version that a step wrote is G1a if the saga was compensated later, G1b if it
/// completed and wrote that key again. A reader of the first sort that wrote the key built on it: a dirty
/// update. Versions are registers' values and the last elements of lists, written by one transaction.
pub fn sagas(history: &History, sagas: &[Saga]) -> Vec<Anomaly> {
    let writers = only_writers(history);
    let mut saga_of = BTreeMap::<TxnId, usize>::new();
    for (at, saga) in sagas.iter().enumerate() {
        saga_of.extend(
            saga.steps
                .iter()
                .chain(&saga.compensations)
                .map(|&id| (id, at)),
        );
    }
    let mut anomalies = Vec::new();
    for txn in committed(history) {
        let registers = register_reads(&txn)
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        let lists = list_reads(&txn)
            .into_iter()
            .filter_map(|(key, list)| Some((key, *list.last()?)));
        for (key, value) in registers.chain(lists) {
            let Some(&writer) = writers.get(&(key, value)) else {
                continue;
            };
            let Some(&at) = saga_of.get(&writer) else {
                continue;
            };
            if saga_of.get(&txn.id) != Some(&at) {
                anomalies.extend(intermediate(history, &sagas[at], writer, &txn, key, value));
            }
        }
    }
    anomalies
}

/// What is wrong with a foreign transaction's read of a version that one of the saga's transactions wrote.
fn intermediate(
    history: &History,
    saga: &Saga,
    writer: TxnId,
    reader: &Txn<'_>,
    key: KeyId,
    value: u64,
) -> Vec<Anomaly> {
    let mut cast = Cast::of([writer, reader.id]);
    let (a, b) = (cast.name(writer), cast.name(reader.id));
    let version = format!("{}={}", history.show_key(key), history.show_value(value));
    let last = saga.last_writer(history, key);
    if let (true, Some(&undo)) = (saga.steps.contains(&writer), saga.compensations.last()) {
        let c = cast.name(undo);
        let text =
            format!("{b} read {version}, which {a} wrote, a step of a saga that {c} compensated.");
        let kind = AnomalyKind::G1a;
        let mut found = vec![explain::fact(history, kind, Some(key), cast, &text)];
        if writes(reader, key) {
            let text = format!(
                "{b} read {version}, wrote the key on that ground, and {c} compensated the saga of {a}."
            );
            let cast = Cast::of([writer, reader.id, undo]);
            let kind = AnomalyKind::DirtyUpdate;
            found.push(explain::fact(history, kind, Some(key), cast, &text));
        }
        return found;
    }
    match last {
        Some(last) if last != writer => {
            let c = cast.name(last);
            let text = format!(
                "{b} read {version}, which {a} wrote; {c}, of the same saga, wrote the key again."
            );
            vec![explain::fact(
                history,
                AnomalyKind::G1b,
                Some(key),
                cast,
                &text,
            )]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::HistoryBuilder;
    use super::*;

    enum Do<'a> {
        W(u64, i64),
        R(u64, Option<i64>),
        A(u64, u64),
        L(u64, &'a [u64]),
    }
    use Do::*;

    /// Transactions (process, invocation, completion, operations), all committed.
    fn history(txns: &[(u64, u64, u64, &[Do<'_>])]) -> History {
        let mut builder = HistoryBuilder::new();
        for (process, invoke, complete, ops) in txns {
            builder.begin(*process, *invoke);
            for op in *ops {
                match op {
                    W(key, value) => builder.write(*key, *value as u64),
                    R(key, value) => builder.read(*key, value.map(|v| v as u64)),
                    A(key, value) => builder.append(*key, *value),
                    L(key, list) => builder.read_list(*key, list),
                }
            }
            builder.end(Status::Ok, Some(*complete));
        }
        builder.finish()
    }

    fn kinds(anomalies: &[Anomaly]) -> Vec<AnomalyKind> {
        anomalies.iter().map(|anomaly| anomaly.kind).collect()
    }

    #[test]
    fn bank_finds_missing_money_and_debts_and_accepts_a_transfer() {
        let transfer = history(&[
            (0, 0, 1, &[R(1, Some(6)), R(2, Some(4)), W(1, 3), W(2, 7)]),
            (1, 2, 3, &[R(1, Some(3)), R(2, Some(7))]),
            (2, 2, 3, &[R(1, Some(99))]), // not all accounts: says nothing
        ]);
        assert_eq!(bank(&transfer, &[1, 2], 10, false).anomalies, []);
        assert_eq!(bank(&transfer, &[1, 2], 10, false).partial, 1);
        let lost = history(&[(0, 0, 1, &[R(1, Some(3)), R(2, Some(6))])]);
        assert_eq!(
            kinds(&bank(&lost, &[1, 2], 10, false).anomalies),
            [AnomalyKind::WrongTotal]
        );
        let debt = history(&[(0, 0, 1, &[R(1, Some(-1)), R(2, Some(11))])]);
        assert_eq!(
            kinds(&bank(&debt, &[1, 2], 10, false).anomalies),
            [AnomalyKind::NegativeBalance]
        );
        assert_eq!(bank(&debt, &[1, 2], 10, true).anomalies, []);
    }

    #[test]
    fn seats_finds_one_sold_twice_and_a_lost_sale_and_accepts_a_concurrent_one() {
        let twice = history(&[
            (0, 0, 1, &[A(1, 7)]),
            (1, 0, 1, &[A(1, 8)]),
            (2, 2, 3, &[L(1, &[7, 8])]),
        ]);
        assert_eq!(kinds(&seats(&twice, 1)), [AnomalyKind::Oversold]);
        assert!(seats(&twice, 2).is_empty());
        let lost = history(&[(0, 0, 1, &[A(1, 7)]), (2, 2, 3, &[L(1, &[])])]);
        assert_eq!(kinds(&seats(&lost, 1)), [AnomalyKind::LostElement]);
        let concurrent = history(&[(0, 0, 2, &[A(1, 7)]), (2, 2, 3, &[L(1, &[])])]);
        assert!(seats(&concurrent, 1).is_empty());
    }

    #[test]
    fn long_fork_needs_opposite_orders() {
        let write: [(u64, u64, u64, &[Do<'_>]); 2] = [(0, 0, 9, &[W(1, 1)]), (1, 0, 9, &[W(2, 1)])];
        let [x, y] = write;
        let fork = history(&[
            x,
            y,
            (2, 0, 9, &[R(1, Some(1)), R(2, None)]),
            (3, 0, 9, &[R(1, None), R(2, Some(1))]),
        ]);
        assert_eq!(kinds(&long_fork(&fork)), [AnomalyKind::LongFork]);
        let [x, y]: [(u64, u64, u64, &[Do<'_>]); 2] =
            [(0, 0, 9, &[W(1, 1)]), (1, 0, 9, &[W(2, 1)])];
        let same = history(&[
            x,
            y,
            (2, 0, 9, &[R(1, Some(1)), R(2, None)]),
            (3, 0, 9, &[R(1, Some(1)), R(2, Some(1))]),
        ]);
        assert!(long_fork(&same).is_empty());
    }

    #[test]
    fn causal_reverse_needs_the_missing_write_to_have_completed() {
        let reads: &[Do<'_>] = &[R(1, None), R(2, Some(1))];
        let reverse = history(&[
            (0, 0, 1, &[W(1, 1)]),
            (1, 2, 3, &[W(2, 1)]),
            (2, 0, 9, reads),
        ]);
        assert_eq!(
            kinds(&causal_reverse(&reverse)),
            [AnomalyKind::CausalReverse]
        );
        let concurrent = history(&[
            (0, 0, 2, &[W(1, 1)]),
            (1, 2, 3, &[W(2, 1)]),
            (2, 0, 9, reads),
        ]);
        assert!(causal_reverse(&concurrent).is_empty());
    }

    #[test]
    fn fractured_reads_are_found_in_lists_and_registers_and_unknown_orders_are_not() {
        let lists = history(&[
            (0, 0, 1, &[A(1, 7), A(2, 7)]),
            (1, 0, 9, &[L(1, &[7]), L(2, &[])]),
        ]);
        assert_eq!(
            kinds(&fractured_reads(&lists)),
            [AnomalyKind::FracturedRead]
        );
        let initial = history(&[
            (0, 0, 1, &[W(1, 7), W(2, 7)]),
            (1, 0, 9, &[R(1, Some(7)), R(2, None)]),
        ]);
        assert_eq!(
            kinds(&fractured_reads(&initial)),
            [AnomalyKind::FracturedRead]
        );
        let replaced = history(&[
            (2, 0, 1, &[W(2, 3)]),
            (0, 2, 3, &[R(2, Some(3)), W(1, 7), W(2, 7)]),
            (1, 0, 9, &[R(1, Some(7)), R(2, Some(3))]),
        ]);
        assert_eq!(
            kinds(&fractured_reads(&replaced)),
            [AnomalyKind::FracturedRead]
        );
        let maybe_newer = history(&[
            (2, 0, 1, &[W(2, 3)]),
            (0, 0, 3, &[W(1, 7), W(2, 7)]),
            (1, 0, 9, &[R(1, Some(7)), R(2, Some(3))]),
        ]);
        assert!(fractured_reads(&maybe_newer).is_empty());
    }

    #[test]
    fn each_session_guarantee_is_told_from_the_others() {
        let back = history(&[
            (9, 0, 1, &[A(1, 7)]),
            (0, 2, 3, &[L(1, &[7])]),
            (0, 4, 5, &[L(1, &[])]),
        ]);
        assert_eq!(kinds(&sessions(&back)), [AnomalyKind::NonMonotonicRead]);
        let own = history(&[(0, 0, 1, &[A(1, 7)]), (0, 2, 3, &[L(1, &[])])]);
        assert_eq!(
            kinds(&sessions(&own)),
            [AnomalyKind::ReadYourWritesViolation]
        );
        let writes = history(&[
            (0, 0, 1, &[A(1, 7)]),
            (0, 2, 3, &[A(1, 8)]),
            (1, 4, 5, &[L(1, &[8, 7])]),
        ]);
        assert_eq!(kinds(&sessions(&writes)), [AnomalyKind::NonMonotonicWrite]);
        let follows = history(&[
            (9, 0, 1, &[A(1, 7)]),
            (0, 2, 3, &[L(1, &[7])]),
            (0, 4, 5, &[A(1, 8)]),
            (1, 6, 7, &[L(1, &[8, 7])]),
        ]);
        assert_eq!(
            kinds(&sessions(&follows)),
            [AnomalyKind::WritesFollowReadsViolation]
        );
        let other_process = history(&[
            (9, 0, 1, &[A(1, 7)]),
            (0, 2, 3, &[L(1, &[7])]),
            (1, 4, 5, &[L(1, &[])]), // stale, but another session's
            (2, 6, 7, &[A(1, 8)]),
            (1, 8, 9, &[L(1, &[7, 8])]),
        ]);
        assert!(sessions(&other_process).is_empty());
    }

    #[test]
    fn a_compensated_step_that_was_read_is_g1a_and_building_on_it_a_dirty_update() {
        let history = history(&[
            (0, 0, 1, &[W(1, 10)]),                 // reserve
            (1, 2, 3, &[R(1, Some(10))]),           // sees the reservation
            (1, 4, 5, &[R(1, Some(10)), W(1, 11)]), // builds on it
            (0, 6, 7, &[W(1, 12)]),                 // release
            (2, 8, 9, &[R(1, Some(12))]),           // sees the end: fine
        ]);
        let saga = Saga {
            steps: vec![0],
            compensations: vec![3],
        };
        let found = kinds(&sagas(&history, std::slice::from_ref(&saga)));
        assert_eq!(
            found,
            [AnomalyKind::G1a, AnomalyKind::G1a, AnomalyKind::DirtyUpdate]
        );
        let completed = Saga {
            compensations: Vec::new(),
            ..saga
        };
        assert!(sagas(&history, &[completed]).is_empty());
    }

    #[test]
    fn an_earlier_step_that_was_read_is_g1b_unless_the_reader_is_of_the_saga() {
        let history = history(&[
            (0, 0, 1, &[W(1, 10)]),
            (1, 2, 3, &[R(1, Some(10))]),
            (0, 4, 5, &[W(1, 11)]),
            (2, 6, 7, &[R(1, Some(11))]),
        ]);
        let saga = Saga {
            steps: vec![0, 2],
            compensations: Vec::new(),
        };
        assert_eq!(kinds(&sagas(&history, &[saga])), [AnomalyKind::G1b]);
        let all = Saga {
            steps: vec![0, 1, 2],
            compensations: Vec::new(),
        };
        assert!(sagas(&history, &[all]).is_empty());
    }
}
