//! The processes of a deployment as one type: a protocol's servers, and its client sessions.
//!
//! A protocol writes its servers, each a [`Process`] of its own, and says once which variants of its message and timer types are
//! the clients' ([`carries_client!`]). [`Node`] does the rest.
//!
//! ```
//! use std::sync::Arc;
//!
//! use ordain::base::observation::Outcome;
//! use ordain::base::process::*;
//! use ordain::base::txn::{Txn, TxnId};
//! use ordain::protocol::Autopsy;
//! use ordain::protocol::kit::client::{Client, ClientMessage, ClientTimer, Operation, Patience};
//! use ordain::protocol::kit::node::{Node, carries_client};
//! use ordain::plan::Start;
//!
//! #[derive(Clone, PartialEq, Eq, Hash, Debug)]
//! enum Message { Client(ClientMessage) }
//! #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
//! enum Timer { Client(ClientTimer) }
//! carries_client!(Message, Timer);
//!
//! impl Wire for Message {
//!     fn label(&self) -> &'static str {
//!         let Message::Client(message) = self;
//!         message.label()
//!     }
//! }
//!
//! /// Says "committed" to everything, and does nothing.
//! #[derive(Clone, PartialEq, Eq, Hash, Debug)]
//! struct Optimist;
//!
//! impl Process for Optimist {
//!     type Message = Message;
//!     type Timer = Timer;
//!     fn step(&mut self, _: WallTime, input: Input<Message, Timer>, out: &mut Effects<Message, Timer>) {
//!         if let Input::Message { from, message: Message::Client(ClientMessage::Request { txn }) } = input {
//!             let outcome = Outcome::Committed { reads: vec![] };
//!             out.send(from, Message::Client(ClientMessage::Reply { txn: txn.id, outcome }));
//!         }
//!     }
//! }
//! impl Autopsy for Optimist {}
//!
//! let txn = Txn { id: TxnId(1), reads: vec![], guards: vec![], effects: vec![], pivot: None };
//! let server = Addr::on(NodeId(0));
//! let operation = Operation { session: 0, start: Start::At(0), txn: txn.into(), entries: vec![server] };
//! let patience = Patience { resend_ns: None, give_up_ns: None };
//! let mut client: Node<Optimist> = Node::Client(Client::new(vec![operation], patience));
//! let mut out = Effects::default();
//! client.step(WallTime::START, Input::Timer(Timer::Client(ClientTimer::Start(0))), &mut out);
//! // It states that it asks, and asks.
//! let sent = out.iter().any(|effect| matches!(effect, Effect::Send { to, .. } if *to == server));
//! assert!(sent);
//! ```

use crate::base::process::{Effects, Input, Process, WallTime};
use crate::protocol::Autopsy;
use crate::protocol::kit::client::{Client, ClientMessage, ClientTimer};
use crate::scenario::clients::Behaviour;
use crate::shard::ShardState;
use crate::shard::recovery::Recovery;

/// A protocol's type that carries what is a client's, or an execution's, besides what is its own. [`carries_client!`] and
/// [`carries_execution!`] implement it.
pub trait Carries<C>: Sized {
    /// Wraps what a client sends or arms.
    fn wrap(content: C) -> Self;
    /// What a client gets; nothing if it is a server's.
    fn unwrap(self) -> Option<C>;
}

#[doc(hidden)]
#[macro_export]
macro_rules! carries_client {
    (@ $carrier:ty, $variant:ident, $content:ty) => {
        impl $crate::protocol::kit::node::Carries<$content> for $carrier {
            fn wrap(content: $content) -> Self {
                Self::$variant(content)
            }

            fn unwrap(self) -> Option<$content> {
                #[allow(irrefutable_let_patterns, reason = "a protocol may have nothing else")]
                if let Self::$variant(content) = self {
                    Some(content)
                } else {
                    None
                }
            }
        }
    };
    ($message:ty, $timer:ty) => {
        $crate::protocol::kit::node::carries_client!(@ $message, Client, $crate::protocol::kit::client::ClientMessage);
        $crate::protocol::kit::node::carries_client!(@ $timer, Client, $crate::protocol::kit::client::ClientTimer);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! carries_execution {
    ($message:ty, $timer:ty) => {
        $crate::protocol::kit::node::carries_client!(@ $message, Execution, $crate::protocol::kit::execution::Message);
        $crate::protocol::kit::node::carries_client!(@ $timer, Execution, $crate::protocol::kit::execution::Timer);
    };
}

/// Declares that the variant `Execution` of a protocol's message type and that of its timer type are those of
/// [`kit::execution`](crate::protocol::kit::execution): `carries_execution!(Message, Timer);`
#[doc(inline)]
pub use carries_execution;

/// Declares that the variant `Client` of a protocol's message type and that of its timer type are the clients':
/// `carries_client!(Message, Timer);`
#[doc(inline)]
pub use carries_client;

/// A process of a deployment. Where one kind of server does everything, there are no coordinators.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Node<S, C = S> {
    /// Runs transactions, and keeps no shard: a coordinator, transaction manager, orchestrator or sequencer.
    Coordinator(Box<C>),
    /// Keeps a copy of a shard.
    Shard(Box<S>),
    /// Client sessions.
    Client(Client),
}

impl<S, C> Process for Node<S, C>
where
    S: Process<Message: Carries<ClientMessage>, Timer: Carries<ClientTimer>>,
    C: Process<Message = S::Message, Timer = S::Timer>,
{
    type Message = S::Message;
    type Timer = S::Timer;

    fn step(
        &mut self,
        now: WallTime,
        input: Input<S::Message, S::Timer>,
        out: &mut Effects<S::Message, S::Timer>,
    ) {
        match self {
            Node::Coordinator(coordinator) => coordinator.step(now, input, out),
            Node::Shard(shard) => shard.step(now, input, out),
            Node::Client(client) => {
                let Some(input) = of_client(input) else {
                    return;
                };
                let mut effects = Effects::default();
                client.step(now, input, &mut effects);
                out.absorb(&mut effects, Carries::wrap, Carries::wrap);
            }
        }
    }
}

impl<S, C> Autopsy for Node<S, C>
where
    S: Autopsy<Message: Carries<ClientMessage>, Timer: Carries<ClientTimer>>,
    C: Autopsy<Message = S::Message, Timer = S::Timer>,
{
    fn autopsy(&self) -> Option<ShardState> {
        match self {
            Node::Coordinator(coordinator) => coordinator.autopsy(),
            Node::Shard(shard) => shard.autopsy(),
            Node::Client(_) => None,
        }
    }

    fn copies(&self) -> Vec<ShardState> {
        match self {
            Node::Coordinator(coordinator) => coordinator.copies(),
            Node::Shard(shard) => shard.copies(),
            Node::Client(_) => Vec::new(),
        }
    }

    fn behave(&mut self, behaviour: Behaviour) {
        if let Node::Client(client) = self {
            client.behave(behaviour);
        }
    }

    fn recovery(&self) -> Recovery {
        match self {
            Node::Coordinator(coordinator) => coordinator.recovery(),
            Node::Shard(shard) => shard.recovery(),
            Node::Client(_) => Recovery::ended(),
        }
    }
}

/// An input as the client has it; nothing if it is meant for a server.
fn of_client<M: Carries<ClientMessage>, T: Carries<ClientTimer>>(
    input: Input<M, T>,
) -> Option<Input<ClientMessage, ClientTimer>> {
    Some(match input {
        Input::Boot(disk) => Input::Boot(disk),
        Input::Message { from, message } => Input::Message {
            from,
            message: message.unwrap()?,
        },
        Input::Timer(timer) => Input::Timer(timer.unwrap()?),
        Input::Flushed(flush) => Input::Flushed(flush),
        Input::FlushFailed(flush) => Input::FlushFailed(flush),
    })
}
