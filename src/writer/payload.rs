//! Records as they stand in the spool's frames.

use crate::error::{Error, ErrorKind, Result};
use crate::records::Record;
use crate::spool::{KIND_RECORDS, SpooledBatch};

/// The version of the JSON in the frames. In version 1 a JSON field that is none stands as `null`; since
/// version 2 it is left out, and `null` is a value. A record's field that is added later and may be left out
/// is no new version.
pub(super) const RECORDS_VERSION: u16 = 2;

/// A record as one line.
///
/// # Errors
/// `Invalid` when it can't be written as JSON.
pub(super) fn line<R: Record>(record: &R) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)
        .map_err(|e| Error::new(ErrorKind::Invalid, format!("{}: the record can't be written as JSON: {e}", R::TABLE)))?;
    // JSON is kept as it was written, and has line ends between its tokens alone: as spaces they mean the same.
    line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    line.push(b'\n');
    Ok(line)
}

/// Lines that are no records.
#[derive(Default)]
pub(crate) struct BadLines {
    pub(crate) lines: Vec<u8>,
    pub(crate) reason: String,
}

impl BadLines {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// The records of a batch.
///
/// # Errors
/// `Refused` when it holds something else, or was written by a newer program.
pub(super) fn parse<R: Record>(batch: &SpooledBatch) -> Result<(Vec<R>, BadLines)> {
    let (mut rows, mut bad) = (Vec::new(), BadLines::default());
    for frame in &batch.frames {
        if frame.head.kind != KIND_RECORDS {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "batch {} in the spool of {} holds no writer's records (kind {}); hitherto spool replay sends both",
                    batch.id,
                    R::TABLE,
                    frame.head.kind
                ),
            ));
        }
        if frame.head.version > RECORDS_VERSION {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "batch {} in the spool of {} has record version {}, and this program knows up to {RECORDS_VERSION}; use the newer program",
                    batch.id,
                    R::TABLE,
                    frame.head.version
                ),
            ));
        }
        for line in frame.payload.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<R>(line) {
                Ok(mut row) => {
                    if frame.head.version < 2 {
                        row.nulls_are_none();
                    }
                    rows.push(row);
                }
                Err(error) => {
                    bad.lines.extend_from_slice(line);
                    bad.lines.push(b'\n');
                    bad.reason = format!("no record of {}: {error}", R::TABLE);
                }
            }
        }
    }
    Ok((rows, bad))
}

/// What a spool holds of a writer's batch, as a batch that can be sent; lines in it that are no records come apart.
///
/// # Errors
/// `Refused` when it holds something else, or was written by a newer program.
#[cfg(feature = "cli")]
pub(crate) fn spooled_batch<R: Record>(spooled: &SpooledBatch, producer: String) -> Result<(super::Batch<R>, BadLines)> {
    let (rows, bad) = parse(spooled)?;
    Ok((super::Batch::freeze(spooled.id, producer, rows, spooled.known), bad))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use bytes::BytesMut;
    use postgres_types::{ToSql, Type};

    use super::*;
    use crate::records::{Decimal, Json, Regime, RiskLevel, Verdict};
    use crate::records::{
        EventType, HealthCheck, Module, ModuleExecution, OrderEvent, PortfolioSnapshot, Proposal, RegimeState, RiskEvaluation, Signal,
        TABLES,
    };
    use crate::spool::{NewFrame, SpooledFrame};
    use crate::writer::copy_body::tests::body;
    use crate::writer::digest::row_digests;
    use crate::writer::encode::{Array, Columns};

    fn batch(version: u16, lines: Vec<u8>) -> SpooledBatch {
        let frame = NewFrame::new(Uuid::nil(), KIND_RECORDS, version, 1, lines);
        SpooledBatch::of(vec![SpooledFrame { head: frame.head, payload: frame.payload }])
    }

    /// What goes to the database: with `Memory` and `Commit` of the record itself, with `Spool` of what is read
    /// back from the disk.
    fn sent<R: Record>(record: &R) -> (Vec<u8>, Vec<Vec<u8>>, [u8; 32]) {
        let rows = std::slice::from_ref(record);
        let mut columns = Columns::default();
        columns.encode(rows, &[7]);
        let bytes = |array: &Array| {
            let mut bytes = BytesMut::new();
            array.to_sql(&Type::BYTEA, &mut bytes).unwrap();
            bytes.to_vec()
        };
        let arrays = columns.arrays().iter().map(bytes).collect();
        let digest = row_digests(rows, &[7]).next().unwrap();
        (body(rows, None, 7), arrays, digest)
    }

    fn is_the_same_over_the_disk<R: Record>(mut record: R) -> &'static str {
        let values = [None, Some("null"), Some("{}"), Some("[null, 1.50]"), Some("\"null\""), Some("{\n \"a\":\r null }")];
        for value in values {
            record.each_json(&mut |field| *field = value.map(|text| Json::parse(text).unwrap()));
            let (mut rows, bad) = parse::<R>(&batch(RECORDS_VERSION, line(&record).unwrap())).unwrap();
            assert!(bad.is_empty(), "{}, {value:?}: {}", R::TABLE, bad.reason);
            assert_eq!(rows.len(), 1, "{}, {value:?}", R::TABLE);
            let back = rows.remove(0);
            let spaces = value.is_some_and(|text| text.contains('\n'));
            assert!(spaces || back == record, "{}, {value:?}: {back:?}", R::TABLE);
            // Line ends between tokens are spaces then: jsonb is the same.
            let (was, is) = (sent(&record), sent(&back));
            assert!(spaces || (&was.0, &was.1) == (&is.0, &is.1), "{}, {value:?}", R::TABLE);
            assert_eq!(was.2, is.2, "{}, {value:?}", R::TABLE);
        }
        R::TABLE
    }

    #[test]
    fn a_record_is_the_same_with_every_durability() {
        let tables = [
            is_the_same_over_the_disk(Module::new("m", "1")),
            is_the_same_over_the_disk(ModuleExecution::new("m", 1.5)),
            is_the_same_over_the_disk(HealthCheck::new("m", "healthy")),
            is_the_same_over_the_disk(Signal::new("m", "trend")),
            is_the_same_over_the_disk(Proposal::new("m")),
            is_the_same_over_the_disk(RiskEvaluation::new("m", "p", RiskLevel::Low, Verdict::Approved)),
            is_the_same_over_the_disk(OrderEvent::new("o", EventType::Fill).last_price("1.5".parse::<Decimal>().unwrap())),
            is_the_same_over_the_disk(PortfolioSnapshot::new(Json::parse(r#"{"A": "1"}"#).unwrap(), 1.into(), 2.into())),
            is_the_same_over_the_disk(RegimeState::new(Regime::Bull, 0.5, "overseer")),
        ];
        assert_eq!(tables, TABLES, "all of them");
    }

    #[test]
    fn null_in_the_first_version_is_none() {
        let line = br#"{"checked_at":"2026-01-31T09:30:00Z","module":"m","status":"healthy","response_time_ms":null,"error_count":0,"memory_usage_mb":null,"cpu_usage_percent":null,"details":null}"#;
        let read = |version| parse::<HealthCheck>(&batch(version, line.to_vec())).unwrap().0.remove(0).details;
        assert_eq!(read(1), None);
        assert_eq!(read(2).map(|json| json.as_str().to_owned()).as_deref(), Some("null"));
        assert_eq!(parse::<HealthCheck>(&batch(3, line.to_vec())).err().unwrap().kind(), ErrorKind::Refused);
    }
}
