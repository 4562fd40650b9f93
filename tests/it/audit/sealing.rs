//! Sealing beside writers and other sealers, and by the command.

use super::*;

#[tokio::test]
async fn lines_below_a_transaction_that_is_open_wait_for_the_next_block() {
    let db = harness::native().await;
    store(&db, vec![HealthCheck::new("m", "healthy")]).await;
    let slow = db.config.connect().await.unwrap();
    slow.batch_execute(
        "BEGIN; SELECT pg_current_xact_id(); SELECT hitherto.ledger_add(gen_random_uuid(), 'slow', 'signal', '{}', NULL, NULL)",
    )
    .await
    .unwrap();
    store(&db, vec![HealthCheck::new("m", "healthy")]).await;
    assert_eq!(db.store.audit_seal().await.unwrap().entries, 1, "what came after an open transaction is not sealed before it");
    assert_eq!(assert_clean(&db, "meanwhile").await.unsealed_batches, 1);
    slow.batch_execute("COMMIT").await.unwrap();
    assert_eq!(db.store.audit_seal().await.unwrap().entries, 2);
    assert_eq!(assert_clean(&db, "all").await.entries, 3);
    // A server restored from a backup counts its transactions anew.
    attack(&db, "UPDATE hitherto.ingest_batch SET xid = '4000000000'; DELETE FROM hitherto.audit_entry; DELETE FROM hitherto.audit_block")
        .await;
    assert_eq!(db.store.audit_seal().await.unwrap().entries, 3);
    store(&db, vec![HealthCheck::new("m", "healthy")]).await;
    assert_eq!(db.store.audit_seal().await.unwrap().entries, 1);
    assert_clean(&db, "restored").await;
}

#[tokio::test]
async fn writers_do_not_wait_for_a_seal_and_sealers_take_turns() {
    let db = harness::native().await;
    store(&db, vec![HealthCheck::new("m", "healthy")]).await;
    // A seal that has read the ledger and can't go on.
    let blocker = db.config.connect().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE hitherto.audit_entry IN EXCLUSIVE MODE").await.unwrap();
    let sealing: Vec<_> = (0..3)
        .map(|_| {
            let store = db.store.clone();
            tokio::spawn(async move { store.audit_seal().await.unwrap().added.len() })
        })
        .collect();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    // A transaction sees one picture of the activity: another session looks.
    let looking = db.config.connect().await.unwrap();
    while looking.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let writing = async {
        extremes(&db, Utc::now()).await;
        store(&db, vec![HealthCheck::new("m", "healthy"); 2_000]).await;
    };
    tokio::time::timeout(Duration::from_secs(20), writing).await.expect("writers do not wait");
    blocker.batch_execute("COMMIT").await.unwrap();
    let mut added = 0;
    for sealing in sealing {
        added += sealing.await.unwrap();
    }
    assert!((1..=3).contains(&added), "{added} blocks");
    let audit = assert_clean(&db, "sealed by three at once").await;
    assert_eq!((audit.blocks as usize, audit.unsealed_batches), (added, if added == 1 { 10 } else { 0 }));
}

#[tokio::test]
async fn the_command_notes_blocks_in_the_anchor_file_and_ends_with_1_on_a_finding() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let path = shell.path("anchors");
    let anchor = path.to_str().unwrap();
    let printed = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed(&shell.run(&["audit", "seal"]).await).contains("block 1 "), "retention's settings are sealed in an empty store");
    store(&db, vec![HealthCheck::new("m", "healthy")]).await;
    assert_eq!(code(&shell.run(&["audit", "verify", "--anchor", anchor]).await), 2, "there is no such file");
    for _ in 0..2 {
        assert_eq!(code(&shell.run(&["audit", "seal", "--anchor", anchor]).await), 0);
    }
    let noted = std::fs::read_to_string(&path).unwrap();
    assert_eq!(noted.lines().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(), ["2"]);
    let verified = shell.run(&["audit", "verify", "--anchor", anchor, "--json"]).await;
    assert_eq!(code(&verified), 0, "{}", words(&verified));
    let audit: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!((&audit["batches"], &audit["anchors"], &audit["finding_count"]), (&1.into(), &1.into(), &0.into()));
    attack(&db, "UPDATE hitherto.health_check SET status = 'ill'").await;
    let verified = shell.run(&["audit", "verify"]).await;
    assert_eq!(code(&verified), 1);
    assert!(printed(&verified).contains("block 2, batch "), "{}", printed(&verified));
    shell.write("anchors", "2 abc\n");
    let verified = shell.run(&["audit", "verify", "--anchor", anchor]).await;
    assert!(code(&verified) == 2 && words(&verified).contains("line 1: '2 abc' is no anchor"), "{}", words(&verified));
}
