//! The decision trail: complete, in order, and found through indexes.

use std::collections::BTreeSet;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use hitherto::records::{EventType, OrderEvent, Proposal, Record, Regime, RegimeState, RiskEvaluation, RiskLevel, Side, Signal, Verdict};
use hitherto::store::TrailStep;
use hitherto::writer::Batch;
use hitherto::{Engine, Store};
use serde_json::{Value, json};

use crate::decisions;
use crate::harness;
use crate::shell::{Shell, code, document, words};

async fn put<R: Record>(store: &Store, rows: Vec<R>) {
    store.batch_store(&Batch::new("test", rows).unwrap()).await.unwrap();
}

fn details(step: &TrailStep) -> Value {
    serde_json::from_str(step.details.as_ref().unwrap().as_str()).unwrap()
}

/// Puts a decision with everything in it into the store, made at `t`.
async fn decide(store: &Store, t: DateTime<Utc>) {
    let ms = TimeDelta::milliseconds;
    for (regime, at) in [(Regime::Bull, t - TimeDelta::days(3)), (Regime::Bear, t + ms(600))] {
        store.regime_propose(RegimeState::new(regime, 0.95, "overseer").at(at)).await.unwrap();
    }
    let signal = |id: &str, at| Signal { signal_id: id.to_owned(), ..Signal::new("technical", "trend").at(at).asset("A").score(0.5) };
    put(store, vec![signal("s1", t - ms(20)), signal("s2", t - ms(15)), signal("other", t)]).await;
    let proposal =
        |id: &str, payload| Proposal { proposal_id: id.to_owned(), ..Proposal::new("overseer").at(t).asset("A").payload(payload) };
    let named = json!({"side": "buy", "quantity": 10, "signal_ids": ["s2", "s1", "lost", "s1"]});
    put(store, vec![proposal("p", named), proposal("bare", json!({"signal_ids": "none"})), proposal("refused", json!({}))]).await;
    let verdict = |id: &str, proposal: &str, verdict, at| RiskEvaluation {
        evaluation_id: id.to_owned(),
        ..RiskEvaluation::new("risk", proposal, RiskLevel::Low, verdict).at(at)
    };
    put(
        store,
        vec![
            verdict("r1", "p", Verdict::Downgraded, t + ms(10)),
            verdict("r2", "p", Verdict::Approved, t + ms(20)),
            verdict("r3", "refused", Verdict::Rejected, t + ms(10)),
            verdict("r4", "unheard-of", Verdict::Approved, t),
        ],
    )
    .await;
    let event = |order: &str, number: i64, kind, at| OrderEvent {
        event_id: format!("{order}-{number}"),
        ..OrderEvent::new(order, kind).at(at).sequence(number).broker("paper")
    };
    let fill = |order, number, at| event(order, number, EventType::Fill, at).last_quantity(6).last_price(2);
    put(
        store,
        vec![
            // The number of the producer goes before the lifecycle's own order.
            event("o1", 2, EventType::Pending, t + ms(500)),
            event("o1", 1, EventType::Submitted, t + ms(500)).proposal_id("p").asset("A").side(Side::Buy).quantity(10),
            fill("o1", 3, t + ms(700)),
            fill("o1", 4, t + ms(60_700)),
            OrderEvent { ref_event_id: Some("o1-3".into()), ..event("o1", 5, EventType::FillCorrected, t + ms(60_700)).last_price(3) },
            OrderEvent { ref_event_id: Some("nothing".into()), ..event("o1", 6, EventType::FillVoided, t + ms(60_700)).reason("busted") },
            event("o0", 1, EventType::Rejected, t + ms(500)).proposal_id("p").reason("no"),
            event("o2", 1, EventType::Submitted, t).proposal_id("unheard-of"),
            event("o3", 1, EventType::Submitted, t),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_trail_tells_every_step_in_order_with_its_gap_and_the_regime_of_the_time() {
    for db in harness::all().await {
        let t = (Utc::now() - TimeDelta::days(1)).trunc_subsecs(0);
        decide(&db.store, t).await;
        let steps = db.store.decision_trail("p").await.unwrap();
        let told: Vec<(&str, i64, &str, &str)> = steps
            .iter()
            .map(|s| {
                let gap = s.gap_seconds.map_or(-1, |gap| (gap * 1000.0).round() as i64);
                (s.step.as_str(), gap, s.regime.as_deref().unwrap(), s.order_id.as_deref().unwrap_or_default())
            })
            .collect();
        let expected = [
            ("signal", -1, "bull", ""),
            ("signal", 5, "bull", ""),
            ("signal_missing", 15, "bull", ""),
            ("regime", 0, "bull", ""),
            ("proposed", 0, "bull", ""),
            ("risk", 10, "bull", ""),
            ("risk", 10, "bull", ""),
            ("rejected", 480, "bull", "o0"),
            ("order", 0, "bull", "o1"),
            ("order", 0, "bull", "o1"),
            ("regime", 100, "bear", ""),
            ("fill", 100, "bear", "o1"),
            ("fill", 60_000, "bear", "o1"),
            ("fill_corrected", 0, "bear", "o1"),
            ("fill_voided", 0, "bear", "o1"),
            ("anomaly", 0, "bear", "o1"),
        ];
        assert_eq!(told, expected, "{}", db.name);
        let of = |n: usize| steps[n].summary.as_str();
        assert_eq!((of(2), of(8), of(9)), ("signal lost is not stored", "submitted buy 10 A", "pending buy A"), "{}", db.name);
        assert!(of(3).starts_with("bull, confidence 0.95, since ") && steps[3].actor.as_deref() == Some("overseer"), "{}", of(3));
        assert_eq!(details(&steps[3])["regime"], "bull", "{}", db.name);
        assert_eq!(
            (of(11), of(14), of(15)),
            ("fill buy 6 A at 2", "fill_voided buy A (busted)", "overfill, void_of_unknown_fill"),
            "{}",
            db.name
        );
        assert_eq!(details(&steps[14])["ref_event_id"], "nothing", "{}", db.name);

        let words = async |id: &str| {
            let steps = db.store.decision_trail(id).await.unwrap();
            steps.iter().map(|s| s.step.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words("bare").await, "regime proposed", "{}", db.name);
        assert_eq!(words("refused").await, "regime proposed risk", "{}", db.name);
        assert_eq!(words("unheard-of").await, "risk order", "{}", db.name);
        assert_eq!(words("nothing").await, "", "{}", db.name);
    }
}

#[tokio::test]
async fn an_order_of_which_retention_dropped_events_shows_what_is_left_and_says_so() {
    for db in harness::all().await {
        let t = (Utc::now() - TimeDelta::days(1)).trunc_subsecs(0);
        decide(&db.store, t).await;
        let client = db.store.client().await.unwrap();
        client.batch_execute("UPDATE hitherto.execution_report SET events_dropped = true WHERE order_id = 'o1'").await.unwrap();
        drop(client);
        let late = |number: i64, at| OrderEvent {
            event_id: format!("o1-{number}"),
            ..OrderEvent::new("o1", EventType::Fill).at(at).sequence(number).last_quantity(1)
        };
        put(&db.store, vec![late(7, t - TimeDelta::hours(9)), late(8, t + TimeDelta::hours(9))]).await;
        let steps = db.store.decision_trail("p").await.unwrap();
        assert_eq!(steps.iter().filter(|s| s.step == "fill").count(), 4, "{}: late events outside the report's times", db.name);
        let anomaly = steps.iter().find(|s| s.step == "anomaly").unwrap();
        assert!(anomaly.summary.ends_with("event_after_retention, retention has dropped events"), "{}", anomaly.summary);
    }
}

#[tokio::test]
async fn the_command_prints_a_trail_for_people_and_in_full_as_json() {
    let db = harness::native().await;
    decide(&db.store, (Utc::now() - TimeDelta::days(1)).trunc_subsecs(0)).await;
    let shell = Shell::new(&db);
    let text = String::from_utf8(shell.run(&["trail", "p"]).await.stdout).unwrap();
    for told in ["p: buy 10 A, proposed by overseer\nregime: bull, confidence 0.95, since ", "16 steps in 1 min\n", "+480 ms", "  +1 min"] {
        assert!(text.contains(told), "{told} is missing: {text}");
    }
    let steps = document(&shell.run(&["trail", "p", "--json"]).await);
    let fields: BTreeSet<&str> = steps[8].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["actor", "details", "gap_seconds", "order_id", "regime", "step", "step_at", "step_number", "summary"];
    assert_eq!(fields, expected.into());
    assert_eq!((&steps[8]["details"]["event_id"], &steps[8]["gap_seconds"]), (&json!("o1-1"), &json!(0.0)));
    let text = String::from_utf8(shell.run(&["trail", "unheard-of"]).await.stdout).unwrap();
    assert!(text.starts_with("unheard-of is named by others, but is not stored itself\n"), "{text}");
    let unknown = shell.run(&["trail", "nothing"]).await;
    assert!(code(&unknown) == 1 && words(&unknown).contains("nothing is known of a proposal 'nothing'"), "{}", words(&unknown));
}

#[tokio::test]
async fn a_trail_is_found_through_indexes_alone_whatever_else_there_is() {
    for db in harness::all().await {
        let timescaledb = db.store.capabilities().engine == Engine::Timescaledb;
        let client = db.store.client().await.unwrap();
        client.batch_execute(&decisions::fill(if timescaledb { 40_000 } else { 200_000 })).await.unwrap();
        for compressed in [false, true] {
            if compressed && !timescaledb {
                continue;
            }
            if compressed {
                client.batch_execute(decisions::COMPRESS).await.unwrap();
            }
            let rows = client
                .query(
                    "EXPLAIN (ANALYZE, COSTS off, TIMING off) SELECT * FROM hitherto.decision_trail WHERE proposal_id = 'proposal-1000'",
                    &[],
                )
                .await
                .unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            let whole = plan.join("\n");
            for (at, line) in plan.iter().enumerate() {
                let Some((_, table)) = line.split_once("Seq Scan on ") else { continue };
                // A few rows; or the metadata of a compressed chunk, of which the filter lets a batch or none through.
                let small = ["module ", "regime_state ", "legacy_tombstone "].iter().any(|small| table.starts_with(small));
                let sparse = table.starts_with("compress_hyper") && plan[at + 1].contains("bloom1_contains");
                assert!(small || sparse, "{}: {line}\n{whole}", db.name);
            }
            assert!(whole.contains("proposal_pkey") && whole.contains("execution_report_proposal_id_idx"), "{}: {whole}", db.name);
            assert!(!timescaledb || whole.contains("Chunks excluded during runtime: "), "{}: {whole}", db.name);
        }
        drop(client);
        let steps = db.store.decision_trail("proposal-1000").await.unwrap();
        let words: Vec<&str> = steps.iter().map(|s| s.step.as_str()).collect();
        assert_eq!(words, ["signal", "regime", "proposed", "risk", "order", "order", "order", "cancelled", "signal"], "{}", db.name);
    }
}

/// Walks every proposal and compares its trail with what the tables hold.
pub(crate) async fn every_trail_is_complete(store: &Store, name: &str) {
    let texts = async |query: &str, id: &str| -> Vec<String> {
        let rows = store.client().await.unwrap().query(query, &[&id]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let proposals = texts("SELECT proposal_id::text FROM hitherto.proposal WHERE proposal_id <> $1 ORDER BY 1", "").await;
    assert!(proposals.len() > 20, "{name}: {}", proposals.len());
    for id in &proposals {
        let steps = store.decision_trail(id).await.unwrap();
        let of = |word: &str| steps.iter().filter(|s| s.step == word).collect::<Vec<_>>();
        let ids = |steps: Vec<&TrailStep>, key: &str| {
            let mut ids: Vec<String> = steps.iter().map(|s| details(s)[key].as_str().unwrap().to_owned()).collect();
            ids.sort();
            ids
        };
        assert!(of("proposed").len() == 1 && !of("regime").is_empty(), "{name} {id}: {steps:?}");
        let signals = texts(
            "SELECT DISTINCT jsonb_array_elements_text(payload -> 'signal_ids') COLLATE \"C\" FROM hitherto.proposal WHERE proposal_id = $1 ORDER BY 1",
            id,
        )
        .await;
        assert!(!signals.is_empty() && ids(of("signal"), "signal_id") == signals, "{name} {id}: {signals:?} {steps:?}");
        let verdicts = texts("SELECT verdict::text FROM hitherto.risk_evaluation WHERE proposal_id = $1", id).await;
        assert!(!verdicts.is_empty() && of("risk").len() == verdicts.len(), "{name} {id}: {verdicts:?} {steps:?}");
        let events = texts(
            "SELECT event_id::text FROM hitherto.order_event WHERE order_id IN (SELECT order_id FROM hitherto.order_event WHERE proposal_id = $1)
             ORDER BY event_id",
            id,
        )
        .await;
        let of_orders = steps.iter().filter(|s| s.order_id.is_some() && s.step != "anomaly").collect();
        assert_eq!(ids(of_orders, "event_id"), events, "{name} {id}: every order event is a step");
        assert_eq!(events.is_empty(), verdicts == ["rejected"], "{name} {id}: {verdicts:?} {events:?}");
        let gaps: f64 = steps.iter().filter_map(|s| s.gap_seconds).sum();
        let whole = (steps.last().unwrap().step_at - steps[0].step_at).as_seconds_f64();
        assert!((gaps - whole).abs() < 1e-6, "{name} {id}: the gaps are {gaps} s, the whole is {whole} s");
        assert!(steps.iter().enumerate().all(|(at, s)| s.step_number == at as i64 + 1 && s.gap_seconds.is_none_or(|gap| gap >= 0.0)));
    }
}
