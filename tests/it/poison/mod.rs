//! Whatever a record can hold is refused before it is sent, stored as it is, or in quarantine with a reason; and its
//! neighbours are stored, once.

mod draw;
mod kinds;
mod written;

use std::collections::BTreeSet;

use chrono::Utc;
use hitherto::records::{
    HealthCheck, Limits, Module, ModuleExecution, OrderEvent, PortfolioSnapshot, Proposal, RegimeState, RiskEvaluation, Signal,
};
use hitherto::writer::Batch;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::harness::{self, Db};
use draw::Draw;
use kinds::Kinds;
use written::{stored, written};

async fn try_kind<R: Kinds>(db: &Db, runner: &mut TestRunner, cases: usize) {
    for case in 0..cases {
        let what = format!("{}: {}, case {case}", db.name, R::TABLE);
        // How many draws a record takes.
        let turns = {
            let mut draw = Draw { runner, poison: BTreeSet::new(), turn: 0, id: "x".to_owned() };
            R::draw(&mut draw);
            draw.turn
        };
        let poison: BTreeSet<usize> = (0..2).map(|_| (0..turns).boxed().new_tree(runner).unwrap().current()).collect();
        let run = uuid::Uuid::now_v7();
        let mut bad = R::draw(&mut Draw { runner, poison, turn: 0, id: format!("{run}-bad") });
        let invalid = bad.validate(&Limits::default(), Utc::now()).err();
        if invalid.is_none() {
            // Whoever wrote it is told nothing later: it must be stored.
            assert!(Batch::new("poison", vec![bad.clone()]).is_ok(), "{what}");
        } else {
            let error = Batch::new("poison", vec![bad.clone()]).unwrap_err();
            assert_eq!(error.kind(), hitherto::ErrorKind::Invalid, "{what}");
        }
        bad.cut();
        let mut rows: Vec<R> =
            (0..R::NEIGHBOURS).map(|n| R::draw(&mut Draw { runner, poison: BTreeSet::new(), turn: 0, id: format!("{run}-{n}") })).collect();
        let place = (0..=R::NEIGHBOURS).boxed().new_tree(runner).unwrap().current();
        rows.insert(place, bad);
        let batch = Batch::unchecked("poison", rows);
        let bad = &batch.rows()[place];
        let outcome = db.store.batch_store(&batch).await.unwrap_or_else(|e| panic!("{what}: {e}\n{bad:?}"));
        assert_eq!((outcome.rows + outcome.quarantined, outcome.duplicates), (R::NEIGHBOURS as u64 + 1, 0), "{what}: {:.600?}", bad);
        assert!(outcome.quarantined <= 1, "{what}");
        assert!(invalid.is_some() || outcome.quarantined == 0, "{what}: what was let through is not stored: {:.600?}", bad);
        let mut expected: Vec<String> = batch
            .rows()
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != place || outcome.quarantined == 0)
            .map(|(_, row)| written(row))
            .collect();
        expected.sort();
        let found = stored(db, &batch).await;
        let differ = expected.iter().zip(&found).find(|(a, b)| a != b);
        assert!(differ.is_none() && expected.len() == found.len(), "{what}: {} rows for {}; {:.900?}", found.len(), expected.len(), differ);
        let client = db.store.client().await.unwrap();
        let ledger: i64 =
            client.query_one("SELECT row_count FROM hitherto.ingest_batch WHERE batch_id = $1", &[&batch.id()]).await.unwrap().get(0);
        assert_eq!(ledger as usize, found.len(), "{what}");
        let reasons = client.query("SELECT reason, sqlstate FROM hitherto.quarantine WHERE batch_id = $1", &[&batch.id()]).await.unwrap();
        assert_eq!(reasons.len() as u64, outcome.quarantined, "{what}");
        for row in reasons {
            assert!(row.get::<_, &str>(0).len() > 10 && row.get::<_, &str>(1).len() == 5, "{what}");
        }
        drop(client);
        // Sent again it is found, and nothing is stored twice.
        let again = db.store.batch_store(&batch).await.unwrap_or_else(|e| panic!("{what}: again: {e}"));
        assert_eq!((again.rows, again.quarantined, again.already), (outcome.rows, outcome.quarantined, true), "{what}");
    }
}

async fn try_all(db: &Db, cases: usize) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let runner = &mut TestRunner::new_with_rng(Config::default(), rng);
    try_kind::<Module>(db, runner, cases).await;
    try_kind::<ModuleExecution>(db, runner, cases).await;
    try_kind::<HealthCheck>(db, runner, cases).await;
    try_kind::<Signal>(db, runner, cases).await;
    try_kind::<Proposal>(db, runner, cases).await;
    try_kind::<RiskEvaluation>(db, runner, cases).await;
    try_kind::<OrderEvent>(db, runner, cases).await;
    try_kind::<PortfolioSnapshot>(db, runner, cases).await;
    try_kind::<RegimeState>(db, runner, cases / 2).await;
}

/// More of them: `HITHERTO_POISON=200`.
fn cases(usual: usize) -> usize {
    std::env::var("HITHERTO_POISON").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

#[tokio::test]
async fn whatever_a_record_holds_its_neighbours_are_stored() {
    let mut dbs = vec![harness::native().await];
    dbs.extend(harness::native_timescaledb().await);
    dbs.extend(harness::named().await);
    for db in dbs {
        try_all(&db, cases(12)).await;
    }
}

#[tokio::test]
async fn the_embedded_engine_stands_poison_too() {
    try_all(&harness::embedded().await, cases(2)).await;
}
