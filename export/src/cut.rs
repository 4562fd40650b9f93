//! One dataset's rows, cut into stretches of time that are read in parallel.

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::SimpleQueryMessage;

use crate::dataset::{Dataset, quote};
use crate::error::{ExportError, Result};
use crate::snapshot::{Rows, Snapshot};

/// Bytes that a stretch should have, by the planner's estimate.
const STRETCH: f64 = 12e6;
const DAY: i64 = 86_400_000_000;
/// Parts of a day that stretches may be.
const PARTS: [i64; 8] = [2, 3, 4, 6, 8, 12, 24, 96];
/// Finding the first and the last time may cost this part of reading the rows, by the planner's
/// estimate, and reading all stretches may cost so many times what reading the rows at once does. A
/// table without an index on the time costs more, if it is in one piece on the server.
const SEARCH: f64 = 0.5;
const OVERHEAD: f64 = 3.0;

/// What the planner thinks of a query.
struct Estimate {
    bytes: f64,
    cost: f64,
}

/// Cuts rows into stretches of time, one after the other. Their borders are those that tables are
/// partitioned by, days or weeks since 1970, where rows are not too many for that. Rows that are few,
/// that have no time or are not to be found by it stay together.
pub(crate) async fn cut(snapshot: &Snapshot<'_>, dataset: &Dataset, rows: Rows) -> Result<Vec<Rows>> {
    let (Some(time), Rows::Between(from, to)) = (&dataset.time_column, &rows) else { return Ok(vec![rows]) };
    let (from, to) = (*from, *to);
    let select = rows.select(dataset);
    let whole = estimate(snapshot, &select).await?;
    if whole.bytes < 2.0 * STRETCH || !snapshot.has_no_nulls(dataset, time).await? {
        return Ok(vec![rows]);
    }
    let Some((first, last)) = span(snapshot, dataset, time, &select, whole.cost).await? else { return Ok(vec![rows]) };
    let first = from.map_or(first, |from| from.max(first)).timestamp_micros();
    let last = to.map_or(last, |to| to.min(last)).timestamp_micros();
    for step in [step(whole.bytes, last - first), 7 * DAY] {
        let mut starts = vec![from];
        let borders = (first.div_euclid(step) + 1..=last.div_euclid(step)).map(|n| DateTime::from_timestamp_micros(n * step));
        starts.extend(borders);
        let ends = starts.iter().skip(1).copied().chain([to]);
        let stretches: Vec<Rows> = starts.iter().copied().zip(ends).map(|(start, end)| Rows::Between(start, end)).collect();
        let middle = stretches[stretches.len() / 2].select(dataset);
        if stretches.len() > 1 && estimate(snapshot, &middle).await?.cost * stretches.len() as f64 <= OVERHEAD * whole.cost {
            return Ok(stretches);
        }
    }
    Ok(vec![rows])
}

/// Between which times the rows are, or nearly: what is outside goes with the first or the last stretch.
async fn span(
    snapshot: &Snapshot<'_>,
    dataset: &Dataset,
    time: &str,
    select: &str,
    cost: f64,
) -> Result<Option<(DateTime<Utc>, DateTime<Utc>)>> {
    let query = match &dataset.span {
        Some(query) => query.clone(),
        None => {
            let time = quote(time);
            let edge = |direction: &str| format!("SELECT {time} FROM ({select}) AS dataset ORDER BY 1 {direction} LIMIT 1");
            let (first, last) = (edge(""), edge("DESC"));
            if estimate(snapshot, &first).await?.cost + estimate(snapshot, &last).await?.cost > SEARCH * cost {
                return Ok(None);
            }
            format!("SELECT ({first}), ({last})")
        }
    };
    let doing = format!("finding the first and the last time of dataset {}", dataset.name);
    let row = snapshot.client().query_one(&query, &[]).await.map_err(|e| ExportError::database(&doing, e))?;
    // Infinite times can't be read here; who reads the rows says what they are.
    Ok(row.try_get(0).ok().zip(row.try_get(1).ok()))
}

/// How long a stretch is, for this many bytes in this time: some days, or a part of one.
fn step(bytes: f64, span: i64) -> i64 {
    let days = (span as f64 / DAY as f64).max(1.0 / 96.0);
    let wanted = STRETCH / bytes * days;
    if wanted >= 0.5 {
        return (wanted as i64).max(1) * DAY;
    }
    let parts = PARTS.into_iter().find(|parts| *parts as f64 * wanted >= 0.7).unwrap_or(96);
    DAY / parts
}

async fn estimate(snapshot: &Snapshot<'_>, query: &str) -> Result<Estimate> {
    let answer = snapshot.client().simple_query(&format!("EXPLAIN (FORMAT JSON) {query}")).await;
    let text: String = answer
        .map_err(|e| ExportError::database("asking how long a query takes", e))?
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    let number = |name: &str| answer[0]["Plan"][name].as_f64().unwrap_or_default();
    Ok(Estimate { bytes: number("Plan Rows") * number("Plan Width"), cost: number("Total Cost") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_days_or_parts_of_one() {
        let year = 365 * DAY;
        assert_eq!(step(365.0 * STRETCH, year), DAY);
        assert_eq!(step(365.0 * STRETCH / 10.5, year), 10 * DAY);
        // Twice as much a day as wanted is let pass, more is not.
        assert_eq!(step(365.0 * STRETCH * 1.9, year), DAY);
        assert_eq!(step(365.0 * STRETCH * 2.1, year), DAY / 2);
        assert_eq!(step(365.0 * STRETCH * 10.0, year), DAY / 8);
        assert_eq!(step(1e15, DAY / 2), DAY / 96);
        assert_eq!(step(1e9, 0), DAY / 96);
    }
}
