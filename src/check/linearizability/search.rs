//! The search for a linearization of one key's calls.
//!
//! It is tried thrice, with ever more configurations kept at a time: one, a few, all. The first two find a
//! linearization where many exist; only when all are kept does the absence of one mean anything.
//!
//! The budget counts the work that is done and not the configurations: each call looked at, and each
//! configuration stored by its size. So a step costs the same whatever is outstanding.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::Op;
use super::{Call, Object, State};

/// What a search found.
pub(super) enum Found {
    /// A linearization.
    Linearization,
    /// None: the call that could not take effect by its completion, and the states that were possible then.
    Stuck {
        /// Index of the call.
        call: u32,
        /// Every state that was possible just before.
        states: BTreeSet<State>,
    },
    /// The budget ended first.
    Exceeded,
}

/// Configurations kept at a time, and the part of the budget that the attempt may spend.
const ATTEMPTS: [(usize, u64); 3] = [(1, 4), (16, 4), (usize::MAX, 1)];

/// What it costs to store a configuration, beyond its size, in calls looked at.
const STORE_COST: u64 = 16;

/// Searches for a linearization of these calls, from the object's initial state.
pub(super) fn search(
    calls: &[Call<'_>],
    (object, initial): (Object, State),
    steps_max: u64,
) -> Found {
    for (width, share) in ATTEMPTS {
        let mut search = Search::new(calls, object, width, steps_max / share);
        match search.run(initial.clone()) {
            Ok(None) => return Found::Linearization,
            Ok(Some(stuck)) if !search.has_dropped => return stuck,
            Ok(Some(_)) | Err(Exceeded) => {}
        }
    }
    Found::Exceeded
}

/// The budget ended.
struct Exceeded;

/// Invocations and completions in the order of time; at one instant, invocations first.
pub(super) fn events(calls: &[Call<'_>]) -> Vec<(u64, bool, u32)> {
    let mut events = Vec::new();
    for (call, at) in calls.iter().zip(0..) {
        events.push((call.invoke, false, at));
        if !call.is_indeterminate() {
            events.push((call.complete, true, at));
        }
    }
    events.sort_unstable();
    events
}

/// The value that a register must hold for a call to take effect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// No certain one. All calls on other objects have this.
    Any,
    Held(Option<u64>),
}

/// Calls that are interchangeable: indeterminate ones that do the same, or a single certain one.
struct Class {
    /// One of them.
    call: u32,
    is_certain: bool,
    is_read_only: bool,
    need: Need,
    /// What a register holds afterwards, if they write it.
    leaves: Option<u64>,
    /// How many were invoked by now.
    invoked: u32,
}

impl Class {
    fn of(call: &Call<'_>, at: u32, object: Object) -> Self {
        let (mut need, mut leaves) = (Need::Any, None);
        for op in call.ops.iter().filter(|_| object == Object::Register) {
            match *op {
                Op::Read { value, .. } if leaves.is_none() => need = Need::Held(value),
                Op::Cas { expected, new, .. } => {
                    if leaves.is_none() {
                        need = Need::Held(Some(expected));
                    }
                    leaves = Some(new);
                }
                Op::Write { value, .. } => leaves = Some(value),
                _ => {}
            }
        }
        Class {
            call: at,
            is_certain: !call.is_indeterminate(),
            is_read_only: call.is_read_only(),
            need,
            leaves,
            invoked: 0,
        }
    }
}

/// The classes of the calls, and each call's class.
fn classes(calls: &[Call<'_>], object: Object) -> (Vec<Class>, Vec<u32>) {
    let mut classes = Vec::new();
    let mut known = BTreeMap::<&[Op<'_>], u32>::new();
    let mut class_of = Vec::with_capacity(calls.len());
    for (call, at) in calls.iter().zip(0..) {
        let fresh = classes.len() as u32;
        let class = match call.is_indeterminate() {
            true => *known.entry(&call.ops).or_insert(fresh),
            false => fresh,
        };
        if class == fresh {
            classes.push(Class::of(call, at, object));
        }
        class_of.push(class);
    }
    (classes, class_of)
}

/// What may be the case at an instant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Configuration {
    state: State,
    /// Of the outstanding calls that will complete: the classes of those that have taken effect, ascending.
    done: Vec<u32>,
    /// How many of each class of indeterminate calls have taken effect, by class.
    spent: Vec<(u32, u32)>,
}

impl Configuration {
    fn has_done(&self, class: u32) -> bool {
        self.done.binary_search(&class).is_ok()
    }

    fn add_done(&mut self, class: u32) {
        if let Err(at) = self.done.binary_search(&class) {
            self.done.insert(at, class);
        }
    }

    fn spent(&self, class: u32) -> u32 {
        let at = self.spent.binary_search_by_key(&class, |&(class, _)| class);
        at.map_or(0, |at| self.spent[at].1)
    }

    fn spend(&mut self, class: u32) {
        match self.spent.binary_search_by_key(&class, |&(class, _)| class) {
            Ok(at) => self.spent[at].1 += 1,
            Err(at) => self.spent.insert(at, (class, 1)),
        }
    }

    fn cost(&self) -> u64 {
        STORE_COST + self.state.cost() + (self.done.len() + self.spent.len()) as u64 / 4
    }
}

/// Has the first spent no more of any class than the second?
fn covers(less: &[(u32, u32)], more: &[(u32, u32)]) -> bool {
    less.iter().all(|&(class, count)| {
        let at = more.binary_search_by_key(&class, |&(class, _)| class);
        at.is_ok_and(|at| count <= more[at].1)
    })
}

/// A state, and which outstanding calls have taken effect.
type Position = (State, Vec<u32>);

/// Configurations of which none has spent more of a class, and of none less, than an otherwise equal one.
#[derive(Default)]
struct Frontier {
    known: BTreeMap<Position, Vec<Vec<(u32, u32)>>>,
    len: usize,
}

impl Frontier {
    /// Adds a configuration, unless one is there that can do whatever it can; and what it cost to find out.
    fn insert(&mut self, configuration: &Configuration) -> (bool, u64) {
        let Configuration { state, done, spent } = configuration;
        let known = self.known.entry((state.clone(), done.clone())).or_default();
        let cost = configuration.cost() + (known.len() * (1 + spent.len())) as u64;
        if known.iter().any(|less| covers(less, spent)) {
            return (false, cost);
        }
        let before = known.len();
        known.retain(|more| !covers(spent, more));
        known.push(spent.clone());
        self.len = self.len + known.len() - before;
        (true, cost)
    }

    fn into_configurations(self) -> Vec<Configuration> {
        let all = self.known.into_iter().flat_map(|((state, done), spents)| {
            let each = move |spent| Configuration {
                state: state.clone(),
                done: done.clone(),
                spent,
            };
            spents.into_iter().map(each)
        });
        all.collect()
    }
}

struct Search<'c, 'a> {
    calls: &'c [Call<'a>],
    class_of: Vec<u32>,
    classes: Vec<Class>,
    /// Classes with outstanding calls that change the object, by what they need.
    open: BTreeMap<Need, BTreeSet<u32>>,
    /// The same of registers, by what they leave.
    leaving: BTreeMap<u64, BTreeSet<u32>>,
    /// Outstanding calls that only read, by what they need.
    readers: BTreeMap<Need, BTreeSet<u32>>,
    /// Of how many classes are calls open.
    open_count: usize,
    width: usize,
    steps_left: u64,
    /// Whether a read may change the state: the first of an account makes its balance known. Such a read is tried like a write
    /// until it changes nothing any more.
    is_bank: bool,
    /// Were configurations left out because there were too many?
    has_dropped: bool,
}

impl<'c, 'a> Search<'c, 'a> {
    fn new(calls: &'c [Call<'a>], object: Object, width: usize, steps_max: u64) -> Self {
        let (classes, class_of) = classes(calls, object);
        Search {
            calls,
            class_of,
            classes,
            open: BTreeMap::new(),
            leaving: BTreeMap::new(),
            readers: BTreeMap::new(),
            open_count: 0,
            width,
            steps_left: steps_max,
            is_bank: object == Object::Account,
            has_dropped: false,
        }
    }

    fn charge(&mut self, steps: u64) -> Result<(), Exceeded> {
        self.steps_left = self.steps_left.checked_sub(steps).ok_or(Exceeded)?;
        Ok(())
    }

    /// Walks through the events; where the calls got stuck, if they did.
    fn run(&mut self, state: State) -> Result<Option<Found>, Exceeded> {
        let mut possible = vec![Configuration {
            state,
            done: Vec::new(),
            spent: Vec::new(),
        }];
        for (_, completes, call) in events(self.calls) {
            self.charge(1)?;
            let class = self.class_of[call as usize];
            if !completes {
                self.invoke(class, &mut possible)?;
                continue;
            }
            let next = self.complete(&mut possible, class)?;
            if next.is_empty() {
                let states = possible.into_iter().map(|c| c.state).collect();
                return Ok(Some(Found::Stuck { call, states }));
            }
            possible = next;
            self.close(class);
        }
        Ok(None)
    }

    fn invoke(&mut self, class: u32, possible: &mut [Configuration]) -> Result<(), Exceeded> {
        let entry = &mut self.classes[class as usize];
        entry.invoked += 1;
        if entry.is_read_only {
            self.readers.entry(entry.need).or_default().insert(class);
            for configuration in possible {
                self.charge(1)?;
                if self.reads(&configuration.state, class) {
                    configuration.add_done(class);
                }
            }
            if !self.is_bank {
                return Ok(());
            }
        }
        let entry = &self.classes[class as usize];
        if entry.invoked == 1 {
            self.open_count += 1;
            self.open.entry(entry.need).or_default().insert(class);
            if let Some(value) = entry.leaves {
                self.leaving.entry(value).or_default().insert(class);
            }
        }
        Ok(())
    }

    /// Can a read take effect, and change nothing?
    fn reads(&self, state: &State, class: u32) -> bool {
        let after = self.after(state, class);
        after.is_some_and(|after| !self.is_bank || after == *state)
    }

    /// Forgets a call that completed.
    fn close(&mut self, class: u32) {
        let Class {
            need,
            leaves,
            is_read_only,
            ..
        } = self.classes[class as usize];
        if is_read_only {
            remove(&mut self.readers, need, class);
        }
        if !is_read_only || self.is_bank {
            self.open_count -= 1;
            remove(&mut self.open, need, class);
            if let Some(value) = leaves {
                remove(&mut self.leaving, value, class);
            }
        }
    }

    /// The state after a call of the class, if one can take effect.
    fn after(&self, state: &State, class: u32) -> Option<State> {
        let class = &self.classes[class as usize];
        if let (Need::Held(needed), State::Register(held)) = (class.need, state)
            && needed != *held
        {
            return None;
        }
        state.after(&self.calls[class.call as usize])
    }

    /// May a call of the class still take effect?
    fn is_available(&self, configuration: &Configuration, class: u32) -> bool {
        let entry = &self.classes[class as usize];
        match entry.is_certain {
            true => !configuration.has_done(class),
            false => configuration.spent(class) < entry.invoked,
        }
    }

    /// Lets a call of the class take effect, and with it the outstanding reads that fit.
    fn take(
        &mut self,
        configuration: &mut Configuration,
        class: u32,
        state: State,
    ) -> Result<(), Exceeded> {
        match self.classes[class as usize].is_certain {
            true => configuration.add_done(class),
            false => configuration.spend(class),
        }
        configuration.state = state;
        // Reads that need nothing took effect when they were invoked, if the object is a register.
        let need = match configuration.state {
            State::Register(held) => Need::Held(held),
            _ => Need::Any,
        };
        let readers: Vec<u32> = match self.readers.get(&need) {
            Some(readers) => readers.iter().copied().collect(),
            None => return Ok(()),
        };
        self.charge(readers.len() as u64 * configuration.state.cost())?;
        let fits = |&reader: &u32| {
            !configuration.has_done(reader) && self.reads(&configuration.state, reader)
        };
        let fresh: Vec<u32> = readers.into_iter().filter(fits).collect();
        if !fresh.is_empty() {
            configuration.done.extend(fresh);
            configuration.done.sort_unstable();
        }
        Ok(())
    }

    /// The configurations in which the completing call has taken effect.
    fn complete(
        &mut self,
        possible: &mut Vec<Configuration>,
        completing: u32,
    ) -> Result<Vec<Configuration>, Exceeded> {
        if self.width == 1 && self.complete_only(&mut possible[0], completing)? {
            return Ok(std::mem::take(possible));
        }
        let towards = self.towards(completing)?;
        let mut seen = Frontier::default();
        let mut finished = Frontier::default();
        let mut work = VecDeque::new();
        for configuration in possible.iter() {
            let (is_new, cost) = seen.insert(configuration);
            self.charge(cost)?;
            if is_new {
                work.push_back(configuration.clone());
            }
        }
        while let Some(configuration) = work.pop_front() {
            self.finish(&configuration, completing, &mut finished)?;
            if finished.len >= self.width {
                self.has_dropped = true;
                break;
            }
            if configuration.has_done(completing) || !leads(&towards, &configuration.state) {
                continue;
            }
            for class in self.candidates(&configuration) {
                self.charge(configuration.state.cost())?;
                let state = self.after(&configuration.state, class);
                let Some(state) = state.filter(|state| leads(&towards, state)) else {
                    continue;
                };
                if class == completing {
                    continue;
                }
                let mut after = configuration.clone();
                self.charge(after.cost())?;
                self.take(&mut after, class, state)?;
                let (is_new, cost) = seen.insert(&after);
                self.charge(cost)?;
                if is_new {
                    work.push_back(after);
                }
            }
        }
        Ok(finished.into_configurations())
    }

    /// The same in place, if the call has taken effect or can do so at once.
    fn complete_only(
        &mut self,
        configuration: &mut Configuration,
        completing: u32,
    ) -> Result<bool, Exceeded> {
        if !configuration.has_done(completing) {
            let Some(state) = self.after(&configuration.state, completing) else {
                return Ok(false);
            };
            self.has_dropped |= self.open_count > 1;
            self.take(configuration, completing, state)?;
        }
        configuration.done.retain(|&class| class != completing);
        self.charge(configuration.cost() / STORE_COST)?;
        Ok(true)
    }

    /// Lets the completing call take effect, if it did not before: at once, or, when few configurations are kept,
    /// right after another that makes it possible.
    fn finish(
        &mut self,
        configuration: &Configuration,
        completing: u32,
        finished: &mut Frontier,
    ) -> Result<(), Exceeded> {
        if configuration.has_done(completing) {
            return self.add_finished(configuration.clone(), completing, finished);
        }
        if let Some(state) = self.after(&configuration.state, completing) {
            let mut after = configuration.clone();
            self.take(&mut after, completing, state)?;
            return self.add_finished(after, completing, finished);
        }
        let Need::Held(Some(value)) = self.classes[completing as usize].need else {
            return Ok(());
        };
        if self.width == usize::MAX {
            return Ok(());
        }
        let before: Vec<u32> = self
            .leaving
            .get(&value)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for class in before {
            self.charge(1)?;
            let state = self.after(&configuration.state, class);
            let Some(state) = state.filter(|_| self.is_available(configuration, class)) else {
                continue;
            };
            let mut after = configuration.clone();
            self.take(&mut after, class, state)?;
            if !after.has_done(completing) {
                let Some(state) = self.after(&after.state, completing) else {
                    continue;
                };
                self.take(&mut after, completing, state)?;
            }
            self.add_finished(after, completing, finished)?;
            if finished.len >= self.width {
                break;
            }
        }
        Ok(())
    }

    fn add_finished(
        &mut self,
        mut configuration: Configuration,
        completing: u32,
        finished: &mut Frontier,
    ) -> Result<(), Exceeded> {
        configuration.done.retain(|&class| class != completing);
        let (_, cost) = finished.insert(&configuration);
        self.charge(cost)
    }

    /// The classes of which a call may take effect next.
    fn candidates(&self, configuration: &Configuration) -> Vec<u32> {
        let needs = match configuration.state {
            State::Register(held) => vec![Need::Any, Need::Held(held)],
            _ => vec![Need::Any],
        };
        let open = needs
            .iter()
            .filter_map(|need| self.open.get(need))
            .flatten();
        open.copied()
            .filter(|&class| self.is_available(configuration, class))
            .collect()
    }

    /// The values from which a register can come to hold what a call needs; `None` if these may be all.
    fn towards(&mut self, completing: u32) -> Result<Option<BTreeSet<Option<u64>>>, Exceeded> {
        let Need::Held(needed) = self.classes[completing as usize].need else {
            return Ok(None);
        };
        let mut towards = BTreeSet::from([needed]);
        let mut work = vec![needed];
        while let Some(value) = work.pop() {
            let Some(before) = value.and_then(|value| self.leaving.get(&value)) else {
                continue;
            };
            let needs: Vec<Need> = before
                .iter()
                .map(|&class| self.classes[class as usize].need)
                .collect();
            self.charge(needs.len() as u64)?;
            for need in needs {
                let Need::Held(before) = need else {
                    return Ok(None);
                };
                if towards.insert(before) {
                    work.push(before);
                }
            }
        }
        Ok(Some(towards))
    }
}

fn leads(towards: &Option<BTreeSet<Option<u64>>>, state: &State) -> bool {
    match (towards, state) {
        (Some(towards), State::Register(held)) => towards.contains(held),
        _ => true,
    }
}

/// Takes a class out of an index.
fn remove<K: Ord>(index: &mut BTreeMap<K, BTreeSet<u32>>, key: K, class: u32) {
    if let Some(classes) = index.get_mut(&key) {
        classes.remove(&class);
        if classes.is_empty() {
            index.remove(&key);
        }
    }
}
