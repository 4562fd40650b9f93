//! What an export has done or would do, as a table for people.

use hitherto_export::{Exported, Mode, Planned};

use crate::cli::output::table;

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Full => "full",
        Mode::Range => "range",
        Mode::Incremental => "incremental",
        Mode::Unchanged => "unchanged",
    }
}

/// Days that a person is shown one by one.
const SHOWN_DAYS: usize = 10;

pub(super) fn planned(planned: &[Planned]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for p in planned {
        let total = p.rows.map(|n| n.to_string()).unwrap_or_default();
        rows.push(vec![p.dataset.clone(), mode(p.mode).to_owned(), p.days.len().to_string(), total, p.reason.clone()]);
        for day in p.days.iter().rev().take(if p.mode == Mode::Incremental { SHOWN_DAYS } else { 0 }) {
            let (least, most) = day.rows;
            let owed = if least == most { most.to_string() } else { format!("{least} to {most}") };
            rows.push(vec![
                String::new(),
                String::new(),
                day.day.to_string(),
                owed,
                format!("{}; the lake has {}", day.why.words(), day.held),
            ]);
        }
        if p.mode == Mode::Incremental && p.days.len() > SHOWN_DAYS {
            let more = format!("and {} earlier days", p.days.len() - SHOWN_DAYS);
            rows.push(vec![String::new(), String::new(), String::new(), String::new(), more]);
        }
    }
    table(&["dataset", "how", "days", "rows", "why"], &rows)
}

pub(super) fn exported(exported: &[Exported]) -> String {
    let rows: Vec<Vec<String>> = exported
        .iter()
        .map(|e| {
            let version = e.version.map(|v| v.to_string()).unwrap_or_default();
            vec![
                e.dataset.clone(),
                mode(e.mode).to_owned(),
                e.rows.to_string(),
                e.days.to_string(),
                e.files.to_string(),
                e.bytes.to_string(),
                version,
                e.reason.clone(),
                e.path.clone(),
            ]
        })
        .collect();
    table(&["dataset", "how", "rows", "days", "files", "bytes", "version", "why", "where"], &rows)
}
