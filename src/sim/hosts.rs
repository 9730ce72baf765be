//! Which of madsim's nodes carries which machine.

use crate::base::process::NodeId;

/// madsim numbers its nodes by itself and creates its own supervisor node first; machines follow in order.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    ids: Vec<madsim::task::NodeId>,
}

impl Hosts {
    pub(super) fn add(&mut self, id: madsim::task::NodeId) {
        self.ids.push(id);
    }

    /// The machine on a madsim node; none on the supervisor.
    pub(super) fn node(&self, id: madsim::task::NodeId) -> Option<NodeId> {
        let position = self.ids.iter().position(|known| *known == id)?;
        Some(NodeId(u16::try_from(position.checked_sub(1)?).ok()?))
    }
}
