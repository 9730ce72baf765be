//! Sentences: what a person needs to check an anomaly by hand.
//!
//! A cycle is told in Elle's way: the transactions, then for each edge why the one must come before the
//! other, then the contradiction. (Kingsbury, Alvaro, *Elle*, VLDB 2020, section 6.)

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::history::{History, NEVER, Op, Status, TxnId};
use super::{Anomaly, AnomalyKind, Dependency, Model, Step};

/// Longer lists are printed with a gap.
const ELEMENTS_SHOWN: usize = 12;

/// A list, with a gap in the middle if it is long.
pub fn list(history: &History, elements: &[u64]) -> String {
    let show = |part: &[u64]| -> String {
        let texts: Vec<String> = part.iter().map(|&v| history.show_value(v)).collect();
        texts.join(" ")
    };
    if elements.len() <= ELEMENTS_SHOWN {
        return format!("[{}]", show(elements));
    }
    let (head, tail) = (4, ELEMENTS_SHOWN - 4);
    let last = &elements[elements.len() - tail..];
    let left_out = elements.len() - head - tail;
    format!(
        "[{} ..{left_out} more.. {}]",
        show(&elements[..head]),
        show(last)
    )
}

/// An operation, as in `append x 1` or `r y [1 2]`.
pub fn op(history: &History, op: &Op) -> String {
    let key = history.show_key(op.key());
    let show = |value| history.show_value(value);
    match *op {
        Op::Append { value, .. } => format!("append {key} {}", show(value)),
        Op::ReadList { list: l, .. } => format!("r {key} {}", list(history, l)),
        Op::Write { value, .. } => format!("w {key} {}", show(value)),
        Op::Read { value: None, .. } => format!("r {key} nil"),
        Op::Read { value: Some(v), .. } => format!("r {key} {}", show(v)),
        Op::Cas { expected, new, .. } => format!("cas {key} {} {}", show(expected), show(new)),
        Op::Add { delta, .. } => format!("add {key} {delta}"),
        Op::Insert { value, .. } => format!("add {key} {}", show(value)),
        Op::Enqueue { value, .. } => format!("enqueue {key} {}", show(value)),
        Op::Dequeue { value: None, .. } => format!("dequeue {key} nil"),
        Op::Dequeue { value: Some(v), .. } => format!("dequeue {key} {}", show(v)),
        Op::DequeueUnknown { .. } => format!("dequeue {key} ?"),
        Op::ReadUnknown { .. } => format!("r {key} ?"),
    }
}

/// A transaction on one line: status, process, instants, operations.
pub fn transaction(history: &History, id: TxnId) -> String {
    let txn = history.txn(id);
    let status = txn.header.status.name();
    let end = match txn.header.complete {
        NEVER => "never completed".to_string(),
        at => format!("completed {at}"),
    };
    let ops: Vec<String> = txn
        .ops()
        .map(|o| format!("[{}]", op(history, &o)))
        .collect();
    format!(
        "{status}, process {}, invoked {}, {end}: {}",
        history.show_value(txn.header.process),
        txn.header.invoke,
        ops.join(" ")
    )
}

/// The names T1, T2, ... of transactions in one explanation, in the order of their mention.
#[derive(Default)]
pub struct Cast(Vec<TxnId>, BTreeMap<TxnId, usize>);

impl Cast {
    /// A cast with these transactions, in this order.
    pub fn of(txns: impl IntoIterator<Item = TxnId>) -> Self {
        let mut cast = Cast::default();
        for txn in txns {
            cast.name(txn);
        }
        cast
    }

    /// The transaction's name.
    pub fn name(&mut self, txn: TxnId) -> String {
        let Cast(order, places) = self;
        let at = *places.entry(txn).or_insert_with(|| {
            order.push(txn);
            order.len() - 1
        });
        format!("T{}", at + 1)
    }

    /// The transactions that have names, in the order of these.
    pub(super) fn members(&self) -> &[TxnId] {
        &self.0
    }

    /// "Let:" and one line for each transaction.
    pub fn introduce(&self, history: &History) -> String {
        self.listed("Let:\n", history)
    }

    /// The same, where without any one of them there would be nothing to tell.
    pub(super) fn introduce_needed(&self, history: &History) -> String {
        self.listed("Let (none can be left out):\n", history)
    }

    fn listed(&self, heading: &str, history: &History) -> String {
        let mut text = String::from(heading);
        for (at, &txn) in self.0.iter().enumerate() {
            let _ = writeln!(text, "  T{} = {}", at + 1, transaction(history, txn));
        }
        text
    }
}

/// Why `from` precedes `to`, as a clause.
pub fn because(history: &History, dependency: &Dependency, from: &str, to: &str) -> String {
    let lists = history.kinds.iter().any(|kind| kind.is_list());
    let wrote = if lists { "append" } else { "write" };
    let show = |value: &u64| history.show_value(*value);
    match dependency {
        Dependency::WriteWrite {
            key,
            from_value,
            to_value,
        } => match lists {
            true => format!(
                "{to} appended {} to key {key} after {from} appended {}",
                show(to_value),
                show(from_value)
            ),
            false => format!(
                "{to} overwrote {from}'s write of {} to key {key} with {}",
                show(from_value),
                show(to_value)
            ),
        },
        Dependency::WriteRead { key, value } => {
            format!(
                "{to} observed {from}'s {wrote} of {} to key {key}",
                show(value)
            )
        }
        Dependency::ReadWrite {
            key,
            read: None,
            written,
        } => format!(
            "{from} observed the initial (empty) state of key {key}, before {to}'s {wrote} of {}",
            show(written)
        ),
        Dependency::ReadWrite {
            key,
            read: Some(read),
            written,
        } => match lists {
            true => format!(
                "{from} did not observe {to}'s append of {} to key {key}",
                show(written)
            ),
            false => format!(
                "{from} read {} from key {key}, which {to} overwrote with {}",
                show(read),
                show(written)
            ),
        },
        Dependency::Process { process } => {
            format!(
                "process {} executed {from} before {to}",
                history.show_value(*process)
            )
        }
        Dependency::Realtime { complete, invoke } => {
            format!("{from} completed (at {complete}) before {to} was invoked (at {invoke})")
        }
    }
}

/// An anomaly that is a cycle, which refutes these models at the weakest.
pub fn cycle(
    history: &History,
    kind: AnomalyKind,
    refutes: Vec<Model>,
    steps: Vec<Step>,
) -> Anomaly {
    let mut cast = Cast::of(steps.iter().map(|step| step.from));
    let mut text = cast.introduce(history);
    text.push_str("Then:\n");
    text.push_str(&told(history, &steps, &mut cast, |_| String::new()));
    Anomaly {
        kind,
        refutes,
        transactions: steps.iter().map(|step| step.from).collect(),
        cycle: steps,
        key: None,
        explanation: text,
    }
}

/// A cycle of a list history with the transactions that show it, of which none can be left out: who committed
/// although no client was told, and who read the orders of versions.
pub(super) fn cycle_shown(
    history: &History,
    (kind, refutes): (AnomalyKind, Vec<Model>),
    steps: Vec<Step>,
    members: &[TxnId],
) -> Anomaly {
    let on_cycle = steps.iter().map(|step| step.from);
    let mut cast = Cast::of(on_cycle.chain(members.iter().copied()));
    let transactions = cast.0.clone();
    let mut text = cast.introduce_needed(history);
    text.push_str("Then:\n");
    for step in &steps {
        text.push_str(&committed_unknown(history, step.from, &mut cast));
    }
    let mut names = Cast::of(transactions.iter().copied());
    text.push_str(&told(history, &steps, &mut cast, |step| {
        order_shown(history, step, &transactions, &mut names)
    }));
    Anomaly {
        kind,
        refutes,
        transactions,
        cycle: steps,
        key: None,
        explanation: text,
    }
}

/// One line for each step, the last of which is the contradiction; `shown` adds what shows a step.
fn told(
    history: &History,
    steps: &[Step],
    cast: &mut Cast,
    mut shown: impl FnMut(&Step) -> String,
) -> String {
    let mut text = String::new();
    for (at, step) in steps.iter().enumerate() {
        let (from, to) = (cast.name(step.from), cast.name(step.to));
        let reason = because(history, &step.because, &from, &to) + &shown(step);
        let last = at + 1 == steps.len();
        let (however, end) = match last {
            true => ("However, ", ": a contradiction!"),
            false => ("", "."),
        };
        let _ = writeln!(text, "  - {however}{from} < {to}, because {reason}{end}");
    }
    text
}

/// Who of these read a list of this key (by name) that holds the value.
fn reader_of<'h>(
    history: &'h History,
    members: &[TxnId],
    key: &str,
    value: u64,
) -> Option<(TxnId, &'h [u64])> {
    members.iter().find_map(|&id| {
        let list = history.txn(id).ops().find_map(|op| match op {
            Op::ReadList { key: k, list }
                if list.contains(&value) && history.show_key(k) == key =>
            {
                Some(list)
            }
            _ => None,
        });
        Some((id, list?))
    })
}

/// Why the one version came before the other, if somebody read that.
fn order_shown(history: &History, step: &Step, members: &[TxnId], cast: &mut Cast) -> String {
    let Dependency::WriteWrite {
        key,
        from_value,
        to_value,
    } = &step.because
    else {
        return String::new();
    };
    let both = reader_of(history, members, key, *to_value);
    if let Some((reader, read)) = both.filter(|(_, list)| list.contains(from_value)) {
        return format!(", as {} read ({})", cast.name(reader), list(history, read));
    }
    match reader_of(history, members, key, *from_value) {
        Some((reader, read)) => format!(
            ": {} read {}, which ends before it",
            cast.name(reader),
            list(history, read)
        ),
        None => String::new(),
    }
}

/// A sentence that says why a transaction of unknown fate committed; nothing for others.
fn committed_unknown(history: &History, txn: TxnId, cast: &mut Cast) -> String {
    if history.header(txn).status != Status::Info {
        return String::new();
    }
    let seen = history.txn(txn).ops().find_map(|op| {
        let Op::Append { key, value } = op else {
            return None;
        };
        let others: Vec<TxnId> = cast.0.iter().copied().filter(|&id| id != txn).collect();
        let key = history.show_key(key);
        let (reader, _) = reader_of(history, &others, &key, value)?;
        Some((key, value, reader))
    });
    let Some((key, value, reader)) = seen else {
        return String::new();
    };
    let value = history.show_value(value);
    format!(
        "  - {} committed, although its client was not told: {} observed its append of {value} to key {key}.\n",
        cast.name(txn),
        cast.name(reader)
    )
}

/// An anomaly of one key that is no cycle: the transactions, then one sentence.
pub fn fact(
    history: &History,
    kind: AnomalyKind,
    key: Option<super::KeyId>,
    cast: Cast,
    sentence: &str,
) -> Anomaly {
    Anomaly {
        kind,
        refutes: kind.refutes(),
        cycle: Vec::new(),
        transactions: cast.0.clone(),
        key: key.map(|key| history.show_key(key)),
        explanation: format!("{}Then:\n  - {sentence}\n", cast.introduce(history)),
    }
}

/// Pixels between the centre of a cycle and its transactions.
const RADIUS: f64 = 150.0;

/// Draws the cycle of an anomaly as an SVG document: transactions on a circle, each edge with its kind and key.
/// None if it is no cycle. The same anomaly gives the same bytes.
pub fn svg(history: &History, anomaly: &Anomaly) -> Option<String> {
    let count = anomaly.cycle.len();
    if count == 0 {
        return None;
    }
    let (width, height) = (900.0, 2.0 * RADIUS + 60.0 + 22.0 * count as f64);
    let (cx, cy) = (width / 2.0, RADIUS + 30.0);
    let at = |i: usize| {
        let angle = std::f64::consts::TAU * (i % count) as f64 / count as f64;
        (cx + RADIUS * angle.sin(), cy - RADIUS * angle.cos())
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"monospace\" font-size=\"12\">\n<title>{}</title>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n",
        anomaly.kind
    );
    for (i, step) in anomaly.cycle.iter().enumerate() {
        let ((x1, y1), (x2, y2)) = (at(i), at(i + 1));
        let length = ((x2 - x1).powi(2) + (y2 - y1).powi(2)).sqrt();
        let (dx, dy) = ((x2 - x1) / length, (y2 - y1) / length);
        // Bent outwards, so that the two edges of a cycle of two do not fall together.
        let (mx, my) = ((x1 + x2) / 2.0 + 30.0 * dy, (y1 + y2) / 2.0 - 30.0 * dx);
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {:.1}Q{mx:.1} {my:.1} {:.1} {:.1}\" fill=\"none\" stroke=\"{}\" \
             marker-end=\"url(#tip)\"/>\n<text x=\"{mx:.1}\" y=\"{my:.1}\" \
             text-anchor=\"middle\">{}</text>",
            x1 + 22.0 * dx,
            y1 + 22.0 * dy,
            x2 - 22.0 * dx,
            y2 - 22.0 * dy,
            colour(&step.because),
            escape(&label(&step.because))
        );
    }
    for (i, step) in anomaly.cycle.iter().enumerate() {
        let (x, y) = at(i);
        let legend = 2.0 * RADIUS + 70.0 + 22.0 * i as f64;
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"18\" fill=\"#fff\" stroke=\"#000\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">T{}</text>\n\
             <text x=\"10\" y=\"{legend:.1}\">T{} = {}</text>",
            y + 4.0,
            i + 1,
            i + 1,
            escape(&transaction(history, step.from))
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn label(dependency: &Dependency) -> String {
    match dependency {
        Dependency::WriteWrite { key, .. } => format!("ww {key}"),
        Dependency::WriteRead { key, .. } => format!("wr {key}"),
        Dependency::ReadWrite { key, .. } => format!("rw {key}"),
        Dependency::Process { process } => format!("process {process}"),
        Dependency::Realtime { .. } => "real time".into(),
    }
}

/// Colours that stay apart for the colour-blind (Okabe, Ito 2008).
fn colour(dependency: &Dependency) -> &'static str {
    match dependency {
        Dependency::WriteWrite { .. } => "#d55e00",
        Dependency::WriteRead { .. } => "#0072b2",
        Dependency::ReadWrite { .. } => "#cc79a7",
        Dependency::Process { .. } => "#009e73",
        Dependency::Realtime { .. } => "#999999",
    }
}

/// Text for XML, which holds no control characters, not even as references: those show as `\u{1b}`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\u{fffe}' | '\u{ffff}' => escaped.extend(c.escape_unicode()),
            c if c.is_control() => escaped.extend(c.escape_unicode()),
            c => escaped.push(c),
        }
    }
    escaped
}
