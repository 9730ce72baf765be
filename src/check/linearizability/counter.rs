//! What a counter can hold at most and at least, before any order is searched.
//!
//! A read sees every addition that completed before it was invoked, and none that was invoked after it completed. What lies between
//! may count or not: so the sum of those that must count and of the negative ones that may is the least that it can find, and
//! likewise the most (Jepsen's counter checker). Two sorted columns of running sums give both in logarithmic time.

use super::super::Op;
use super::super::explain::Cast;
use super::{Call, Contradiction};

/// Running sums of what was added, above and below zero, by an instant.
struct Sums(Vec<(u64, i128, i128)>);

impl Sums {
    fn of(mut additions: Vec<(u64, i128)>) -> Self {
        additions.sort_unstable();
        let (mut above, mut below) = (0, 0);
        let sums = additions.into_iter().map(|(at, delta)| {
            above += delta.max(0);
            below += delta.min(0);
            (at, above, below)
        });
        Sums(sums.collect())
    }

    /// The sums over the first instants, as far as they satisfy this.
    fn until(&self, counts: impl Fn(u64) -> bool) -> (i128, i128) {
        let end = self.0.partition_point(|&(at, ..)| counts(at));
        match end.checked_sub(1) {
            Some(last) => (self.0[last].1, self.0[last].2),
            None => (0, 0),
        }
    }
}

fn added(ops: &[Op<'_>]) -> i128 {
    let deltas = ops.iter().map(|op| match op {
        Op::Add { delta, .. } => i128::from(*delta),
        _ => 0,
    });
    deltas.sum()
}

/// A read that found more, or less, than additions allow. None if there is none, or a sum may have wrapped.
pub(super) fn out_of_bounds(calls: &[Call<'_>]) -> Option<Contradiction> {
    let size = |call: &Call<'_>| {
        let deltas = call.ops.iter().map(|op| match op {
            Op::Add { delta, .. } => i128::from(*delta).abs(),
            _ => 0,
        });
        deltas.sum::<i128>()
    };
    if calls.iter().map(size).sum::<i128>() > i128::from(i64::MAX) {
        return None;
    }
    let may = Sums::of(calls.iter().map(|c| (c.invoke, added(&c.ops))).collect());
    let certain = calls.iter().filter(|call| !call.is_indeterminate());
    let must = Sums::of(certain.map(|c| (c.complete, added(&c.ops))).collect());
    for call in calls.iter().filter(|call| !call.is_indeterminate()) {
        for (at, op) in call.ops.iter().enumerate() {
            let Op::Read { value, .. } = op else { continue };
            let found = value.unwrap_or(0) as i64;
            let others = i128::from(found) - added(&call.ops[..at]);
            let own = added(&call.ops);
            let (may_above, may_below) = may.until(|invoke| invoke <= call.complete);
            let (must_above, must_below) = must.until(|complete| complete < call.invoke);
            let most = may_above - own.max(0) + must_below;
            let least = may_below - own.min(0) + must_above;
            if (least..=most).contains(&others) {
                continue;
            }
            let name = Cast::default().name(call.txn);
            let before = match at {
                0 => String::new(),
                _ => format!(", {others} without what it added itself"),
            };
            return Some(Contradiction {
                txns: vec![call.txn],
                sentence: format!(
                    "{name} found {found}{before}. Additions that had completed when it was invoked, and those that had been \
                     invoked when it completed, allow a value from {least} to {most}."
                ),
            });
        }
    }
    None
}
