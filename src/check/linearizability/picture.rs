//! A picture of a key that has no linearization: the longest partial one that a bounded search finds, and the operation before which it
//! ends.
//!
//! Every operation is a bar from its invocation to its completion. A dot is the instant at which it takes effect, and the line
//! through the dots is the order. This search is Wing and Gong's with Lowe's memory of what was tried, as Porcupine has it. It
//! keeps the order, which the search for the verdict does not.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::super::explain;
use super::super::history::NEVER;
use super::super::{History, KeyId, Object, TxnId};
use super::{Call, Part, State, partition, search};

/// How many operations before the end are drawn.
const SHOWN_MAX: usize = 24;

/// How many operations that are left are drawn.
const LEFT_SHOWN_MAX: usize = 12;

/// Draws a key as an SVG document; none if nothing is known to have been done to it, or if all of it can be linearized. The same history
/// gives the same bytes.
pub fn svg(history: &History, key: KeyId, steps_max: u64) -> Option<String> {
    let parts = partition(history);
    let part = parts.get(&key)?;
    let object = history.objects()[key as usize].unwrap_or(Object::Register);
    let numbers = part.with_numbers(history, object);
    let calls = numbers.as_deref().unwrap_or(&part.calls);
    let initial = State::initial(object, history.initial_value(key));
    let partial = Partial::longest(calls, initial, steps_max)?;
    Some(partial.draw(history, part, key))
}

/// The calls that took effect, in their order, and what is left.
struct Partial {
    order: Vec<u32>,
    /// What the object holds after them.
    state: State,
    /// The calls that were invoked before the next completion, and have not taken effect; the first to complete among
    /// them, before which it must.
    left: Vec<u32>,
    blocked: u32,
    is_longest: bool,
}

/// Events as a list out of which calls are taken, and into which they are put back.
struct Events {
    /// Completes, call.
    events: Vec<(bool, u32)>,
    next: Vec<u32>,
    previous: Vec<u32>,
    /// By call, its events; no completion is `NONE`.
    places: Vec<(u32, u32)>,
}

const NONE: u32 = u32::MAX;

impl Events {
    fn of(calls: &[Call<'_>]) -> Self {
        let events: Vec<(bool, u32)> = search::events(calls)
            .into_iter()
            .map(|(_, completes, call)| (completes, call))
            .collect();
        let mut places = vec![(NONE, NONE); calls.len()];
        for (at, &(completes, call)) in (1u32..).zip(&events) {
            let place = &mut places[call as usize];
            match completes {
                false => place.0 = at,
                true => place.1 = at,
            }
        }
        // Place 0 is before all events, and after them.
        let count = events.len() as u32 + 1;
        Events {
            events,
            next: (1..=count).map(|at| at % count).collect(),
            previous: (0..count).map(|at| (at + count - 1) % count).collect(),
            places,
        }
    }

    fn ends(&self, call: u32) -> [u32; 2] {
        let (invoke, complete) = self.places[call as usize];
        [invoke, complete]
    }

    fn take(&mut self, call: u32) {
        for at in self.ends(call).into_iter().filter(|&at| at != NONE) {
            let (before, after) = (self.previous[at as usize], self.next[at as usize]);
            self.next[before as usize] = after;
            self.previous[after as usize] = before;
        }
    }

    fn put_back(&mut self, call: u32) {
        for at in self.ends(call).into_iter().rev().filter(|&at| at != NONE) {
            let (before, after) = (self.previous[at as usize], self.next[at as usize]);
            self.next[before as usize] = at;
            self.previous[after as usize] = at;
        }
    }
}

impl Partial {
    /// None if all certain calls can take effect.
    fn longest(calls: &[Call<'_>], initial: State, steps_max: u64) -> Option<Partial> {
        let mut events = Events::of(calls);
        let mut steps_left = steps_max;
        let mut tried = BTreeSet::<(u64, State)>::new();
        let mut path: Vec<(u32, State)> = Vec::new();
        let (mut state, mut fingerprint) = (initial.clone(), 0u64);
        let mut best: Option<Partial> = None;
        let mut at = events.next[0];
        loop {
            if at == 0 {
                // Only such are left as may never have happened.
                return None;
            }
            let (completes, call) = events.events[at as usize - 1];
            if !completes {
                steps_left = steps_left.saturating_sub(state.cost());
                let after = state.after(&calls[call as usize]);
                let mixed = fingerprint ^ mix(u64::from(call));
                if let Some(after) = after.filter(|after| tried.insert((mixed, after.clone()))) {
                    path.push((call, std::mem::replace(&mut state, after)));
                    fingerprint = mixed;
                    events.take(call);
                    at = events.next[0];
                    continue;
                }
                at = events.next[at as usize];
                continue;
            }
            // Nothing more can take effect before this completion.
            if best
                .as_ref()
                .is_none_or(|best| best.order.len() < path.len())
            {
                best = Some(Partial::at(&events, calls, (&path, &state)));
            }
            let Some((call, before)) = path.pop().filter(|_| steps_left > 0) else {
                break;
            };
            (state, fingerprint) = (before, fingerprint ^ mix(u64::from(call)));
            events.put_back(call);
            at = events.next[events.places[call as usize].0 as usize];
        }
        best.map(|best| Partial {
            is_longest: steps_left > 0,
            ..best
        })
    }

    fn at(
        events: &Events,
        calls: &[Call<'_>],
        (path, state): (&[(u32, State)], &State),
    ) -> Partial {
        let mut left = Vec::new();
        let mut at = events.next[0];
        let mut blocked = NONE;
        while at != 0 {
            match events.events[at as usize - 1] {
                (true, call) => {
                    blocked = call;
                    break;
                }
                (false, call) => left.push(call),
            }
            at = events.next[at as usize];
        }
        debug_assert!(blocked != NONE && !calls[blocked as usize].is_indeterminate());
        Partial {
            order: path.iter().map(|&(call, _)| call).collect(),
            state: state.clone(),
            left,
            blocked,
            is_longest: true,
        }
    }

    fn draw(&self, history: &History, part: &Part<'_>, key: KeyId) -> String {
        let calls = &part.calls[..];
        let from = self.order.len().saturating_sub(SHOWN_MAX);
        let others = self.left.iter().filter(|&&call| call != self.blocked);
        let mut shown: Vec<u32> = self.order[from..].to_vec();
        shown.extend(others.take(LEFT_SHOWN_MAX));
        shown.push(self.blocked);
        shown.sort_by_key(|&call| (calls[call as usize].invoke, call));
        let mut instants: Vec<u64> = shown
            .iter()
            .flat_map(|&call| [calls[call as usize].invoke, calls[call as usize].complete])
            .filter(|&at| at != NEVER)
            .collect();
        instants.sort_unstable();
        instants.dedup();
        let right = LEFT + STEP * instants.len() as f64;
        let x = |at: u64| match at {
            NEVER => right,
            at => LEFT + STEP * instants.partition_point(|&instant| instant < at) as f64,
        };
        // Each bar in the first row that is free.
        let mut rows: Vec<f64> = Vec::new();
        let mut placed: Vec<(u32, usize)> = Vec::new();
        for &call in &shown {
            let Call {
                invoke, complete, ..
            } = calls[call as usize];
            let width = text_width(&self.label(history, &calls[call as usize]));
            let row = rows.iter().position(|&free| free < x(invoke));
            let row = row.unwrap_or_else(|| {
                rows.push(0.0);
                rows.len() - 1
            });
            rows[row] = x(complete).max(x(invoke) + width) + 6.0;
            placed.push((call, row));
        }
        let (width, height) = (
            rows.iter().fold(right, |most, &end| most.max(end)) + 20.0,
            TOP + ROW * rows.len() as f64 + 20.0,
        );
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"monospace\" font-size=\"12\">\n<title>{}</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            explain::escape(&format!("{}: no linearization", super::name(history, key)))
        );
        for (line, text) in self.captions(history, part, key).iter().enumerate() {
            let _ = writeln!(
                svg,
                "<text x=\"{LEFT:.0}\" y=\"{:.0}\">{}</text>",
                20.0 + 17.0 * line as f64,
                explain::escape(text)
            );
        }
        let y = |row: usize| TOP + ROW * row as f64;
        for &(call, row) in &placed {
            let Call {
                invoke, complete, ..
            } = calls[call as usize];
            let place = (x(invoke), x(complete), y(row));
            self.bar(&mut svg, history, (call, calls), place);
        }
        self.dots(&mut svg, calls, (from, &placed), (&instants[..], x));
        svg.push_str("</svg>\n");
        svg
    }

    fn label(&self, history: &History, call: &Call<'_>) -> String {
        let ops: Vec<String> = call.ops.iter().map(|op| explain::op(history, op)).collect();
        let process = history.show_value(history.header(call.txn).process);
        format!("{process}: {}", ops.join(", "))
    }

    fn bar(
        &self,
        svg: &mut String,
        history: &History,
        (call, calls): (u32, &[Call<'_>]),
        (x1, x2, y): (f64, f64, f64),
    ) {
        let of = &calls[call as usize];
        let colour = if call == self.blocked {
            "#d55e00"
        } else if self.left.contains(&call) {
            "#bbbbbb"
        } else {
            "#56b4e9"
        };
        let dashes = if of.is_indeterminate() {
            " stroke-dasharray=\"4 3\" fill-opacity=\"0.4\""
        } else {
            ""
        };
        let _ = writeln!(
            svg,
            "<text x=\"{x1:.1}\" y=\"{:.1}\">{}</text>\n<rect x=\"{x1:.1}\" y=\"{y:.1}\" width=\"{:.1}\" \
             height=\"12\" rx=\"2\" fill=\"{colour}\" stroke=\"#333\"{dashes}/>",
            y - 4.0,
            explain::escape(&self.label(history, of)),
            (x2 - x1).max(4.0)
        );
    }

    /// The instants at which the calls take effect, each after those before it in the order, and the line through them.
    fn dots(
        &self,
        svg: &mut String,
        calls: &[Call<'_>],
        (from, placed): (usize, &[(u32, usize)]),
        (instants, x): (&[u64], impl Fn(u64) -> f64),
    ) {
        let mut latest = 0;
        let instants_of: Vec<u64> = self
            .order
            .iter()
            .map(|&call| {
                latest = calls[call as usize].invoke.max(latest);
                latest
            })
            .collect();
        let mut points = Vec::new();
        for of_instant in instants_of[from..].chunk_by(|one, other| one == other) {
            let place = instants.partition_point(|&instant| instant <= of_instant[0]);
            let left = place
                .checked_sub(1)
                .map_or(LEFT - STEP, |at| x(instants[at]));
            for nth in 0..of_instant.len() {
                let share = (nth + 1) as f64 / (of_instant.len() + 1) as f64;
                let call = self.order[from + points.len()];
                let row = placed.iter().find(|&&(other, _)| other == call);
                let (_, row) = row.expect("it is shown");
                points.push((left + STEP * share, TOP + ROW * *row as f64 + 6.0));
            }
        }
        let line: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#000\" stroke-opacity=\"0.5\"/>",
            line.join(" ")
        );
        for (x, y) in points {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>");
        }
    }

    fn captions(&self, history: &History, part: &Part<'_>, key: KeyId) -> [String; 3] {
        let blocked = &part.calls[self.blocked as usize];
        let least = if self.is_longest {
            "The longest partial linearization"
        } else {
            "The longest partial linearization that was found"
        };
        let earlier = match self.order.len().saturating_sub(SHOWN_MAX) {
            0 => String::new(),
            more => format!(" ({more} earlier ones are not drawn)"),
        };
        [
            format!(
                "{}: {least} holds {} of {} operations{earlier}.",
                super::name(history, key),
                self.order.len(),
                part.calls.len()
            ),
            format!("After it the object holds {}.", self.state.show(history)),
            format!(
                "In red: {} had to take effect before it completed, and cannot. In grey: what was outstanding beside it.",
                self.label(history, blocked)
            ),
        ]
    }
}

const LEFT: f64 = 20.0;
const STEP: f64 = 44.0;
const TOP: f64 = 96.0;
const ROW: f64 = 38.0;

/// The width of a text in pixels, about.
fn text_width(text: &str) -> f64 {
    7.3 * text.chars().count() as f64
}

/// As splitmix64 does it.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key that an anomaly is about.
pub(super) fn key_of(history: &History, txns: &[TxnId], name: &str) -> Option<KeyId> {
    let ops = txns.iter().flat_map(|&txn| history.txn(txn).ops());
    let mut keys = ops.map(|op| op.key());
    let key = keys.find(|&key| history.show_key(key) == name)?;
    let accounts = history.accounts();
    Some(match accounts.contains(&key) {
        true => *accounts.first()?,
        false => key,
    })
}
