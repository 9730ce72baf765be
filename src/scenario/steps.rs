//! Workloads of steps: what `[[workload.transaction]]` means once its names are resolved, and the built-in workloads that
//! are such mixes.
//!
//! `transfer` and `seat-booking` are mixes of one transaction. The others are not: `settlement` draws two amounts that
//! move against each other, and `list-append` and `register` draw for each row whether it is read or written.

use std::borrow::Cow;

use super::layout::Layout;
use super::units::{Quantity, Share};
use super::{Workload, WorkloadKind};

/// A transaction of a mix.
#[derive(Clone, PartialEq, Debug)]
pub struct Transaction {
    /// Its name.
    pub name: String,
    /// How often it comes, relative to the others.
    pub weight: u32,
    /// Drawn when the first step needs it.
    pub amount: Quantity,
    /// In the order in which sagas perform them.
    pub steps: Vec<Step>,
    /// Position of the pivot in `steps`.
    pub pivot: Option<usize>,
}

/// A step on one row, or on several of one table.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Position of the table.
    pub table: usize,
    /// What happens to the row.
    pub action: Action,
    /// How it is chosen.
    pub rows: Rows,
    /// The least that the row may hold.
    pub at_least: Option<Amount>,
    /// The most that the row may hold.
    pub at_most: Option<i64>,
    /// Steps whose rows count with it.
    pub with: Vec<usize>,
    /// Chance that its keeper refuses; drawn wherever it is given.
    pub refused: Option<Share>,
    /// How many rows.
    pub repeat: Quantity,
}

/// A quantity in terms of the transaction's amount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Amount {
    /// This much.
    Fixed(i64),
    /// So often the amount.
    Times(i64),
}

/// What a step does to its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing: the client sees it.
    Read,
    /// Adds.
    Add(Amount),
    /// Writes a number of its own.
    Put,
    /// Appends an element of its own.
    Append,
    /// Nothing: its bounds are all.
    Guard,
}

impl Action {
    /// Whether the row changes.
    pub fn writes(self) -> bool {
        !matches!(self, Action::Read | Action::Guard)
    }
}

/// How a row is chosen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rows {
    /// As the workload says: its skew, its hot rows of the last table, and on another shard than the first row where
    /// the transaction is spread.
    Usual,
    /// Any.
    Uniform,
    /// Zipf's law with this exponent.
    Zipf(f64),
    /// One of the first few, so often.
    Hot {
        /// How many.
        rows: u32,
        /// How often.
        share: Share,
    },
    /// One that a recent transaction touched.
    Latest,
    /// The next one that nobody had, but for a share that goes for a recent one.
    Next {
        /// The share.
        again: Share,
    },
    /// The one with the number of that step's row.
    SameAs(usize),
}

impl Step {
    /// A step on a row that is chosen as usual, without conditions.
    pub fn new(table: usize, action: Action) -> Self {
        Step {
            table,
            action,
            rows: Rows::Usual,
            at_least: None,
            at_most: None,
            with: Vec::new(),
            refused: None,
            repeat: Quantity::Fixed(1),
        }
    }

    /// Whether the transaction's amount has to be known.
    pub fn needs_amount(&self) -> bool {
        let of_amount = |amount: Amount| matches!(amount, Amount::Times(_));
        let added = match self.action {
            Action::Add(amount) => Some(amount),
            _ => None,
        };
        added.is_some_and(of_amount) || self.at_least.is_some_and(of_amount)
    }

    /// Whether it can keep the transaction from taking effect.
    pub fn may_refuse(&self) -> bool {
        let refused = self.refused.is_some_and(|share| share.ppm > 0);
        refused || self.at_least.is_some() || self.at_most.is_some()
    }
}

impl Transaction {
    /// Whether it writes nothing.
    pub fn is_read_only(&self) -> bool {
        !self.steps.iter().any(|step| step.action.writes())
    }

    /// How many rows of a table it touches, at most.
    pub fn rows_of(&self, table: usize) -> u64 {
        let steps = self.steps.iter().filter(|step| step.table == table);
        steps.map(|step| u64::from(step.repeat.bounds().1)).sum()
    }
}

impl Workload {
    /// The mix of transactions; empty where the workload is none.
    pub fn mix(&self, layout: &Layout) -> Cow<'_, [Transaction]> {
        match self.kind {
            WorkloadKind::Steps => Cow::Borrowed(&self.transactions_of_steps),
            WorkloadKind::Transfer => vec![self.transfer(layout)].into(),
            WorkloadKind::SeatBooking => vec![self.booking(layout)].into(),
            WorkloadKind::Settlement | WorkloadKind::ListAppend | WorkloadKind::Register => {
                Cow::Borrowed(&[])
            }
        }
    }

    fn usual_amount(&self) -> Quantity {
        match self.amount_fixed {
            true => Quantity::Fixed(self.amount),
            false => Quantity::Range(1, self.amount),
        }
    }

    /// Moves an amount from one row to `legs - 1` others: from the first table to each of the others in turn.
    fn transfer(&self, layout: &Layout) -> Transaction {
        let others = layout.tables.len() - 1;
        let credits = i64::from(self.legs) - 1;
        let debit = Step {
            at_least: Some(Amount::Times(credits.max(1))),
            ..Step::new(0, Action::Add(Amount::Times(-credits)))
        };
        let credit = |leg: u32| {
            let table = match others {
                0 => 0,
                _ => 1 + (leg as usize - 1) % others,
            };
            Step::new(table, Action::Add(Amount::Times(1)))
        };
        Transaction {
            name: "transfer".to_owned(),
            weight: 1,
            amount: self.usual_amount(),
            steps: [debit]
                .into_iter()
                .chain((1..self.legs).map(credit))
                .collect(),
            pivot: None,
        }
    }

    /// Reserves a seat (1 is free), charges the wallet (a broke one declines), then one row in every further table: emit
    /// the ticket, notify.
    fn booking(&self, layout: &Layout) -> Transaction {
        let seat = Step {
            rows: Rows::Next { again: self.again },
            at_least: Some(Amount::Fixed(1)),
            ..Step::new(0, Action::Add(Amount::Fixed(-1)))
        };
        let charge = Step {
            at_least: Some(Amount::Times(1)),
            refused: Some(self.broke),
            ..Step::new(1, Action::Add(Amount::Times(-1)))
        };
        let rest = 2..layout.tables.len();
        let rest = rest.map(|table| Step::new(table, Action::Add(Amount::Fixed(1))));
        Transaction {
            name: "booking".to_owned(),
            weight: 1,
            amount: self.usual_amount(),
            steps: [seat, charge].into_iter().chain(rest).collect(),
            pivot: Some(1),
        }
    }

    /// Whether every row is a list that transactions append to: then histories show their own order of versions.
    pub fn is_of_lists(&self) -> bool {
        let mut steps = { self.transactions_of_steps.iter() }.flat_map(|of| &of.steps);
        match self.kind {
            WorkloadKind::ListAppend => true,
            WorkloadKind::Steps => {
                let appended: Vec<usize> = { steps.clone() }
                    .filter(|step| step.action == Action::Append)
                    .map(|step| step.table)
                    .collect();
                steps.all(|step| appended.contains(&step.table))
            }
            _ => false,
        }
    }

    /// Whether some transactions only read.
    pub fn has_readers(&self) -> bool {
        let mut mix = self.transactions_of_steps.iter();
        self.reads.ppm > 0 || mix.any(Transaction::is_read_only)
    }
}
