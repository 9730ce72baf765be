//! The safety of replicated logs, watched across replicas while a run happens (Ongaro and Ousterhout, USENIX
//! ATC 2014, figure 3).
//!
//! | property | what breaks it |
//! |---|---|
//! | `election-safety` | two replicas lead one term |
//! | `log-matching` | two logs have an entry of the same index and term, and differ in it or before it |
//! | `leader-completeness` | a replica wins a term without an entry that an earlier term committed |
//! | `state-machine-safety` | two replicas hand on different entries at one index, or one that nobody has |
//! | `leader-order` | an entry is committed behind one of a later leader ([`crate::consensus`]) |
//! | `log-shape` | a replica states a change that its log cannot have made: the observations are wrong |
//!
//! Every entry has a *chain*: the digest of the log up to and including it. So a log is compared with
//! another in one step, and the work for each observation does not grow with the logs.

use std::collections::BTreeMap;

use crate::base::digest::stable_hash;
use crate::base::monitor::{Monitor, Violation};
use crate::base::observation::{LogEvent, Observation, Observed};
use crate::base::process::{Addr, Process};

/// Watches every replicated log of a run.
#[derive(Clone, Debug, Default)]
pub struct LogSafety {
    groups: BTreeMap<u16, Group>,
    exercised: Exercised,
}

/// How often each property was put to the test.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Exercised {
    /// Elections won.
    pub election_safety: u64,
    /// Entries appended whose index and term another replica had appended before.
    pub log_matching: u64,
    /// Elections won when something had been committed in an earlier term.
    pub leader_completeness: u64,
    /// Entries handed on that another replica had handed on before.
    pub state_machine_safety: u64,
    /// Committed entries that were not of the same leader as the one before.
    pub leader_order: u64,
}

impl Exercised {
    /// The sum over the properties.
    pub fn total(&self) -> u64 {
        self.election_safety
            + self.log_matching
            + self.leader_completeness
            + self.state_machine_safety
            + self.leader_order
    }
}

#[derive(Clone, Debug, Default)]
struct Group {
    replicas: BTreeMap<Addr, Replica>,
    leaders: BTreeMap<u64, Addr>,
    /// Every entry that was ever in some log, by index and term.
    entries: BTreeMap<(u64, u64), Known>,
    /// What was committed, from index 1 on.
    committed: Vec<Committed>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    content: u64,
    chain: Chain,
    by: Addr,
}

/// The digest of a log up to an entry.
type Chain = u64;

#[derive(Clone, Copy, Debug)]
struct Committed {
    term: u64,
    content: u64,
    chain: Chain,
    /// The term whose leader committed it, as far as can be seen: the term of the last entry that became
    /// committed with it. By section 5.4.2 that is the leader's own.
    in_term: u64,
    by: Addr,
}

/// One replica's log as its observations tell it.
#[derive(Clone, Debug, Default)]
struct Replica {
    /// Everything up to here is in the snapshot.
    base: Base,
    entries: Vec<Entry>,
    commit: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Base {
    index: u64,
    term: u64,
    chain: Chain,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    term: u64,
    content: u64,
    chain: Chain,
}

/// A property's name and what broke it.
type Broken = (&'static str, String);

impl LogSafety {
    /// How often each property was put to the test.
    pub fn exercised(&self) -> Exercised {
        self.exercised
    }

    /// Takes note of one replica's step.
    ///
    /// # Errors
    ///
    /// The name of the property that the step breaks, and how.
    fn log_event(&mut self, group: u16, by: Addr, event: &LogEvent) -> Result<(), Broken> {
        let group = self.groups.entry(group).or_default();
        group.replicas.entry(by).or_default();
        match *event {
            LogEvent::Restarted {
                snapshot_index,
                snapshot_term,
            } => group.restart(by, snapshot_index, snapshot_term),
            LogEvent::BecameLeader { term } => {
                self.exercised.election_safety += 1;
                group.elect(by, term)?;
                group.complete(by, term, &mut self.exercised)
            }
            LogEvent::WonBallot { ballot } => {
                self.exercised.election_safety += 1;
                group.elect(by, ballot)
            }
            LogEvent::Appended {
                index,
                term,
                content,
            } => group.append(
                by,
                index,
                Entry {
                    term,
                    content,
                    chain: 0,
                },
                &mut self.exercised,
            ),
            LogEvent::Truncated { from } => group.truncate(by, from),
            LogEvent::Committed { index } => group.commit(by, index, &mut self.exercised),
            LogEvent::Compacted { index, term } => group.compact(by, index, term),
        }
    }
}

impl<P: Process> Monitor<P> for LogSafety {
    fn observe(&mut self, observed: &Observed) -> Result<(), Violation> {
        let Observation::Log { group, event } = &observed.what else {
            return Ok(());
        };
        let checked = self.log_event(*group, observed.by, event);
        checked.map_err(|(property, explanation)| Violation {
            at_ns: observed.at_ns,
            by: observed.by,
            property,
            explanation: format!("log {group}: {explanation}"),
        })
    }
}

impl Group {
    fn replica(&mut self, by: Addr) -> &mut Replica {
        self.replicas.get_mut(&by).expect("it was entered before")
    }

    /// What is known of an entry that some snapshot ends with.
    fn base(&self, index: u64, term: u64) -> Base {
        let chain = self
            .entries
            .get(&(index, term))
            .map_or(0, |known| known.chain);
        Base { index, term, chain }
    }

    fn restart(&mut self, by: Addr, index: u64, term: u64) -> Result<(), Broken> {
        let base = self.base(index, term);
        *self.replica(by) = Replica {
            base,
            entries: Vec::new(),
            commit: index,
        };
        Ok(())
    }

    fn elect(&mut self, by: Addr, term: u64) -> Result<(), Broken> {
        let leader = *self.leaders.entry(term).or_insert(by);
        if leader != by {
            let both = format!("{leader} and {by} were both elected in term {term}");
            return Err(("election-safety", both));
        }
        Ok(())
    }

    /// Whether a new leader has what earlier ones committed.
    fn complete(&self, by: Addr, term: u64, exercised: &mut Exercised) -> Result<(), Broken> {
        let earlier = self.committed.partition_point(|entry| entry.in_term < term);
        let Some(owed) = earlier.checked_sub(1).map(|last| self.committed[last]) else {
            return Ok(());
        };
        exercised.leader_completeness += 1;
        let index = earlier as u64;
        let replica = &self.replicas[&by];
        let missing = match replica.chain(index) {
            None if replica.base.index > index => return Ok(()),
            None => format!("its log ends at {}", replica.last_index()),
            Some(chain) if chain == owed.chain => return Ok(()),
            Some(_) => "it has another entry there or before".to_owned(),
        };
        let explanation = format!(
            "{by} was elected in term {term} without the entry at {index}, which {} committed in term {}: {missing}",
            owed.by, owed.in_term
        );
        Err(("leader-completeness", explanation))
    }

    fn append(
        &mut self,
        by: Addr,
        index: u64,
        entry: Entry,
        exercised: &mut Exercised,
    ) -> Result<(), Broken> {
        let replica = self.replica(by);
        let end = replica.last_index();
        if index != end + 1 {
            let gap = format!("{by} appended index {index} to a log that ended at {end}");
            return Err(("log-shape", gap));
        }
        let before = replica.chain(end).expect("a log has its own end");
        let chain = stable_hash(&(before, entry.term, entry.content));
        replica.entries.push(Entry { chain, ..entry });
        let (term, content) = (entry.term, entry.content);
        let known = *self
            .entries
            .entry((index, term))
            .or_insert(Known { content, chain, by });
        if known.by != by {
            exercised.log_matching += 1;
        }
        let differs = match (known.content == content, known.chain == chain) {
            (true, true) => return Ok(()),
            (false, _) => "differ in it",
            (true, false) => "agree in it, and differ before it",
        };
        let explanation = format!(
            "{} and {by} have an entry at index {index} of term {term}, and {differs}",
            known.by
        );
        Err(("log-matching", explanation))
    }

    fn truncate(&mut self, by: Addr, from: u64) -> Result<(), Broken> {
        let replica = self.replica(by);
        if from <= replica.base.index || from > replica.last_index() {
            let wrong = format!(
                "{by} removed its entries from {from} on, and has {}",
                replica.extent()
            );
            return Err(("log-shape", wrong));
        }
        if from <= replica.commit {
            let lost =
                format!("{by} removed its entry at {from}, which it had handed on as committed");
            return Err(("state-machine-safety", lost));
        }
        let kept = (from - replica.base.index - 1) as usize;
        replica.entries.truncate(kept);
        Ok(())
    }

    fn commit(&mut self, by: Addr, index: u64, exercised: &mut Exercised) -> Result<(), Broken> {
        let replica = &self.replicas[&by];
        if index > replica.last_index() {
            let beyond = format!(
                "{by} committed up to index {index}, and has {}",
                replica.extent()
            );
            return Err(("state-machine-safety", beyond));
        }
        let Some(in_term) = replica.term(index) else {
            return Ok(()); // The snapshot covers it already.
        };
        for at in replica.commit.max(replica.base.index) + 1..=index {
            let entry = replica.entries[(at - replica.base.index - 1) as usize];
            let Some(first) = self.committed.get(at as usize - 1) else {
                let (term, content, chain) = (entry.term, entry.content, entry.chain);
                if let Some(before) = self.committed.last().filter(|last| last.term != term) {
                    exercised.leader_order += 1;
                    if term < before.term {
                        let behind = format!(
                            "{by} committed an entry of term {term} at index {at}, behind one of term {}",
                            before.term
                        );
                        return Err(("leader-order", behind));
                    }
                }
                self.committed.push(Committed {
                    term,
                    content,
                    chain,
                    in_term,
                    by,
                });
                continue;
            };
            if first.by != by {
                exercised.state_machine_safety += 1;
            }
            if (first.term, first.content) != (entry.term, entry.content) {
                let both = format!(
                    "{} and {by} committed different entries at index {at}",
                    first.by
                );
                return Err(("state-machine-safety", both));
            }
        }
        let replica = self.replica(by);
        replica.commit = replica.commit.max(index);
        Ok(())
    }

    fn compact(&mut self, by: Addr, index: u64, term: u64) -> Result<(), Broken> {
        let base = self.base(index, term);
        let Some(committed) = (index as usize)
            .checked_sub(1)
            .map(|at| self.committed.get(at))
        else {
            return Ok(()); // An empty snapshot.
        };
        let Some(committed) = committed else {
            let early =
                format!("{by} has a snapshot up to index {index}, which nobody has committed");
            return Err(("state-machine-safety", early));
        };
        if committed.chain != base.chain {
            let other = format!(
                "{by} has a snapshot up to index {index} of term {term}, where {} committed another entry",
                committed.by
            );
            return Err(("state-machine-safety", other));
        }
        let replica = self.replica(by);
        if index < replica.base.index {
            let back = format!(
                "{by} has a snapshot up to index {index}, and had one up to {}",
                replica.base.index
            );
            return Err(("log-shape", back));
        }
        // Section 7: what follows the snapshot's last entry stays, if the log has that entry.
        let follows = replica.term(index) == Some(term);
        let covered = (index - replica.base.index) as usize;
        if follows {
            replica.entries.drain(..covered);
        } else {
            replica.entries.clear();
        }
        replica.base = base;
        replica.commit = replica.commit.max(index);
        Ok(())
    }
}

impl Replica {
    fn last_index(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        let position = index.checked_sub(self.base.index + 1)?;
        self.entries.get(position as usize)
    }

    fn term(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    fn chain(&self, index: u64) -> Option<Chain> {
        if index == self.base.index {
            return Some(self.base.chain);
        }
        self.entry(index).map(|entry| entry.chain)
    }

    fn extent(&self) -> String {
        format!("entries {} to {}", self.base.index + 1, self.last_index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::process::NodeId;

    const A: u16 = 0;
    const B: u16 = 1;
    const C: u16 = 2;

    fn append(index: u64, term: u64) -> LogEvent {
        // Content that goes with index and term, as a correct log has it.
        LogEvent::Appended {
            index,
            term,
            content: 1_000 * term + index,
        }
    }

    fn lead(term: u64) -> LogEvent {
        LogEvent::BecameLeader { term }
    }

    fn commit(index: u64) -> LogEvent {
        LogEvent::Committed { index }
    }

    /// The first property that a story breaks, and how often each was exercised.
    fn judge(story: &[(u16, LogEvent)]) -> (Option<&'static str>, Exercised) {
        let mut monitor = LogSafety::default();
        for (node, event) in story {
            let by = Addr {
                node: NodeId(*node),
                port: 0,
            };
            if let Err((property, _)) = monitor.log_event(0, by, event) {
                return (Some(property), monitor.exercised());
            }
        }
        (None, monitor.exercised())
    }

    fn verdict(story: &[(u16, LogEvent)]) -> Option<&'static str> {
        judge(story).0
    }

    /// A leads term 1 and replicates two entries to B, of which the first is committed on both.
    fn ordinary() -> Vec<(u16, LogEvent)> {
        vec![
            (A, lead(1)),
            (A, append(1, 1)),
            (A, append(2, 1)),
            (B, append(1, 1)),
            (A, commit(1)),
            (B, append(2, 1)),
            (B, commit(1)),
        ]
    }

    fn then(mut story: Vec<(u16, LogEvent)>, more: &[(u16, LogEvent)]) -> Vec<(u16, LogEvent)> {
        story.extend_from_slice(more);
        story
    }

    #[test]
    fn an_ordinary_run_breaks_nothing_and_exercises_every_property() {
        let (broken, exercised) = judge(&then(ordinary(), &[(B, lead(2)), (B, append(3, 2))]));
        assert_eq!(broken, None);
        let expected = Exercised {
            election_safety: 2,
            log_matching: 2,
            leader_completeness: 1,
            state_machine_safety: 1,
            leader_order: 0,
        };
        assert_eq!(exercised, expected);
    }

    #[test]
    fn two_leaders_of_one_term_break_election_safety() {
        assert_eq!(
            verdict(&[(A, lead(3)), (B, lead(3))]),
            Some("election-safety")
        );
        assert_eq!(verdict(&[(A, lead(3)), (B, lead(4)), (A, lead(5))]), None);
    }

    #[test]
    fn different_content_of_one_index_and_term_breaks_log_matching() {
        let other = LogEvent::Appended {
            index: 1,
            term: 1,
            content: 7,
        };
        assert_eq!(
            verdict(&[(A, append(1, 1)), (B, other)]),
            Some("log-matching")
        );
    }

    #[test]
    fn equal_entries_after_different_ones_break_log_matching() {
        let story = [
            (A, append(1, 1)),
            (A, append(2, 3)),
            (B, append(1, 2)),
            (B, append(2, 3)),
        ];
        assert_eq!(verdict(&story), Some("log-matching"));
    }

    #[test]
    fn conflicting_tails_of_different_terms_are_no_violation() {
        let story = [
            (A, append(1, 1)),
            (A, append(2, 1)),
            (B, append(1, 1)),
            (B, append(2, 2)),
            (A, LogEvent::Truncated { from: 2 }),
            (A, append(2, 2)),
        ];
        assert_eq!(verdict(&story), None);
    }

    #[test]
    fn a_leader_without_a_committed_entry_breaks_leader_completeness() {
        assert_eq!(
            verdict(&then(ordinary(), &[(C, lead(2))])),
            Some("leader-completeness")
        );
        let other_tail = [(C, append(1, 2)), (C, lead(3))];
        assert_eq!(
            verdict(&then(ordinary(), &other_tail)),
            Some("leader-completeness")
        );
    }

    #[test]
    fn a_leader_without_an_uncommitted_entry_is_no_violation() {
        assert_eq!(
            verdict(&then(ordinary(), &[(C, append(1, 1)), (C, lead(2))])),
            None
        );
    }

    #[test]
    fn a_belated_winner_of_an_old_term_owes_nothing_to_later_terms() {
        let story = [
            (A, lead(7)),
            (A, append(1, 7)),
            (B, append(1, 7)),
            (A, commit(1)),
            (C, lead(5)),
        ];
        assert_eq!(verdict(&story), None);
        assert_eq!(
            verdict(&then(story.to_vec(), &[(C, lead(8))])),
            Some("leader-completeness")
        );
    }

    #[test]
    fn an_old_entry_counts_as_committed_in_the_term_that_committed_it() {
        // Figure 8: the entry of term 2 is committed by term 4's leader together with one of its own. A
        // belated winner of term 3 need not have it.
        let story = [
            (A, append(1, 2)),
            (A, lead(4)),
            (A, append(2, 4)),
            (A, commit(2)),
            (C, lead(3)),
        ];
        assert_eq!(verdict(&story), None);
    }

    #[test]
    fn different_entries_committed_at_one_index_break_state_machine_safety() {
        let story = [
            (A, append(1, 1)),
            (A, commit(1)),
            (B, append(1, 2)),
            (B, commit(1)),
        ];
        assert_eq!(verdict(&story), Some("state-machine-safety"));
    }

    #[test]
    fn an_entry_of_an_earlier_leader_committed_behind_a_later_one_breaks_leader_order() {
        let terms = |terms: [u64; 3]| {
            let entries = (1..)
                .zip(terms)
                .map(|(index, term)| (A, append(index, term)));
            let story: Vec<_> = entries.chain([(A, commit(3))]).collect();
            judge(&story)
        };
        let (broken, exercised) = terms([1, 2, 2]);
        assert_eq!((broken, exercised.leader_order), (None, 1));
        assert_eq!(terms([1, 2, 1]).0, Some("leader-order"));
    }

    #[test]
    fn a_winner_of_a_ballot_holds_more_than_it_has_stated_and_is_alone() {
        let won = |ballot| LogEvent::WonBallot { ballot };
        assert_eq!(verdict(&then(ordinary(), &[(C, won(2))])), None);
        assert_eq!(
            verdict(&[(A, won(3)), (B, won(3))]),
            Some("election-safety")
        );
    }

    #[test]
    fn committing_or_removing_what_cannot_be_breaks_state_machine_safety() {
        assert_eq!(
            verdict(&[(A, append(1, 1)), (A, commit(2))]),
            Some("state-machine-safety")
        );
        let removed = [
            (A, append(1, 1)),
            (A, commit(1)),
            (A, LogEvent::Truncated { from: 1 }),
        ];
        assert_eq!(verdict(&removed), Some("state-machine-safety"));
    }

    #[test]
    fn a_snapshot_of_uncommitted_or_other_entries_breaks_state_machine_safety() {
        let snapshot = |index, term| LogEvent::Compacted { index, term };
        assert_eq!(
            verdict(&then(ordinary(), &[(C, snapshot(2, 1))])),
            Some("state-machine-safety")
        );
        let other = [(C, append(1, 3)), (C, snapshot(1, 3))];
        assert_eq!(
            verdict(&then(ordinary(), &other)),
            Some("state-machine-safety")
        );
        assert_eq!(verdict(&then(ordinary(), &[(C, snapshot(1, 1))])), None);
    }

    #[test]
    fn a_log_goes_on_after_its_snapshot_and_after_a_restart() {
        let restarted = LogEvent::Restarted {
            snapshot_index: 1,
            snapshot_term: 1,
        };
        let story = [
            (C, LogEvent::Compacted { index: 1, term: 1 }),
            (C, append(2, 1)),
            (C, restarted),
            (C, append(2, 1)),
            (C, commit(2)),
            (C, lead(2)),
        ];
        assert_eq!(verdict(&then(ordinary(), &story)), None);
        let forgot = [
            (
                B,
                LogEvent::Restarted {
                    snapshot_index: 0,
                    snapshot_term: 0,
                },
            ),
            (B, lead(2)),
        ];
        assert_eq!(
            verdict(&then(ordinary(), &forgot)),
            Some("leader-completeness")
        );
    }

    #[test]
    fn impossible_observations_are_told_apart_from_unsafe_logs() {
        assert_eq!(verdict(&[(A, append(2, 1))]), Some("log-shape"));
        assert_eq!(
            verdict(&[(A, LogEvent::Truncated { from: 1 })]),
            Some("log-shape")
        );
    }

    #[test]
    fn groups_are_judged_apart() {
        let mut monitor = LogSafety::default();
        for (group, node) in [(0, A), (1, B)] {
            let by = Addr {
                node: NodeId(node),
                port: 0,
            };
            assert!(monitor.log_event(group, by, &lead(1)).is_ok());
        }
    }
}
