//! What an export writes of a dataset, and why.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::NaiveDate;
use deltalake_core::kernel::{DataType, PrimitiveType, StructField};
use uuid::Uuid;

use super::DAY;
use super::held::Held;
use super::ledger::{Bounds, Counts, Owed, Range, count, gaps, lines, runs, split};
use super::watermark::{Server, Since, joined};
use crate::column::{Column, Place};
use crate::dataset::{Dataset, Mode, Options, Why};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::snapshot::{Snapshot, day_end, day_start};

/// What is written of a dataset.
pub(super) struct Plan {
    pub(super) dataset: Dataset,
    pub(super) held: Option<Held>,
    pub(super) columns: Vec<Column>,
    pub(super) mode: Mode,
    pub(super) reason: String,
    /// Only days within a range: what else has come since is not in it.
    pub(super) ranged: bool,
    /// Days to write.
    pub(super) days: BTreeMap<NaiveDate, DayPlan>,
    /// Days that the lake has and the database has no rows of any more, though it has dropped none.
    pub(super) gone: BTreeSet<NaiveDate>,
    /// How many rows there must be of what is read, where the ledger tells.
    pub(super) owed: Option<Bounds>,
    /// The transaction up to which the lake has everything already.
    pub(super) since: Option<i64>,
    /// What the commit notes of this snapshot.
    pub(super) notes: Vec<(String, i64)>,
    /// The columns that the table is to have, where they are not those it has.
    pub(super) fields: Option<Vec<StructField>>,
}

/// A day to write.
pub(super) struct DayPlan {
    pub(super) owed: Bounds,
    pub(super) why: Why,
    pub(super) take: Take,
}

/// Which of its rows.
pub(super) enum Take {
    /// All; they replace what the lake has.
    Whole,
    /// Those of these batches; they are added to what the lake has.
    Batches(Arc<[Uuid]>),
}

impl Plan {
    pub(super) async fn new(
        snapshot: &Snapshot<'_>,
        server: Option<&Server>,
        dataset: &Dataset,
        held: Option<Held>,
        options: &Options,
    ) -> Result<Self> {
        let columns = snapshot.columns(dataset, Place::Lake).await?;
        let mut plan = Self {
            dataset: dataset.clone(),
            held,
            columns,
            mode: Mode::Full,
            reason: String::new(),
            ranged: dataset.time_column.is_some() && (options.from.is_some() || options.to.is_some()),
            days: BTreeMap::new(),
            gone: BTreeSet::new(),
            owed: None,
            since: None,
            notes: Vec::new(),
            fields: None,
        };
        let since = plan.since(snapshot, server, options).await?;
        if dataset.time_column.is_some() {
            plan.plan_days(snapshot, since, options).await?;
        } else {
            plan.plan_table(snapshot, server, since).await?;
        }
        plan.plan_columns()?;
        let idle = plan.days.is_empty() && plan.gone.is_empty() && plan.fields.is_none();
        if plan.mode == Mode::Range && idle && plan.held.is_some() {
            (plan.mode, plan.reason) = (Mode::Unchanged, "neither the database nor the lake has rows of the range".to_owned());
        }
        Ok(plan)
    }

    /// Settles how the dataset is written; gives the transaction from which on the ledger is read.
    async fn since(&mut self, snapshot: &Snapshot<'_>, server: Option<&Server>, options: &Options) -> Result<i64> {
        let ranged = self.ranged;
        let (same, notes) = joined(snapshot, &self.dataset, self.held.as_ref()).await?;
        if !ranged {
            if let Some(server) = server {
                self.notes.extend(server.notes(snapshot, &self.dataset).await?);
            }
            self.notes.extend(notes);
        }
        let (mode, reason) = match (&self.held, server) {
            // What is left out stays out: a range says nothing of how far the rest has come.
            _ if ranged => (Mode::Range, "the days that were asked for".to_owned()),
            (None, _) => (Mode::Full, "the lake does not have it yet".to_owned()),
            _ if options.full => (Mode::Full, "all of it was asked for".to_owned()),
            (_, None) => (Mode::Full, "nothing tells what has changed".to_owned()),
            _ if self.dataset.ledger.is_none() && self.dataset.fingerprint.is_none() => {
                (Mode::Full, "nothing tells what has changed".to_owned())
            }
            (Some(_), _) if !same => (Mode::Full, "what its rows are joined with has changed".to_owned()),
            (Some(held), Some(server)) => match server.since(snapshot, &self.dataset, held).await? {
                Since::Transaction(xid) => {
                    (self.mode, self.since) = (Mode::Incremental, Some(xid));
                    return Ok(xid);
                }
                Since::Never(reason, warn) => {
                    if warn {
                        tracing::warn!("dataset {}: {reason}; it is written in full", self.dataset.name);
                    }
                    (Mode::Full, reason)
                }
            },
        };
        (self.mode, self.reason) = (mode, reason);
        Ok(0)
    }

    /// A plain table is written whole, or not at all.
    async fn plan_table(&mut self, snapshot: &Snapshot<'_>, server: Option<&Server>, since: i64) -> Result<()> {
        let mut changed = self.mode != Mode::Incremental;
        if let Some(query) = &self.dataset.ledger {
            changed = changed || !lines(snapshot, &self.dataset, query, since, Range::default()).await?.is_empty();
            if changed {
                let total = lines(snapshot, &self.dataset, query, 0, Range::default()).await?.iter().map(|line| line.rows).sum();
                self.owed = Some((total, total));
            }
        } else if let Some(server) = server
            && let Some((app, fingerprint)) = server.fingerprint(snapshot, &self.dataset).await?
        {
            if let (Mode::Incremental, Some(held)) = (self.mode, &self.held) {
                changed = held.noted(&app).await? != Some(fingerprint);
            }
            self.notes.push((app, fingerprint));
        }
        if self.owed.is_none()
            && changed
            && let Some(least) = snapshot.expected_rows(&self.dataset, None, None).await?
        {
            self.owed = Some((least, u64::MAX));
        }
        if self.mode == Mode::Incremental {
            (self.mode, self.reason) =
                if changed { (self.mode, "it has changed".to_owned()) } else { (Mode::Unchanged, "nothing new".to_owned()) };
        }
        Ok(())
    }

    async fn plan_days(&mut self, snapshot: &Snapshot<'_>, since: i64, options: &Options) -> Result<()> {
        // Days before this one may be thinner in the database than in the lake.
        let whole = snapshot.first_whole_day(&self.dataset).await?;
        let range = Range { from: options.from.map(|t| day_start(t).date_naive()), to: options.to.map(|t| day_end(t).date_naive()) };
        match (self.mode, self.dataset.ledger.clone()) {
            (Mode::Incremental, Some(ledger)) => self.plan_dirty(snapshot, &ledger, since, whole, options.unverified).await,
            (_, Some(ledger)) => self.plan_all(snapshot, &ledger, range, whole).await,
            (_, None) => self.plan_counted(snapshot, range, whole).await,
        }
    }

    /// The days that lines of the ledger have rows of, since the watermark.
    async fn plan_dirty(
        &mut self,
        snapshot: &Snapshot<'_>,
        ledger: &str,
        since: i64,
        whole: Option<NaiveDate>,
        unverified: bool,
    ) -> Result<()> {
        let fresh = lines(snapshot, &self.dataset, ledger, since, Range::default()).await?;
        let split = split(snapshot, &self.dataset, &fresh, whole, unverified).await?;
        let mut dirty = BTreeSet::new();
        for line in &fresh {
            match (line.days, line.batch.and_then(|batch| split.get(&batch))) {
                (_, Some(days)) => dirty.extend(days.keys()),
                (Some((first, last)), None) => dirty.extend(first.iter_days().take_while(|day| *day <= last)),
                (None, None) => {}
            }
        }
        let old = whole.map(|whole| dirty.iter().copied().filter(|day| *day < whole).collect()).unwrap_or_default();
        let dirty: BTreeSet<NaiveDate> = dirty.difference(&old).copied().collect();
        if let Some(hull) = Range::around(dirty.iter().copied()) {
            let lines = lines(snapshot, &self.dataset, ledger, 0, hull).await?;
            let covered =
                |first: NaiveDate, last: NaiveDate| first.iter_days().take_while(|day| *day <= last).all(|day| dirty.contains(&day));
            let mut owed = Owed::of(&lines, &split, dirty.iter().copied(), covered);
            // What the lake has of a day is still there, and no more came than the new lines tell of.
            let came = Owed::of(&fresh, &split, dirty.iter().copied(), |_, _| true);
            let held = |day| self.held.as_ref().map_or(0, |held| held.rows(day));
            owed.tighten(|day| (held(day), held(day).saturating_add(came.days.get(&day).map_or(0, |came| came.1))));
            self.take_whole(owed);
        }
        let mut counts = Counts::new();
        for run in runs(&old) {
            count(snapshot, &self.dataset, run, None, &mut counts).await?;
        }
        counts.retain(|day, _| old.contains(day));
        self.take_added(&counts).await?;
        self.warn_of_dropped(snapshot, ledger, &old).await?;
        (self.mode, self.reason) = match self.days.len() {
            0 => (Mode::Unchanged, "nothing new".to_owned()),
            1 => (Mode::Incremental, "1 day has new rows".to_owned()),
            n => (Mode::Incremental, format!("{n} days have new rows")),
        };
        Ok(())
    }

    /// Every day within a range that has rows. The ledger names most days; what it does not name is looked at.
    async fn plan_all(&mut self, snapshot: &Snapshot<'_>, ledger: &str, range: Range, whole: Option<NaiveDate>) -> Result<()> {
        let read = range.since(whole);
        let lines = lines(snapshot, &self.dataset, ledger, 0, read).await?;
        let mut days: BTreeSet<NaiveDate> = lines.iter().filter_map(|line| line.days).flat_map(|(first, last)| [first, last]).collect();
        days.retain(|day| read.has(*day));
        let mut found = Counts::new();
        for gap in gaps(&days, read) {
            count(snapshot, &self.dataset, gap, None, &mut found).await?;
        }
        days.extend(found.keys());
        let covered = |first: NaiveDate, last: NaiveDate| read.has(first) && read.has(last);
        let owed = Owed::of(&lines, &HashMap::new(), days.iter().copied(), covered);
        self.gone = self
            .held
            .iter()
            .flat_map(|held| held.days.keys().flatten())
            .copied()
            .filter(|day| read.has(*day) && !days.contains(day))
            .collect();
        self.take_whole(owed);
        if let Some(whole) = whole {
            let mut counts = Counts::new();
            count(snapshot, &self.dataset, range.before(whole), None, &mut counts).await?;
            self.take_added(&counts).await?;
        }
        Ok(())
    }

    /// Without a ledger, days are found by counting.
    async fn plan_counted(&mut self, snapshot: &Snapshot<'_>, range: Range, whole: Option<NaiveDate>) -> Result<()> {
        let mut counts = Counts::new();
        count(snapshot, &self.dataset, range, None, &mut counts).await?;
        let mut owed = Owed { days: BTreeMap::new(), total: (0, u64::MAX) };
        let mut old = Counts::new();
        for (day, batches) in counts {
            let rows = batches.values().sum();
            if whole.is_some_and(|whole| day < whole) {
                old.insert(day, batches);
            } else {
                owed.days.insert(day, (rows, rows));
            }
        }
        let (from, to) = (range.from.map(crate::snapshot::midnight), range.to.map(crate::snapshot::midnight));
        owed.total.0 = snapshot.expected_rows(&self.dataset, from, to).await?.unwrap_or_default();
        let kept = |day: &NaiveDate| !range.has(*day) || whole.is_some_and(|whole| *day < whole) || owed.days.contains_key(day);
        self.gone = self.held.iter().flat_map(|held| held.days.keys().flatten()).copied().filter(|day| !kept(day)).collect();
        self.take_whole(owed);
        self.take_added(&old).await
    }

    /// Days that are read whole.
    fn take_whole(&mut self, owed: Owed) {
        self.owed = Some(owed.total);
        for (day, owed) in owed.days {
            let why = self.why(day);
            self.days.insert(day, DayPlan { owed, why, take: Take::Whole });
        }
    }

    /// Days that the database may have dropped rows of: what the lake has of them stays, and what it doesn't have
    /// yet comes to it. A batch's rows of a day came all at once, so the lake has all of a batch that it has any of.
    async fn take_added(&mut self, counts: &Counts) -> Result<()> {
        for (&day, by_batch) in counts {
            let rows: u64 = by_batch.values().sum();
            let held = self.held.as_ref().filter(|held| held.days.contains_key(&Some(day)));
            let (Some(held), Some(column)) = (held, &self.dataset.batch_column) else {
                // Nothing tells the rows apart: then the larger number has it.
                let thinner = held.map_or(0, |held| held.rows(day));
                if rows < thinner {
                    tracing::warn!(
                        "dataset {}: {day} stays as the lake has it, {thinner} rows; the database has dropped rows of that day and holds {rows}",
                        self.dataset.name
                    );
                    continue;
                }
                let why = self.why(day);
                self.days.insert(day, DayPlan { owed: (rows, rows), why, take: Take::Whole });
                self.owed = self.owed.map(|(least, most)| (least + rows, most.saturating_add(rows)));
                continue;
            };
            let known = held.batches(day, column).await?;
            let fresh: BTreeMap<Uuid, u64> =
                by_batch.iter().filter_map(|(batch, rows)| Some(((*batch)?, *rows))).filter(|(batch, _)| !known.contains(batch)).collect();
            if !fresh.is_empty() {
                let rows = fresh.values().sum();
                let take = Take::Batches(fresh.into_keys().collect());
                self.days.insert(day, DayPlan { owed: (rows, rows), why: Why::Added, take });
                self.owed = self.owed.map(|(least, most)| (least + rows, most.saturating_add(rows)));
            }
        }
        Ok(())
    }

    fn why(&self, day: NaiveDate) -> Why {
        let last = self.held.as_ref().and_then(Held::last_day);
        match &self.held {
            Some(held) if !held.days.contains_key(&Some(day)) => Why::New,
            None => Why::New,
            _ if self.mode != Mode::Incremental => Why::Asked,
            _ if last == Some(day) => Why::Grown,
            _ => Why::Late,
        }
    }

    /// Whether files stay that were written under the columns that the table has now.
    fn keeps_files(&self) -> bool {
        let replaced = |day: &NaiveDate| self.gone.contains(day) || self.days.get(day).is_some_and(|day| matches!(day.take, Take::Whole));
        match self.dataset.time_column {
            Some(_) => self.held.iter().flat_map(|held| held.days.keys().flatten()).any(|day| !replaced(day)),
            None => self.mode == Mode::Unchanged,
        }
    }

    /// The columns that the table is to have. A column that is new is NULL in files that stay; one that has
    /// gone, or has become another, can't be told of files that stay.
    fn plan_columns(&mut self) -> Result<()> {
        let mut fields: Vec<StructField> = self.columns.iter().map(Column::delta_field).collect::<Result<_>>()?;
        if self.dataset.time_column.is_some() {
            fields.push(StructField::new(DAY, DataType::Primitive(PrimitiveType::Date), true));
        }
        let Some(held) = &self.held else {
            self.fields = Some(fields);
            return Ok(());
        };
        let old = held.fields()?;
        let find = |fields: &[StructField], name: &str| fields.iter().find(|f| f.name() == name).map(|f| f.data_type().clone());
        let mut broken = Vec::new();
        for field in &old {
            match find(&fields, field.name()) {
                None if self.mode != Mode::Full => broken.push(format!("column {} is no longer there", field.name())),
                Some(now) if now != *field.data_type() => {
                    broken.push(format!("column {} was {}, and is {now}", field.name(), field.data_type()))
                }
                _ => {}
            }
        }
        let added: Vec<&str> = fields.iter().map(StructField::name).map(String::as_str).filter(|name| find(&old, name).is_none()).collect();
        let dropped = old.iter().any(|field| find(&fields, field.name()).is_none());
        if self.dataset.time_column.is_none() && self.mode == Mode::Unchanged && (!broken.is_empty() || !added.is_empty() || dropped) {
            (self.mode, self.reason) = (Mode::Incremental, "its columns have changed".to_owned());
        }
        if !broken.is_empty() && self.keeps_files() {
            let what = if self.mode == Mode::Full {
                "days that retention has dropped would stay as they are: export into another folder"
            } else {
                "write it anew with --full, or export into another folder"
            };
            let message = format!("dataset {}: {}; the lake was left as it was; {what}", self.dataset.name, broken.join(", "));
            return Err(ExportError::new(ExportErrorKind::Lake, message));
        }
        if added.is_empty() && !dropped && broken.is_empty() {
            return Ok(());
        }
        if !added.is_empty() && self.keeps_files() {
            let name = &self.dataset.name;
            tracing::warn!("dataset {name}: {} is new: days that are not written now show NULL there; --full fills them", added.join(", "));
        }
        if self.mode == Mode::Unchanged {
            self.mode = Mode::Incremental;
            self.reason = format!("columns that are new: {}", added.join(", "));
        }
        self.fields = Some(fields);
        Ok(())
    }
}
