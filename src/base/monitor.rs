//! Monitors watch a run while it happens and state what they saw.

use std::any::Any;

use serde::Serialize;

use crate::base::observation::Observed;
use crate::base::process::{Addr, Effects, Input, Process};

/// A property that a run broke.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Violation {
    /// True simulated time at which it came to light, in nanoseconds.
    pub at_ns: u64,
    /// The process whose observation or step brought it to light.
    pub by: Addr,
    /// The property's name, in the field's terms (`election-safety`).
    pub property: &'static str,
    /// What happened, naming everything needed to find it in the trace.
    pub explanation: String,
}

/// Watches a run and changes nothing in it, with two exceptions: the settle phase ends as soon as a monitor says that
/// everything has settled, and the run goes on at its end until no monitor waits any more.
pub trait Monitor<P: Process>: Any + Send {
    /// Called for every observation, in the order in which they are made.
    ///
    /// # Errors
    ///
    /// The property that this observation breaks.
    fn observe(&mut self, observed: &Observed) -> Result<(), Violation>;

    /// Whether [`Monitor::after_step`] wants to be called: it costs time on every event.
    fn watches_steps(&self) -> bool {
        false
    }

    /// Called with the state of a process after it has handled an input.
    ///
    /// # Errors
    ///
    /// The property that this state breaks.
    fn after_step(&mut self, _at_ns: u64, _by: Addr, _process: &P) -> Result<(), Violation> {
        Ok(())
    }

    /// Called with what a process is about to handle, where [`Monitor::watches_steps`].
    fn before_step(&mut self, _by: Addr, _input: &Input<P::Message, P::Timer>) {}

    /// Called after a step with its effects, before the host performs them, where [`Monitor::watches_steps`].
    ///
    /// # Errors
    ///
    /// The property that this step breaks.
    fn effects_of_step(
        &mut self,
        _at_ns: u64,
        _by: Addr,
        _process: &P,
        _effects: &Effects<P::Message, P::Timer>,
    ) -> Result<(), Violation> {
        Ok(())
    }

    /// Whether everything that is owed has happened. Asked in the settle phase, after every observation. The run
    /// ends as soon as any monitor says yes.
    fn settled(&self) -> bool {
        false
    }

    /// Called with each process of a machine that is up and has booted, when the run is about to end.
    fn look(&mut self, _of: Addr, _process: &P) {}

    /// Whether the run may end, after [`Monitor::look`] with every process. It goes on until all monitors say yes, or its
    /// bound is reached.
    fn may_end(&mut self) -> bool {
        true
    }
}
