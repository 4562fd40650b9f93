//! Disks that fill up under the server.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hitherto::{Store, Writer, WriterConfig};
use rand::rngs::StdRng;

use super::server::{SETTINGS, lasting_port, migrated};
use super::tally::{Tally, close};
use super::{Seed, say};
use crate::harness::{Server, is_root, run};

/// A small file system of one's own, in memory.
pub(super) struct Small {
    pub(super) folder: PathBuf,
}

impl Small {
    /// `None`, and a line that says why, where this program may not make one.
    pub(super) fn new(test: &str, megabytes: u32) -> Option<Self> {
        if !is_root() {
            say(&format!("{test}: skipped: only root can make a small file system"));
            return None;
        }
        let folder = tempfile::Builder::new().prefix("hitherto-small-").tempdir().unwrap().keep();
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=777"), "tmpfs"]).arg(&folder));
        if let Err(words) = mounted {
            let _ = std::fs::remove_dir(&folder);
            say(&format!("{test}: skipped: no small file system can be made: {}", words.trim()));
            return None;
        }
        // Tests may be killed: a watcher, whose standard input ends when this process does, tidies up.
        let script = format!("cat > /dev/null; umount -l {0} 2> /dev/null; rmdir {0}", folder.display());
        let watcher = Command::new("sh").arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        std::mem::forget(watcher.unwrap());
        Some(Self { folder })
    }

    /// Takes up all its room but so much.
    pub(super) fn fill(&self, left: u64) {
        let free = rustix::fs::statvfs(&self.folder).map(|s| s.f_bavail * s.f_frsize).unwrap();
        let mut ballast = std::fs::File::create(self.folder.join("ballast")).unwrap();
        std::io::copy(&mut std::io::Read::take(std::io::repeat(1), free.saturating_sub(left)), &mut ballast).unwrap();
    }

    pub(super) fn make_room(&self) {
        std::fs::remove_file(self.folder.join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.folder));
    }
}

fn writer(store: &Store) -> Writer {
    let mut config = WriterConfig::new("disk");
    (config.max_batch_rows, config.max_age, config.queue_bytes) = (500, Duration::from_millis(10), 256 << 10);
    store.writer(config)
}

/// Writes until nothing more goes in: what is handed over then is held by the queue.
async fn write_until_full(writer: &Writer, tally: &Tally, random: &mut StdRng, is_full: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    for n in 0.. {
        let one = tally.write_one(writer, "w", n, random);
        // The queue is full as well then.
        if tokio::time::timeout(Duration::from_secs(3), one).await.is_err() || is_full() {
            return;
        }
        assert!(Instant::now() < end, "there is no end of room: {:?}", writer.stats());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_waits_for_room_under_the_servers_tables() {
    let Some(small) = Small::new("disk full under the tables", 48) else { return };
    let seed = Seed::new("disk full under the tables");
    let server = Server::lone(SETTINGS);
    let admin = server.config().connect().await.unwrap();
    admin.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{}'", owned(&small).display())).await.unwrap();
    admin.batch_execute("CREATE DATABASE cramped TEMPLATE template0 TABLESPACE small").await.unwrap();
    let store = migrated(&server.config().with_database("cramped")).await;
    let (writer, tally) = (writer(&store), Tally::default());
    small.fill(2 << 20);
    write_until_full(&writer, &tally, &mut seed.random(), || writer.stats().retries > 3).await;
    let waiting = tokio::time::timeout(Duration::from_secs(2), writer.flush()).await;
    assert!(waiting.is_err(), "the disk is full, and yet: {waiting:?}");
    let stats = writer.stats();
    assert!(stats.retries > 0 && stats.queued_rows > 0, "{stats:?}");
    small.make_room();
    close(&[writer], "room is back").await;
    tally.check(&store, &format!("seed {}", seed.value)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_waits_for_a_server_that_died_of_a_full_disk() {
    let Some(small) = Small::new("disk full under the log", 48) else { return };
    let seed = Seed::new("disk full under the log");
    let server = Server::new(lasting_port(), SETTINGS);
    let wal = owned(&small).join("wal");
    server.make_data(&server.data(), &["--wal-segsize=1", "--waldir", wal.to_str().unwrap()]);
    server.start().unwrap();
    let config = server.database().await;
    let store = Store::connect(config.clone()).await.unwrap();
    let (writer, tally) = (writer(&store), Tally::default());
    small.fill(3 << 20);
    let log = server.folder.join("log");
    write_until_full(&writer, &tally, &mut seed.random(), || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("PANIC"))).await;
    let waiting = tokio::time::timeout(Duration::from_secs(2), writer.flush()).await;
    assert!(waiting.is_err(), "the server is dead, and yet: {waiting:?}");
    assert!(std::fs::read_to_string(&log).unwrap().contains("PANIC"), "the server died of it");
    small.make_room();
    // It may not have come up again for want of room.
    if !server.runs() {
        server.start_again();
    }
    close(&[writer], "room is back").await;
    tally.check(&Store::connect(config).await.unwrap(), &format!("seed {}", seed.value)).await;
}

/// A folder on it that is the server's.
fn owned(small: &Small) -> PathBuf {
    let folder = small.folder.join("server");
    std::fs::create_dir(&folder).unwrap();
    run(Command::new("chown").arg("postgres").arg(&folder)).unwrap();
    folder
}
