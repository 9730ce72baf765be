//! What clients do: the kinds of workload, mixes of transactions by their steps, and how they arrive.

use std::ops::Range;

use toml::Spanned;

use super::super::file::{
    self, ActionName, File, RowName, StepEntry, TransactionEntry, WorkloadKind,
};
use super::super::layout::Layout;
use super::super::load::Profile;
use super::super::problem::meant;
use super::super::steps::{Action, Amount, Rows, Step, Transaction};
use super::super::units::{Quantity, Share};
use super::super::{Arrivals, Workload};
use super::{Resolver, list};
use crate::base::txn::Value;

/// Most rows that a transaction may touch.
const ROWS_MAX: u64 = 64;

/// Largest weight of a transaction.
const WEIGHT_MAX: u32 = 1_000_000;

/// A key of a step, where it stands if it does, and the actions that it belongs to.
type KeyOfActions<'a> = (&'a str, Option<Range<usize>>, &'a [ActionName]);

impl Resolver {
    pub(super) fn workload(
        &mut self,
        raw: &file::Workload,
        file: &File,
        layout: &Layout,
    ) -> Option<Workload> {
        let (kind, at) = self.workload_kind(raw);
        let regions: Vec<String> = layout
            .regions
            .iter()
            .map(|region| region.name.clone())
            .collect();
        let clients = match &raw.clients {
            Some(chosen) => chosen
                .iter()
                .filter_map(|c| self.position(c, &regions, "region"))
                .collect(),
            None => (0..regions.len()).collect::<Vec<_>>(),
        };
        if let Some(Some(empty)) = raw
            .clients
            .as_ref()
            .map(|c| c.is_empty().then_some(at.clone()))
        {
            self.refuse(
                empty,
                "nobody would connect",
                "name at least one region in `clients`",
            );
        }
        let wanted = match kind {
            WorkloadKind::Settlement => 2,
            WorkloadKind::SeatBooking => 3,
            _ => 1,
        };
        if layout.tables.len() < wanted {
            let message = format!(
                "this workload needs {wanted} tables and there are {}",
                layout.tables.len()
            );
            self.refuse(
                at.clone(),
                message,
                "add a [[table]], or choose another kind",
            );
        }
        if let (WorkloadKind::SeatBooking, Some(seats)) = (kind, file.tables.first())
            && seats.initial != 1
        {
            self.refuse(
                seats.name.span(),
                format!(
                    "a row of `{}` would be {} seats",
                    seats.name.get_ref(),
                    seats.initial
                ),
                "a row of the first table is one seat: write initial = 1",
            );
        }
        let transactions = *raw.transactions.get_ref();
        if transactions == 0 || transactions > 10_000_000 {
            self.refuse(
                raw.transactions.span(),
                "nothing to judge, or too much",
                "use 1 to 10,000,000 transactions",
            );
        }
        let arrivals = self.arrivals(raw, at.clone());
        let legs = raw.legs.as_ref().map_or(2, |legs| *legs.get_ref());
        let fewest = layout
            .tables
            .iter()
            .map(|table| table.rows)
            .min()
            .unwrap_or(0);
        if kind != WorkloadKind::Steps && (legs < 1 || legs > fewest.max(1) || legs > 64) {
            let span = raw.legs.as_ref().map_or(at.clone(), Spanned::span);
            self.refuse(
                span,
                format!("a transaction cannot touch {legs} different rows"),
                "use 1 up to the rows of the smallest table, and at most 64",
            );
        }
        let amount = raw.amount.as_ref().map_or(10, |amount| *amount.get_ref());
        if amount == 0 {
            let span = raw.amount.as_ref().map_or(at.clone(), Spanned::span);
            self.refuse(span, "an amount of 0 moves nothing", "use at least 1");
        }
        if !(0.0..=10.0).contains(&raw.skew) {
            self.refuse(
                at.clone(),
                format!("the skew {} is out of range", raw.skew),
                "use a Zipf exponent from 0 to 10",
            );
        }
        let last_rows = file.tables.last().map_or(0, |table| *table.rows.get_ref());
        if raw.hot_rows > last_rows {
            let message = format!(
                "{} hot rows do not fit the last table's {last_rows}",
                raw.hot_rows
            );
            self.refuse(at.clone(), message, "lower `hot-rows`");
        }
        let transactions_of_steps = self.mix(raw, file, layout);
        let conserved = self.conserved(raw, &transactions_of_steps, layout);
        Some(Workload {
            kind,
            transactions_of_steps,
            conserved,
            transactions,
            arrivals: arrivals?,
            profile: self.profile(raw),
            start_ns: self.ns(&raw.start, 1_000_000_000),
            clients,
            reads: raw.reads,
            multi_shard: raw.multi_shard.unwrap_or(Share { ppm: 1_000_000 }),
            dependent: raw.dependent,
            skew: raw.skew,
            hot_rows: raw.hot_rows,
            hot_share: raw.hot_share,
            legs,
            amount,
            amount_fixed: raw.amount_fixed,
            broke: raw.broke,
            again: raw.again,
        })
    }

    fn arrivals(&mut self, raw: &file::Workload, at: Range<usize>) -> Option<Arrivals> {
        match (&raw.rate, &raw.sessions) {
            (Some(rate), None) => {
                let per_s = *rate.get_ref();
                if !(per_s > 0.0 && per_s <= 1e6) {
                    self.refuse(
                        rate.span(),
                        format!("{per_s} arrivals a second"),
                        "use more than 0 and at most 1,000,000",
                    );
                }
                Some(Arrivals::Open {
                    per_s,
                    evenly: raw.evenly,
                })
            }
            (None, Some(sessions)) => {
                let count = *sessions.get_ref();
                if count == 0 || count > 100_000 {
                    self.refuse(
                        sessions.span(),
                        format!("{count} sessions"),
                        "use 1 to 100,000",
                    );
                }
                Some(Arrivals::Closed {
                    sessions: count,
                    think_ns: self.ns(&raw.think, 10_000_000),
                })
            }
            _ => {
                self.refuse(
                    at.clone(),
                    "the workload is neither an open nor a closed loop",
                    "give either `rate` (arrivals a second) or `sessions`",
                );
                None
            }
        }
    }
}

impl Resolver {
    /// The kind, and where the text says it.
    fn workload_kind(&mut self, raw: &file::Workload) -> (WorkloadKind, Range<usize>) {
        let first = raw.mix.first().map(|entry| entry.name.span());
        match (&raw.kind, first) {
            (Some(kind), None) => {
                if *kind.get_ref() == WorkloadKind::Steps {
                    self.refuse(
                        kind.span(),
                        "nothing says what the steps are",
                        "add a [[workload.transaction]] with a name and steps",
                    );
                }
                (*kind.get_ref(), kind.span())
            }
            (None, Some(first)) => (WorkloadKind::Steps, first),
            (Some(kind), Some(_)) => {
                if *kind.get_ref() != WorkloadKind::Steps {
                    self.refuse(
                        kind.span(),
                        "a built-in workload has its own transactions",
                        "remove `kind`, or the [[workload.transaction]] entries",
                    );
                }
                (WorkloadKind::Steps, kind.span())
            }
            (None, None) => {
                self.refuse(
                    raw.transactions.span(),
                    "the workload does not say what its transactions do",
                    "give `kind`, or describe them with [[workload.transaction]]",
                );
                (WorkloadKind::Steps, raw.transactions.span())
            }
        }
    }

    /// How the rate changes.
    fn profile(&mut self, raw: &file::Workload) -> Option<Profile> {
        let entry = raw.profile.as_ref()?;
        if raw.rate.is_none() {
            self.refuse(
                entry.duration.span(),
                "sessions set their own pace: a closed loop has no rate that changes",
                "give `rate` instead of `sessions`",
            );
        }
        let times = *entry.times.get_ref();
        if !(times > 0.0 && times <= 10_000.0) || times == 1.0 {
            self.refuse(
                entry.times.span(),
                format!("a rate of {times} times the usual one is no change, or too much"),
                "use a number above 0, other than 1, and at most 10,000",
            );
        }
        let for_ns = self.required_ns(&entry.duration);
        if for_ns == 0 {
            self.refuse(
                entry.duration.span(),
                "the change takes no time",
                "use more than 0",
            );
        }
        let start_ns = self.ns(&raw.start, 1_000_000_000);
        Some(Profile {
            shape: entry.shape,
            times,
            from_ns: self.ns(&entry.from, start_ns),
            for_ns: for_ns.max(1),
        })
    }

    /// The mix of transactions, by their steps.
    fn mix(&mut self, raw: &file::Workload, file: &File, layout: &Layout) -> Vec<Transaction> {
        self.unique(raw.mix.iter().map(|entry| &entry.name), "transaction");
        if let Some(first) = raw.mix.first() {
            let others = [
                ("hot-rows", raw.hot_rows > 0, "`row = \"hot\"`"),
                ("hot-share", raw.hot_share.ppm > 0, "`row = \"hot\"`"),
                ("legs", raw.legs.is_some(), "a step for each row"),
                (
                    "amount",
                    raw.amount.is_some(),
                    "`amount` of the transaction",
                ),
                (
                    "amount-fixed",
                    raw.amount_fixed,
                    "`amount` of the transaction",
                ),
                ("broke", raw.broke.ppm > 0, "`refused` of a step"),
                ("again", raw.again.ppm > 0, "`again` of a step"),
            ];
            for (key, _, instead) in others.into_iter().filter(|(_, given, _)| *given) {
                self.refuse(
                    first.name.span(),
                    format!("`{key}` of [workload] says nothing about transactions of steps"),
                    format!("use {instead}"),
                );
            }
        } else if let Some(conserved) = raw.conserved.first() {
            self.refuse(
                conserved.span(),
                "a built-in workload has an invariant of its own",
                "remove `conserved`, or describe the transactions with [[workload.transaction]]",
            );
        }
        let mix = { raw.mix.iter() }.map(|entry| self.transaction(entry, file, layout));
        mix.collect()
    }

    fn transaction(
        &mut self,
        entry: &TransactionEntry,
        file: &File,
        layout: &Layout,
    ) -> Transaction {
        let at = entry.name.span();
        let name = self.name(&entry.name, "the transaction's name");
        let weight = entry.weight.as_ref().map_or(1, |weight| *weight.get_ref());
        if let Some(given) = &entry.weight
            && !(1..=WEIGHT_MAX).contains(&weight)
        {
            self.refuse(
                given.span(),
                format!("a transaction of weight {weight} would come never, or always"),
                format!("use 1 to {WEIGHT_MAX}"),
            );
        }
        if entry.steps.is_empty() {
            self.refuse(
                at.clone(),
                format!("transaction `{name}` does nothing"),
                "add a [[workload.transaction.step]] with table and do",
            );
        }
        let amount = self.quantity(&entry.amount, 1_000_000_000);
        let mut steps: Vec<Step> = Vec::new();
        for (position, step) in entry.steps.iter().enumerate() {
            let step = self.step(step, &entry.steps[..position], &steps, layout);
            steps.push(step);
        }
        let transaction = Transaction {
            name,
            weight,
            amount,
            pivot: self.pivot(entry, &steps),
            steps,
        };
        self.fits_the_tables(&transaction, at, file);
        self.writes_each_row_once(entry, &transaction);
        transaction
    }

    /// A quantity of at least 1.
    fn quantity(&mut self, raw: &Option<Spanned<Quantity>>, most: u32) -> Quantity {
        let Some(raw) = raw else {
            return Quantity::Fixed(1);
        };
        let (low, high) = raw.get_ref().bounds();
        if low == 0 || low > high || high > most {
            self.refuse(
                raw.span(),
                "the quantity is out of range",
                format!("use 1 to {most}, the smaller bound first"),
            );
            return Quantity::Fixed(1);
        }
        *raw.get_ref()
    }

    /// The position of an earlier step of that name.
    fn earlier(&mut self, name: &Spanned<String>, before: &[StepEntry]) -> Option<usize> {
        let name_of = |step: &StepEntry| step.name.as_ref().map(|name| name.get_ref().clone());
        let names: Vec<String> = before.iter().filter_map(name_of).collect();
        let found =
            { before.iter() }.position(|step| name_of(step).as_ref() == Some(name.get_ref()));
        if found.is_none() {
            let help = match meant(name.get_ref(), names.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if names.is_empty() => "give an earlier step a `name`".to_owned(),
                None => format!("earlier steps are {}", list(names)),
            };
            let message = format!("no earlier step is called `{}`", name.get_ref());
            self.refuse(name.span(), message, help);
        }
        found
    }

    fn step(
        &mut self,
        raw: &StepEntry,
        before: &[StepEntry],
        resolved: &[Step],
        layout: &Layout,
    ) -> Step {
        if let Some(name) = &raw.name
            && { before.iter() }
                .any(|step| step.name.as_ref().map(Spanned::get_ref) == Some(name.get_ref()))
        {
            let message = format!("two steps are called `{}`", name.get_ref());
            self.refuse(name.span(), message, "give each its own name");
        }
        let names: Vec<String> = { layout.tables.iter() }
            .map(|table| table.name.clone())
            .collect();
        let table = self.position(&raw.table, &names, "table").unwrap_or(0);
        let action = self.action(raw);
        self.only_keys_of_its_action(raw);
        let is_list = matches!(layout.tables[table].initial, Value::List(_));
        if is_list && matches!(action, Action::Add(_) | Action::Put) {
            self.refuse(
                raw.action.span(),
                format!(
                    "rows of `{}` are lists, because a step appends to them",
                    names[table]
                ),
                "append to it, or use another table",
            );
        }
        let mut at_least = { raw.at_least.as_ref() }.map(|bound| Amount::Fixed(*bound.get_ref()));
        if let Some(covered) = raw.covered.as_ref().filter(|covered| *covered.get_ref()) {
            let taken = match action {
                Action::Add(Amount::Fixed(by)) if by < 0 => Some(Amount::Fixed(-by)),
                Action::Add(Amount::Times(times)) if times < 0 => Some(Amount::Times(-times)),
                _ => None,
            };
            if taken.is_none() || at_least.is_some() {
                self.refuse(
                    covered.span(),
                    "`covered` asks for what the step takes, and this one takes nothing or has a bound of its own",
                    "use it where `by` or `times` is negative, without `at-least`",
                );
            }
            at_least = at_least.or(taken);
        }
        let mut with: Vec<usize> = Vec::new();
        for name in &raw.with {
            let Some(step) = self.earlier(name, before) else {
                continue;
            };
            if with.contains(&step) || resolved[step].repeat != Quantity::Fixed(1) {
                self.refuse(
                    name.span(),
                    "a sum counts each row once",
                    "name a step on one row, once",
                );
            } else {
                with.push(step);
            }
        }
        Step {
            table,
            action,
            rows: self.rows(raw, before, resolved, layout, table),
            at_least,
            at_most: raw.at_most.as_ref().map(|bound| *bound.get_ref()),
            with,
            refused: raw.refused.as_ref().map(|share| *share.get_ref()),
            repeat: self.quantity(&raw.repeat, ROWS_MAX as u32),
        }
    }

    fn action(&mut self, raw: &StepEntry) -> Action {
        let action = match raw.action.get_ref() {
            ActionName::Read => Action::Read,
            ActionName::Put => Action::Put,
            ActionName::Append => Action::Append,
            ActionName::Guard => Action::Guard,
            ActionName::Add => match (&raw.by, &raw.times) {
                (Some(by), None) => Action::Add(Amount::Fixed(*by.get_ref())),
                (None, Some(times)) => Action::Add(Amount::Times(i64::from(*times.get_ref()))),
                _ => {
                    self.refuse(
                        raw.action.span(),
                        "the step does not say how much it adds, or says it twice",
                        "give either `by`, or `times` (so often the transaction's amount)",
                    );
                    Action::Add(Amount::Fixed(1))
                }
            },
        };
        let nothing = [Action::Add(Amount::Fixed(0)), Action::Add(Amount::Times(0))];
        let too_much =
            matches!(action, Action::Add(Amount::Fixed(by)) if by.unsigned_abs() > 1 << 32);
        if nothing.contains(&action) || too_much {
            self.refuse(
                raw.action.span(),
                "the step adds nothing, or too much",
                "use 1 to 4,294,967,296, or as much less",
            );
        }
        let has_bounds = raw.at_least.is_some() || raw.at_most.is_some();
        if action == Action::Guard && !has_bounds && raw.refused.is_none() {
            self.refuse(
                raw.action.span(),
                "a guard without a bound refuses nothing",
                "give `at-least`, `at-most` or `refused`",
            );
        }
        action
    }

    /// Refuses keys that say nothing about a step that does this, or chooses its row like this.
    fn only_keys_of_its_action(&mut self, raw: &StepEntry) {
        use ActionName::{Add, Append, Guard, Put, Read};
        let action = *raw.action.get_ref();
        let of_action: [KeyOfActions<'_>; 5] = [
            ("by", raw.by.as_ref().map(Spanned::span), &[Add]),
            ("times", raw.times.as_ref().map(Spanned::span), &[Add]),
            ("covered", raw.covered.as_ref().map(Spanned::span), &[Add]),
            ("with", raw.with.first().map(Spanned::span), &[Guard]),
            (
                "pivot",
                raw.pivot.then(|| raw.action.span()),
                &[Add, Put, Append],
            ),
        ];
        for (key, span, actions) in of_action {
            if let Some(span) = span
                && !actions.contains(&action)
            {
                let what = match action {
                    Read => "reads",
                    Guard => "guards",
                    Add => "adds",
                    Put => "puts",
                    Append => "appends",
                };
                self.refuse(
                    span,
                    format!("`{key}` says nothing about a step that {what}"),
                    "remove it",
                );
            }
        }
        let row = raw.row.as_ref().map(Spanned::get_ref);
        let of_rows = [
            ("skew", raw.skew.as_ref().map(Spanned::span), RowName::Zipf),
            (
                "hot-rows",
                raw.hot_rows.as_ref().map(Spanned::span),
                RowName::Hot,
            ),
            (
                "hot-share",
                raw.hot_share.as_ref().map(Spanned::span),
                RowName::Hot,
            ),
            (
                "again",
                raw.again.as_ref().map(Spanned::span),
                RowName::Next,
            ),
        ];
        for (key, span, of) in of_rows {
            if let Some(span) = span
                && row != Some(&of)
            {
                let value = format!("{of:?}").to_lowercase();
                self.refuse(
                    span,
                    format!("`{key}` says nothing about how this row is chosen"),
                    format!("add `row = \"{value}\"`, or remove it"),
                );
            }
        }
    }

    fn rows(
        &mut self,
        raw: &StepEntry,
        before: &[StepEntry],
        resolved: &[Step],
        layout: &Layout,
        table: usize,
    ) -> Rows {
        if let Some(name) = &raw.same_as {
            if let Some(row) = &raw.row {
                self.refuse(
                    row.span(),
                    "the row is chosen twice",
                    "give either `row` or `same-as`",
                );
            }
            let Some(step) = self.earlier(name, before) else {
                return Rows::Usual;
            };
            let is_one = |quantity: Quantity| quantity == Quantity::Fixed(1);
            if !is_one(resolved[step].repeat) || raw.repeat.is_some() {
                self.refuse(
                    name.span(),
                    "one row cannot be the same as several",
                    "leave out `repeat` of both steps",
                );
            }
            return Rows::SameAs(step);
        }
        match raw.row.as_ref().map(Spanned::get_ref) {
            None => Rows::Usual,
            Some(RowName::Uniform) => Rows::Uniform,
            Some(RowName::Latest) => Rows::Latest,
            Some(RowName::Zipf) => {
                let skew = raw.skew.as_ref().map_or(0.99, |skew| *skew.get_ref());
                if let Some(given) = &raw.skew
                    && !(skew > 0.0 && skew <= 10.0)
                {
                    self.refuse(
                        given.span(),
                        format!("the skew {skew} is out of range"),
                        "use a Zipf exponent above 0, and at most 10",
                    );
                }
                Rows::Zipf(skew)
            }
            Some(RowName::Hot) => {
                let rows = raw.hot_rows.as_ref().map_or(1, |rows| *rows.get_ref());
                let most = layout.tables[table].rows;
                if let Some(given) = &raw.hot_rows
                    && !(1..=most).contains(&rows)
                {
                    self.refuse(
                        given.span(),
                        format!("{rows} hot rows do not fit a table of {most}"),
                        format!("use 1 to {most}"),
                    );
                }
                let usual = Share { ppm: 800_000 };
                Rows::Hot {
                    rows: rows.clamp(1, most.max(1)),
                    share: raw
                        .hot_share
                        .as_ref()
                        .map_or(usual, |share| *share.get_ref()),
                }
            }
            Some(RowName::Next) => Rows::Next {
                again: raw
                    .again
                    .as_ref()
                    .map_or(Share { ppm: 0 }, |share| *share.get_ref()),
            },
        }
    }

    fn pivot(&mut self, entry: &TransactionEntry, steps: &[Step]) -> Option<usize> {
        let mut pivots = entry
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.pivot);
        let (pivot, _) = pivots.next()?;
        if let Some((_, second)) = pivots.next() {
            self.refuse(
                second.action.span(),
                "a saga has one pivot",
                "mark the step after which the saga only goes forward",
            );
        }
        for (at, step) in steps.iter().enumerate().skip(pivot + 1) {
            if step.action.writes() && step.may_refuse() {
                self.refuse(
                    entry.steps[at].action.span(),
                    "a step after the pivot has to succeed, and this one may refuse",
                    "move it before the pivot, or remove its bounds",
                );
            }
        }
        Some(pivot)
    }

    /// Whether there are as many rows as the steps need, and not too many for one transaction.
    fn fits_the_tables(&mut self, transaction: &Transaction, at: Range<usize>, file: &File) {
        let steps = transaction.steps.iter();
        let rows: u64 = steps.map(|step| u64::from(step.repeat.bounds().1)).sum();
        if rows > ROWS_MAX {
            self.refuse(
                at.clone(),
                format!("transaction `{}` may touch {rows} rows", transaction.name),
                format!("use at most {ROWS_MAX}"),
            );
        }
        for (position, table) in file.tables.iter().enumerate() {
            let needed = transaction.rows_of(position);
            let rows = *table.rows.get_ref();
            if needed > u64::from(rows) {
                self.refuse(
                    at.clone(),
                    format!(
                        "transaction `{}` needs {needed} different rows of `{}`, which has {rows}",
                        transaction.name,
                        table.name.get_ref()
                    ),
                    "give the table more rows, or the transaction fewer steps on it",
                );
            }
        }
    }

    /// Refuses two steps that write one row: a transaction writes a row once.
    fn writes_each_row_once(&mut self, entry: &TransactionEntry, transaction: &Transaction) {
        let steps = &transaction.steps;
        // The steps that a step has its row from, by way of others.
        let root = |mut at: usize| {
            while let Rows::SameAs(of) = steps[at].rows {
                at = of;
            }
            at
        };
        for (at, step) in steps.iter().enumerate() {
            let twice = |other: &usize| {
                let of = &steps[*other];
                of.table == step.table && of.action.writes() && root(*other) == root(at)
            };
            if step.action.writes() && (0..at).any(|other| twice(&other)) {
                self.refuse(
                    entry.steps[at].table.span(),
                    "the transaction writes this row twice",
                    "put both writes into one step, or remove `same-as`",
                );
            }
        }
    }

    /// The tables whose sum is to stay the same, where each transaction keeps it.
    fn conserved(
        &mut self,
        raw: &file::Workload,
        mix: &[Transaction],
        layout: &Layout,
    ) -> Vec<usize> {
        self.unique(raw.conserved.iter(), "conserved table");
        let names: Vec<String> = { layout.tables.iter() }
            .map(|table| table.name.clone())
            .collect();
        let conserved: Vec<usize> = { raw.conserved.iter() }
            .filter_map(|name| self.position(name, &names, "table"))
            .collect();
        for (entry, transaction) in raw.mix.iter().zip(mix) {
            let (mut fixed, mut times) = (0_i64, 0_i64);
            let of_group = { transaction.steps.iter().zip(&entry.steps) }
                .filter(|(step, _)| conserved.contains(&step.table));
            for (step, entry) in of_group {
                let (low, high) = step.repeat.bounds();
                let count = i64::from(low);
                match step.action {
                    Action::Read | Action::Guard => {}
                    Action::Add(amount) if low == high => match amount {
                        Amount::Fixed(by) => fixed += by * count,
                        Amount::Times(by) => times += by * count,
                    },
                    Action::Add(_) | Action::Put | Action::Append => self.refuse(
                        entry.action.span(),
                        "nobody can tell what this step does to a sum that is conserved",
                        "add a number that is known beforehand, or take the table out of `conserved`",
                    ),
                }
            }
            if (fixed, times) != (0, 0) {
                let sum = match (fixed, times) {
                    (fixed, 0) => format!("{fixed}"),
                    (0, times) => format!("{times} times its amount"),
                    (fixed, times) => format!("{fixed} and {times} times its amount"),
                };
                self.refuse(
                    entry.name.span(),
                    format!(
                        "transaction `{}` adds {sum} to the conserved tables",
                        transaction.name
                    ),
                    "let it take from one row what it gives to others",
                );
            }
        }
        conserved
    }
}
