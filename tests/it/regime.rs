//! The market's regime: proposed by modules, decided by people, one in force.

use chrono::{SubsecRound, TimeDelta, Utc};
use hitherto::ErrorKind;
use hitherto::records::{Regime, RegimeState, RegimeStatus};
use hitherto::store::RegimeRule;
use hitherto::writer::Batch;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::harness::{self, Db};
use crate::shell::{Shell, code, count, document, words};

fn state(regime: Regime, confidence: f64) -> RegimeState {
    RegimeState::new(regime, confidence, "overseer")
}

async fn propose(db: &Db, state: RegimeState) -> RegimeState {
    db.store.regime_propose(state).await.unwrap()
}

async fn steps(db: &Db, regime_id: &str) -> Vec<(String, Option<String>)> {
    db.store.regime_events(regime_id).await.unwrap().into_iter().map(|e| (e.event, e.actor)).collect()
}

fn step(event: &str, actor: &str) -> (String, Option<String>) {
    (event.to_owned(), Some(actor.to_owned()))
}

async fn by_hand(db: &Db, statement: &str) -> Result<u64, String> {
    let client = db.store.client().await.unwrap();
    client.execute(statement, &[]).await.map_err(|e| e.as_db_error().map(|d| d.message().to_owned()).unwrap_or_default())
}

const GAPS: &str =
    "SELECT count(*) FROM (SELECT effective_until, lead(effective_from) OVER (ORDER BY effective_from, effective_until) AS next
                                         FROM hitherto.regime_timeline) t WHERE effective_until IS DISTINCT FROM next";
const ACTIVE: &str = "SELECT count(*) FROM hitherto.regime_state WHERE status = 'active'";

#[tokio::test]
async fn one_regime_is_active_and_the_one_before_ends_where_it_begins() {
    for db in harness::all().await {
        let start = Utc::now() - TimeDelta::hours(5);
        for (hour, regime) in [Regime::Bull, Regime::HighVol, Regime::LowVol].into_iter().enumerate() {
            let state = state(regime, 0.8).at(start + TimeDelta::hours(hour as i64));
            let stored = propose(&db, state.clone()).await;
            assert_eq!(stored.status, RegimeStatus::Active, "{}", db.name);
            // Proposed again, as after a lost answer: it stays as it is.
            assert_eq!(propose(&db, state).await, stored, "{}", db.name);
            assert_eq!(steps(&db, &stored.regime_id).await, [step("proposed", "overseer"), step("activated", "overseer")], "{}", db.name);
        }
        assert_eq!(db.store.regime_active().await.unwrap().unwrap().regime, Regime::LowVol, "{}", db.name);
        assert_eq!(count(&db, GAPS).await, 0, "{}", db.name);
    }
}

#[tokio::test]
async fn a_proposal_that_a_module_merely_writes_goes_the_same_way() {
    for db in harness::all().await {
        let rows = vec![state(Regime::Bull, 0.9), state(Regime::Bear, 0.2), state(Regime::Crisis, 0.99)];
        db.store.batch_store(&Batch::new("test", rows).unwrap()).await.unwrap();
        assert_eq!(db.store.regime_active().await.unwrap().unwrap().regime, Regime::Bull, "{}", db.name);
        let pending: Vec<Regime> = db.store.regime_pending().await.unwrap().into_iter().map(|r| r.regime).collect();
        assert_eq!(pending.len(), 2, "{}: low confidence and crisis wait", db.name);
        // An active one without a decider can't be stored; its neighbour is.
        let mut bold = state(Regime::Crisis, 0.9);
        (bold.status, bold.effective_from) = (RegimeStatus::Active, Some(Utc::now().trunc_subsecs(6)));
        let stored = db.store.batch_store(&Batch::new("test", vec![bold, state(Regime::Bear, 0.1)]).unwrap()).await.unwrap();
        assert_eq!((stored.rows, stored.quarantined), (1, 1), "{}", db.name);
    }
}

#[tokio::test]
async fn the_rule_says_what_a_person_must_confirm() {
    for db in harness::all().await {
        let needs = async |regime, confidence| propose(&db, state(regime, confidence)).await.requires_confirmation;
        assert!(needs(Regime::Bull, 0.49).await && !needs(Regime::Bull, 0.5).await, "{}", db.name);
        let crisis = propose(&db, state(Regime::Crisis, 1.0)).await;
        assert!(crisis.requires_confirmation && crisis.status == RegimeStatus::Proposed, "{}: into crisis", db.name);
        db.store.regime_confirm(&crisis.regime_id, "ann", Some("banks fail")).await.unwrap();
        assert!(needs(Regime::Recovery, 1.0).await, "{}: out of crisis", db.name);
        assert!(!needs(Regime::Crisis, 0.9).await, "{}: crisis goes on", db.name);
        let asked = propose(&db, state(Regime::Crisis, 1.0).requires_confirmation()).await;
        assert_eq!(asked.status, RegimeStatus::Proposed, "{}: the proposer asks for it", db.name);
        db.store.regime_rule_set(RegimeRule { confirm_below: 0.9, confirm_crisis: false, crisis_deciders: 2 }).await.unwrap();
        assert!(needs(Regime::Bull, 0.89).await && !needs(Regime::Bull, 0.95).await, "{}", db.name);
        let bad = RegimeRule { confirm_below: f64::NAN, confirm_crisis: false, crisis_deciders: 1 };
        assert_eq!(db.store.regime_rule_set(bad).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn a_decision_names_who_made_it_and_is_final() {
    for db in harness::all().await {
        let bull = propose(&db, state(Regime::Bull, 0.9)).await.regime_id;
        let id = propose(&db, state(Regime::Bear, 0.3)).await.regime_id;
        assert_eq!(db.store.regime_active().await.unwrap().unwrap().regime_id, bull, "{}: an unconfirmed regime is not active", db.name);
        assert_eq!(db.store.regime_confirm("unheard-of", "ann", None).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(db.store.regime_confirm(&id, " ", None).await.unwrap_err().kind(), ErrorKind::Invalid);
        let confirmed = db.store.regime_confirm(&id, " ann ", Some("I agree")).await.unwrap();
        assert_eq!((confirmed.status, confirmed.decided_by.as_deref()), (RegimeStatus::Active, Some("ann")), "{}", db.name);
        assert!(confirmed.decided_at.unwrap() > confirmed.proposed_at && confirmed.effective_from == confirmed.decided_at, "{}", db.name);
        assert_eq!(confirmed.notes.as_deref(), Some("I agree"), "{}", db.name);
        for refused in [db.store.regime_confirm(&id, "bob", None).await, db.store.regime_reject(&id, "bob", None).await] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{}", db.name);
            assert!(error.to_string().contains("active already, decided by ann at"), "{}: {error}", db.name);
        }
        let expected = [step("proposed", "overseer"), step("confirmed", "ann"), step("activated", "ann")];
        assert_eq!(steps(&db, &id).await, expected, "{}", db.name);
        assert_eq!(steps(&db, &bull).await.last().unwrap().0, "superseded", "{}", db.name);

        let id = propose(&db, state(Regime::LowVol, 0.3)).await.regime_id;
        let rejected = db.store.regime_reject(&id, "bob", Some("no")).await.unwrap();
        assert_eq!((rejected.status, rejected.decided_by.as_deref()), (RegimeStatus::Rejected, Some("bob")), "{}", db.name);
        let error = db.store.regime_confirm(&id, "ann", None).await.unwrap_err();
        assert!(error.to_string().contains("rejected already, decided by bob"), "{}: {error}", db.name);
        assert_eq!(db.store.regime_events(&id).await.unwrap().last().unwrap().notes.as_deref(), Some("no"), "{}", db.name);
        assert_eq!(count(&db, GAPS).await, 0, "{}", db.name);
    }
}

#[tokio::test]
async fn past_its_deadline_a_proposal_expires_and_the_old_regime_stays() {
    for db in harness::all().await {
        let bull = propose(&db, state(Regime::Bull, 0.9)).await.regime_id;
        let mut late = state(Regime::Bear, 0.1).at(Utc::now() - TimeDelta::hours(1));
        late.decide_by = Some((Utc::now() - TimeDelta::seconds(1)).trunc_subsecs(6));
        let late = propose(&db, late).await.regime_id;
        assert!(db.store.regime_pending().await.unwrap().is_empty(), "{}", db.name);
        let hand = format!(
            "UPDATE hitherto.regime_state SET status = 'active', effective_from = now(), decided_at = now(), decided_by = 'me' WHERE regime_id = '{late}'"
        );
        assert!(by_hand(&db, &hand).await.unwrap_err().contains("expired"), "{}", db.name);
        let error = db.store.regime_confirm(&late, "ann", None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{}", db.name);
        assert!(error.to_string().contains("has expired"), "{}: {error}", db.name);
        let stands = db.store.regime_get(&late).await.unwrap().unwrap();
        assert_eq!(stands.status, RegimeStatus::Expired, "{}", db.name);
        assert_eq!(db.store.regime_active().await.unwrap().unwrap().regime_id, bull, "{}", db.name);
        let mut later = state(Regime::Bear, 0.1).at(Utc::now() - TimeDelta::hours(1));
        later.decide_by = Some((Utc::now() - TimeDelta::seconds(1)).trunc_subsecs(6));
        let later = propose(&db, later).await.regime_id;
        db.store.maintain().await.unwrap();
        assert_eq!(db.store.regime_get(&later).await.unwrap().unwrap().status, RegimeStatus::Expired, "{}: upkeep expires", db.name);
    }
}

#[tokio::test]
async fn two_different_people_decide_on_crisis_where_two_must() {
    for db in harness::all().await {
        db.store.regime_rule_set(RegimeRule { confirm_below: 0.5, confirm_crisis: true, crisis_deciders: 2 }).await.unwrap();
        let id = propose(&db, state(Regime::Crisis, 0.9)).await.regime_id;
        let first = db.store.regime_confirm(&id, "ann", Some("I see it")).await.unwrap();
        assert_eq!((first.status, first.decided_by), (RegimeStatus::Proposed, None), "{}: one is not enough", db.name);
        let error = db.store.regime_confirm(&id, " Ann", None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("another person"), "{}: {error}", db.name);
        let hand = "UPDATE hitherto.regime_state SET status = 'active', effective_from = now(), decided_at = now(), decided_by = 'ANN' WHERE status = 'proposed'";
        assert!(by_hand(&db, hand).await.unwrap_err().contains("two different people"), "{}", db.name);
        let second = db.store.regime_confirm(&id, "bob", Some("I, too")).await.unwrap();
        assert_eq!((second.status, second.decided_by.as_deref()), (RegimeStatus::Active, Some("bob")), "{}", db.name);
        assert_eq!(second.notes.as_deref(), Some("I see it\nI, too"), "{}", db.name);
        let expected = [step("proposed", "overseer"), step("confirmed", "ann"), step("confirmed", "bob"), step("activated", "bob")];
        assert_eq!(steps(&db, &id).await, expected, "{}", db.name);
        // One person is enough where crisis neither begins nor ends.
        let low = propose(&db, state(Regime::Crisis, 0.2)).await.regime_id;
        assert_eq!(db.store.regime_confirm(&low, "ann", None).await.unwrap().status, RegimeStatus::Active, "{}", db.name);
    }
}

#[tokio::test]
async fn of_a_hundred_deciders_at_once_one_decides() {
    let mut dbs = vec![harness::native().await];
    dbs.extend(harness::native_timescaledb().await);
    for db in dbs {
        let mut random = StdRng::seed_from_u64(11);
        for round in 0..3 {
            let before = propose(&db, state(Regime::Bull, 0.9)).await.regime_id;
            let id = propose(&db, state(Regime::Bear, 0.3)).await.regime_id;
            let deciders: Vec<(bool, String)> = (0..100).map(|n| (random.random(), format!("person {n}"))).collect();
            let all = futures_util::future::join_all(deciders.iter().map(async |(confirm, by)| {
                if *confirm { db.store.regime_confirm(&id, by, None).await } else { db.store.regime_reject(&id, by, None).await }
            }))
            .await;
            let won: Vec<&RegimeState> = all.iter().filter_map(|r| r.as_ref().ok()).collect();
            assert_eq!(won.len(), 1, "{} round {round}", db.name);
            let stands = db.store.regime_get(&id).await.unwrap().unwrap();
            assert_eq!(&stands, won[0], "{}: what was answered is what stands", db.name);
            for error in all.iter().filter_map(|r| r.as_ref().err()) {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                assert!(error.to_string().contains(stands.decided_by.as_deref().unwrap()), "{error}");
            }
            let decisions =
                format!("SELECT count(*) FROM hitherto.regime_event WHERE regime_id = '{id}' AND event IN ('activated', 'rejected')");
            assert_eq!(count(&db, &decisions).await, 1, "{}", db.name);
            let active = db.store.regime_active().await.unwrap().unwrap().regime_id;
            assert_eq!(active, if stands.status == RegimeStatus::Active { id } else { before }, "{}", db.name);
        }
        assert_eq!((count(&db, ACTIVE).await, count(&db, GAPS).await), (1, 0), "{}", db.name);
    }
}

#[tokio::test]
async fn proposers_at_once_leave_one_active_and_no_gap() {
    let mut dbs = vec![harness::native().await];
    dbs.extend(harness::native_timescaledb().await);
    for db in dbs {
        let words = [Regime::Bull, Regime::Bear, Regime::Sideways, Regime::HighVol];
        let all = (0..60).map(async |n: i64| {
            db.store.regime_propose(state(words[n as usize % 4], 0.9).at(Utc::now() + TimeDelta::milliseconds(n % 7))).await
        });
        for result in futures_util::future::join_all(all).await {
            assert!(matches!(result.unwrap().status, RegimeStatus::Active | RegimeStatus::Superseded), "{}", db.name);
        }
        assert_eq!((count(&db, ACTIVE).await, count(&db, GAPS).await), (1, 0), "{}", db.name);
        assert_eq!(count(&db, "SELECT count(*) FROM hitherto.regime_timeline").await, 60, "{}", db.name);
    }
}

#[tokio::test]
async fn hand_written_sql_cannot_go_around_the_workflow() {
    for db in harness::all().await {
        let bull = propose(&db, state(Regime::Bull, 0.9)).await.regime_id;
        let pending = propose(&db, state(Regime::Bear, 0.1)).await.regime_id;
        let now = "effective_from = now(), decided_at = now()";
        for (statement, words) in [
            (
                "INSERT INTO hitherto.regime_state (regime_id, regime, confidence, classified_by, status, effective_from, decided_at, decided_by)
                 VALUES ('x', 'bull', 1, 'me', 'active', now() + INTERVAL '1 day', now(), 'me')".to_owned(),
                "which is to come",
            ),
            (
                "INSERT INTO hitherto.regime_state (regime_id, regime, confidence, classified_by, status, effective_from, effective_until, decided_at, decided_by)
                 VALUES ('x', 'bull', 1, 'me', 'superseded', now() - INTERVAL '1 day', now() + INTERVAL '1 day', now(), 'me')".to_owned(),
                "regime_state_effective_no_overlap",
            ),
            (format!("UPDATE hitherto.regime_state SET status = 'active', {now} WHERE regime_id = '{pending}'"), "regime_state"),
            (format!("UPDATE hitherto.regime_state SET status = 'active', {now}, decided_by = 'overseer' WHERE regime_id = '{pending}'"), "requires confirmation"),
            (format!("UPDATE hitherto.regime_state SET requires_confirmation = false WHERE regime_id = '{pending}'"), "stays as it was"),
            (format!("UPDATE hitherto.regime_state SET confidence = 1 WHERE regime_id = '{pending}'"), "stays as it was"),
            (format!("UPDATE hitherto.regime_state SET legacy = true WHERE regime_id = '{pending}'"), "stays as it was"),
            (format!("UPDATE hitherto.regime_state SET decide_by = now() + INTERVAL '1 year' WHERE regime_id = '{pending}'"), "stays as it was"),
            (format!("UPDATE hitherto.regime_state SET confirmed = true WHERE regime_id = '{bull}'"), "stays as it was"),
            (format!("UPDATE hitherto.regime_state SET status = 'superseded', effective_until = now() WHERE regime_id = '{bull}'"), "until another one"),
            (
                "INSERT INTO hitherto.regime_state (regime_id, regime, confidence, classified_by, proposed_at) VALUES ('x', 'bull', 1, 'me', 'infinity')".to_owned(),
                "regime_state_times_finite",
            ),
            (format!("UPDATE hitherto.regime_state SET status = 'expired' WHERE regime_id = '{pending}'"), "can be decided"),
            (format!("UPDATE hitherto.regime_state SET status = 'rejected', effective_from = NULL WHERE regime_id = '{bull}'"), "can't become rejected"),
            (format!("UPDATE hitherto.regime_state SET decided_by = 'me' WHERE regime_id = '{bull}'"), "stays as it was"),
            (format!("UPDATE hitherto.regime_state SET effective_from = now() - INTERVAL '1 year' WHERE regime_id = '{bull}'"), "stays as it was"),
            (format!("DELETE FROM hitherto.regime_state WHERE regime_id = '{bull}'"), "regime_event"),
        ] {
            let error = by_hand(&db, &statement).await.expect_err(&statement);
            assert!(error.contains(words), "{}: {statement}: {error}", db.name);
        }
        // What a proposal says of its own confirmation does not count.
        let ghost = "INSERT INTO hitherto.regime_state (regime_id, regime, confidence, classified_by, confirmed, first_confirmed_by, decided_by, decided_at)
                     VALUES ('ghost', 'crisis', 1, 'me', true, 'nobody', 'nobody', now())";
        assert_eq!(by_hand(&db, ghost).await, Ok(1), "{}", db.name);
        let confirmed = count(&db, "SELECT count(*) FROM hitherto.regime_state WHERE regime_id = 'ghost' AND confirmed").await;
        assert_eq!((confirmed, steps(&db, "ghost").await.len()), (0, 1), "{}", db.name);
        // A step that is allowed by hand is an event, too.
        let reject = format!(
            "UPDATE hitherto.regime_state SET status = 'rejected', decided_at = now(), decided_by = 'me' WHERE regime_id = '{pending}'"
        );
        assert_eq!(by_hand(&db, &reject).await, Ok(1), "{}", db.name);
        assert_eq!(steps(&db, &pending).await.last(), Some(&step("rejected", "me")), "{}", db.name);
        // A regime proposed for later is in force from now, and holds nobody back.
        let soon = propose(&db, state(Regime::HighVol, 0.9).at(Utc::now() + TimeDelta::minutes(50))).await;
        assert!(soon.effective_from.unwrap() <= Utc::now() + TimeDelta::seconds(5), "{}", db.name);
        // A past that was written in later does not pass for the present.
        let past = "INSERT INTO hitherto.regime_state (regime_id, regime, confidence, classified_by, status, effective_from, effective_until, decided_at, decided_by)
                    VALUES ('past', 'crisis', 1, 'me', 'superseded', now(), now(), now(), 'me')";
        assert_eq!(by_hand(&db, past).await, Ok(1), "{}", db.name);
        assert_eq!(propose(&db, state(Regime::Crisis, 1.0)).await.status, RegimeStatus::Proposed, "{}: into crisis", db.name);
    }
}

#[tokio::test]
async fn the_command_shows_and_decides() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let run = async |args: &[&str]| shell.run(args).await;
    let empty = run(&["regime", "show"]).await;
    assert_eq!((code(&empty), String::from_utf8_lossy(&empty.stdout).contains("in force   none")), (0, true));
    let wrong = run(&["regime", "propose", "bullish", "--confidence", "0.9"]).await;
    assert_eq!(code(&wrong), 2);
    assert!(words(&wrong).contains("bull, bear, sideways"), "{}", words(&wrong));
    let bull = run(&["regime", "propose", "bull", "--confidence", "0.9", "--by", "ann", "--json"]).await;
    assert_eq!(document(&bull)["status"], "active");
    let late = run(&["regime", "propose", "bull", "--confidence", "0.9", "--by", "ann", "--decide-by", "2020-01-01T00:00:00Z"]).await;
    assert_eq!(code(&late), 2, "{}", words(&late));
    let args =
        ["regime", "propose", "crisis", "--confidence", "0.8", "--by", "ann", "--reasoning", "banks fail", "--within", "2h", "--id", "c1"];
    let crisis = run(&args).await;
    assert!(String::from_utf8_lossy(&crisis.stdout).contains("waits for confirmation: hitherto regime confirm c1"), "{crisis:?}");
    let unasked = run(&["regime", "confirm", "c1", "--by", "bob"]).await;
    assert_eq!(code(&unasked), 2);
    assert!(words(&unasked).contains("--yes"), "{}", words(&unasked));
    let nameless = run(&["regime", "confirm", "c1", "--by", " ", "--yes"]).await;
    assert_eq!(code(&nameless), 2, "{}", words(&nameless));
    // The only one that waits need not be named.
    let confirmed = run(&["regime", "confirm", "--by", "bob", "--yes", "--notes", "indeed", "--json"]).await;
    assert_eq!((code(&confirmed), &document(&confirmed)["decided_by"]), (0, &json!("bob")), "{}", words(&confirmed));
    let twice = run(&["regime", "reject", "c1", "--by", "eve", "--yes"]).await;
    assert_eq!(code(&twice), 4);
    assert!(words(&twice).contains("active already, decided by bob"), "{}", words(&twice));
    let unknown = run(&["regime", "confirm", "c2", "--by", "eve", "--yes"]).await;
    assert_eq!(code(&unknown), 1, "{}", words(&unknown));
    let history = document(&run(&["regime", "show", "c1", "--json"]).await);
    let events: Vec<&str> = history["events"].as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["proposed", "confirmed", "activated"]);
    let rule = document(&run(&["regime", "rule", "--crisis-deciders", "2", "--json"]).await);
    assert_eq!(rule, json!({"confirm_below": 0.5, "confirm_crisis": true, "crisis_deciders": 2}));
    assert_eq!(code(&run(&["regime", "rule", "--confirm-below", "1.5"]).await), 2);
}
