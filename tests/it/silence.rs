//! Modules that say nothing, and records that name what is not there.

use chrono::{DateTime, TimeDelta, Utc};
use hitherto::Store;
use hitherto::records::{
    EventType, HealthCheck, ModuleExecution, ModuleStatus, OrderEvent, Proposal, Record, RiskEvaluation, RiskLevel, Signal, Verdict,
};
use hitherto::writer::Batch;

use crate::harness;
use crate::shell::{Shell, code, document};

async fn store<R: Record>(store: &Store, rows: Vec<R>) {
    store.batch_store(&Batch::new("test", rows).unwrap()).await.unwrap();
}

/// Names of the modules that are silent.
async fn silent(db: &harness::Db) -> Vec<String> {
    db.store.module_silence().await.unwrap().into_iter().filter(|m| m.silent).map(|m| m.module).collect()
}

/// One check every so often, `count` of them, the last at `until`.
fn checks(module: &str, until: DateTime<Utc>, every: TimeDelta, count: i32) -> Vec<HealthCheck> {
    (0..count).map(|n| HealthCheck::new(module, "healthy").at(until - every * n)).collect()
}

#[tokio::test]
async fn a_module_is_silent_by_its_own_measure_while_others_speak() {
    for db in harness::all().await {
        let now = Utc::now();
        store(&db.store, checks("quick", now, TimeDelta::seconds(5), 500)).await;
        store(&db.store, checks("hourly", now - TimeDelta::minutes(50), TimeDelta::hours(1), 30)).await;
        store(&db.store, checks("stopped", now - TimeDelta::minutes(40), TimeDelta::minutes(5), 30)).await;
        store(&db.store, checks("resting", now - TimeDelta::hours(40), TimeDelta::minutes(5), 30)).await;
        store(&db.store, checks("new", now - TimeDelta::hours(9), TimeDelta::minutes(1), 3)).await;
        // Each burst is a hundred records within three minutes of an hour: silence between bursts is usual.
        for hour in 0..8 {
            let burst = now - TimeDelta::minutes(57) - TimeDelta::hours(hour);
            store(&db.store, checks("bursts", burst, TimeDelta::seconds(2), 100)).await;
        }
        db.store.module_set_status("resting", ModuleStatus::Inactive, None).await.unwrap();
        assert_eq!(silent(&db).await, ["stopped"], "{}: {:?}", db.name, db.store.module_silence().await.unwrap());
        let all = db.store.module_silence().await.unwrap();
        let usual = |name: &str| all.iter().find(|m| m.module == name).unwrap().usual_interval_seconds;
        assert_eq!(
            (usual("quick"), usual("hourly"), usual("stopped"), usual("new")),
            (Some(60.0), Some(3600.0), Some(300.0), None),
            "{}",
            db.name
        );
        // Any record is a word.
        store(&db.store, vec![Signal::new("stopped", "trend").at(now - TimeDelta::minutes(3))]).await;
        assert_eq!(silent(&db).await, Vec::<String>::new(), "{}", db.name);
        let heard = db.store.module_stats_of("stopped").await.unwrap().unwrap().last_heard_at.unwrap();
        assert_eq!(heard.timestamp(), (now - TimeDelta::minutes(3)).timestamp(), "{}", db.name);
        db.store.client().await.unwrap().batch_execute("SET hitherto.silent_after = '0.5'").await.unwrap();
        let rows = db.store.client().await.unwrap();
        rows.batch_execute("SET hitherto.silent_after = '0.5'").await.unwrap();
        let hourly: bool = rows.query_one("SELECT silent FROM hitherto.module_silence WHERE module = 'hourly'", &[]).await.unwrap().get(0);
        assert!(hourly, "{}: the setting decides after how many intervals", db.name);
        rows.batch_execute("RESET hitherto.silent_after").await.unwrap();
    }
}

#[tokio::test]
async fn loaded_history_is_not_silent_and_a_platform_that_stopped_is() {
    for db in harness::all().await {
        let old = Utc::now() - TimeDelta::days(3);
        store(&db.store, checks("m", old, TimeDelta::minutes(1), 60)).await;
        store(&db.store, (0..60).map(|n| ModuleExecution::new("n", 1.0).at(old - TimeDelta::minutes(n))).collect()).await;
        assert_eq!((silent(&db).await, db.store.silent_since().await.unwrap()), (vec![], None), "{}", db.name);
        // As if it had been written when it happened.
        let live = "SET session_replication_role = replica;
                    UPDATE hitherto.ingest_batch SET committed_at = max_time + INTERVAL '1 second';
                    RESET session_replication_role";
        db.store.client().await.unwrap().batch_execute(live).await.unwrap();
        let since = db.store.silent_since().await.unwrap().unwrap();
        assert_eq!((silent(&db).await.len(), since.timestamp()), (0, old.timestamp()), "{}: nobody writes: one finding", db.name);
        store(&db.store, vec![HealthCheck::new("m", "healthy")]).await;
        assert_eq!((silent(&db).await, db.store.silent_since().await.unwrap()), (vec!["n".to_owned()], None), "{}", db.name);
    }
}

#[tokio::test]
async fn what_names_a_proposal_or_signal_that_nobody_wrote_is_stored_and_told() {
    for db in harness::all().await {
        let at = Utc::now() - TimeDelta::hours(1);
        let risk = |n: i64, id: &str| RiskEvaluation::new("risk", id, RiskLevel::Low, Verdict::Approved).at(at + TimeDelta::seconds(n));
        store(&db.store, (0..5).map(|n| risk(n, &format!("lost-{n}"))).collect()).await;
        let mut known = Proposal::new("overseer").at(at).payload(serde_json::json!({"signal_ids": ["here", "nowhere"]}));
        known.proposal_id = "known".into();
        let mut here = Signal::new("trend", "trend").at(at);
        here.signal_id = "here".into();
        store(&db.store, vec![known]).await;
        store(&db.store, vec![here]).await;
        store(&db.store, vec![risk(9, "known")]).await;
        let order = |id: &str, proposal: &str| OrderEvent::new(id, EventType::Pending).at(at).asset("A").proposal_id(proposal);
        store(&db.store, vec![order("o1", "known"), order("o2", "gone")]).await;
        // One that has come just now may still be followed by its proposal.
        store(&db.store, vec![RiskEvaluation::new("risk", "soon", RiskLevel::Low, Verdict::Approved)]).await;
        let found: Vec<(String, String, i64, Vec<String>)> =
            db.store.loose_ends().await.unwrap().into_iter().map(|e| (e.table_name, e.names, e.count, e.newest)).collect();
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            found,
            [
                ("execution_report".to_owned(), "proposal".to_owned(), 1, words(&["gone"])),
                ("proposal".to_owned(), "signal".to_owned(), 1, words(&["nowhere"])),
                ("risk_evaluation".to_owned(), "proposal".to_owned(), 5, words(&["lost-4", "lost-3", "lost-2"])),
            ],
            "{}",
            db.name
        );
        assert_eq!(db.store.decision_trail("lost-1").await.unwrap().len(), 1, "{}: it is in the trail all the same", db.name);
    }
}

#[tokio::test]
async fn the_doctor_tells_of_silence_and_loose_ends() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let now = Utc::now();
    store(&db.store, checks("speaks", now, TimeDelta::minutes(1), 30)).await;
    store(&db.store, checks("stopped", now - TimeDelta::hours(2), TimeDelta::minutes(1), 30)).await;
    store(&db.store, vec![RiskEvaluation::new("speaks", "lost", RiskLevel::Low, Verdict::Approved).at(now - TimeDelta::minutes(5))]).await;
    let output = shell.run(&["doctor", "--json"]).await;
    assert_eq!(code(&output), 1);
    let findings = document(&output)["findings"].to_string();
    for words in
        ["module stopped: silent for 120 min", "risk_evaluation: 1 of the last week name a proposal that is not stored; the newest: lost"]
    {
        assert!(findings.contains(words), "{findings}");
    }
    db.store.module_set_status("stopped", ModuleStatus::Inactive, None).await.unwrap();
    let mut lost = Proposal::new("speaks");
    lost.proposal_id = "lost".into();
    store(&db.store, vec![lost]).await;
    assert_eq!(code(&shell.run(&["doctor"]).await), 0);
}
