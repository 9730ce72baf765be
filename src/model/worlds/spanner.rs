//! Spanner has no small worlds yet. Clocks stand still there, so that commit wait would last for ever, and each of its groups
//! is a replicated log.

use super::{InSmallWorlds, SmallWorld};
use crate::protocol::spanner::Spanner;

impl InSmallWorlds for Spanner {
    fn worlds() -> Vec<SmallWorld> {
        Vec::new()
    }
}
