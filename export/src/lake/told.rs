//! What people are told of a plan.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::NaiveDate;

use super::ledger::{Owed, Range, lines};
use super::plan::{DayPlan, Plan, Take};
use super::watermark;
use crate::dataset::{Mode, Planned, PlannedDay, Why};
use crate::error::Result;
use crate::snapshot::Snapshot;

impl Plan {
    /// What a person is told of it.
    pub(super) fn told(&self) -> Planned {
        let held = |day| self.held.as_ref().map_or(0, |held| held.rows(day));
        let whole = self.dataset.time_column.is_none() && self.mode != Mode::Unchanged;
        let of_days = self.days.values().map(|day| day.owed.1).fold(0, u64::saturating_add);
        let rows = if self.dataset.time_column.is_some() { Some(of_days) } else { self.owed.filter(|_| whole).map(|(least, _)| least) };
        let gone = self.gone.iter().map(|&day| PlannedDay { day, rows: (0, 0), held: held(day), why: Why::Gone });
        let written = self.days.iter().map(|(&day, plan)| PlannedDay { day, rows: plan.owed, held: held(day), why: plan.why });
        let mut days: Vec<PlannedDay> = written.chain(gone).collect();
        days.sort_unstable_by_key(|planned| planned.day);
        Planned {
            dataset: self.dataset.name.clone(),
            mode: self.mode,
            reason: self.reason.clone(),
            rows,
            days,
            version: self.held.as_ref().map(|held| held.version),
        }
    }

    /// Days that stay as the lake has them.
    pub(super) fn days_kept(&self) -> u64 {
        let held = self.held.iter().flat_map(|held| held.days.keys()).flatten();
        held.filter(|day| !self.days.contains_key(day) && !self.gone.contains(day)).count() as u64
    }

    /// How many days are written, or taken out, for which reason.
    pub(super) fn whys(&self) -> BTreeMap<Why, u64> {
        let mut whys = BTreeMap::new();
        self.days.values().for_each(|day| *whys.entry(day.why).or_default() += 1);
        if !self.gone.is_empty() {
            whys.insert(Why::Gone, self.gone.len() as u64);
        }
        whys
    }

    /// The transaction up to which the lake has everything once this is done.
    pub(super) fn watermark(&self) -> Option<i64> {
        let committed = watermark::noted(&self.notes).filter(|_| self.mode != Mode::Unchanged);
        committed.or(self.since)
    }

    /// Rows may have come late to days that were dropped, and have been dropped with them before any export saw them.
    pub(super) async fn warn_of_dropped(&self, snapshot: &Snapshot<'_>, ledger: &str, old: &BTreeSet<NaiveDate>) -> Result<()> {
        let Some(hull) = Range::around(old.iter().copied()) else { return Ok(()) };
        let lines = lines(snapshot, &self.dataset, ledger, 0, hull).await?;
        let owed = Owed::of(&lines, &HashMap::new(), old.iter().copied(), |_, _| false);
        for (day, (least, _)) in owed.days {
            let held = self.held.as_ref().map_or(0, |held| held.rows(day));
            let shown = match self.days.get(&day) {
                Some(DayPlan { owed, take: Take::Whole, .. }) => owed.0,
                Some(DayPlan { owed, take: Take::Batches(_), .. }) => held + owed.0,
                None => held,
            };
            if shown < least {
                tracing::warn!(
                    "dataset {}: {} rows of {day} are not in the lake and no longer in the database: retention dropped them before an export saw them",
                    self.dataset.name,
                    least - shown
                );
            }
        }
        Ok(())
    }
}
