//! The old names over the new store.

use chrono::{TimeDelta, Utc};
use hitherto::records::{
    EventType, HealthCheck, OrderEvent, PortfolioSnapshot, Proposal, Regime, RegimeState, RegimeStatus, RiskEvaluation, RiskLevel, Side,
    Signal, Verdict,
};
use hitherto::{DatabaseManager, ErrorKind};

use crate::harness;
use crate::shell::count;

#[tokio::test]
async fn modules_are_registered_counted_and_asked_for_under_the_old_names() {
    for db in harness::all().await {
        let manager = DatabaseManager::new(db.store.clone(), "old caller");
        let row = manager.register_module("overseer", "1.2", Some(serde_json::json!({"window": 20}).into())).await.unwrap();
        assert_eq!((row.name.as_str(), row.version.as_str(), row.status.as_str()), ("overseer", "1.2", "active"), "{}", db.name);
        let error = manager.update_module_status("overseer", "ERROR", Some("no data")).await.unwrap();
        assert_eq!((error.status.as_str(), error.error_message.as_deref()), ("error", Some("no data")), "{}", db.name);
        let wrong = manager.update_module_status("overseer", "asleep", None).await.unwrap_err();
        assert!(wrong.to_string().contains("active, inactive, error, maintenance"), "{wrong}");
        assert_eq!(manager.update_module_status("nobody", "active", None).await.unwrap_err().kind(), ErrorKind::NotFound);

        for n in 0..12 {
            manager.record_module_execution("overseer", f64::from(n), n % 4 != 0, (n % 4 == 0).then_some("why")).await.unwrap();
            let at = Utc::now() - TimeDelta::minutes(i64::from(n));
            manager.record_health_check(HealthCheck::new("overseer", "healthy").at(at).error_count(n)).await.unwrap();
        }
        let report = manager.get_module_stats("overseer").await.unwrap().unwrap();
        assert_eq!(
            (report.stats.execution_count, report.stats.success_rate, report.stats.avg_execution_time_ms),
            (12, Some(0.75), Some(5.5)),
            "{}",
            db.name
        );
        let errors: Vec<i32> = report.health_checks.iter().map(|c| c.error_count).collect();
        assert_eq!(errors, (0..10).collect::<Vec<_>>(), "{}: the ten newest, newest first", db.name);
        assert_eq!(manager.get_module_stats("nobody").await.unwrap(), None);
        assert_eq!(manager.get_module_by_name("nobody").await.unwrap(), None);
        assert_eq!(manager.get_module_by_name("overseer").await.unwrap().unwrap().module_id, row.module_id);
        assert_eq!(manager.get_all_modules().await.unwrap().len(), 1, "{}", db.name);
    }
}

#[tokio::test]
async fn decisions_orders_and_snapshots_are_stored_under_the_old_names() {
    for db in harness::all().await {
        let manager = DatabaseManager::new(db.store.clone(), "old caller");
        let signal = manager.save_signal(Signal::new("technical", "trend").asset("A")).await.unwrap();
        let proposal = manager.save_proposal(Proposal::new("overseer").payload(serde_json::json!({"signal_ids": [signal]}))).await.unwrap();
        let risk = RiskEvaluation::new("risk", &proposal, RiskLevel::High, Verdict::Downgraded);
        // Replayed with its own id: stored once.
        assert_eq!(manager.store_risk_evaluation(risk.clone()).await.unwrap(), risk);
        assert_eq!(manager.store_risk_evaluation(risk.clone()).await.unwrap(), risk);
        let event = |kind| OrderEvent::new("order-1", kind).proposal_id(&proposal);
        let report = manager
            .store_execution_report(vec![
                event(EventType::Submitted).asset("A").side(Side::Buy).quantity(10),
                event(EventType::Fill).last_quantity(10).last_price(3).commission(1),
            ])
            .await
            .unwrap();
        assert_eq!(
            (report.status.as_str(), report.filled_quantity, report.total_commission),
            ("filled", 10.into(), 1.into()),
            "{}",
            db.name
        );
        let steps: Vec<String> = db.store.decision_trail(&proposal).await.unwrap().into_iter().map(|s| s.step).collect();
        assert_eq!(steps, ["signal", "regime", "proposed", "risk", "order", "fill"], "{}", db.name);
        for wrong in [vec![], vec![event(EventType::Submitted), OrderEvent::new("order-2", EventType::Submitted)]] {
            assert_eq!(manager.store_execution_report(wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
        }
        let snapshot = PortfolioSnapshot::new(serde_json::json!({"A": 10}), 70.into(), 100.into());
        assert_eq!(manager.create_portfolio_snapshot(snapshot.clone()).await.unwrap(), snapshot);
        assert_eq!(db.store.portfolio_latest(1).await.unwrap()[0].snapshot_id, snapshot.snapshot_id, "{}", db.name);
        let named = "SELECT count(DISTINCT table_name) FROM hitherto.ingest_batch WHERE producer = 'old caller'";
        assert_eq!(count(&db, named).await, 5, "{}: everything is in the ledger", db.name);
    }
}

#[tokio::test]
async fn the_old_cleanup_keeps_to_the_policies() {
    for db in harness::all().await {
        let manager = DatabaseManager::new(db.store.clone(), "old caller");
        for days in [1, 40, 100] {
            manager.record_health_check(HealthCheck::new("m", "healthy").at(Utc::now() - TimeDelta::days(days))).await.unwrap();
        }
        let gone = manager.cleanup_old_data(30).await.unwrap();
        assert_eq!(gone.iter().find(|t| t.policy == "retention").map(|t| t.count), Some(1), "{}: {gone:?}", db.name);
        assert_eq!(count(&db, "SELECT count(*) FROM hitherto.health_check").await, 2, "{}: 90 days are the policy", db.name);
        assert_eq!(count(&db, "SELECT sum(checks)::bigint FROM hitherto.health_check_day").await, 3, "{}", db.name);
    }
}

#[tokio::test]
async fn the_active_regime_is_set_and_asked_for_under_the_old_names() {
    for db in harness::all().await {
        let manager = DatabaseManager::new(db.store.clone(), "old caller");
        assert_eq!(manager.get_active_regime().await.unwrap(), None, "{}", db.name);
        for regime in [Regime::Bull, Regime::Sideways] {
            let set = manager.set_active_regime(RegimeState::new(regime, 0.95, "overseer")).await.unwrap();
            assert_eq!(set.status, RegimeStatus::Active, "{}", db.name);
            assert_eq!(manager.get_active_regime().await.unwrap().unwrap().regime, regime, "{}", db.name);
        }
        // One that a person has to confirm changes nothing yet.
        let held = manager.set_active_regime(RegimeState::new(Regime::Bear, 0.95, "overseer").requires_confirmation()).await.unwrap();
        assert_eq!(held.status, RegimeStatus::Proposed, "{}", db.name);
        assert_eq!(manager.get_active_regime().await.unwrap().unwrap().regime, Regime::Sideways, "{}", db.name);
        let decided = manager.update_regime(&held.regime_id, true, "ann", Some("seen")).await.unwrap();
        assert_eq!((decided.status, decided.decided_by.as_deref()), (RegimeStatus::Active, Some("ann")), "{}", db.name);
        assert_eq!(manager.get_active_regime().await.unwrap().unwrap().regime, Regime::Bear, "{}", db.name);
        let again = manager.update_regime(&held.regime_id, false, "bob", None).await.unwrap_err();
        assert!(again.kind() == ErrorKind::Conflict && again.to_string().contains("ann"), "{}: {again}", db.name);
    }
}
