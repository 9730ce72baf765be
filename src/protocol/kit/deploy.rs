//! What the protocols share: where a transaction enters, and how client sessions are hosted.

use crate::base::process::{Addr, Effects, Input, NodeId, Process, WallTime};
use crate::base::txn::{Key, TableId, Target, Txn};
use crate::plan::PlannedOperation;
use crate::protocol::kit::client::{CarriesClient, Client, ClientTimer, Operation, Patience};
use crate::scenario::layout::Layout;

/// A row that the transaction touches whatever the values of its pointers: that of its first effect (or the
/// pointer to it), of its first guard or of its first read. The first row of the first table, where a
/// transaction touches nothing.
pub fn home_key(txn: &Txn) -> Key {
    let mut targets = { txn.effects.iter() }.map(|effect| &effect.target);
    let first = match targets.next().or(txn.reads.first()) {
        Some(Target::Key(key)) | Some(Target::Choice { on: key, .. }) => Some(*key),
        None => txn
            .guards
            .first()
            .and_then(|guard| guard.keys().first())
            .copied(),
    };
    first.unwrap_or(Key {
        table: TableId(0),
        row: 0,
    })
}

/// A front machine of the operation's own region, the same one for all of a session: a repeated request finds who knows
/// it.
pub fn own_front(layout: &Layout, operation: &PlannedOperation) -> Addr {
    let fronts = &layout.regions[usize::from(operation.region)].fronts;
    let node = fronts[operation.session as usize % fronts.len()];
    Addr { node, port: 0 }
}

/// The client process of each region's client machine, to be the only process there. `entries` are whom to
/// ask for an operation, in order of preference.
pub fn client_processes<M: CarriesClient>(
    layout: &Layout,
    operations: &[PlannedOperation],
    patience: Patience,
    entries: impl Fn(&PlannedOperation) -> Vec<Addr>,
) -> Vec<(NodeId, Client<M>)> {
    let planned_at = |region: usize| {
        let here = move |operation: &&PlannedOperation| usize::from(operation.region) == region;
        operations.iter().filter(here)
    };
    let operation = |planned: &PlannedOperation| Operation {
        session: planned.session,
        start: planned.start,
        txn: planned.txn.clone().into(),
        entries: entries(planned),
    };
    let regions = layout.regions.iter().enumerate();
    regions
        .map(|(at, region)| {
            let operations = planned_at(at).map(operation).collect();
            (region.client, Client::new(operations, patience))
        })
        .collect()
}

/// The timers of a process that may be a client.
pub trait HoldsClientTimers {
    /// The client's timer, if it is one.
    fn of_client(self) -> Option<ClientTimer>;
}

/// Runs a step of a client inside a process with timers of its own. Timers that are not a client's do nothing.
pub fn step_client<M: CarriesClient, T: HoldsClientTimers>(
    client: &mut Client<M>,
    now: WallTime,
    input: Input<M, T>,
    out: &mut Effects<M, T>,
    wrap: fn(ClientTimer) -> T,
) {
    let input = match input {
        Input::Boot(disk) => Input::Boot(disk),
        Input::Message { from, message } => Input::Message { from, message },
        Input::Flushed(flush) => Input::Flushed(flush),
        Input::FlushFailed(flush) => Input::FlushFailed(flush),
        Input::Timer(timer) => match timer.of_client() {
            Some(timer) => Input::Timer(timer),
            None => return,
        },
    };
    let mut effects = Effects::default();
    client.step(now, input, &mut effects);
    out.absorb(&mut effects, |message| message, wrap);
}
