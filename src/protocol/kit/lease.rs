//! Numbers that rise over crashes, at the price of one write for many of them.
//!
//! A process leases a range by a forced record, and hands the numbers out from memory. After a crash it goes on above the last
//! lease, so that it repeats none. So does Percolator's timestamp oracle (Peng and Dabek 2010, section 2.3).
//!
//! ```
//! use ordain::protocol::kit::lease::{Lease, Leased};
//!
//! let mut numbers = Leased::new(10);
//! assert_eq!(numbers.next(), None);
//! let lease = numbers.renew(true).unwrap(); // The caller forces it. Then:
//! numbers.granted(lease);
//! assert_eq!(numbers.next(), Some(1));
//!
//! // After a crash, some of the lease may have been used.
//! let mut again = Leased::new(10);
//! again.recover([Lease(10)]);
//! assert_eq!(again.next(), None);
//! again.granted(Lease(20));
//! assert_eq!(again.next(), Some(11));
//! ```

use serde::{Deserialize, Serialize};

/// What the log holds: numbers up to this one may be in use. Forced before they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Lease(pub u64);

/// Numbers of a lease.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Leased {
    /// How many numbers a lease has.
    size: u64,
    /// The largest number that was handed out, or heard of.
    last: u64,
    /// The last one of the lease, which is durable.
    leased: u64,
    /// A lease is on its way to the disk.
    is_leasing: bool,
}

impl Leased {
    /// Nothing is leased yet. A lease will have so many numbers.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            last: 0,
            leased: 0,
            is_leasing: false,
        }
    }

    /// Takes up the leases of the log.
    pub fn recover(&mut self, leases: impl IntoIterator<Item = Lease>) {
        for Lease(leased) in leases {
            self.leased = self.leased.max(leased);
        }
        self.last = self.leased;
    }

    /// Hands out the last lease once more: a planted bug.
    pub fn repeat(&mut self) {
        self.last = self.leased.saturating_sub(self.size);
    }

    /// Somebody uses this number: those that follow are larger.
    pub fn hear(&mut self, number: u64) {
        self.last = self.last.max(number);
    }

    /// The next number, if the lease has one.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is no iterator: after a renewal it goes on"
    )]
    pub fn next(&mut self) -> Option<u64> {
        let next = self.last + 1;
        (next <= self.leased).then(|| {
            self.last = next;
            next
        })
    }

    /// The lease to force now, if any: when half of the last one is gone, so that nobody waits for the disk, or when somebody
    /// waits.
    pub fn renew(&mut self, is_waited_for: bool) -> Option<Lease> {
        let rest = self.leased.saturating_sub(self.last);
        let is_due = !self.is_leasing && (is_waited_for || rest < self.size / 2);
        is_due.then(|| {
            self.is_leasing = true;
            Lease(self.leased.max(self.last) + self.size)
        })
    }

    /// The lease is durable.
    pub fn granted(&mut self, Lease(leased): Lease) {
        self.is_leasing = false;
        self.leased = self.leased.max(leased);
    }

    /// The lease is not in the log, and never will be.
    pub fn lost(&mut self) {
        self.is_leasing = false;
    }

    /// The lease that is durable, for a checkpoint.
    pub fn lease(&self) -> Lease {
        Lease(self.leased)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(size: u64) -> Leased {
        let mut numbers = Leased::new(size);
        let lease = numbers.renew(false).expect("nothing is leased");
        numbers.granted(lease);
        numbers
    }

    #[test]
    fn numbers_rise_over_crashes_whatever_was_used_of_a_lease() {
        for used in 0..=6 {
            let mut numbers = granted(6);
            let before: Vec<u64> = (0..used).map_while(|_| numbers.next()).collect();
            assert_eq!(before, (1..=used).collect::<Vec<_>>());
            let mut again = Leased::new(6);
            again.recover([numbers.lease()]);
            let lease = again.renew(true).expect("nothing of it may be used");
            again.granted(lease);
            assert_eq!(again.next(), Some(7));
        }
    }

    #[test]
    fn a_lease_is_renewed_at_its_half_and_one_at_a_time() {
        let mut numbers = granted(6);
        for _ in 0..3 {
            assert_eq!(numbers.renew(false), None);
            numbers.next();
        }
        numbers.next();
        assert_eq!(numbers.renew(false), Some(Lease(12)));
        assert_eq!(numbers.renew(true), None);
        numbers.lost();
        assert_eq!(numbers.renew(false), Some(Lease(12)));
    }

    #[test]
    fn what_others_use_is_passed_over_even_beyond_the_lease() {
        let mut numbers = granted(6);
        numbers.hear(3);
        assert_eq!(numbers.next(), Some(4));
        numbers.hear(9);
        assert_eq!(numbers.next(), None);
        assert_eq!(numbers.renew(true), Some(Lease(15)));
        numbers.granted(Lease(15));
        assert_eq!(numbers.next(), Some(10));
    }
}
