//! The event heap: what happens next, by (time, sequence).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events in order of time; those of the same instant in the order in which they were scheduled.
#[derive(Debug)]
pub(super) struct EventHeap<E> {
    /// The next event, if it was the earliest when it was scheduled. About half of all events are, and this
    /// spares them the way through the heap.
    first: Option<Key>,
    /// Small keys, so that sifting moves little; the events themselves lie still in `slots`.
    keys: BinaryHeap<Reverse<Key>>,
    slots: Vec<Option<E>>,
    free: Vec<u32>,
    next_sequence: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    at_ns: u64,
    sequence: u64,
    slot: u32,
}

impl<E> Default for EventHeap<E> {
    fn default() -> Self {
        Self {
            first: None,
            keys: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            next_sequence: 0,
        }
    }
}

impl<E> EventHeap<E> {
    /// Schedules an event.
    pub(super) fn push(&mut self, at_ns: u64, event: E) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(event);
                slot
            }
            None => {
                self.slots.push(Some(event));
                u32::try_from(self.slots.len() - 1)
                    .expect("four billion events are scheduled at once")
            }
        };
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let key = Key {
            at_ns,
            sequence,
            slot,
        };
        let later = match self.first {
            Some(first) if first < key => key,
            Some(first) => {
                self.first = Some(key);
                first
            }
            None if self.keys.peek().is_some_and(|Reverse(least)| *least < key) => key,
            None => {
                self.first = Some(key);
                return;
            }
        };
        self.keys.push(Reverse(later));
    }

    fn least(&self) -> Option<&Key> {
        let least_of_keys = || self.keys.peek().map(|Reverse(key)| key);
        self.first.as_ref().or_else(least_of_keys)
    }

    /// When the next event happens.
    pub(super) fn next_at_ns(&self) -> Option<u64> {
        self.least().map(|key| key.at_ns)
    }

    /// Takes the next event.
    pub(super) fn pop(&mut self) -> Option<(u64, E)> {
        let first = self.first.take();
        let key = first.or_else(|| self.keys.pop().map(|Reverse(key)| key))?;
        let event = self.slots[key.slot as usize]
            .take()
            .expect("a key without its event");
        self.free.push(key.slot);
        Some((key.at_ns, event))
    }

    /// Number of events.
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.keys.len()
    }

    /// Drops the events that `keep` rejects.
    pub(super) fn retain(&mut self, keep: impl Fn(&E) -> bool) {
        self.keys.extend(self.first.take().map(Reverse));
        let (slots, free) = (&mut self.slots, &mut self.free);
        self.keys.retain(|Reverse(key)| {
            let slot = &mut slots[key.slot as usize];
            let kept = keep(slot.as_ref().expect("a key without its event"));
            if !kept {
                *slot = None;
                free.push(key.slot);
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::digest::stable_hash;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_scheduling() {
        let mut heap = EventHeap::default();
        for (at_ns, event) in [(5, 'b'), (1, 'a'), (5, 'c'), (0, 'x'), (9, 'd')] {
            heap.push(at_ns, event);
        }
        heap.retain(|event| *event != 'x');
        heap.push(5, 'e');
        assert_eq!((heap.len(), heap.next_at_ns()), (5, Some(1)));
        let order: String = std::iter::from_fn(|| heap.pop().map(|(_, event)| event)).collect();
        assert_eq!(order, "abced");
    }

    #[test]
    fn scheduling_and_taking_in_any_mixture_keeps_the_order() {
        let mut heap = EventHeap::default();
        let mut wanted = BTreeSet::new();
        for event in 0..2_000u64 {
            let draw = stable_hash(&event);
            let at_ns = draw % 50;
            heap.push(at_ns, event);
            wanted.insert((at_ns, event));
            if draw.is_multiple_of(97) {
                heap.retain(|event| !event.is_multiple_of(3));
                wanted.retain(|(_, event)| !event.is_multiple_of(3));
            }
            for _ in 0..draw % 3 {
                assert_eq!(heap.next_at_ns(), wanted.first().map(|(at_ns, _)| *at_ns));
                assert_eq!(heap.pop(), wanted.pop_first());
            }
            assert_eq!(heap.len(), wanted.len());
        }
    }
}
