//! How much of a network a log needs to go on.
//!
//! A partition need not be clean: two replicas may have lost one another while a third reaches both (Alfatafta, Alkhatib,
//! Alquraan and Al-Kiswany, "Toward a Generic Fault Tolerance Technique for Partial Network Partitioning", OSDI 2020).
//! Ng, Haridi and Carbone ("Omni-Paxos: Breaking the Barriers of Partial Connectivity", EuroSys 2023) show three
//! shapes in which replicated logs stand still although some replica reaches a majority:
//!
//! | their scenario | links left | Raft | Multi-Paxos |
//! |---|---|---|---|
//! | quorum loss | all to one replica, which still hears the old leader | live: the leader steps down, and the hub has what it has | live |
//! | constrained election | all to one replica whose log is behind | **stands still**: who has the log reaches no majority, and the hub gets no votes | live |
//! | chain | the leader and another have lost one another, a third reaches both | live: nobody raises terms without a majority | live |
//!
//! The reasons are in the rules of both. A leader that no majority answers steps down (thesis, section 6.2). A replica that
//! hears from a leader takes part in no election (section 4.2.3). A candidate asks a majority first (section 9.6). What
//! remains is Raft's election restriction (section 5.4.1): a leader needs the log *before* its election, and nobody
//! brings it to the hub. A Paxos leader gets it with the promises.
//!
//! *Live* is the log: what its leader is asked to order is committed. Replicas that the leader does not reach are not
//! brought up to date while the shape lasts, whatever it is.

use serde::{Deserialize, Serialize};

use super::Algorithm;

/// How the replicas of a group reach one another, from the least to the most. Two replicas reach one another if messages
/// pass both ways; one that is down reaches nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// No replica reaches a majority, itself included. Nothing can be committed, by any algorithm.
    Scattered,
    /// Some replica reaches a majority, and no majority all reach one another: the middle of a star, for example.
    Hub,
    /// The replicas of some majority all reach one another.
    Majority,
}

impl Shape {
    /// The shape of a group of `size` replicas, numbered from 0, of which two reach one another if `linked` says so
    /// both ways; `linked(a, a)` is whether `a` is up.
    pub fn of(size: usize, linked: impl Fn(usize, usize) -> bool) -> Self {
        let reaches =
            |a: usize, b: usize| linked(a, a) && linked(b, b) && linked(a, b) && linked(b, a);
        let majority = size / 2 + 1;
        let reached = |a: usize| (0..size).filter(|b| reaches(a, *b)).collect::<Vec<_>>();
        let hubs: Vec<usize> = (0..size)
            .filter(|a| reached(*a).len() >= majority)
            .collect();
        if hubs.is_empty() {
            Shape::Scattered
        } else if has_clique(&reaches, &hubs, majority) {
            Shape::Majority
        } else {
            Shape::Hub
        }
    }
}

/// Whether `count` of the candidates all reach one another.
fn has_clique(reaches: &impl Fn(usize, usize) -> bool, candidates: &[usize], count: usize) -> bool {
    if count == 0 {
        return true;
    }
    let Some((first, rest)) = candidates
        .split_first()
        .filter(|_| candidates.len() >= count)
    else {
        return false;
    };
    let with: Vec<usize> = rest
        .iter()
        .copied()
        .filter(|b| reaches(*first, *b))
        .collect();
    has_clique(reaches, &with, count - 1) || has_clique(reaches, rest, count)
}

impl Algorithm {
    /// The least that keeps the log live once no more faults strike: under this shape and every greater one a leader is
    /// elected, stays, and commits.
    pub fn needs(self) -> Shape {
        match self {
            // The member of the majority with the most complete log gets everybody's vote there.
            Algorithm::Raft => Shape::Majority,
            // Whoever reaches a majority can lead: it learns the log from the promises.
            Algorithm::MultiPaxos => Shape::Hub,
        }
    }

    /// Whether the log is live under this shape of connectivity.
    pub fn live_under(self, shape: Shape) -> bool {
        shape >= self.needs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(size: usize, links: &[(usize, usize)]) -> Shape {
        Shape::of(size, |a, b| a == b || links.contains(&(a.min(b), a.max(b))))
    }

    #[test]
    fn stars_chains_and_rings_have_the_shapes_that_the_paper_draws() {
        let star = [(0, 1), (0, 2), (0, 3), (0, 4)];
        assert_eq!(shape(5, &star), Shape::Hub);
        assert_eq!(shape(5, &star[..2]), Shape::Hub, "a star of three of five");
        assert_eq!(shape(5, &star[..1]), Shape::Scattered);
        assert_eq!(shape(3, &[(0, 1), (1, 2)]), Shape::Majority, "two of three");
        assert_eq!(shape(5, &[(0, 1), (1, 2), (2, 3), (3, 4)]), Shape::Hub);
        assert_eq!(shape(5, &[(0, 1), (1, 2), (0, 2)]), Shape::Majority);
        assert_eq!(
            shape(7, &[(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (0, 6)]),
            Shape::Scattered
        );
        assert_eq!(shape(1, &[]), Shape::Majority);
        assert_eq!(shape(2, &[]), Shape::Scattered);
    }

    #[test]
    fn a_link_that_passes_one_way_or_a_machine_that_is_down_links_nobody() {
        assert_eq!(Shape::of(3, |a, b| a <= b), Shape::Scattered);
        assert_eq!(Shape::of(3, |a, b| a != 2 && b != 2), Shape::Majority);
        assert_eq!(Shape::of(3, |a, b| a == 0 && b == 0), Shape::Scattered);
    }
}
