//! Votes of a known set of voters: who has answered, and whether it is decided.
//!
//! A [`Votes`] needs a number of yes votes: all of them for a unanimous decision (two-phase commit), a majority for an
//! acceptor's quorum. The first vote of a voter counts. A duplicate, an echo that says otherwise, or a vote of a stranger
//! changes nothing.
//!
//! ```
//! use ordain::protocol::kit::votes::{Tally, Votes};
//!
//! let mut prepared = Votes::of_all([1, 2, 3]);
//! assert_eq!(prepared.record(1, true), Tally::Open);
//! assert_eq!(prepared.record(1, true), Tally::Open); // A duplicate.
//! assert_eq!(prepared.missing().collect::<Vec<_>>(), [2, 3]);
//! assert_eq!(prepared.record(2, false), Tally::Refused); // One no is enough.
//!
//! let mut accepted = Votes::of_majority(["a", "b", "c"]);
//! assert_eq!(accepted.record("b", true), Tally::Open);
//! assert_eq!(accepted.record("stranger", true), Tally::Open);
//! assert_eq!(accepted.record("c", true), Tally::Accepted);
//! ```

use std::collections::BTreeMap;

/// Where a vote stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tally {
    /// More votes are needed.
    Open,
    /// Enough have voted yes.
    Accepted,
    /// So many have voted no that enough can never vote yes.
    Refused,
}

/// How many of `voters` are a majority.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The votes of voters `P`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Votes<P> {
    needed: usize,
    /// Each voter, with its vote if it is known.
    by_voter: BTreeMap<P, Option<bool>>,
}

impl<P: Ord + Copy> Votes<P> {
    /// `needed` of these have to vote yes.
    pub fn of(voters: impl IntoIterator<Item = P>, needed: usize) -> Self {
        let voters = voters.into_iter().map(|voter| (voter, None));
        Self {
            needed,
            by_voter: voters.collect(),
        }
    }

    /// All of these have to vote yes.
    pub fn of_all(voters: impl IntoIterator<Item = P>) -> Self {
        let mut votes = Self::of(voters, 0);
        votes.needed = votes.by_voter.len();
        votes
    }

    /// A majority of these has to vote yes.
    pub fn of_majority(voters: impl IntoIterator<Item = P>) -> Self {
        let mut votes = Self::of(voters, 0);
        votes.needed = majority(votes.by_voter.len());
        votes
    }

    /// Counts a vote, unless this voter has voted or is none.
    pub fn record(&mut self, from: P, yes: bool) -> Tally {
        if let Some(vote @ None) = self.by_voter.get_mut(&from) {
            *vote = Some(yes);
        }
        self.tally()
    }

    /// Where it stands.
    pub fn tally(&self) -> Tally {
        let count = |vote| self.by_voter.values().filter(|of| **of == vote).count();
        let yes = count(Some(true));
        if yes >= self.needed {
            Tally::Accepted
        } else if yes + count(None) < self.needed {
            Tally::Refused
        } else {
            Tally::Open
        }
    }

    /// Those that have not voted.
    pub fn missing(&self) -> impl Iterator<Item = P> + '_ {
        let missing = self.by_voter.iter().filter(|(_, vote)| vote.is_none());
        missing.map(|(voter, _)| *voter)
    }

    /// Whether this voter's vote is awaited.
    pub fn misses(&self, voter: P) -> bool {
        self.by_voter.get(&voter) == Some(&None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All sequences of votes of three voters and a stranger, against a count by hand.
    #[test]
    fn a_tally_is_the_count_of_first_votes() {
        for needed in 0..=3 {
            for sequence in 0..8_usize.pow(5) {
                let mut votes = Votes::of(0..3, needed);
                let mut first: BTreeMap<usize, bool> = BTreeMap::new();
                let mut rest = sequence;
                for _ in 0..5 {
                    let (voter, yes) = (rest % 4, rest / 4 % 2 == 0);
                    rest /= 8;
                    if voter < 3 {
                        first.entry(voter).or_insert(yes);
                    }
                    let in_favour = first.values().filter(|yes| **yes).count();
                    let against = first.len() - in_favour;
                    let expected = if in_favour >= needed {
                        Tally::Accepted
                    } else if 3 - against < needed {
                        Tally::Refused
                    } else {
                        Tally::Open
                    };
                    assert_eq!(votes.record(voter, yes), expected, "{sequence} of {needed}");
                    let missing: Vec<usize> = (0..3).filter(|at| !first.contains_key(at)).collect();
                    assert_eq!(votes.missing().collect::<Vec<_>>(), missing);
                    assert!((0..4).all(|at| votes.misses(at) == missing.contains(&at)));
                }
            }
        }
    }

    #[test]
    fn two_majorities_meet() {
        for voters in 1..=9 {
            assert!(2 * majority(voters) > voters);
            assert!(
                2 * (majority(voters) - 1) <= voters,
                "a smaller one would do"
            );
        }
        assert_eq!(Votes::of_majority([1, 2]).tally(), Tally::Open);
        assert_eq!(
            Votes::<u8>::of_all([]).tally(),
            Tally::Accepted,
            "nobody is against it"
        );
    }
}
