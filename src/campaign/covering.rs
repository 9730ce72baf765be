//! Covering arrays over options: few rows in which each value of each option meets each value of every other.
//!
//! Cohen, Dalal, Fredman and Patton, "The AETG System: An Approach to Testing Based on Combinatorial Design", IEEE
//! TSE 23(7), 1997: most faults that depend on options depend on one of them or on two together, and the rows that
//! cover all pairs grow with the logarithm of the number of options. Built greedily, one row after the other, each
//! value chosen for the most pairs that are not covered yet.

use std::collections::BTreeSet;

use crate::base::options::{Chosen, Described, OptionValue};

/// Rows that cover every pair of values of different options, as far as the two go together at all: `fits` says
/// whether values go together, the other options being as they are by default. The same options give the same rows.
pub fn rows(options: &[Described], fits: impl Fn(&Chosen) -> bool) -> Vec<Chosen> {
    let values: Vec<Vec<OptionValue>> = options.iter().map(Described::tried).collect();
    let named = |picks: &[Pick]| -> Chosen {
        let named =
            |&(option, value): &Pick| (options[option].name.clone(), values[option][value].clone());
        picks.iter().map(named).collect()
    };
    let counts: Vec<usize> = values.iter().map(Vec::len).collect();
    let mut wanted = Wanted::all(&counts);
    let mut rows = Vec::new();
    while let Some(first) = wanted.first() {
        // Most rows fit as they come. Only where one does not is each of its values asked about.
        let mut picks = row(&counts, &wanted, first, rows.len(), &|_| true);
        if !fits(&named(&picks)) {
            if !fits(&named(&first)) {
                wanted.remove(&first);
                continue;
            }
            picks = row(&counts, &wanted, first, rows.len(), &|picks| {
                fits(&named(picks))
            });
        }
        wanted.remove(&picks);
        rows.push(named(&picks));
    }
    rows
}

/// An option and one of its values, by their positions.
type Pick = (usize, usize);

/// The next row: it has `first`, and of every other option the value that meets the most others for the first time.
fn row(
    counts: &[usize],
    wanted: &Wanted,
    first: [Pick; 2],
    turn: usize,
    fits: &dyn Fn(&[Pick]) -> bool,
) -> Vec<Pick> {
    let mut picks = first.to_vec();
    // An option alone is paired with itself.
    picks.dedup();
    let others = (0..counts.len()).map(|at| (at + turn) % counts.len());
    for option in others.filter(|option| first.iter().all(|pick| pick.0 != *option)) {
        // Other values win ties in other rows, so that none is left over for rows of its own.
        let mut ranked: Vec<Pick> = { 0..counts[option] }
            .map(|at| (option, (at + turn) % counts[option]))
            .collect();
        ranked.sort_by_key(|pick| std::cmp::Reverse(wanted.gain(&picks, *pick)));
        let fitting = ranked
            .into_iter()
            .find(|pick| fits(&[&picks[..], &[*pick]].concat()));
        picks.extend(fitting);
    }
    picks
}

/// Pairs of picks that no row covers yet.
struct Wanted(BTreeSet<[Pick; 2]>);

impl Wanted {
    fn all(counts: &[usize]) -> Wanted {
        let picks = |option: usize| (0..counts[option]).map(move |value| (option, value));
        if counts.len() == 1 {
            return Wanted(picks(0).map(|pick| [pick, pick]).collect());
        }
        let later = |one: usize| (one + 1..counts.len()).flat_map(picks);
        let pairs = (0..counts.len()).flat_map(|option| {
            picks(option).flat_map(move |one| later(option).map(move |other| [one, other]))
        });
        Wanted(pairs.collect())
    }

    fn first(&self) -> Option<[Pick; 2]> {
        self.0.first().copied()
    }

    /// How many pairs a pick would cover beside these.
    fn gain(&self, beside: &[Pick], pick: Pick) -> usize {
        let pairs = beside
            .iter()
            .map(|other| [pick.min(*other), pick.max(*other)]);
        pairs.filter(|pair| self.0.contains(pair)).count()
    }

    /// Forgets what these picks cover.
    fn remove(&mut self, picks: &[Pick]) {
        for one in picks {
            for other in picks {
                self.0.remove(&[*one, *other]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::Domain;

    fn choice(name: &str, values: &'static [&'static str]) -> Described {
        Described {
            name: name.to_owned(),
            about: String::new(),
            default: OptionValue::Word(values[0].to_owned()),
            domain: Domain::Choice { values },
        }
    }

    fn meet(rows: &[Chosen], one: (&str, &OptionValue), other: (&str, &OptionValue)) -> bool {
        rows.iter()
            .any(|row| row.get(one.0) == Some(one.1) && row.get(other.0) == Some(other.1))
    }

    /// Every pair, and whether it is covered.
    fn pairs(options: &[Described], rows: &[Chosen]) -> Vec<(String, bool)> {
        let mut pairs = Vec::new();
        for (at, one) in options.iter().enumerate() {
            for other in &options[at + 1..] {
                for value in one.tried() {
                    for with in other.tried() {
                        let name = format!("{}={value} {}={with}", one.name, other.name);
                        let covered = meet(rows, (&one.name, &value), (&other.name, &with));
                        pairs.push((name, covered));
                    }
                }
            }
        }
        pairs
    }

    #[test]
    fn every_pair_of_values_meets_in_few_rows() {
        let options: Vec<Described> = { 0..12u8 }
            .map(|at| choice(&format!("o{at}"), &["a", "b", "c"]))
            .collect();
        let rows = rows(&options, |_| true);
        let missing: Vec<_> = pairs(&options, &rows)
            .into_iter()
            .filter(|pair| !pair.1)
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        // Nine rows are the least for two options of three values; all combinations would be 531,441.
        assert!((9..=27).contains(&rows.len()), "{}", rows.len());
        assert!(rows.iter().all(|row| row.len() == options.len()));
    }

    #[test]
    fn without_one_of_its_rows_an_array_misses_a_pair() {
        let options = [
            choice("a", &["x", "y"]),
            choice("b", &["1", "2"]),
            choice("c", &["p", "q"]),
        ];
        let all = rows(&options, |_| true);
        for left_out in 0..all.len() {
            let mut fewer = all.clone();
            fewer.remove(left_out);
            assert!(pairs(&options, &fewer).iter().any(|(_, covered)| !covered));
        }
    }

    #[test]
    fn values_that_do_not_go_together_are_in_no_row_and_everything_else_is() {
        let options = [
            choice("a", &["x", "y"]),
            choice("b", &["1", "2"]),
            choice("c", &["p", "q"]),
        ];
        let word = |row: &Chosen, name: &str| match row.get(name) {
            Some(OptionValue::Word(word)) => word.clone(),
            _ => String::new(),
        };
        let rows = rows(&options, |row| {
            !(word(row, "a") == "y" && word(row, "b") == "2")
        });
        let missing: Vec<_> = pairs(&options, &rows)
            .into_iter()
            .filter(|pair| !pair.1)
            .collect();
        assert_eq!(missing, [("a=\"y\" b=\"2\"".to_owned(), false)]);
    }

    #[test]
    fn an_option_alone_is_tried_with_each_of_its_values() {
        assert_eq!(rows(&[choice("a", &["x", "y", "z"])], |_| true).len(), 3);
        assert!(rows(&[], |_| true).is_empty());
    }
}
