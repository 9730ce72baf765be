//! Grow-only sets, decided in n log n, whatever is indeterminate.
//!
//! Nothing leaves such a set, so reads that are linearized one after another hold ever more: they form a chain. Let its
//! distinct sets be S0, S1, ..., in the order of their sizes. Then an element that S*i* holds and no smaller one does
//! was added for the first time after the reads of S*i-1* and before those of S*i*. So each call has an *era*: `2i + 1` for a read of
//! S*i*, at least `2i` for an add of such an element, and for an add whose element nobody read, one after all reads, if it certainly
//! happened. A linearization exists if and only if eras can be chosen that never go back where one call precedes another,
//! and each element has an add in its first era. The earliest eras that precedence allows do this if any do, since an era that
//! comes earlier forces nobody; so one walk through the events finds them.
//!
//! The explanation of a failure names who forced the era that comes too late. Precedence is transitive, so that is one call
//! with its own reason, never a chain.

use std::collections::BTreeMap;

use super::super::explain::Cast;
use super::super::{History, Op};
use super::search::events;
use super::{Call, Contradiction};

/// What a call does to a set.
enum Role<'a> {
    Adds(u64),
    Reads(&'a [u64]),
    /// A read whose result nobody knows.
    Nothing,
}

impl<'a> Role<'a> {
    /// None for a call of several operations.
    fn of(call: &Call<'a>) -> Option<Self> {
        match call.ops[..] {
            [Op::Insert { value, .. }] => Some(Role::Adds(value)),
            [Op::ReadList { list, .. }] => Some(Role::Reads(list)),
            [Op::ReadUnknown { .. }] => Some(Role::Nothing),
            _ => None,
        }
    }
}

/// Decides whether a set's calls, each one operation, have a linearization. None if some call has several.
pub(super) fn decide(history: &History, calls: &[Call<'_>]) -> Option<Result<(), Contradiction>> {
    let roles: Option<Vec<Role<'_>>> = calls.iter().map(Role::of).collect();
    let set = Set {
        history,
        calls,
        roles: roles?,
    };
    Some(set.chain().and_then(|chain| set.walk(&chain)))
}

struct Set<'c, 'a> {
    history: &'c History,
    calls: &'c [Call<'a>],
    roles: Vec<Role<'a>>,
}

/// The distinct sets that were read, the smallest first.
struct Chain {
    /// A read of each.
    reads: Vec<usize>,
    /// By call, which set it read.
    place: BTreeMap<usize, usize>,
    /// By element, the first set that holds it.
    first: BTreeMap<u64, usize>,
}

/// A lower bound on a call's era, and the call that is the reason of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Era(usize, usize);

impl Set<'_, '_> {
    /// The chain that the reads form, if they do.
    fn chain(&self) -> Result<Chain, Contradiction> {
        let mut reads: Vec<(usize, usize)> = Vec::new();
        for (call, role) in self.roles.iter().enumerate() {
            if let Role::Reads(list) = role {
                reads.push((list.len(), call));
            }
        }
        reads.sort_unstable();
        let mut chain = Chain {
            reads: Vec::new(),
            place: BTreeMap::new(),
            first: BTreeMap::new(),
        };
        let mut before: Vec<u64> = Vec::new();
        for (_, call) in reads {
            let elements = self.sorted(call);
            if let Some(twice) = elements.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(self.duplicate(call, twice[0]));
            }
            let is_new = chain.reads.is_empty() || elements.len() > before.len();
            if let Some(&smaller) = chain.reads.last()
                && let Some(&lacks) = before.iter().find(|e| elements.binary_search(e).is_err())
            {
                return Err(self.fork(smaller, call, lacks));
            }
            if is_new {
                let fresh = elements.iter().filter(|e| before.binary_search(e).is_err());
                chain
                    .first
                    .extend(fresh.map(|&element| (element, chain.reads.len())));
                chain.reads.push(call);
                before = elements;
            }
            chain.place.insert(call, chain.reads.len() - 1);
        }
        Ok(chain)
    }

    /// Finds the earliest eras, and whether they will do.
    fn walk(&self, chain: &Chain) -> Result<(), Contradiction> {
        let after_all = 2 * chain.reads.len();
        let mut eras = vec![Era(0, usize::MAX); self.calls.len()];
        let mut floor = Era(0, usize::MAX);
        for (_, completes, call) in events(self.calls) {
            let call = call as usize;
            if completes {
                floor = floor.max(eras[call]);
                continue;
            }
            let own = match self.roles[call] {
                Role::Reads(_) => Some(2 * chain.place[&call] + 1),
                Role::Adds(element) => match chain.first.get(&element) {
                    Some(&place) => Some(2 * place),
                    None => (!self.calls[call].is_indeterminate()).then_some(after_all),
                },
                Role::Nothing => None,
            };
            let forced = own.is_none_or(|own| floor.0 > own);
            if forced && matches!(self.roles[call], Role::Reads(_)) {
                return Err(self.stale(floor.1, call));
            }
            eras[call] = match own {
                Some(own) if !forced => Era(own, call),
                _ => floor,
            };
        }
        let mut adds = BTreeMap::<u64, (Era, usize)>::new();
        for (call, role) in self.roles.iter().enumerate() {
            if let Role::Adds(element) = role {
                let known = adds.entry(*element).or_insert((eras[call], call));
                *known = (*known).min((eras[call], call));
            }
        }
        for (&element, &place) in &chain.first {
            let reader = chain.reads[place];
            match adds.get(&element) {
                None => return Err(self.garbage(reader, element)),
                Some(&(Era(era, reason), add)) if era > 2 * place => {
                    return Err(self.too_late((element, reader), add, reason));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn sorted(&self, call: usize) -> Vec<u64> {
        let Role::Reads(list) = self.roles[call] else {
            return Vec::new();
        };
        let mut elements = list.to_vec();
        elements.sort_unstable();
        elements
    }

    /// An element that the one read found and the other did not.
    fn only_in(&self, one: usize, other: usize) -> u64 {
        let others = self.sorted(other);
        let found = self.sorted(one);
        let only = found.into_iter().find(|e| others.binary_search(e).is_err());
        only.expect("a set of a later place holds more")
    }

    fn say(&self, calls: &[usize], sentence: impl Fn(&[String]) -> String) -> Contradiction {
        let txns: Vec<_> = calls.iter().map(|&call| self.calls[call].txn).collect();
        let mut cast = Cast::default();
        let names: Vec<String> = txns.iter().map(|&txn| cast.name(txn)).collect();
        let sentence = sentence(&names);
        Contradiction { txns, sentence }
    }

    fn show(&self, element: u64) -> String {
        self.history.show_value(element)
    }

    fn duplicate(&self, read: usize, element: u64) -> Contradiction {
        let element = self.show(element);
        self.say(&[read], |t| {
            format!("{} found {element} twice, which no set holds.", t[0])
        })
    }

    fn garbage(&self, read: usize, element: u64) -> Contradiction {
        let element = self.show(element);
        self.say(&[read], |t| {
            format!("{} found {element}, which nobody added.", t[0])
        })
    }

    fn fork(&self, one: usize, other: usize, lacks: u64) -> Contradiction {
        let (a, b) = (self.show(lacks), self.show(self.only_in(other, one)));
        self.say(&[one, other], |t| {
            format!(
                "{} found {a} and not {b}, {} found {b} and not {a}. Nothing leaves this set, so neither came after the \
                 other: a contradiction!",
                t[0], t[1]
            )
        })
    }

    fn stale(&self, before: usize, read: usize) -> Contradiction {
        let (element, did) = match self.roles[before] {
            Role::Adds(element) => (element, "added"),
            _ => (self.only_in(before, read), "found"),
        };
        let element = self.show(element);
        self.say(&[before, read], |t| {
            format!(
                "{} {did} {element} and had completed when {} was invoked, which did not find it.",
                t[0], t[1]
            )
        })
    }

    fn too_late(
        &self,
        (element, reader): (u64, usize),
        add: usize,
        reason: usize,
    ) -> Contradiction {
        let element = self.show(element);
        match self.roles[reason] {
            Role::Adds(other) => {
                let other = self.show(other);
                self.say(&[reader, add, reason], |t| {
                    format!(
                        "{} found {element} and not {other}. But {2} had added {other} when {1}, the first to add {element}, \
                         was invoked: a contradiction!",
                        t[0], t[1], t[2]
                    )
                })
            }
            _ => self.say(&[reason, add], |t| {
                format!(
                    "{} found {element} and had completed when {}, the first to add it, was invoked.",
                    t[0], t[1]
                )
            }),
        }
    }
}
