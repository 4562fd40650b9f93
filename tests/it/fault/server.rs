//! A server that may be killed.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use hitherto::{Capabilities, Config, Engine, Store, migrate};
use rand::Rng;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::harness::{self, Server};

/// As a server is in production, but quick to start again.
pub(crate) const SETTINGS: &str = "-c fsync=on -c checkpoint_timeout=1h -c max_wal_size=4GB -c autovacuum=off";

impl Server {
    /// A server of one's own, started.
    pub(crate) fn lone(settings: &str) -> Self {
        let server = Self::new(lasting_port(), settings);
        server.make_data(&server.data(), &[]);
        server.start().unwrap();
        server
    }

    /// The postmaster's process id, while there is one.
    fn postmaster(&self) -> Option<Pid> {
        pid(std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?.lines().next()?)
    }

    /// Kills the postmaster and all its children, so that none of them can tidy up.
    pub(crate) fn kill(&self) {
        let postmaster = self.postmaster().expect("a server runs");
        // Stopped first, it makes no more children and does not see those die.
        let _ = kill_process(postmaster, Signal::STOP);
        await_(|| state(postmaster).is_none_or(|state| state == 'T' || state == 'Z'));
        let children = children(postmaster);
        let all: Vec<Pid> = children.into_iter().chain([postmaster]).collect();
        for pid in &all {
            let _ = kill_process(*pid, Signal::KILL);
        }
        await_(|| all.iter().all(|pid| is_gone(*pid)));
        // A dead postmaster that nobody collects, as in many a container, counts as one that runs.
        let _ = std::fs::remove_file(self.data().join("postmaster.pid"));
        let _ = std::fs::remove_file(self.folder.join(format!(".s.PGSQL.{}.lock", self.port)));
    }

    /// Starts it again after it was killed.
    pub(crate) fn start_again(&self) {
        if let Err(words) = self.start() {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            panic!("{words}: the log ends, last line first: {tail:#?}");
        }
    }

    /// Whether a postmaster runs.
    pub(crate) fn runs(&self) -> bool {
        self.postmaster().is_some_and(|pid| !is_gone(pid))
    }

    /// A new database on it, migrated, as plain PostgreSQL.
    pub(crate) async fn database(&self) -> Config {
        let config = harness::create_database(&self.config()).await;
        migrated(&config).await;
        config
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.runs() {
            self.kill();
        }
    }
}

pub(crate) async fn migrated(config: &Config) -> Store {
    let mut client = config.connect().await.unwrap();
    let capabilities = Capabilities::detect(&client).await.unwrap().with_engine(Engine::Postgresql).unwrap();
    migrate::migrate(&mut client, &capabilities).await.unwrap();
    drop(client);
    Store::connect(config.clone()).await.unwrap()
}

/// A port that no outgoing connection takes while the server is away: below the range that the system
/// gives those.
pub(crate) fn lasting_port() -> u16 {
    (0..200)
        .map(|_| rand::rng().random_range(15_000..32_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port is free")
}

pub(crate) fn kill_hard(backend: i32) {
    if let Some(pid) = Pid::from_raw(backend) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn pid(digits: &str) -> Option<Pid> {
    Pid::from_raw(digits.trim().parse().ok()?)
}

fn children(of: Pid) -> Vec<Pid> {
    let output = std::process::Command::new("pgrep").arg("-P").arg(of.as_raw_nonzero().to_string()).output().expect("pgrep runs");
    String::from_utf8_lossy(&output.stdout).lines().filter_map(pid).collect()
}

/// Dead, collected by whoever inherited it or not.
fn is_gone(pid: Pid) -> bool {
    test_kill_process(pid).is_err() || state(pid).is_none_or(|state| state == 'Z')
}

/// What the system says a process is up to, as `ps` prints it.
fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn await_(is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < end, "the server's processes do not go");
        std::thread::sleep(Duration::from_millis(1));
    }
}
