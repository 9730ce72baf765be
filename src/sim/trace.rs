//! Traces: every event of a run as data, and the first event at which two runs part.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::base::process::{Addr, FlushId, NodeId};

/// One line of a trace.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct TraceEvent {
    /// The world's event that this line belongs to, counted from 1: a step and what it sent share one.
    pub event: u64,
    /// True simulated time, in nanoseconds.
    pub at_ns: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: TraceKind,
}

/// Why a message did not arrive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropReason {
    /// The link was cut when it was sent.
    Cut,
    /// The network lost it.
    Lost,
    /// The receiver's machine was down when it arrived.
    Down,
    /// Nothing listens at the address.
    NobodyThere,
}

/// What happened. `detail` is the content as `Debug` prints it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TraceKind {
    /// A process began an incarnation with what its disk kept.
    Booted {
        /// The process.
        by: Addr,
        /// Bytes found on the disk.
        bytes: u64,
    },
    /// A message left its sender.
    Sent {
        /// Identifies the message: its deliveries and losses carry the same number.
        id: u64,
        /// The sender.
        from: Addr,
        /// The receiver.
        to: Addr,
        /// The message's label.
        label: Cow<'static, str>,
        /// The content.
        detail: String,
    },
    /// A message was handled by its receiver.
    Delivered {
        /// The message.
        id: u64,
        /// The sender.
        from: Addr,
        /// The receiver.
        to: Addr,
        /// The message's label.
        label: Cow<'static, str>,
    },
    /// A message was dropped.
    Dropped {
        /// The message.
        id: u64,
        /// The sender.
        from: Addr,
        /// The receiver.
        to: Addr,
        /// Why.
        why: DropReason,
    },
    /// A timer fired.
    Fired {
        /// The process.
        by: Addr,
        /// The timer.
        detail: String,
    },
    /// A flush ended.
    Flushed {
        /// The process.
        by: Addr,
        /// The flush.
        flush: FlushId,
        /// Whether the bytes are durable.
        ok: bool,
    },
    /// A process stated a fact.
    Observed {
        /// The process.
        by: Addr,
        /// The observation's name.
        name: Cow<'static, str>,
        /// The observation.
        detail: String,
    },
    /// A process panicked; its machine stops.
    Panicked {
        /// The process.
        by: Addr,
        /// The panic's message and place.
        message: String,
    },
    /// A process stopped its machine.
    Halted {
        /// The process.
        by: Addr,
        /// Why.
        why: Cow<'static, str>,
    },
    /// A machine went down.
    Crashed {
        /// The machine.
        node: NodeId,
    },
    /// A machine came back.
    Restarted {
        /// The machine.
        node: NodeId,
    },
    /// A fault began; the number is its position in the plan.
    FaultBegan {
        /// Position in the plan.
        fault: usize,
    },
    /// A fault ended.
    FaultEnded {
        /// Position in the plan.
        fault: usize,
    },
    /// The settle phase began: everything that is not permanent has healed.
    SettleBegan,
    /// The settle phase ended.
    SettleEnded {
        /// Whether a monitor said that everything had settled, rather than the bound.
        settled: bool,
    },
    /// The power of all machines is cut and comes back.
    PowerCycled,
}

/// Where a run left the recorded trace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Divergence {
    /// Position of the first line that differs, from zero.
    pub line: usize,
    /// What the record says; `None` if the recorded trace ends here.
    pub recorded: Option<TraceEvent>,
    /// What happened instead; `None` if the new run ended here.
    pub replayed: Option<TraceEvent>,
}

/// Compares a recorded trace with a new run's: the first line that differs, or `None` if they are equal.
pub fn first_difference(recorded: &[TraceEvent], replayed: &[TraceEvent]) -> Option<Divergence> {
    let common = recorded.iter().zip(replayed);
    let line = common.take_while(|(old, new)| old == new).count();
    let (old, new) = (recorded.get(line), replayed.get(line));
    (old.is_some() || new.is_some()).then(|| Divergence {
        line,
        recorded: old.cloned(),
        replayed: new.cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: u64) -> TraceEvent {
        TraceEvent {
            event,
            at_ns: event * 10,
            what: TraceKind::Crashed { node: NodeId(1) },
        }
    }

    #[test]
    fn equal_traces_do_not_differ_and_the_first_difference_is_named() {
        let recorded = [line(1), line(2), line(3)];
        assert_eq!(first_difference(&recorded, &recorded), None);
        let other = [line(1), line(9), line(3)];
        let found = first_difference(&recorded, &other).unwrap();
        assert_eq!((found.line, found.replayed), (1, Some(line(9))));
        let short = first_difference(&recorded, &recorded[..2]).unwrap();
        assert_eq!((short.line, short.replayed), (2, None));
        let long = first_difference(&recorded[..2], &recorded).unwrap();
        assert_eq!((long.line, long.recorded), (2, None));
    }

    #[test]
    fn a_line_survives_json() {
        let what = TraceKind::Sent {
            id: 7,
            from: Addr {
                node: NodeId(0),
                port: 1,
            },
            to: Addr {
                node: NodeId(2),
                port: 0,
            },
            label: "prepare".into(),
            detail: "Prepare(1)".into(),
        };
        let before = TraceEvent {
            event: 3,
            at_ns: 5,
            what,
        };
        let json = serde_json::to_string(&before).unwrap();
        assert_eq!(serde_json::from_str::<TraceEvent>(&json).unwrap(), before);
    }
}
