//! A lock manager with one rule and two uses: among those who want a row, the older goes first.
//!
//! An owner's value is its age: smaller is older. Requests queue oldest first. No lock is granted ahead of an older
//! conflicting request. So an owner waits for an older one only, except where a younger one already holds the row. The
//! answer to a request names such younger holders:
//!
//! - under strict two-phase locking with **wound-wait** (Rosenkrantz, Stearns and Lewis, TODS 3(2), 1978) the
//!   caller aborts them, so that no cycle of waits can last;
//! - under **deterministic locking** (Thomson et al., SIGMOD 2012, section 3.2) owners are log positions, and all
//!   locks of a transaction are asked for at once, in log order. Then there are never any younger holders.
//!
//! A grant costs time logarithmic in the number of waiters.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::base::txn::Key;
use crate::base::zoo::{self, Bug};

/// How a row is locked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Mode {
    /// With other readers.
    Shared,
    /// Alone.
    Exclusive,
}

impl Mode {
    fn conflicts(self, other: Mode) -> bool {
        self == Mode::Exclusive || other == Mode::Exclusive
    }
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer<O> {
    /// The rows that the owner now waits for, besides those that it waited for before.
    pub waits: Vec<Key>,
    /// Younger owners that hold those rows, oldest first. An owner may be named twice; that is rare.
    pub younger_holders: Vec<O>,
}

/// One row's holders and waiters.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Entry<O> {
    holders: BTreeMap<O, Mode>,
    waiters: BTreeMap<O, Mode>,
    /// Every holder from this owner on was already named as a younger holder to an older exclusive request.
    named_from: Option<O>,
}

/// What an owner asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Asked {
    keys: BTreeMap<Key, Mode>,
    waiting: usize,
}

/// The lock table of a shard. `O` is an owner and its age in one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Locks<O> {
    rows: BTreeMap<Key, Entry<O>>,
    owners: BTreeMap<O, Asked>,
}

impl<O> Default for Locks<O> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            owners: BTreeMap::new(),
        }
    }
}

impl<O: Copy + Ord + Debug> Locks<O> {
    /// Asks for locks, each in the strongest mode that the owner will need: there are no upgrades. Asking
    /// again for what was asked for changes nothing.
    ///
    /// # Panics
    ///
    /// On a request to upgrade a lock.
    pub fn request(
        &mut self,
        owner: O,
        wanted: impl IntoIterator<Item = (Key, Mode)>,
    ) -> Answer<O> {
        let mut answer = Answer {
            waits: Vec::new(),
            younger_holders: Vec::new(),
        };
        self.owners.entry(owner).or_default();
        for (key, mode) in wanted {
            self.request_one(owner, key, mode, &mut answer);
        }
        answer.younger_holders.sort_unstable();
        answer.younger_holders.dedup();
        answer
    }

    fn request_one(&mut self, owner: O, key: Key, mode: Mode, answer: &mut Answer<O>) {
        let asked = self.owners.get_mut(&owner).expect("entered by `request`");
        if let Some(before) = asked.keys.get(&key) {
            assert!(*before >= mode, "{owner:?} upgrades its lock on {key}");
            return;
        }
        asked.keys.insert(key, mode);
        let row = self.rows.entry(key).or_insert_with(|| Entry {
            holders: BTreeMap::new(),
            waiters: BTreeMap::new(),
            named_from: None,
        });
        if row.admits(owner, mode) {
            row.hold(owner, mode);
        } else {
            row.waiters.insert(owner, mode);
            row.name_younger_holders(owner, mode, &mut answer.younger_holders);
            asked.waiting += 1;
            answer.waits.push(key);
        }
    }

    /// Gives up everything that the owner holds or waits for. Returns the owners that hold all that they
    /// asked for because of it, oldest first.
    pub fn release(&mut self, owner: O) -> Vec<O> {
        let mut ready = Vec::new();
        let asked = self.owners.remove(&owner).unwrap_or_default();
        for key in asked.keys.keys() {
            let row = self.rows.get_mut(key).expect("an asked-for row is there");
            if row.holders.remove(&owner).is_none() {
                row.waiters.remove(&owner);
            }
            for granted in row.grant() {
                let asked = self.owners.get_mut(&granted).expect("a waiter is known");
                asked.waiting -= 1;
                let lost = zoo::planted(Bug::LostWakeUp) && !ready.is_empty();
                if asked.waiting == 0 && !lost {
                    ready.push(granted);
                }
            }
            if row.holders.is_empty() {
                assert!(row.waiters.is_empty(), "a free row has no waiters");
                self.rows.remove(key);
            }
        }
        ready.sort_unstable();
        ready
    }

    /// Whether the owner has asked for locks and holds all of them.
    pub fn holds_all(&self, owner: O) -> bool {
        { self.owners.get(&owner) }.is_some_and(|asked| asked.waiting == 0)
    }

    /// Whether the owner has asked for locks that it has not released.
    pub fn knows(&self, owner: O) -> bool {
        self.owners.contains_key(&owner)
    }

    /// The owners that hold the row, oldest first.
    pub fn holders(&self, key: Key) -> impl Iterator<Item = (O, Mode)> + '_ {
        let holders = self.rows.get(&key).map(|row| row.holders.iter());
        { holders.into_iter().flatten() }.map(|(owner, mode)| (*owner, *mode))
    }

    /// The owners that wait for the row, oldest first.
    pub fn waiters(&self, key: Key) -> impl Iterator<Item = (O, Mode)> + '_ {
        let waiters = self.rows.get(&key).map(|row| row.waiters.iter());
        { waiters.into_iter().flatten() }.map(|(owner, mode)| (*owner, *mode))
    }
}

impl<O: Copy + Ord + Debug> Entry<O> {
    /// Whether a new request is granted at once: it conflicts with no holder and overtakes no older waiter.
    fn admits(&self, owner: O, mode: Mode) -> bool {
        let is_first = self
            .waiters
            .keys()
            .next()
            .is_none_or(|first| owner < *first);
        let overtakes = zoo::planted(Bug::ReaderOvertakes) && mode == Mode::Shared;
        (is_first || overtakes) && self.is_compatible(mode)
    }

    /// Holders never conflict with one another, so it suffices to look at one of them.
    fn is_compatible(&self, mode: Mode) -> bool {
        if zoo::planted(Bug::ReadersIgnoreWriters) && mode == Mode::Shared {
            return true;
        }
        let holder = self.holders.values().next();
        !holder.is_some_and(|held| held.conflicts(mode))
    }

    fn hold(&mut self, owner: O, mode: Mode) {
        if self.named_from.is_some_and(|named| named <= owner) {
            self.named_from = None; // The waiter that did the naming has gone, and this holder came after.
        }
        self.holders.insert(owner, mode);
    }

    fn name_younger_holders(&mut self, owner: O, mode: Mode, younger: &mut Vec<O>) {
        if self.is_compatible(mode) {
            return; // It waits for an older waiter only.
        }
        let end = self.named_from;
        let unnamed = |holder: &O| end.is_none_or(|end| *holder < end);
        let from_owner_on = self.holders.range(owner..).map(|(holder, _)| *holder);
        younger.extend(from_owner_on.take_while(unnamed));
        self.named_from = Some(end.map_or(owner, |end| end.min(owner)));
    }

    /// Grants the row to waiters, oldest first, as far as they are compatible.
    fn grant(&mut self) -> Vec<O> {
        let mut granted = Vec::new();
        if self.holders.is_empty() {
            self.named_from = None;
        }
        while let Some((owner, mode)) = self.waiters.first_key_value() {
            let (owner, mode) = (*owner, *mode);
            if !self.is_compatible(mode) {
                break;
            }
            self.waiters.remove(&owner);
            self.hold(owner, mode);
            granted.push(owner);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use petgraph::algo::is_cyclic_directed;
    use petgraph::graphmap::DiGraphMap;
    use proptest::prelude::*;

    use super::*;
    use crate::base::txn::TableId;

    fn key(row: u32) -> Key {
        let table = TableId(0);
        Key { table, row }
    }

    fn mode(exclusive: bool) -> Mode {
        if exclusive {
            Mode::Exclusive
        } else {
            Mode::Shared
        }
    }

    const ROWS: u32 = 4;

    /// Every waiter, and whom it waits for: conflicting holders, and conflicting waiters ahead of it.
    fn waits_for(locks: &Locks<u32>) -> DiGraphMap<u32, ()> {
        let mut graph = DiGraphMap::new();
        for row in 0..ROWS {
            let mut ahead: Vec<(u32, Mode)> = locks.holders(key(row)).collect();
            for (waiter, wants) in locks.waiters(key(row)) {
                for (other, has) in &ahead {
                    if wants.conflicts(*has) {
                        graph.add_edge(waiter, *other, ());
                    }
                }
                ahead.push((waiter, wants));
            }
        }
        graph
    }

    fn check(locks: &Locks<u32>) {
        for row in 0..ROWS {
            let holders: Vec<(u32, Mode)> = locks.holders(key(row)).collect();
            let alone = holders.len() <= 1;
            assert!(alone || holders.iter().all(|(_, mode)| *mode == Mode::Shared));
            if let Some((first, wants)) = locks.waiters(key(row)).next() {
                let blocked = holders.iter().any(|(_, has)| wants.conflicts(*has));
                assert!(blocked, "{first} was not woken on {row}");
            }
        }
    }

    /// The locks that an owner asks for, in order: one request each.
    fn script() -> impl Strategy<Value = Vec<(u32, bool)>> {
        prop::collection::btree_map(0..ROWS, any::<bool>(), 1..=ROWS as usize)
            .prop_map(|rows| rows.into_iter().collect::<Vec<_>>())
            .prop_shuffle()
    }

    struct Worker {
        script: Vec<(u32, bool)>,
        asked: usize,
        /// Holds everything, can no longer be wounded, and waits for nothing.
        prepared: bool,
        done: bool,
    }

    proptest! {
        /// Owners ask for one lock at a time in any order, the textbook way into a deadlock. Wounded ones
        /// that are not prepared release and start again with their age.
        #[test]
        fn wound_wait_never_deadlocks_and_everybody_gets_through(
            scripts in prop::collection::vec(script(), 2..8),
            choices in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let mut locks = Locks::<u32>::default();
            let mut workers: Vec<Worker> = { scripts.into_iter() }
                .map(|script| Worker { script, asked: 0, prepared: false, done: false })
                .collect();
            let mut choices = choices.into_iter();
            while !workers.iter().all(|worker| worker.done) {
                let able: Vec<usize> = (0..workers.len())
                    .filter(|at| {
                        let waits = locks.knows(*at as u32) && !locks.holds_all(*at as u32);
                        !workers[*at].done && !waits
                    })
                    .collect();
                prop_assert!(!able.is_empty(), "everybody waits");
                let at = choices.next().map_or(able[0], |choice| *choice.get(&able));
                let worker = &mut workers[at];
                if worker.prepared {
                    worker.done = true;
                    locks.release(at as u32);
                } else if worker.asked == worker.script.len() {
                    worker.prepared = true;
                } else {
                    let (row, exclusive) = worker.script[worker.asked];
                    worker.asked += 1;
                    let answer = locks.request(at as u32, [(key(row), mode(exclusive))]);
                    for younger in answer.younger_holders {
                        prop_assert!(younger > at as u32);
                        if !workers[younger as usize].prepared {
                            workers[younger as usize].asked = 0;
                            locks.release(younger);
                        }
                    }
                }
                check(&locks);
                prop_assert!(!is_cyclic_directed(&waits_for(&locks)));
            }
            prop_assert_eq!(locks, Locks::default(), "nothing is left behind");
        }

        /// Transactions ask for all their locks at once, in log order, and finish in any order that the locks
        /// allow: nobody is ever in the way of an older one, and conflicting ones finish in log order.
        #[test]
        fn deterministic_locking_never_deadlocks_and_keeps_the_log_order(
            scripts in prop::collection::vec(script(), 1..12),
            choices in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let mut locks = Locks::<u32>::default();
            let (mut next, mut ready) = (0, BTreeSet::new());
            let mut finished: Vec<usize> = Vec::new();
            let mut choices = choices.into_iter();
            while finished.len() < scripts.len() {
                let may_start = usize::from(next < scripts.len());
                let able = ready.len() + may_start;
                prop_assert!(able > 0, "a deadlock");
                let choice = choices.next().map_or(0, |choice| choice.index(able));
                if choice < ready.len() {
                    let at = *ready.iter().nth(choice).unwrap();
                    ready.remove(&at);
                    finished.push(at as usize);
                    ready.extend(locks.release(at));
                } else {
                    let wanted = scripts[next].iter().map(|(row, x)| (key(*row), mode(*x)));
                    let answer = locks.request(next as u32, wanted);
                    prop_assert!(answer.younger_holders.is_empty());
                    if answer.waits.is_empty() {
                        ready.insert(next as u32);
                    }
                    next += 1;
                }
                check(&locks);
                for at in 0..next as u32 {
                    prop_assert_eq!(ready.contains(&at), locks.holds_all(at));
                }
            }
            for (place, later) in finished.iter().enumerate() {
                for earlier in &finished[..place] {
                    let conflict = scripts[*earlier].iter().any(|(row, x)| {
                        scripts[*later].iter().any(|(other, y)| row == other && (*x || *y))
                    });
                    prop_assert!(!conflict || earlier < later, "{earlier} finished before {later}");
                }
            }
        }
    }

    #[test]
    fn readers_share_and_a_writer_waits_for_all_of_them() {
        let mut locks = Locks::<u32>::default();
        for reader in [5, 3] {
            let answer = locks.request(reader, [(key(0), Mode::Shared)]);
            assert_eq!(answer.waits, []);
        }
        let writer = locks.request(4, [(key(0), Mode::Exclusive)]);
        assert_eq!(
            (writer.waits, writer.younger_holders),
            (vec![key(0)], vec![5])
        );
        let late_reader = locks.request(6, [(key(0), Mode::Shared)]);
        assert!(
            late_reader.younger_holders.is_empty(),
            "it waits for an older writer"
        );
        assert!(locks.release(5).is_empty());
        assert_eq!(locks.release(3), [4]);
        assert_eq!(locks.release(4), [6]);
    }

    #[test]
    fn a_holder_that_came_after_the_naming_is_named_too() {
        let mut locks = Locks::<u32>::default();
        locks.request(9, [(key(0), Mode::Shared)]);
        let first = locks.request(2, [(key(0), Mode::Exclusive)]);
        assert_eq!(first.younger_holders, [9]);
        locks.release(2); // It gives up while waiting.
        locks.request(8, [(key(0), Mode::Shared)]);
        let second = locks.request(5, [(key(0), Mode::Exclusive)]);
        assert!(second.younger_holders.contains(&8));
    }

    /// A grant that looked at every waiter would take 10^10 steps here.
    #[test]
    fn a_hundred_thousand_waiters_on_a_row_are_granted_one_by_one() {
        let mut locks = Locks::<u32>::default();
        for owner in 0..100_000 {
            locks.request(owner, [(key(0), Mode::Exclusive)]);
        }
        for owner in 0..99_999 {
            assert_eq!(locks.release(owner), [owner + 1]);
        }
    }

    /// Nor may writers that queue behind readers look at every reader.
    #[test]
    fn a_hundred_thousand_writers_queue_behind_as_many_readers() {
        let mut locks = Locks::<u32>::default();
        for owner in 100_000..200_000 {
            locks.request(owner, [(key(0), Mode::Shared)]);
        }
        let mut named = 0;
        for owner in 0..100_000 {
            let answer = locks.request(owner, [(key(0), Mode::Exclusive)]);
            named += answer.younger_holders.len();
        }
        assert_eq!(named, 100_000, "each reader once");
    }
}
