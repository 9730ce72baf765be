//! Async guests: an ordinary `async fn` on a simulated machine.
//!
//! A guest sends and receives through the same network as processes do, under the same faults and in the
//! same digest. It may spawn madsim tasks and use madsim's clock. What it computes takes no simulated time.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::panics;
use super::pump::Shared;
use super::world::{Event, Letter, World};
use crate::base::observation::Observation;
use crate::base::process::{Addr, NodeId, Process, WallTime};
use crate::sim::trace::DropReason;

type Body<P> = dyn Fn(GuestSocket<P>) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync;

/// An `async fn` and the machine that it runs on. It starts anew whenever the machine does.
pub struct Guest<P: Process> {
    pub(super) node: NodeId,
    pub(super) body: Arc<Body<P>>,
}

impl<P: Process> Guest<P> {
    /// Runs `body` on `node`, a machine of the environment without processes of its own.
    pub fn new<F>(node: NodeId, body: impl Fn(GuestSocket<P>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self {
            node,
            body: Arc::new(move |socket| Box::pin(body(socket))),
        }
    }
}

/// A guest's connection to the world. Clones share it.
pub struct GuestSocket<P: Process> {
    inner: Arc<Inner<P>>,
}

impl<P: Process> Clone for GuestSocket<P> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

struct Inner<P: Process> {
    shared: Arc<Shared<P>>,
    node: NodeId,
    incarnation: u32,
}

/// The world's side of a guest.
pub(super) struct GuestState<M> {
    inbox: VecDeque<(Addr, M)>,
    receivers: Vec<Waker>,
    sleepers: BTreeMap<u64, Option<Waker>>,
    next_sleeper: u64,
    /// Whether a socket listens.
    open: bool,
    incarnation: u32,
}

impl<M> Default for GuestState<M> {
    fn default() -> Self {
        Self {
            inbox: VecDeque::new(),
            receivers: Vec::new(),
            sleepers: BTreeMap::new(),
            next_sleeper: 0,
            open: false,
            incarnation: 0,
        }
    }
}

impl<P: Process> GuestSocket<P> {
    /// Opens the socket of a machine's new incarnation.
    pub(super) fn open(shared: &Arc<Shared<P>>, node: NodeId) -> Self {
        let mut world = shared.lock();
        let guest = world.guest(node);
        guest.open = true;
        let incarnation = guest.incarnation;
        drop(world);
        let shared = Arc::clone(shared);
        Self {
            inner: Arc::new(Inner {
                shared,
                node,
                incarnation,
            }),
        }
    }

    /// The guest's own address.
    pub fn addr(&self) -> Addr {
        Addr {
            node: self.inner.node,
            port: 0,
        }
    }

    /// What the machine's wall clock shows.
    pub fn now(&self) -> WallTime {
        let mut world = self.inner.shared.lock();
        world.catch_up_with_madsim();
        world.wall(self.inner.node)
    }

    /// Sends a datagram.
    pub fn send(&self, to: Addr, message: P::Message) {
        let from = self.addr();
        self.act(|world| world.send(from, to, message));
    }

    /// Records a fact, as a process does with [`crate::base::process::Effects::observe`].
    pub fn observe(&self, what: &Observation) {
        let by = self.addr();
        self.act(|world| world.observe(by, what));
    }

    /// The next message and its sender.
    pub async fn recv(&self) -> (Addr, P::Message) {
        poll_fn(|context| {
            let mut world = self.inner.shared.lock();
            let guest = world.guest(self.inner.node);
            match guest.inbox.pop_front() {
                Some(received) => Poll::Ready(received),
                None => {
                    guest.receivers.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Sleeps by the machine's clock, to the nanosecond. (`madsim::time::sleep` works as well; it takes
    /// at least a millisecond and does not know the machine's drift.)
    pub async fn sleep(&self, duration: Duration) {
        let node = self.inner.node;
        let after_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let sleeper = self.act(|world| {
            let at_ns = world.clocks.lock().after(node, after_ns, world.now_ns);
            let guest = world.guest(node);
            let sleeper = guest.next_sleeper;
            guest.next_sleeper += 1;
            guest.sleepers.insert(sleeper, None);
            world.heap.push(at_ns, Event::GuestWakes { node, sleeper });
            sleeper
        });
        poll_fn(|context| {
            let mut world = self.inner.shared.lock();
            match world.guest(node).sleepers.get_mut(&sleeper) {
                None => Poll::Ready(()),
                Some(waker) => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
    }

    /// Does something that may change what happens next, and lets the pump look again.
    fn act<R>(&self, action: impl FnOnce(&mut World<P>) -> R) -> R {
        let mut world = self.inner.shared.lock();
        world.catch_up_with_madsim();
        let result = action(&mut world);
        world.poked = true;
        if let Some(waker) = &world.pump_waker {
            waker.wake_by_ref();
        }
        result
    }
}

impl<P: Process> Drop for Inner<P> {
    fn drop(&mut self) {
        let mut world = self.shared.lock();
        let guest = world.guest(self.node);
        if guest.incarnation == self.incarnation {
            guest.open = false;
        }
    }
}

/// Runs a guest's body in its madsim task. A panic becomes data and stops the machine.
pub(super) async fn run<P: Process>(shared: Arc<Shared<P>>, node: NodeId, body: Arc<Body<P>>) {
    let mut guest: Option<Pin<Box<dyn Future<Output = ()>>>> = None;
    let socket = GuestSocket::open(&shared, node);
    let by = socket.addr();
    let mut socket = Some(socket);
    let result = poll_fn(|context| {
        shared.register(node, context);
        poll_guest(&mut guest, &mut socket, &body, context)
    })
    .await;
    drop(guest);
    if let Err(message) = result {
        let mut world = shared.lock();
        world.panicked(by, "async guest".to_owned(), message);
    }
    // A guest that returned leaves its machine on, with nobody listening.
    std::future::pending::<()>().await;
}

fn poll_guest<P: Process>(
    guest: &mut Option<Pin<Box<dyn Future<Output = ()>>>>,
    socket: &mut Option<GuestSocket<P>>,
    body: &Arc<Body<P>>,
    context: &mut Context<'_>,
) -> Poll<Result<(), String>> {
    let polled = panics::catch(|| {
        let guest =
            guest.get_or_insert_with(|| body(socket.take().expect("the guest starts once")));
        guest.as_mut().poll(context)
    });
    match polled {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
        Err(message) => Poll::Ready(Err(message)),
    }
}

impl<P: Process> World<P> {
    fn guest(&mut self, node: NodeId) -> &mut GuestState<P::Message> {
        self.guests
            .get_mut(&node)
            .expect("the machine hosts a guest")
    }

    /// A guest acts on its own account only after madsim's clock has moved: ours follows, as far as the next
    /// event allows.
    fn catch_up_with_madsim(&mut self) {
        let latest_ns = self.heap.next_at_ns().unwrap_or(u64::MAX);
        let now_ns = self.madsim_ns().min(latest_ns);
        self.now_ns = self.now_ns.max(now_ns);
    }

    pub(super) fn letter_reaches_guest(&mut self, letter: Letter<P::Message>) {
        if !self.guest(letter.to.node).open {
            return self.drop_letter(&letter, DropReason::NobodyThere);
        }
        self.note_delivery(&letter);
        let guest = self.guest(letter.to.node);
        guest.inbox.push_back((letter.from, letter.message));
        guest.receivers.drain(..).for_each(Waker::wake);
        self.guests_woken = true;
    }

    pub(super) fn guest_wakes(&mut self, node: NodeId, sleeper: u64) {
        if let Some(Some(waker)) = self.guest(node).sleepers.remove(&sleeper) {
            waker.wake();
            self.guests_woken = true;
        }
    }

    /// What a guest had in memory is gone.
    pub(super) fn crash_guest(&mut self, node: NodeId) {
        if let Some(guest) = self.guests.get_mut(&node) {
            let incarnation = guest.incarnation + 1;
            // Numbers go on, so that events of the old incarnation's sleepers find nobody.
            let next_sleeper = guest.next_sleeper;
            *guest = GuestState {
                incarnation,
                next_sleeper,
                ..GuestState::default()
            };
        }
    }
}
