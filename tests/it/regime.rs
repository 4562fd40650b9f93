//! The market's regime.

use chrono::{TimeDelta, Utc};
use hitherto::ErrorKind;
use hitherto::records::{Regime, RegimeState, RegimeStatus};

use crate::harness;

#[tokio::test]
async fn one_regime_is_active_and_the_one_before_ends_where_it_begins() {
    for db in harness::all().await {
        let start = Utc::now() - TimeDelta::hours(5);
        for (hour, regime) in [Regime::Bull, Regime::HighVol, Regime::Crisis].into_iter().enumerate() {
            let state = RegimeState::new(regime, 0.8, "overseer").at(start + TimeDelta::hours(hour as i64));
            let stored = db.store.regime_propose(state.clone()).await.unwrap();
            assert_eq!(stored.status, RegimeStatus::Active, "{}", db.name);
            // Proposed again, as after a lost answer: it stays as it is.
            assert_eq!(db.store.regime_propose(state).await.unwrap(), stored, "{}", db.name);
        }
        assert_eq!(db.store.regime_active().await.unwrap().unwrap().regime, Regime::Crisis, "{}", db.name);
        let client = db.store.client().await.unwrap();
        let gaps: i64 = client
            .query_one(
                "SELECT count(*) FROM (SELECT effective_until, lead(effective_from) OVER (ORDER BY effective_from) AS next FROM hitherto.regime_timeline) t
                 WHERE effective_until IS DISTINCT FROM next",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(gaps, 0, "{}", db.name);
        let by_hand = client
            .execute("INSERT INTO hitherto.regime_state (regime_id, regime, confidence, classified_by, status, effective_from) VALUES ('x', 'bull', 1, 'me', 'active', now() + INTERVAL '1 day')", &[])
            .await;
        assert!(by_hand.is_err(), "{}: the database itself refuses a second active regime", db.name);
    }
}

#[tokio::test]
async fn an_unconfirmed_regime_changes_nothing_and_is_decided_once() {
    let db = harness::native().await;
    let state = RegimeState::new(Regime::Crisis, 0.5, "overseer").requires_confirmation();
    let id = state.regime_id.clone();
    assert_eq!(db.store.regime_propose(state).await.unwrap().status, RegimeStatus::Proposed);
    assert!(db.store.regime_active().await.unwrap().is_none());
    assert_eq!(db.store.regime_set_active("unheard-of", "ann").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(db.store.regime_set_active(&id, " ").await.unwrap_err().kind(), ErrorKind::Invalid);
    let all =
        futures_util::future::join_all((0..20).map(|n| db.store.regime_set_active(&id, if n % 2 == 0 { "ann" } else { "bob" }))).await;
    assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "one decision");
    let decided = all.iter().find_map(|r| r.as_ref().ok()).unwrap();
    assert!(decided.decided_at.unwrap() > decided.proposed_at && decided.effective_from == decided.decided_at, "{decided:?}");
    for error in all.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    let mut late = RegimeState::new(Regime::Bull, 0.5, "overseer").requires_confirmation();
    late.decide_by = Some(chrono::SubsecRound::trunc_subsecs(Utc::now() - TimeDelta::seconds(1), 6));
    let late = db.store.regime_propose(late).await.unwrap();
    assert_eq!(db.store.regime_set_active(&late.regime_id, "ann").await.unwrap_err().kind(), ErrorKind::Conflict, "its time is over");
}
