//! The ledger's lines, and which days they have rows of.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Days, NaiveDate, Utc};
use uuid::Uuid;

use crate::dataset::{Dataset, quote};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::snapshot::{Snapshot, literal, midnight};

/// Ranges that are asked for one by one; of more, all that lies between.
const MAX_RANGES: usize = 128;

/// A line of the ledger, or several of one day summed up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// The days of its first and last row; `None` where rows have no time.
    pub(super) days: Option<(NaiveDate, NaiveDate)>,
    pub(crate) rows: u64,
    pub(super) batch: Option<Uuid>,
}

/// The lines since a watermark that may have rows within a range of days, its end excluded.
pub(crate) async fn lines(snapshot: &Snapshot<'_>, dataset: &Dataset, query: &str, since: i64, range: Range) -> Result<Vec<Line>> {
    let doing = format!("reading the ledger of dataset {}", dataset.name);
    let (from, to) = (range.from.map(midnight), range.to.map(midnight));
    let rows = snapshot.query(&doing, query, &[&since.to_string(), &from, &to]).await?;
    rows.iter()
        .map(|row| {
            let failed = |e| ExportError::database(&doing, e);
            let time = |at| row.try_get::<_, Option<DateTime<Utc>>>(at).map(|t| t.map(|t| t.date_naive())).map_err(failed);
            Ok(Line {
                days: time(0)?.zip(time(1)?),
                rows: u64::try_from(row.try_get::<_, i64>(2).map_err(failed)?).unwrap_or_default(),
                batch: row.try_get(3).map_err(failed)?,
            })
        })
        .collect()
}

/// Days, the last one excluded; `None` for no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Range {
    pub(crate) from: Option<NaiveDate>,
    pub(crate) to: Option<NaiveDate>,
}

impl Range {
    pub(super) fn has(&self, day: NaiveDate) -> bool {
        self.from.is_none_or(|from| from <= day) && self.to.is_none_or(|to| day < to)
    }

    /// From the first of these days to the last.
    pub(super) fn around(days: impl IntoIterator<Item = NaiveDate>) -> Option<Self> {
        let mut days = days.into_iter();
        let first = days.next()?;
        let (from, last) = days.fold((first, first), |(from, last), day| (from.min(day), last.max(day)));
        Some(Self { from: Some(from), to: Some(last + Days::new(1)) })
    }

    /// The part of it from this day on.
    pub(super) fn since(self, day: Option<NaiveDate>) -> Self {
        Self { from: self.from.max(day), ..self }
    }

    /// The part of it before this day.
    pub(super) fn before(self, day: NaiveDate) -> Self {
        Self { to: Some(self.to.map_or(day, |to| to.min(day))), ..self }
    }

    fn is_empty(&self) -> bool {
        matches!((self.from, self.to), (Some(from), Some(to)) if from >= to)
    }
}

/// Days that follow each other, as ranges; all that lies between when there are very many.
pub(super) fn runs(days: &BTreeSet<NaiveDate>) -> Vec<Range> {
    let mut runs: Vec<Range> = Vec::new();
    for day in days {
        let next = Some(*day + Days::new(1));
        match runs.last_mut() {
            Some(run) if run.to == Some(*day) => run.to = next,
            _ => runs.push(Range { from: Some(*day), to: next }),
        }
    }
    few(runs)
}

/// What lies within a range, and not among these days.
pub(super) fn gaps(days: &BTreeSet<NaiveDate>, range: Range) -> Vec<Range> {
    let mut gaps = Vec::new();
    let mut from = range.from;
    for day in days.iter().filter(|day| range.has(**day)) {
        gaps.push(Range { from, to: Some(*day) });
        from = Some(*day + Days::new(1));
    }
    gaps.push(Range { from, to: range.to });
    gaps.retain(|gap| !gap.is_empty());
    few(gaps)
}

fn few(ranges: Vec<Range>) -> Vec<Range> {
    match (ranges.first(), ranges.last()) {
        (Some(first), Some(last)) if ranges.len() > MAX_RANGES => vec![Range { from: first.from, to: last.to }],
        _ => ranges,
    }
}

/// Rows by day, and by batch where that is asked for.
pub(super) type Counts = BTreeMap<NaiveDate, BTreeMap<Option<Uuid>, u64>>;

/// Counts the rows that the database has within a range; only those of some batches, where any are named.
pub(super) async fn count(
    snapshot: &Snapshot<'_>,
    dataset: &Dataset,
    range: Range,
    batches: Option<&[Uuid]>,
    counts: &mut Counts,
) -> Result<()> {
    let Some(time) = dataset.time_column.as_deref().map(quote) else { return Ok(()) };
    if range.is_empty() {
        return Ok(());
    }
    let doing = format!("finding the days of dataset {}", dataset.name);
    let batch = dataset.batch_column.as_deref().map(quote);
    let mut conditions = vec!["true".to_owned()];
    conditions.extend(range.from.map(|day| format!("{time} >= {}", literal(midnight(day)))));
    conditions.extend(range.to.map(|day| format!("{time} < {}", literal(midnight(day)))));
    let mut values: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = Vec::new();
    if let (Some(batch), Some(batches)) = (&batch, &batches) {
        conditions.push(format!("{batch} = ANY ($1::uuid[])"));
        values.push(batches);
    }
    let query = format!(
        "SELECT ({time} AT TIME ZONE 'UTC')::date, {}, count(*) FROM ({}) AS dataset WHERE {} GROUP BY 1, 2",
        batch.as_deref().unwrap_or("NULL::uuid"),
        dataset.query,
        conditions.join(" AND ")
    );
    for row in snapshot.query(&doing, &query, &values).await? {
        let failed = |e| ExportError::database(&doing, e);
        let (day, batch): (NaiveDate, Option<Uuid>) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let rows = u64::try_from(row.try_get::<_, i64>(2).map_err(failed)?).unwrap_or_default();
        *counts.entry(day).or_default().entry(batch).or_default() += rows;
    }
    Ok(())
}

/// Of lines that span days: how many rows each batch really has of which day. Its first and last day have some for
/// sure: only when those are not all of its rows, the days between are looked at. A batch none of whose days may have been
/// dropped (those from `whole` on) must have as many rows as its line says, unless `unverified`.
pub(super) async fn split(
    snapshot: &Snapshot<'_>,
    dataset: &Dataset,
    lines: &[Line],
    whole: Option<NaiveDate>,
    unverified: bool,
) -> Result<HashMap<Uuid, BTreeMap<NaiveDate, u64>>> {
    let mut split = HashMap::<Uuid, BTreeMap<NaiveDate, u64>>::new();
    let mut owed: HashMap<Uuid, (NaiveDate, NaiveDate, u64)> = HashMap::new();
    for line in lines {
        if let (Some((first, last)), Some(batch), true) = (line.days, line.batch, dataset.batch_column.is_some())
            && first < last
        {
            owed.insert(batch, (first, last, line.rows));
        }
    }
    let told = owed.clone();
    for edges in [true, false] {
        let days: BTreeSet<NaiveDate> = if edges {
            owed.values().flat_map(|(first, last, _)| [*first, *last]).collect()
        } else {
            owed.values().flat_map(|(first, last, _)| first.iter_days().skip(1).take_while(|day| day < last)).collect()
        };
        let batches: Vec<Uuid> = owed.keys().copied().collect();
        let mut counts = Counts::new();
        if !batches.is_empty() {
            for run in runs(&days) {
                count(snapshot, dataset, run, Some(&batches), &mut counts).await?;
            }
        }
        for (day, by_batch) in counts {
            for (batch, rows) in by_batch {
                // Ranges may reach over days that were counted already.
                if let (Some(batch), true) = (batch, days.contains(&day)) {
                    split.entry(batch).or_default().entry(day).or_insert(rows);
                }
            }
        }
        owed.retain(|batch, (_, _, rows)| split.get(batch).map_or(0, |days| days.values().sum::<u64>()) < *rows);
    }
    for (batch, (first, _, rows)) in told.iter().filter(|_| !unverified) {
        if whole.is_none_or(|whole| *first >= whole) {
            let found = split.get(batch).map_or(0, |days| days.values().sum());
            compare(&format!("dataset {}, batch {batch}", dataset.name), found, (*rows, *rows))?;
        }
    }
    Ok(split)
}

/// Between how many rows there must be: at least, at most.
pub(crate) type Bounds = (u64, u64);

/// How many rows the lines tell of: of each of these days, and of all of them.
pub(super) struct Owed {
    pub(super) days: BTreeMap<NaiveDate, Bounds>,
    pub(super) total: Bounds,
}

impl Owed {
    /// `covered` says whether all rows between two days, both included, are among those days.
    pub(super) fn of(
        lines: &[Line],
        split: &HashMap<Uuid, BTreeMap<NaiveDate, u64>>,
        days: impl IntoIterator<Item = NaiveDate>,
        covered: impl Fn(NaiveDate, NaiveDate) -> bool,
    ) -> Self {
        let mut owed = Self { days: days.into_iter().map(|day| (day, (0, 0))).collect(), total: (0, 0) };
        for line in lines {
            let Some((first, last)) = line.days else {
                owed.total = (owed.total.0 + line.rows, owed.total.1 + line.rows);
                continue;
            };
            if let Some(split) = line.batch.and_then(|batch| split.get(&batch)) {
                for (day, rows) in split {
                    owed.exactly(*day, *rows);
                }
                continue;
            }
            if first == last {
                owed.exactly(first, line.rows);
                continue;
            }
            let mut touched = false;
            for (day, bounds) in owed.days.range_mut(first..=last) {
                touched = true;
                bounds.0 += u64::from(*day == first || *day == last);
                bounds.1 += line.rows;
            }
            owed.total.0 += if covered(first, last) { line.rows } else { 0 };
            owed.total.1 += if touched { line.rows } else { 0 };
        }
        owed
    }

    /// Where the lines leave bounds, other bounds may be closer.
    pub(super) fn tighten(&mut self, other: impl Fn(NaiveDate) -> Bounds) {
        for (day, (least, most)) in &mut self.days {
            let (low, high) = other(*day);
            if least < most {
                (*least, *most) = ((*least).max(low.min(*most)), (*most).min(high.max(*least)));
            }
        }
        let sum = |bound: fn(&Bounds) -> u64| self.days.values().map(bound).fold(0, u64::saturating_add);
        self.total = (self.total.0.max(sum(|b| b.0).min(self.total.1)), self.total.1.min(sum(|b| b.1)));
    }

    fn exactly(&mut self, day: NaiveDate, rows: u64) {
        if let Some(bounds) = self.days.get_mut(&day) {
            *bounds = (bounds.0 + rows, bounds.1 + rows);
            self.total = (self.total.0 + rows, self.total.1 + rows);
        }
    }
}

/// What was read must be what the ledger tells of.
pub(crate) fn compare(what: &str, rows: u64, (least, most): Bounds) -> Result<()> {
    if rows < least {
        return Err(ExportError::new(
            ExportErrorKind::Incomplete,
            format!(
                "{what}: {rows} rows were read, but {least} must be there; nothing was published. \
                 Rows were deleted by hand, or lost: find out with `hitherto audit verify`, or publish all the same with --unverified"
            ),
        ));
    }
    if rows > most {
        return Err(ExportError::new(
            ExportErrorKind::Surplus,
            format!(
                "{what}: {rows} rows were read, but the ledger tells of {most}; nothing was published. \
                 Rows were added by hand, or twice: find out with `hitherto audit verify`, or publish all the same with --unverified"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 3, n).unwrap()
    }

    fn range(from: Option<u32>, to: Option<u32>) -> Range {
        Range { from: from.map(day), to: to.map(day) }
    }

    #[test]
    fn gaps_and_runs_share_out_a_range() {
        let days: BTreeSet<NaiveDate> = [2, 3, 7, 9].map(day).into();
        assert_eq!(runs(&days), [range(Some(2), Some(4)), range(Some(7), Some(8)), range(Some(9), Some(10))]);
        assert_eq!(
            gaps(&days, Range::default()),
            [range(None, Some(2)), range(Some(4), Some(7)), range(Some(8), Some(9)), range(Some(10), None)]
        );
        assert_eq!(gaps(&days, range(Some(3), Some(8))), [range(Some(4), Some(7))]);
        assert_eq!(gaps(&BTreeSet::new(), Range::default()), [Range::default()]);
        assert_eq!(gaps(&days, range(Some(2), Some(4))), []);
    }

    #[test]
    fn lines_tell_exactly_what_they_can_and_bounds_of_the_rest() {
        let [a, b] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let line = |first, last, rows, batch| Line { days: Some((day(first), day(last))), rows, batch };
        let lines = [line(1, 1, 10, None), line(1, 5, 3, Some(a)), line(2, 3, 7, Some(b)), line(9, 9, 5, None)];
        let split = HashMap::from([(a, BTreeMap::from([(day(1), 2), (day(5), 1)]))]);
        let owed = Owed::of(&lines, &split, [1, 2, 3].map(day), |first, last| first >= day(1) && last <= day(3));
        assert_eq!(owed.days, BTreeMap::from([(day(1), (12, 12)), (day(2), (1, 7)), (day(3), (1, 7))]));
        assert_eq!(owed.total, (19, 19), "the line of the 2nd and 3rd lies wholly within");
        let mut owed = Owed::of(&lines, &split, [2].map(day), |first, last| first == day(2) && last == day(2));
        assert_eq!(owed.total, (0, 7));
        owed.tighten(|_| (3, 5));
        assert_eq!((owed.days[&day(2)], owed.total), ((3, 5), (3, 5)));
        owed.tighten(|_| (9, 9));
        assert_eq!(owed.days[&day(2)], (5, 5), "never past what the lines tell");
    }
}
