//! A run for other tools: ShiViz, Perfetto, and whatever reads CSV.
//!
//! All of them show the data of the run's [page](super::page::model): names for ids, and texts that are cut where they are
//! long.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::page::model::{RunPage, Transaction};

/// How a log of [`shiviz`] is read: its first line.
const SHIVIZ_PARSER: &str = r"(?<time>\S*) (?<host>\S*) (?<clock>{.*})\n(?<event>.*)";

/// Something that happened.
struct Event<'a> {
    /// Its line in the trace.
    line: usize,
    /// Since the start of the run, milliseconds.
    ms: f64,
    /// `sent`, `received`, `lost`, or the kind of a point.
    kind: &'static str,
    /// The machine; none in the world as a whole.
    machine: Option<usize>,
    /// The process on it.
    port: u8,
    /// What it is called.
    name: &'a str,
    /// Its content.
    detail: &'a str,
    /// The transactions that it names.
    transactions: &'a [usize],
    /// The message, by number, and the machine at its other end.
    message: Option<(usize, usize, u8)>,
}

impl RunPage {
    /// Since the start of the run, in milliseconds.
    fn since_start(&self, ms: f64) -> f64 {
        // To the microsecond, as both are: a sum has more digits than that.
        ((ms + self.origin_ms) * 1e3).round() / 1e3
    }

    fn host(&self, machine: Option<usize>, port: u8) -> String {
        match (machine, port) {
            (None, _) => "world".to_owned(),
            (Some(machine), 0) => self.machines[machine].name.clone(),
            (Some(machine), port) => format!("{}:{port}", self.machines[machine].name),
        }
    }

    /// Everything that happened, in the order of the trace.
    fn happened(&self) -> Vec<Event<'_>> {
        let text = |at: usize| self.strings[at].as_str();
        let process = |at: usize| {
            let (machine, port) = self.processes[at];
            (usize::from(machine), port)
        };
        let mut events = Vec::new();
        for (number, message) in self.messages.iter().enumerate() {
            let (from, to, label, detail, transactions, line, ms, arrivals, loss) = message;
            let (sender, receiver) = (process(*from), process(*to));
            let mut event = |kind, line, ms, here: (usize, u8), there: (usize, u8), detail| {
                events.push(Event {
                    line,
                    ms: self.since_start(ms),
                    kind,
                    machine: Some(here.0),
                    port: here.1,
                    name: text(*label),
                    detail,
                    transactions,
                    message: Some((number, there.0, there.1)),
                });
            };
            event("sent", *line, *ms, sender, receiver, text(*detail));
            for (line, ms) in arrivals {
                event("received", *line, *ms, receiver, sender, "");
            }
            if let Some((line, ms, why)) = loss {
                event("lost", *line, *ms, receiver, sender, why);
            }
        }
        for (kind, machine, by, line, ms, name, detail, transactions) in &self.points {
            let (place, port) = match usize::try_from(*by) {
                Ok(by) => (Some(process(by).0), process(by).1),
                Err(_) => (usize::try_from(*machine).ok(), 0),
            };
            events.push(Event {
                line: *line,
                ms: self.since_start(*ms),
                kind,
                machine: place,
                port,
                name: text(*name),
                detail: text(*detail),
                transactions,
                message: None,
            });
        }
        events.sort_by_key(|event| event.line);
        events
    }

    fn names_of(&self, transactions: &[usize]) -> String {
        let name = |at: &usize| self.transactions[*at].name.as_str();
        transactions.iter().map(name).collect::<Vec<_>>().join(" ")
    }
}

/// A log with vector clocks, for [ShiViz](https://bestchai.bitbucket.io/shiviz/). Its first line says how to read it.
///
/// A host is a process. What happens in the world as a whole, such as a fault that begins, is an event of the host `world`. A
/// message that is lost is an event of nobody: it is left out.
pub fn shiviz(page: &RunPage) -> String {
    let mut clocks: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let mut sent: BTreeMap<usize, BTreeMap<String, u64>> = BTreeMap::new();
    let mut out = format!("{SHIVIZ_PARSER}\n\n");
    for event in page.happened() {
        if event.kind == "lost" {
            continue;
        }
        let host = page
            .host(event.machine, event.port)
            .replace(char::is_whitespace, "_");
        let clock = clocks.entry(host.clone()).or_default();
        *clock.entry(host.clone()).or_default() += 1;
        let number = event.message.map(|(number, ..)| number);
        if event.kind == "received"
            && let Some(theirs) = number.and_then(|number| sent.get(&number))
        {
            for (other, time) in theirs {
                let mine = clock.entry(other.clone()).or_default();
                *mine = (*mine).max(*time);
            }
        }
        if let (Some(number), "sent") = (number, event.kind) {
            sent.insert(number, clock.clone());
        }
        let clock = serde_json::to_string(clock).expect("a clock is plain data");
        let what = match event.message {
            Some((_, machine, port)) => {
                let way = if event.kind == "sent" { "to" } else { "from" };
                let other = page.host(Some(machine), port);
                format!("{} {} {way} {other}", event.kind, event.name)
            }
            None => event.name.to_owned(),
        };
        let detail = match event.detail {
            "" => String::new(),
            detail => format!(": {}", detail.replace('\n', " ")),
        };
        let _ = writeln!(out, "{}ms {host} {clock}\n{what}{detail}", event.ms);
    }
    out
}

/// A trace in Chrome's JSON format, as [Perfetto](https://ui.perfetto.dev) and Speedscope read it. Times are microseconds of
/// simulated time since the start of the run.
///
/// A machine is a process there, and a process of it a thread. Transactions, locks, waits and doubt are asynchronous slices.
/// An arrow joins a message's two ends.
pub fn perfetto(page: &RunPage) -> String {
    /// What is not a machine, as a process of the trace: faults, and clients' transactions.
    const WORLD: usize = 0;
    const CLIENTS: usize = 1;
    const FIRST_MACHINE: usize = 2;
    let us = |ms: f64| (page.since_start(ms) * 1e3).round();
    let mut events: Vec<Value> = Vec::new();
    let mut name = |pid: usize, name: &str| {
        let args = json!({ "name": name });
        events.push(json!({"ph": "M", "name": "process_name", "pid": pid, "args": args}));
        let args = json!({ "sort_index": pid });
        events.push(json!({"ph": "M", "name": "process_sort_index", "pid": pid, "args": args}));
    };
    name(WORLD, "faults");
    name(CLIENTS, "transactions");
    for (machine, at) in page.machines.iter().zip(FIRST_MACHINE..) {
        name(at, &machine.name);
    }
    for (number, fault) in page.faults.iter().enumerate() {
        if let Some(from) = fault.from_ms {
            let until = fault.to_ms.unwrap_or(page.end_ms);
            events.push(json!({
                "ph": "X", "cat": "fault", "name": fault.text, "pid": WORLD, "tid": number,
                "ts": us(from), "dur": us(until) - us(from),
            }));
        }
    }
    let mut spans = 0;
    let mut span = |category: &str, name: &str, pid, from: f64, to: Option<f64>, args: Value| {
        spans += 1;
        let begin = json!({
            "ph": "b", "cat": category, "name": name, "id": spans, "pid": pid, "tid": 0, "ts": us(from), "args": args,
        });
        let end = json!({
            "ph": "e", "cat": category, "name": name, "id": spans, "pid": pid, "tid": 0,
            "ts": us(to.unwrap_or(page.end_ms)),
        });
        [begin, end]
    };
    for txn in &page.transactions {
        if let Some(from) = txn.invoked_ms {
            let args =
                json!({"does": txn.text, "rows": txn.rows, "outcome": txn.outcome, "why": txn.why});
            let to = txn.returned_ms;
            events.extend(span("transaction", &txn.name, CLIENTS, from, to, args));
        }
    }
    for bar in &page.bars {
        let txn = &page.transactions[bar.txn].name;
        let (name, pid) = (
            format!("{} {txn}", bar.kind),
            FIRST_MACHINE + usize::from(bar.machine),
        );
        let args = json!({ "what": bar.what });
        events.extend(span(bar.kind, &name, pid, bar.from_ms, bar.to_ms, args));
    }
    let mut arrows = 0;
    let mut sent: BTreeMap<usize, Value> = BTreeMap::new();
    for event in page.happened() {
        let pid = event.machine.map_or(WORLD, |at| FIRST_MACHINE + at);
        let ts = (event.ms * 1e3).round();
        let place = json!({"pid": pid, "tid": event.port, "ts": ts});
        let at = |mut fields: Value| {
            let all = fields.as_object_mut().expect("it is a map");
            all.extend(place.as_object().expect("it is a map").clone());
            fields
        };
        let args = json!({"detail": event.detail, "transactions": page.names_of(event.transactions), "line": event.line});
        match (event.kind, event.message) {
            ("sent", Some((number, ..))) => {
                events.push(at(
                    json!({"ph": "X", "cat": "sent", "name": event.name, "dur": 1, "args": args}),
                ));
                sent.insert(
                    number,
                    at(json!({"ph": "s", "cat": "message", "name": event.name})),
                );
            }
            ("received", Some((number, ..))) => {
                events.push(at(json!({"ph": "X", "cat": "received", "name": event.name, "dur": 1, "args": args})));
                if let Some(start) = sent.get(&number) {
                    // A duplicate has an arrow of its own.
                    arrows += 1;
                    let mut start = start.clone();
                    start["id"] = json!(arrows);
                    events.push(start);
                    events.push(at(json!({"ph": "f", "bp": "e", "cat": "message", "name": event.name, "id": arrows})));
                }
            }
            (kind, _) => {
                events.push(at(
                    json!({"ph": "i", "s": "t", "cat": kind, "name": event.name, "args": args}),
                ));
            }
        }
    }
    let about = json!({
        "scenario": page.scenario, "protocol": page.protocol, "seed": page.seed, "digest": page.digest,
        "verdict": page.verdict, "ordain": page.ordain,
    });
    let trace = json!({"displayTimeUnit": "ms", "otherData": about, "traceEvents": events});
    format!("{trace}\n")
}

/// CSV with a line for each transaction. Times are milliseconds of simulated time since the start of the run.
pub fn transactions(page: &RunPage) -> String {
    let head = [
        "transaction",
        "region",
        "session",
        "does",
        "rows",
        "planned_ms",
        "invoked_ms",
        "initiated_ms",
        "decided_ms",
        "ended_ms",
        "returned_ms",
        "outcome",
        "why",
        "reads",
    ];
    let time = |ms: Option<f64>| ms.map_or(String::new(), |ms| page.since_start(ms).to_string());
    let row = |txn: &Transaction| {
        vec![
            txn.name.clone(),
            txn.region.clone(),
            txn.session.to_string(),
            txn.text.clone(),
            txn.rows.join(" "),
            time(txn.asked_ms),
            time(txn.invoked_ms),
            time(txn.initiated_ms),
            time(txn.decided_ms),
            time(txn.ended_ms),
            time(txn.returned_ms),
            txn.outcome.to_owned(),
            txn.why.to_owned(),
            txn.reads.join("; "),
        ]
    };
    csv(&head, page.transactions.iter().map(row))
}

/// CSV with a line for each event: messages sent, received and lost, timers, flushes, facts, faults.
pub fn events(page: &RunPage) -> String {
    let head = [
        "line",
        "ms",
        "kind",
        "host",
        "other_host",
        "name",
        "detail",
        "transactions",
    ];
    let happened = page.happened();
    let row = |event: &Event<'_>| {
        let other = event
            .message
            .map(|(_, machine, port)| page.host(Some(machine), port));
        vec![
            event.line.to_string(),
            event.ms.to_string(),
            event.kind.to_owned(),
            page.host(event.machine, event.port),
            other.unwrap_or_default(),
            event.name.to_owned(),
            event.detail.to_owned(),
            page.names_of(event.transactions),
        ]
    };
    csv(&head, happened.iter().map(row))
}

fn csv<const COLUMNS: usize>(
    head: &[&str; COLUMNS],
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let put = "memory takes every write";
    writer.write_record(head).expect(put);
    for row in rows {
        writer.write_record(&row).expect(put);
    }
    let bytes = writer.into_inner().expect(put);
    String::from_utf8(bytes).expect("it was made of text")
}
