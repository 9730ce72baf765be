//! What a process says of its own recovery. An autopsy waits until every process says that nothing is left of it.

use std::collections::BTreeSet;

use crate::base::txn::TxnId;

/// Why what a process holds may still change, although nobody asks anything new of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unfinished {
    /// All that it holds may: for what it waits, as in "waits for a leader".
    All(&'static str),
    /// The effects of these transactions may come or go: for what it waits, as in "waits for the decision on T7".
    Of(BTreeSet<TxnId>, &'static str),
}

/// How far a process has recovered, by its own word.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// What is left of it, if anything.
    pub unfinished: Option<Unfinished>,
    /// Last position of a replicated log that it knows to be committed. 0 where there is no log. Copies of shards are fed
    /// from that log: one that has not applied as much has not recovered.
    pub committed_to: u64,
    /// Last position that its copy of a shard has applied, all before it included. `None` where it keeps no copy that is
    /// fed from a log.
    pub applied_to: Option<u64>,
}

impl Recovery {
    /// Recovery has ended.
    pub fn ended() -> Recovery {
        Recovery::default()
    }

    /// Everything that the process holds may still change: for what it waits.
    pub fn waits(what: &'static str) -> Recovery {
        Recovery {
            unfinished: Some(Unfinished::All(what)),
            ..Recovery::default()
        }
    }

    /// The effects of these transactions may still come or go: for what it waits. It has ended where there are none.
    pub fn waits_on(txns: BTreeSet<TxnId>, what: &'static str) -> Recovery {
        Recovery {
            unfinished: (!txns.is_empty()).then_some(Unfinished::Of(txns, what)),
            ..Recovery::default()
        }
    }
}
