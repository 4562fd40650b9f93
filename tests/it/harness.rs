//! Databases for tests: the embedded engine, a private native server, and whatever
//! `HITHERTO_TEST_DATABASE_URL` names.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use hitherto::cli::embedded::Embedded;
use hitherto::{Capabilities, Config, Engine, Store, migrate};

/// A fresh database on some engine, migrated.
pub(crate) struct Db {
    /// How the engine is called in messages.
    pub(crate) name: &'static str,
    pub(crate) store: Store,
    pub(crate) config: Config,
    _engine: Option<Embedded>,
}

impl Db {
    /// Where other programs find it; `None` on a server that was named, whose password is not told.
    pub(crate) fn url(&self) -> Option<String> {
        match (&self._engine, self.name) {
            (Some(engine), _) => Some(engine.url()),
            (None, "HITHERTO_TEST_DATABASE_URL") => None,
            (None, _) => Some(format!("postgresql://postgres@127.0.0.1:{}/{}", server().port, self.config.database().unwrap())),
        }
    }

    /// The same on any server: for a command's environment, not for what is printed.
    pub(crate) fn any_url(&self) -> String {
        self.url().unwrap_or_else(|| {
            let url = std::env::var("HITHERTO_TEST_DATABASE_URL").unwrap();
            let (head, query) = url.split_once('?').map_or((url.as_str(), String::new()), |(head, query)| (head, format!("?{query}")));
            format!("{}/{}{query}", head.rsplit_once('/').unwrap().0, self.config.database().unwrap())
        })
    }

    /// Runs TimescaleDB's own refresh policies, as its background workers would.
    pub(crate) async fn run_refresh_policies(&self) {
        self.run_jobs("policy_refresh_continuous_aggregate").await;
    }

    /// Runs the jobs of a procedure, as background workers would.
    pub(crate) async fn run_jobs(&self, procedure: &str) {
        let client = self.store.client().await.unwrap();
        let jobs = client.query("SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = $1", &[&procedure]).await.unwrap();
        assert!(!jobs.is_empty(), "{}: no job runs {procedure}", self.name);
        for row in jobs {
            client.batch_execute(&format!("CALL run_job({})", row.get::<_, i32>(0))).await.unwrap();
        }
    }
}

/// A fresh database on the embedded engine, migrated.
pub(crate) async fn embedded() -> Db {
    let engine = Embedded::start(None).await.expect("the embedded engine starts");
    let config = Config::from_url(&engine.url()).unwrap();
    Db { name: "embedded", store: migrated(&config, None).await, config, _engine: Some(engine) }
}

/// A fresh, migrated database on the private server, as plain PostgreSQL.
pub(crate) async fn native() -> Db {
    let config = empty_database().await;
    Db { name: "postgresql", store: migrated(&config, Some(Engine::Postgresql)).await, config, _engine: None }
}

/// The same as TimescaleDB, where the server offers it.
pub(crate) async fn native_timescaledb() -> Option<Db> {
    let config = empty_database().await;
    let client = config.connect().await.unwrap();
    let offered = Capabilities::detect(&client).await.unwrap().engine == Engine::Timescaledb;
    drop(client);
    if !offered {
        return None;
    }
    Some(Db { name: "timescaledb", store: migrated(&config, None).await, config, _engine: None })
}

/// A fresh, migrated database on every engine there is.
pub(crate) async fn all() -> Vec<Db> {
    let mut all = vec![embedded().await];
    all.extend(private().await);
    all.extend(named().await);
    all
}

/// A fresh, migrated database on the private server as each engine that it can be.
pub(crate) async fn private() -> Vec<Db> {
    let mut dbs = vec![native().await];
    dbs.extend(native_timescaledb().await);
    dbs
}

/// A fresh, migrated database on the server that `HITHERTO_TEST_DATABASE_URL` names, where it does.
pub(crate) async fn named() -> Option<Db> {
    let config = named_server().await?;
    Some(Db { name: "HITHERTO_TEST_DATABASE_URL", store: migrated(&config, None).await, config, _engine: None })
}

pub(crate) async fn migrated(config: &Config, engine: Option<Engine>) -> Store {
    let mut client = config.connect().await.unwrap();
    let mut capabilities = Capabilities::detect(&client).await.unwrap();
    if let Some(engine) = engine {
        capabilities = capabilities.with_engine(engine).unwrap();
    }
    migrate::migrate(&mut client, &capabilities).await.unwrap();
    drop(client);
    Store::connect(config.clone()).await.unwrap()
}

/// A new, empty database on the private server.
pub(crate) async fn empty_database() -> Config {
    create_database(&server().config()).await
}

async fn named_server() -> Option<Config> {
    let url = std::env::var("HITHERTO_TEST_DATABASE_URL").ok().filter(|url| !url.is_empty())?;
    Some(create_database(&Config::from_url(&url).unwrap()).await)
}

pub(crate) async fn create_database(config: &Config) -> Config {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let client = config.connect().await.expect("the test server answers");
    client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await.unwrap();
    config.clone().with_database(&name)
}

/// More of the private server's options, to be set before it is first asked for.
pub(crate) static SERVER_OPTIONS: OnceLock<&str> = OnceLock::new();

/// One private PostgreSQL server a test process, on a free port, in a temporary folder.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::running)
}

/// A server of the tests' own: a folder, a port and the settings that it is started with.
pub(crate) struct Server {
    bin: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    settings: String,
}

impl Server {
    /// A server that is started, without fsync.
    pub(crate) fn running() -> Self {
        let settings = format!("-c fsync=off {}", SERVER_OPTIONS.get().copied().unwrap_or_default());
        let server = Self::new(free_port(), &settings);
        server.make_data(&server.data(), &[]);
        server.start().unwrap();
        server
    }

    /// A server that has no data yet. Its folder goes with this process.
    pub(crate) fn new(port: u16, settings: &str) -> Self {
        let bin = server_programs().expect("PostgreSQL 15 or newer must be installed; run: make setup");
        let folder = tempfile::Builder::new().prefix("hitherto-pg-").tempdir().unwrap().keep();
        if is_root() {
            run(Command::new("chown").arg("-R").arg("postgres").arg(&folder)).unwrap();
        }
        let server = Self { bin, folder, port, settings: settings.to_owned() };
        server.stop_with_this_process();
        server
    }

    /// Where its data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn make_data(&self, data: &Path, options: &[&str]) {
        run(self
            .command("initdb")
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .args(options)
            .arg("-D")
            .arg(data))
        .unwrap();
    }

    /// Starts it on its data, or says what the server said.
    pub(crate) fn start(&self) -> Result<(), String> {
        // No background workers: policies run when a test calls them, and not in between.
        let preload = if timescaledb_is_offered(&self.bin) {
            "-c shared_preload_libraries=timescaledb -c timescaledb.telemetry_level=off -c timescaledb.max_background_workers=0"
        } else {
            ""
        };
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c max_connections=100 -c max_worker_processes=32 {} {preload}",
            self.port,
            self.folder.display(),
            self.settings
        );
        run(self
            .command("pg_ctl")
            .args(["-w", "-s", "-l"])
            .arg(self.folder.join("log"))
            .arg("-o")
            .arg(options)
            .arg("-D")
            .arg(self.data())
            .arg("start"))
    }

    /// Stops it at once, as a crash would.
    pub(crate) fn stop(&self) -> Result<(), String> {
        run(self.command("pg_ctl").args(["-w", "-s", "-m", "immediate", "stop", "-D"]).arg(self.data()))
    }

    /// Gives files to the user that the server runs as.
    pub(crate) fn own(&self, path: &Path) -> Result<(), String> {
        if is_root() { run(Command::new("chown").arg("-R").arg("postgres").arg(path)) } else { Ok(()) }
    }

    pub(crate) fn config(&self) -> Config {
        Config::from_url(&format!("postgresql://postgres@127.0.0.1:{}/postgres", self.port)).unwrap()
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.command_of(&self.bin.join(program));
        command.current_dir(&self.folder);
        command
    }

    /// PostgreSQL refuses to run as root.
    pub(crate) fn command_of(&self, path: &Path) -> Command {
        if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
            command
        } else {
            Command::new(path)
        }
    }

    /// Tests may be killed: a watcher, whose standard input ends when this process does, stops the
    /// server and removes its folder.
    fn stop_with_this_process(&self) {
        let script = format!(
            "cat > /dev/null; {} -m immediate -s -D {} stop; rm -rf {}",
            self.bin.join("pg_ctl").display(),
            self.data().display(),
            self.folder.display()
        );
        let mut watcher = self.command_of(Path::new("sh"));
        watcher.arg("-c").arg(script).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        std::mem::forget(watcher.spawn().unwrap());
    }
}

/// Runs a command to its end, or says what it said.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    output.status.success().then_some(()).ok_or_else(|| format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.starts_with(b"0\n"))
}

/// Debian keeps the server's programs off the PATH.
fn server_programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|e| e.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().or_else(|| {
        std::env::split_paths(&std::env::var_os("PATH")?).find(|folder| folder.join("initdb").exists() && folder.join("pg_ctl").exists())
    })
}

fn timescaledb_is_offered(bin: &Path) -> bool {
    let output = Command::new(bin.join("pg_config")).arg("--sharedir").output();
    output.is_ok_and(|o| Path::new(String::from_utf8_lossy(&o.stdout).trim()).join("extension/timescaledb.control").exists())
}
