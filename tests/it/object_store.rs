//! A lake in a bucket, by the command.

use std::process::Output;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::bucket::Bucket;
use crate::harness::{self, Db};
use crate::lab::settled;
use crate::shell::{self, Shell, code, document, words};

/// Waits, too, until other tests' transactions no longer have the next export read it twice.
async fn ingest(db: &Db, shell: &Shell, days_ago: i64, rows: i64) {
    let at = Utc::now() - TimeDelta::days(days_ago);
    let lines: Vec<String> = (0..rows)
        .map(|n| json!({"module": "m", "checked_at": at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true), "status": "healthy", "error_count": n}).to_string())
        .collect();
    let output = shell::run(&shell.url, shell.folder.path(), &["ingest", "health-check"], Some(lines.join("\n").as_bytes())).await;
    assert_eq!(code(&output), 0, "{}", words(&output));
    settled(db).await;
}

fn done(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}", words(output));
    document(output)
}

const EXPORT: [&str; 4] = ["export", "--json", "--lake", "s3://lakes/a/lake"];

/// Rows of health_check that the lake has by its log.
async fn rows(bucket: &Bucket, url: &str) -> u64 {
    let verified = done(&bucket.run(url, &["lake", "verify", "s3://lakes/a/lake", "--deep", "--json"]).await);
    assert_eq!(verified["findings"], json!([]));
    verified["datasets"].as_array().unwrap().iter().find(|d| d["dataset"] == "health_check").unwrap()["rows"].as_u64().unwrap()
}

async fn nothing_is_left_over(bucket: &Bucket) {
    let all = bucket.list("a/lake/").await;
    let data = all.iter().filter(|name| name.ends_with(".parquet") && !name.contains("_delta_log") && name.contains("/health_check/"));
    // What a commit replaced stays, for readers of the version before.
    let named = bucket.named("a/lake", "health_check").await;
    assert_eq!(data.filter(|file| !named.contains(*file)).collect::<Vec<_>>(), [""; 0]);
    assert!(!all.iter().any(|name| name.ends_with("/_lock") || name.ends_with("/_unfinished")), "{all:?}");
    assert_eq!(std::fs::read_dir(bucket.folder.path().join("tmp")).unwrap().count(), 0, "files that were sent are not kept");
}

#[tokio::test]
async fn a_lake_lives_in_a_bucket_as_in_a_folder() {
    let (db, bucket) = (harness::native().await, Bucket::start().await);
    let shell = Shell::new(&db);
    ingest(&db, &shell, 3, 5).await;
    ingest(&db, &shell, 1, 7).await;
    let first = done(&bucket.run(&shell.url, &EXPORT).await);
    assert_eq!(first.as_array().unwrap().len(), 10);
    assert_eq!(rows(&bucket, &shell.url).await, 12);
    nothing_is_left_over(&bucket).await;
    ingest(&db, &shell, 3, 2).await;
    let second = done(&bucket.run(&shell.url, &[&EXPORT[..], &["--dataset", "health-check"]].concat()).await);
    assert_eq!((&second[0]["mode"], &second[0]["version"]), (&json!("incremental"), &json!(1)));
    assert_eq!(rows(&bucket, &shell.url).await, 14);
    let history = done(&bucket.run(&shell.url, &["lake", "history", "s3://lakes/a/lake", "--dataset", "health-check", "--json"]).await);
    assert_eq!(history[0]["versions"].as_array().unwrap().len(), 2);
    let snapshot: Value = serde_json::from_str(&bucket.get("a/lake/_snapshot.json").await.unwrap()).unwrap();
    assert_eq!(snapshot["versions"]["health_check"]["version"], 1);
    assert_eq!(snapshot["versions"].as_object().unwrap().len(), 10);

    // Late rows of a day that retention has dropped make a file more, which compact takes back.
    let client = db.store.client().await.unwrap();
    let horizon = "INSERT INTO hitherto.retention_horizon (table_name, dropped_before) VALUES ('health_check', now() - interval '2 days')
                   ON CONFLICT (table_name) DO UPDATE SET dropped_before = excluded.dropped_before";
    client.execute(horizon, &[]).await.unwrap();
    ingest(&db, &shell, 3, 4).await;
    done(&bucket.run(&shell.url, &EXPORT).await);
    let files = bucket.live("a/lake", "health_check").await.len();
    let compacted = done(&bucket.run(&shell.url, &["lake", "compact", "s3://lakes/a/lake", "--dataset", "health-check", "--json"]).await);
    assert_eq!((&compacted[0]["days"], &compacted[0]["files_before"]), (&json!(1), &json!(2)), "{compacted:#}");
    assert_eq!(bucket.live("a/lake", "health_check").await.len(), files - 1);
    assert_eq!(rows(&bucket, &shell.url).await, 18);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let vacuumed = done(&bucket.run(&shell.url, &["lake", "vacuum", "s3://lakes/a/lake", "--keep", "0s", "--json"]).await);
    assert!(vacuumed.as_array().unwrap().iter().any(|v| v["dataset"] == "health_check" && v["files"] == 3), "{vacuumed:#}");
    nothing_is_left_over(&bucket).await;
    let mut left = bucket.list("a/lake/health_check/day").await;
    left.sort();
    assert_eq!(left, bucket.live("a/lake", "health_check").await);
    assert_eq!(rows(&bucket, &shell.url).await, 18);

    // What is wrong is found there, too.
    bucket.delete(&bucket.live("a/lake", "health_check").await[0]).await;
    let verified = bucket.run(&shell.url, &["lake", "verify", "s3://lakes/a/lake", "--json"]).await;
    assert_eq!(code(&verified), 1);
    assert!(document(&verified)["findings"][0]["what"].as_str().unwrap().contains("missing"));
}

#[tokio::test]
async fn what_keeps_a_bucket_from_being_used_is_told() {
    let (db, bucket) = (harness::native().await, Bucket::start().await);
    let shell = Shell::new(&db);
    ingest(&db, &shell, 1, 1).await;
    let lake = "s3://lakes/a/lake";
    let nobody = format!("http://127.0.0.1:{}", harness::free_port());
    type Case<'a> = (&'a str, &'a [(&'static str, &'a str)], i32, &'a str);
    let cases: &[Case<'_>] = &[
        ("s3://nope/lake", &[], 2, "no such bucket"),
        (lake, &[("AWS_ACCESS_KEY_ID", "nobodys-key")], 4, "InvalidAccessKeyId"),
        (lake, &[("AWS_ACCESS_KEY_ID", "reader-key")], 4, "AccessDenied"),
        (lake, &[("AWS_ENDPOINT_URL", &nobody)], 3, "out of reach"),
        (lake, &[("AWS_ALLOW_HTTP", "")], 2, "AWS_ALLOW_HTTP=true"),
        ("s3://key:canary-secret-51c@lakes/x", &[], 2, "holds a key"),
        ("s3://lakes/x?secret_access_key=canary-secret-51c", &[], 2, "s3://lakes/x has more to it"),
        ("s3:///x", &[], 2, "s3://bucket/prefix"),
        ("gs://lakes/x", &[], 2, "not supported"),
        ("s3://lakes/a%20b", &[], 2, "escape"),
    ];
    for (lake, other, expected, said) in cases {
        let output = bucket.run_as(&shell.url, &["export", "--lake", lake], other).await;
        assert_eq!(code(&output), *expected, "{lake} {other:?}: {}", words(&output));
        assert!(words(&output).contains(said), "{lake} {other:?}: {}", words(&output));
    }
    assert_eq!(bucket.list("").await, [""; 0], "nothing was put");
    let missing = bucket.run(&shell.url, &["lake", "verify", lake]).await;
    assert!(code(&missing) == 2 && words(&missing).contains("there is no lake"), "{}", words(&missing));
    bucket.put("a/lake/other.txt", "somebody's").await;
    let taken = bucket.run(&shell.url, &EXPORT).await;
    assert!(code(&taken) == 2 && words(&taken).contains("holds something else (other.txt)"), "{}", words(&taken));
    assert_eq!(bucket.list("").await, ["a/lake/other.txt"]);
}

#[tokio::test]
async fn two_exports_into_one_bucket_are_told_apart_and_a_lock_that_was_left_is_taken_over() {
    let (db, bucket) = (harness::native().await, Bucket::start().await);
    let shell = Shell::new(&db);
    ingest(&db, &shell, 1, 3).await;
    let lock = |seconds: i64| json!({"holder": "process 7 on elsewhere, x", "until": Utc::now() + TimeDelta::seconds(seconds)}).to_string();
    bucket.put("a/lake/_lock", &lock(60)).await;
    let second = bucket.run(&shell.url, &EXPORT).await;
    assert!(code(&second) == 4 && words(&second).contains("another export (process 7 on elsewhere"), "{}", words(&second));
    assert_eq!(bucket.list("a/lake/").await, ["a/lake/_lock"], "the other's lock stays, and nothing was put");
    bucket.put("a/lake/_lock", &lock(-60)).await;
    done(&bucket.run(&shell.url, &EXPORT).await);
    nothing_is_left_over(&bucket).await;
    // Many at once: each publishes whole or is refused, and the lake is whole.
    for round in 0..3 {
        ingest(&db, &shell, 1, 1).await;
        let ended = futures_util::future::join_all((0..4).map(|_| bucket.run(&shell.url, &EXPORT))).await;
        let codes: Vec<i32> = ended.iter().map(code).collect();
        assert!(codes.contains(&0) && codes.iter().all(|code| [0, 4].contains(code)), "{codes:?}");
        assert_eq!(rows(&bucket, &shell.url).await, 4 + round);
        nothing_is_left_over(&bucket).await;
    }
}

#[tokio::test]
async fn faults_of_the_store_are_waited_for_and_answers_that_are_lost_change_nothing() {
    let (db, bucket) = (harness::native().await, Bucket::start().await);
    let shell = Shell::new(&db);
    ingest(&db, &shell, 1, 3).await;
    for path in ["part-", "_delta_log", "_lock", "_unfinished", "_snapshot"] {
        bucket.fault("PUT", path, 1, 503, false).await;
    }
    bucket.fault("GET", "list-type", 2, 500, false).await;
    done(&bucket.run(&shell.url, &EXPORT).await);
    assert_eq!(rows(&bucket, &shell.url).await, 3);
    nothing_is_left_over(&bucket).await;
    // The commit is there, but its answer was lost: trying again finds the version taken, by ourselves.
    ingest(&db, &shell, 2, 3).await;
    bucket.fault("PUT", "health_check/_delta_log", 1, 503, true).await;
    bucket.fault("PUT", "_lock", 1, 503, true).await;
    done(&bucket.run(&shell.url, &EXPORT).await);
    assert_eq!(rows(&bucket, &shell.url).await, 6);
    nothing_is_left_over(&bucket).await;
}

#[tokio::test]
async fn a_store_that_fails_for_good_leaves_the_lake_as_it_was() {
    let (db, bucket) = (harness::native().await, Bucket::start().await);
    let shell = Shell::new(&db);
    ingest(&db, &shell, 1, 3).await;
    done(&bucket.run(&shell.url, &EXPORT).await);
    ingest(&db, &shell, 1, 3).await;
    bucket.fault("PUT", "part-", 1_000, 403, false).await;
    let failed = bucket.run(&shell.url, &EXPORT).await;
    assert_eq!(code(&failed), 4, "{}", words(&failed));
    assert_eq!(rows(&bucket, &shell.url).await, 3);
    nothing_is_left_over(&bucket).await;
}

#[tokio::test]
async fn an_export_that_is_killed_leaves_a_whole_lake_and_the_next_one_tidies_up() {
    let (db, bucket) = (harness::native().await, Bucket::start().await);
    let shell = Shell::new(&db);
    ingest(&db, &shell, 1, 3).await;
    done(&bucket.run(&shell.url, &EXPORT).await);
    ingest(&db, &shell, 1, 3).await;
    // Its data files are there, its commit is tried for long: then it is killed.
    bucket.fault("PUT", "_delta_log", 1_000, 503, false).await;
    let mut killed = bucket.command(&shell.url, &EXPORT, &[]).spawn().unwrap();
    let began = std::time::Instant::now();
    while !bucket.list("a/lake/").await.iter().any(|name| name.ends_with("_unfinished"))
        || bucket.list("a/lake/health_check/day").await.len() < 2
    {
        assert!(began.elapsed() < Duration::from_secs(60), "it never gets there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    killed.kill().await.unwrap();
    let _ = std::fs::remove_dir_all(bucket.folder.path().join("tmp"));
    let verified = done(&bucket.run(&shell.url, &["lake", "verify", "s3://lakes/a/lake", "--deep", "--json"]).await);
    assert_eq!(verified["findings"], json!([]), "readers see the old version");
    let held = bucket.run(&shell.url, &EXPORT).await;
    assert!(code(&held) == 4 && words(&held).contains("its lock ends at"), "{}", words(&held));
    let mut lock: Value = serde_json::from_str(&bucket.get("a/lake/_lock").await.unwrap()).unwrap();
    lock["until"] = json!(Utc::now() - TimeDelta::seconds(30));
    bucket.put("a/lake/_lock", &lock.to_string()).await;
    bucket.heal().await;
    done(&bucket.run(&shell.url, &EXPORT).await);
    assert_eq!(rows(&bucket, &shell.url).await, 6);
    nothing_is_left_over(&bucket).await;
}

/// The uploads in parts that were begun and neither ended nor given up.
async fn uploads(bucket: &Bucket) -> usize {
    bucket.get("?uploads").await.unwrap().matches("<UploadId>").count()
}

#[tokio::test]
async fn a_large_file_is_sent_in_parts_and_no_part_is_left_of_one_that_fails() {
    let (db, bucket) = (harness::native().await, Bucket::start().await);
    let shell = Shell::new(&db);
    // Words that hardly compress.
    let client = db.store.client().await.unwrap();
    let at = (Utc::now() - TimeDelta::days(1)).to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let noise = "SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 1000)";
    for _ in 0..5 {
        let mut lines = Vec::new();
        for _ in 0..150 {
            let noise: String = client.query_one(noise, &[]).await.unwrap().get(0);
            lines.push(json!({"module": "m", "checked_at": at, "status": "healthy", "details": {"noise": noise}}).to_string());
        }
        let output = shell::run(&shell.url, shell.folder.path(), &["ingest", "health-check"], Some(lines.join("\n").as_bytes())).await;
        assert_eq!(code(&output), 0, "{}", words(&output));
    }
    settled(&db).await;
    // One part is refused for good: nothing is there, and nothing is left to pay for.
    bucket.fault("PUT", "partNumber=2", 1_000, 403, false).await;
    let refused = bucket.run(&shell.url, &EXPORT).await;
    assert_eq!(code(&refused), 4, "{}", words(&refused));
    assert_eq!((uploads(&bucket).await, bucket.list("a/lake/").await), (0, Vec::new()));
    bucket.heal().await;
    // One is refused for the moment.
    bucket.fault("PUT", "partNumber=2", 1, 503, false).await;
    let exported = done(&bucket.run(&shell.url, &[&EXPORT[..], &["--dataset", "health_check"]].concat()).await);
    assert!(exported[0]["bytes"].as_u64().unwrap() > 8 << 20, "{exported:#}");
    assert_eq!((uploads(&bucket).await, rows(&bucket, &shell.url).await), (0, 750));
    nothing_is_left_over(&bucket).await;
}

#[tokio::test]
async fn an_answer_that_never_comes_leaves_it_to_the_next_export() {
    let (db, bucket) = (harness::native().await, Bucket::start().await);
    let shell = Shell::new(&db);
    ingest(&db, &shell, 1, 3).await;
    done(&bucket.run(&shell.url, &EXPORT).await);
    ingest(&db, &shell, 1, 3).await;
    // The commit is there; neither its answer nor the log can be read after it.
    bucket.fault("PUT", "health_check/_delta_log", 1, 403, true).await;
    bucket.fault("GET", "health_check/_delta_log/00000000000000000001", 1_000, 403, false).await;
    let unknown = bucket.run(&shell.url, &[&EXPORT[..], &["--dataset", "health_check"]].concat()).await;
    assert_eq!(code(&unknown), 4, "{}", words(&unknown));
    bucket.heal().await;
    assert_eq!(rows(&bucket, &shell.url).await, 6, "it went through");
    assert!(bucket.get("a/lake/_unfinished").await.is_some(), "the next export finds out");
    done(&bucket.run(&shell.url, &EXPORT).await);
    assert_eq!(rows(&bucket, &shell.url).await, 6);
    nothing_is_left_over(&bucket).await;
}

#[tokio::test]
async fn a_lock_is_renewed_while_its_holder_works_and_who_lost_it_publishes_nothing() {
    let (db, bucket) = (harness::native().await, Bucket::start().await);
    let shell = Shell::new(&db);
    ingest(&db, &shell, 1, 3).await;
    // Both exports wait for a table that somebody has locked.
    let holder = db.config.connect().await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE hitherto.health_check").await.unwrap();
    let export = |lake: &str| bucket.command(&shell.url, &["export", "--json", "--lake", lake], &[]).spawn().unwrap();
    let (kept, lost) = (export("s3://lakes/kept"), export("s3://lakes/lost"));
    let until = async |lake: &str| -> Option<chrono::DateTime<Utc>> {
        let lock: Value = serde_json::from_str(&bucket.get(&format!("{lake}/_lock")).await?).unwrap();
        Some(lock["until"].as_str().unwrap().parse().unwrap())
    };
    let began = std::time::Instant::now();
    while until("kept").await.is_none() || until("lost").await.is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "no lock is taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let other = json!({"holder": "process 7 on elsewhere, x", "until": Utc::now() + TimeDelta::seconds(600)}).to_string();
    bucket.put("lost/_lock", &other).await;
    let first = until("kept").await.unwrap();
    while until("kept").await == Some(first) {
        assert!(began.elapsed() < Duration::from_secs(60), "the lock is not renewed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(until("kept").await.unwrap() >= first + TimeDelta::seconds(10));
    // The other one looks at its lock within the same time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    holder.batch_execute("COMMIT").await.unwrap();
    let (kept, lost) = (kept.wait_with_output().await.unwrap(), lost.wait_with_output().await.unwrap());
    assert_eq!(code(&kept), 0, "{}", words(&kept));
    assert_eq!(bucket.get("kept/_lock").await, None);
    assert!(code(&lost) == 4 && words(&lost).contains("another export has taken it"), "{}", words(&lost));
    // The lake and the note of files under way are the other's by now; ours are gone.
    let left = ["lost/_lake.json", "lost/_lock", "lost/_unfinished"].map(str::to_owned).to_vec();
    assert_eq!((bucket.list("lost/").await, bucket.get("lost/_lock").await), (left, Some(other)));
}
