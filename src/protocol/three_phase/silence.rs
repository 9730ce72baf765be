//! Who is taken for crashed: whoever has left several questions in a row unanswered, and whoever is known to have restarted.

use std::collections::{BTreeMap, BTreeSet};

use super::Rank;

/// What one node knows of the others' silence, in one transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Silence {
    /// How many questions in a row each has left unanswered.
    missed: BTreeMap<Rank, u64>,
    /// Those that are known to have crashed, up again or not.
    gone: BTreeSet<Rank>,
}

impl Silence {
    /// It has said something.
    pub fn heard(&mut self, rank: Rank) {
        self.missed.remove(&rank);
    }

    /// It is asked.
    pub fn asked(&mut self, rank: Rank, rounds: u64) {
        let missed = self.missed.entry(rank).or_default();
        *missed = (rounds + 1).min(*missed + 1);
    }

    /// It has crashed.
    pub fn lost(&mut self, rank: Rank) {
        self.gone.insert(rank);
    }

    /// Whether it is known to have crashed.
    pub fn has_lost(&self, rank: Rank) -> bool {
        self.gone.contains(&rank)
    }

    /// Whether it is taken for crashed: it was asked so many times after the first question that it has not answered.
    pub fn suspects(&self, rank: Rank, rounds: u64) -> bool {
        let missed = self.missed.get(&rank).copied().unwrap_or(0);
        self.has_lost(rank) || missed > rounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_questions_in_a_row_and_a_crash_is_for_ever() {
        let mut silence = Silence::default();
        silence.asked(1, 2);
        silence.asked(1, 2);
        assert!(!silence.suspects(1, 2));
        silence.heard(1);
        silence.asked(1, 2);
        silence.asked(1, 2);
        assert!(!silence.suspects(1, 2), "an answer begins a new count");
        silence.asked(1, 2);
        assert!(silence.suspects(1, 2));
        silence.heard(1);
        assert!(!silence.suspects(1, 2), "it was only slow");
        silence.lost(2);
        silence.heard(2);
        assert!(silence.suspects(2, 2) && silence.has_lost(2));
    }
}
