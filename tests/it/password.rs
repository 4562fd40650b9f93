//! Where passwords come from, and that they go nowhere.

use std::error::Error as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use hitherto::records::HealthCheck;
use hitherto::writer::{Batch, Durability};
use hitherto::{Config, Engine, Error, ErrorKind, Spool, SpoolConfig, Store, Writer, WriterConfig};
use tokio::process::Command;

use crate::harness::{self, Server, free_port};
use crate::shell::{check, code, words};

const CANARY: &str = "c4n4ry-7f3!s%t";
const CANARY_IN_URL: &str = "c4n4ry-7f3!s%25t";

/// A server that asks for the password, and a folder for the client's files.
async fn guarded() -> (Server, tempfile::TempDir) {
    let server = Server::new(free_port(), "-c fsync=off");
    server.make_data(&server.data(), &[]);
    std::fs::write(server.data().join("pg_hba.conf"), "local all all trust\nhost all all all scram-sha-256\n").unwrap();
    server.own(&server.data()).unwrap();
    server.start().unwrap();
    let socket = format!("host={} port={} user=postgres dbname=postgres", server.folder.display(), server.port);
    let client = Config::from_url(&socket).unwrap().connect().await.unwrap();
    client.batch_execute(&format!("ALTER ROLE postgres PASSWORD '{CANARY}'")).await.unwrap();
    (server, tempfile::tempdir().unwrap())
}

fn url(server: &Server, password: &str) -> String {
    let login = if password.is_empty() { "postgres".to_owned() } else { format!("postgres:{password}") };
    format!("postgresql://{login}@127.0.0.1:{}/postgres", server.port)
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

async fn hitherto(folder: &Path, url: &str, variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hitherto"));
    for name in ["PGHOST", "PGDATABASE", "PGPASSWORD", "PGPASSFILE", "HITHERTO_PASSWORD_FILE"] {
        command.env_remove(name);
    }
    command.args(args).env("DATABASE_URL", url).env("HOME", folder).envs(variables.iter().copied()).current_dir(folder);
    let output = command.output().await.unwrap();
    for stream in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(stream).contains("c4n4ry"), "{args:?} tells the password");
    }
    output
}

#[tokio::test]
async fn a_password_is_found_in_each_of_its_places() {
    let (server, folder) = guarded().await;
    let folder = folder.path();
    let path = |name: &str| folder.join(name).display().to_string();
    write(&folder.join("secret"), &format!("{CANARY}\n"), 0o400);
    write(&folder.join("wrong"), "wrong\n", 0o400);
    let line = format!("# ours\n127.0.0.1:1:*:*:wrong\n127.0.0.1:{}:postgres:postgres:{CANARY}\n", server.port);
    write(&folder.join("pgpass"), &line, 0o600);
    write(&folder.join("open"), &line, 0o644);
    let (secret, wrong, pgpass, open) = (path("secret"), path("wrong"), path("pgpass"), path("open"));
    let bare = url(&server, "");
    let with_passfile = format!("{bare}?passfile={pgpass}");
    // Of two places the earlier in this order counts: flag, URL, file, PGPASSWORD, password file.
    for (url, variables, args, expected) in [
        (url(&server, CANARY_IN_URL), vec![("PGPASSWORD", "wrong")], vec![], None),
        (bare.clone(), vec![("PGPASSWORD", CANARY)], vec![], None),
        (bare.clone(), vec![("HITHERTO_PASSWORD_FILE", &*secret), ("PGPASSWORD", "wrong")], vec![], None),
        (bare.clone(), vec![("PGPASSFILE", &pgpass)], vec![], None),
        (with_passfile.clone(), vec![("PGPASSFILE", "/nowhere")], vec![], None),
        (url(&server, "wrong"), vec![], vec!["--password-file", &secret], None),
        (url(&server, "wrong"), vec![("PGPASSWORD", CANARY)], vec![], Some("28P01")),
        (bare.clone(), vec![("HITHERTO_PASSWORD_FILE", &wrong), ("PGPASSWORD", CANARY)], vec![], Some("28P01")),
        (with_passfile, vec![("PGPASSWORD", "wrong")], vec![], Some("28P01")),
        (bare.clone(), vec![("PGPASSFILE", &open)], vec![], Some("chmod 0600")),
        (bare.clone(), vec![], vec![], Some("the server asks for a password and there is none")),
        (bare.clone(), vec![("HITHERTO_PASSWORD_FILE", "/nowhere")], vec![], Some("the password file /nowhere can't be read")),
    ] {
        let output = hitherto(folder, &url, &variables, &[vec!["doctor"], args.clone()].concat()).await;
        let said = words(&output);
        match expected {
            // An empty database is a finding.
            None => assert_eq!(code(&output), 1, "{variables:?} {args:?}: {said}"),
            Some(told) => assert!(code(&output) >= 2 && said.contains(told), "{variables:?} {args:?}: {said}"),
        }
    }
    write(&folder.join(".pgpass"), &line, 0o600);
    assert_eq!(code(&hitherto(folder, &bare, &[], &["doctor"]).await), 1, "~/.pgpass is looked at");

    // A secret that was changed counts from the next connection on.
    let changing = Config::from_url(&bare).unwrap().with_password_file(folder.join("changing"));
    write(&folder.join("changing"), "wrong", 0o400);
    assert_eq!(changing.connect().await.unwrap_err().kind(), ErrorKind::Refused);
    std::fs::remove_file(folder.join("changing")).unwrap();
    write(&folder.join("changing"), CANARY, 0o400);
    changing.connect().await.unwrap();
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[tokio::test]
async fn a_password_is_told_by_nothing_that_is_printed_or_written() {
    let (server, folder) = guarded().await;
    let folder = folder.path();
    let good = url(&server, CANARY_IN_URL);
    let trace = [("HITHERTO_LOG", "trace")];
    std::fs::write(folder.join("c.ndjson"), check(1)).unwrap();
    let unreachable = format!("postgresql://postgres:{CANARY_IN_URL}@127.0.0.1:{}/postgres", free_port());
    let wrong = url(&server, &format!("{CANARY_IN_URL}-not"));
    for (url, args, expected) in [
        (&good, vec!["migrate"], 0),
        (&good, vec!["ingest", "health-check", "c.ndjson"], 0),
        (&good, vec!["doctor", "--json"], 0),
        (&good, vec!["export", "--lake", "lake"], 0),
        (&good, vec!["maintain", "-vv"], 0),
        (&wrong, vec!["doctor"], 4),
        (&wrong, vec!["ingest", "health-check", "c.ndjson"], 4),
        (&unreachable, vec!["migrate", "-vv"], 3),
        (&unreachable, vec!["export", "--lake", "lake", "--json"], 3),
        (&good, vec!["ingest", "health-check", "c.ndjson", "--spool", "spool"], 0),
        (&good, vec!["spool", "list", "--dir", "spool"], 0),
    ] {
        let output = hitherto(folder, url, &trace, &args).await;
        assert_eq!(code(&output), expected, "{args:?}: {}", words(&output).lines().last().unwrap_or_default());
    }
    for broken in [
        format!("postgresql://postgres:{CANARY}@h/x"),
        format!("postgresql://postgres:{CANARY_IN_URL}@h:port/x"),
        format!("host=h password={CANARY} c4n4ry=1"),
    ] {
        assert_eq!(code(&hitherto(folder, &broken, &trace, &["doctor"]).await), 2);
    }

    let mut told = Vec::new();
    let tell = |error: &Error| {
        let mut text = format!("{error} {error:?}");
        let mut next = error.source();
        while let Some(cause) = next {
            text.push_str(&format!(" {cause} {cause:?}"));
            next = cause.source();
        }
        text
    };
    let config = Config::from_url(&good).unwrap();
    let store = Store::connect(config.clone()).await.unwrap();
    let writer = store.writer(WriterConfig::new("test"));
    writer.write(HealthCheck::new("m", "healthy")).await.unwrap();
    writer.flush().await.unwrap();
    let client = store.client().await.unwrap();
    told.push(format!("{config} {config:?} {store:?} {writer:?} {client:?} {:?}", Batch::new("p", vec![HealthCheck::new("m", "x")])));
    drop(client);
    for url in [&wrong, &unreachable] {
        let config = Config::from_url(url).unwrap();
        told.push(tell(&config.connect().await.unwrap_err()));
        told.push(tell(&Store::connect(config).await.unwrap_err()));
    }
    // What waits for a database that is away lies on disk.
    let mut spooled = WriterConfig::new("test");
    spooled.durability = Durability::Spool(Spool::open(SpoolConfig::new(folder.join("waiting"))).unwrap());
    let waiting = Writer::open(Config::from_url(&unreachable).unwrap(), spooled).unwrap();
    waiting.write(HealthCheck::new("m", "healthy")).await.unwrap();
    told.push(format!("{waiting:?} {:?}", waiting.stats()));
    waiting.close_within(std::time::Duration::from_millis(50)).await.unwrap();
    let panicked = tokio::spawn(async move { panic!("{config:?} {store:?} {writer:?}") }).await.unwrap_err().into_panic();
    told.push(panicked.downcast_ref::<String>().unwrap().clone());
    for text in told {
        assert!(!text.contains("c4n4ry"), "{text}");
    }
    let mut written = Vec::new();
    files(&folder.join("lake"), &mut written);
    files(&folder.join("spool"), &mut written);
    files(&folder.join("waiting"), &mut written);
    written.push(server.folder.join("log"));
    assert!(written.len() > 10);
    for path in written {
        let bytes = std::fs::read(&path).unwrap();
        // The one who set it said so to the server.
        let lines = String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains("c4n4ry") && !line.contains("ALTER ROLE")).count();
        assert_eq!(lines, 0, "{}", path.display());
    }
    let socket = format!("host={} port={} user=postgres dbname=postgres", server.folder.display(), server.port);
    let store = harness::migrated(&Config::from_url(&socket).unwrap(), Some(Engine::Postgresql)).await;
    let tables = "SELECT format('SELECT count(*) FROM %I.%I t WHERE t::text LIKE ''%%c4n4ry%%''', schemaname, tablename) FROM pg_tables WHERE schemaname = 'hitherto'";
    let client = store.client().await.unwrap();
    for row in client.query(tables, &[]).await.unwrap() {
        assert_eq!(client.query_one(row.get::<_, &str>(0), &[]).await.unwrap().get::<_, i64>(0), 0, "{}", row.get::<_, &str>(0));
    }
}
