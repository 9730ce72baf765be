//! How long after the last fault clients were served as before it, or that they never were again.
//!
//! A system may stay slow after what made it slow is over: queues that resends keep alive, for instance. That is a
//! *metastable failure* (Bronson, Aghayev, Charapko and Zhu, "Metastable Failures in Distributed Systems", HotOS 2021). It
//! breaks no promise, and a percentile over the whole run hides it.
//!
//! # The measure
//!
//! The *level* is the median latency of the operations that clients planned before the first fault. An operation that
//! does not commit or decline by its own logic has no finite latency. Operations planned after the last fault are put into
//! windows of one second by their planned start. A window is *bad* if its median exceeds twice the level, and the level by
//! more than 10 ms. The time to recover reaches from the end of the last fault to the end of the last bad window. If the
//! last window is bad, clients were never served as before.

use serde::Serialize;

use super::Evidence;
use super::lives::Lives;
use crate::base::observation::Outcome;
use crate::plan::Start;

/// So many operations make a level, or show what followed the faults.
const LEVEL_MIN: usize = 20;
/// So many operations make a window.
const WINDOW_MIN: usize = 5;
const WINDOW_NS: u64 = 1_000_000_000;
const SLACK_NS: u64 = 10_000_000;
/// The latency of an operation that did not end by its own logic.
const NEVER_NS: u64 = u64::MAX;

/// When a fault struck, in nanoseconds of simulated time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Struck {
    /// It began.
    pub began_ns: u64,
    /// It ended; a permanent one does not.
    pub ended_ns: Option<u64>,
}

/// How clients were served after the last fault.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Recovery {
    /// Seconds from the end of the last fault until clients were served as before the first. `None`: never.
    pub after_s: Option<f64>,
    /// Median latency of the operations that were planned before the first fault, milliseconds.
    pub before_ms: f64,
    /// Median latency of those planned in the last second of the load, milliseconds. `None`: most did not end.
    pub last_ms: Option<f64>,
}

/// Measures it. `None` where there was no fault, one that is permanent, or too little load before or after.
pub(super) fn measure(evidence: &Evidence<'_>, lives: &Lives) -> Option<Recovery> {
    let began_ns = evidence.struck.iter().map(|fault| fault.began_ns).min()?;
    let ends = evidence.struck.iter().map(|fault| fault.ended_ns);
    let ended_ns = ends.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
    let operations = evidence.plan.operations.iter();
    let asked = operations.filter_map(|operation| {
        let life = lives.by_txn.get(&operation.txn.id);
        let asked_ns = match (life.and_then(|life| life.asked_ns), operation.start) {
            (Some(asked_ns), _) | (None, Start::At(asked_ns)) => asked_ns,
            (None, Start::Think(_) | Start::Retry { .. }) => return None,
        };
        let own_end_ns = life.and_then(|life| match life.returned {
            Some((at_ns, Outcome::Committed { .. } | Outcome::Declined { .. })) => Some(at_ns),
            _ => None,
        });
        Some((
            asked_ns,
            own_end_ns.map_or(NEVER_NS, |at_ns| at_ns - asked_ns),
        ))
    });
    of_latencies(began_ns, ended_ns, asked)
}

/// The same from the planned starts and the latencies of all operations.
fn of_latencies(
    began_ns: u64,
    ended_ns: u64,
    asked: impl Iterator<Item = (u64, u64)>,
) -> Option<Recovery> {
    let mut before = Vec::new();
    let mut windows: Vec<Vec<u64>> = Vec::new();
    for (asked_ns, latency_ns) in asked {
        if asked_ns < began_ns {
            before.push(latency_ns);
        } else if let Some(since_ns) = asked_ns.checked_sub(ended_ns) {
            let window = (since_ns / WINDOW_NS) as usize;
            windows.resize(windows.len().max(window + 1), Vec::new());
            windows[window].push(latency_ns);
        }
    }
    let after: usize = windows.iter().map(Vec::len).sum();
    if before.len().min(after) < LEVEL_MIN {
        return None;
    }
    let level_ns = Some(median(&mut before)).filter(|level_ns| *level_ns != NEVER_NS)?;
    let bound_ns = (2 * level_ns).max(level_ns + SLACK_NS);
    let medians = windows.iter_mut().enumerate();
    let medians = medians.filter(|(_, latencies)| latencies.len() >= WINDOW_MIN);
    let medians: Vec<(usize, u64)> = medians.map(|(at, window)| (at, median(window))).collect();
    let (_, last_ns) = *medians.last()?;
    let mut bad = medians
        .iter()
        .filter(|(_, median_ns)| *median_ns > bound_ns);
    let bad_until = bad.next_back().map_or(0, |(at, _)| at + 1);
    Some(Recovery {
        after_s: (last_ns <= bound_ns).then_some(bad_until as f64),
        before_ms: level_ns as f64 / 1e6,
        last_ms: (last_ns != NEVER_NS).then_some(last_ns as f64 / 1e6),
    })
}

/// The upper median of a list that is not empty.
fn median(latencies: &mut [u64]) -> u64 {
    latencies.sort_unstable();
    latencies[latencies.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Ten operations a second for 60 s, a fault from 20 s to 25 s, and this latency by second of the planned start.
    fn recovery(latency_ms: impl Fn(u64) -> u64) -> Option<Recovery> {
        let asked = (0..600).map(|n| {
            let latency_ns = match latency_ms(n / 10) {
                u64::MAX => NEVER_NS,
                ms => ms * MS,
            };
            (n * 100 * MS, latency_ns)
        });
        of_latencies(20_000 * MS, 25_000 * MS, asked)
    }

    #[test]
    fn a_load_that_is_served_as_before_has_recovered_at_once() {
        let measured = recovery(|s| if (20..25).contains(&s) { 4_000 } else { 30 });
        let expected = Recovery {
            after_s: Some(0.0),
            before_ms: 30.0,
            last_ms: Some(30.0),
        };
        assert_eq!(measured, Some(expected));
    }

    #[test]
    fn the_time_to_recover_ends_with_the_last_second_that_is_bad() {
        let measured = recovery(|s| match s {
            20..30 => 4_000,
            33 => 61,
            _ => 30,
        });
        assert_eq!(measured.unwrap().after_s, Some(9.0));
        let twice = recovery(|s| if s < 20 { 30 } else { 60 });
        assert_eq!(
            twice.unwrap().after_s,
            Some(0.0),
            "twice the level is the bound"
        );
        let slack = recovery(|s| if s < 20 { 1 } else { 11 });
        assert_eq!(slack.unwrap().after_s, Some(0.0), "10 ms are no harm");
    }

    #[test]
    fn a_load_that_is_still_slow_when_it_ends_never_recovered() {
        let slow = recovery(|s| if s < 20 { 30 } else { 10_000 });
        assert_eq!(slow.unwrap().after_s, None);
        assert_eq!(slow.unwrap().last_ms, Some(10_000.0));
        let stuck = recovery(|s| if s < 20 { 30 } else { u64::MAX });
        assert_eq!(
            (stuck.unwrap().after_s, stuck.unwrap().last_ms),
            (None, None)
        );
    }

    #[test]
    fn nothing_is_measured_without_a_level_or_without_load_behind_the_faults() {
        assert_eq!(recovery(|s| if s < 20 { u64::MAX } else { 30 }), None);
        let few = (0..600).map(|n| (n * 100 * MS, 30 * MS));
        assert_eq!(of_latencies(1_000 * MS, 25_000 * MS, few.clone()), None);
        assert_eq!(of_latencies(20_000 * MS, 59_000 * MS, few), None);
    }
}
