//! Paxos Commit's code in small worlds: with one acceptor, because there is one front machine. Its steps, duplicates and
//! restarts are all there; a second acceptor would make the graphs too large.

use super::stack::worlds_with;
use super::{InSmallWorlds, SmallWorld};
use crate::base::options::Number;
use crate::protocol::paxos_commit::{Options, PaxosCommit};

impl InSmallWorlds for PaxosCommit {
    fn worlds() -> Vec<SmallWorld> {
        let plain = Options {
            tolerated: Number::new(0),
            ..Options::default()
        };
        let faster = Options {
            faster: true,
            ..plain.clone()
        };
        let mut worlds = worlds_with::<Self>("paxos-commit", &plain);
        worlds.extend(worlds_with::<Self>("paxos-commit-faster", &faster));
        worlds
    }
}
