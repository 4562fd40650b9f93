//! The way to the server: which host, encrypted or not, pooled or not. Every connection is made here.

mod ahead;
#[cfg(feature = "cli")]
mod cancel;
#[cfg(feature = "tls")]
mod certificate;
mod frames;
mod message;
mod socket;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod unnamed;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode as DriverSslMode, SslNegotiation};
use tokio_postgres::{Client, SimpleQueryMessage};

#[cfg(feature = "tls")]
use crate::config::SslMode;
use crate::config::{Config, Host, Pooler, Target};
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "cli")]
pub(crate) use cancel::Canceller;
use socket::{Place, Socket};
use stream::{Hello, Link, Stream};

/// A session with the server.
pub(crate) struct Session {
    pub(crate) client: Client,
    /// The task that carries its messages.
    pub(crate) driver: JoinHandle<()>,
    /// A pooler stands before the server: the next transaction may be another session's.
    pub(crate) pooled: bool,
    #[cfg(feature = "cli")]
    host: Host,
    #[cfg(feature = "cli")]
    place: Place,
    #[cfg(feature = "cli")]
    encrypted: bool,
}

/// Why an attempt failed, and whether the next place is worth trying: as in libpq, it is not once a
/// server has answered and turned the login down.
struct Failure {
    error: Error,
    go_on: bool,
    /// It was the encryption that did not come about.
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    handshake: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, go_on: false, handshake: false }
    }
}

/// The next place may do better.
fn elsewhere(error: Error) -> Failure {
    Failure { error, go_on: true, handshake: false }
}

/// Connects to the first host, in order, that answers and is fit for what the session is for.
pub(crate) async fn open(config: &Config) -> Result<Session> {
    let server = config.server();
    let mut hosts: Vec<&Host> = server.hosts.iter().collect();
    if server.shuffled {
        hosts.sort_by_cached_key(|_| random());
    }
    let targets: &[Target] = match server.target {
        Target::PreferStandby => &[Target::Standby, Target::Any],
        ref target => std::slice::from_ref(target),
    };
    let mut failures: Vec<(String, Error)> = Vec::new();
    for target in targets {
        failures.clear();
        for host in &hosts {
            let places = match timeout(config.connect_timeout, places(host, server.shuffled)).await {
                Ok(Ok(places)) => places,
                Ok(Err(e)) => {
                    failures.push((host.to_string(), Error::new(ErrorKind::Unreachable, format!("its address is not known: {e}"))));
                    continue;
                }
                Err(_) => {
                    failures.push((host.to_string(), no_answer(config)));
                    continue;
                }
            };
            for place in places {
                let attempt = timeout(config.connect_timeout, attempt(config, host, &place, *target)).await;
                match attempt.unwrap_or_else(|_| Err(elsewhere(no_answer(config)))) {
                    Ok(session) => return Ok(session),
                    Err(Failure { error, go_on: true, .. }) => failures.push((host.to_string(), error)),
                    Err(Failure { error, go_on: false, .. }) => return Err(told(config, host, error, hosts.len())),
                }
            }
        }
    }
    Err(summary(config, failures))
}

fn no_answer(config: &Config) -> Error {
    Error::new(ErrorKind::Unreachable, format!("no answer within {} s; is the server running?", config.connect_timeout.as_secs_f64()))
}

/// The error with what was under way.
fn told(config: &Config, host: &Host, error: Error, hosts: usize) -> Error {
    let at = if hosts > 1 { format!("{host}: ") } else { String::new() };
    error.under(&format!("connecting to {config}: {at}"))
}

/// What all places said; a single one's error keeps its cause.
fn summary(config: &Config, mut failures: Vec<(String, Error)>) -> Error {
    let several = config.server().hosts.len() > 1;
    failures.dedup_by(|a, b| a.0 == b.0 && a.1.to_string() == b.1.to_string());
    if !several && let Some((_, last)) = failures.pop() {
        return last.under(&format!("connecting to {config}: "));
    }
    let words: Vec<String> = failures.iter().map(|(host, error)| format!("{host}: {error}")).collect();
    Error::new(ErrorKind::Unreachable, format!("connecting to {config}: no host will do; {}", words.join("; ")))
}

async fn places(host: &Host, shuffled: bool) -> std::io::Result<Vec<Place>> {
    #[cfg(unix)]
    if host.is_socket() {
        return Ok(vec![Place::Unix(format!("{}/.s.PGSQL.{}", host.name.trim_end_matches('/'), host.port).into())]);
    }
    if let Some(address) = host.address {
        return Ok(vec![Place::Tcp(SocketAddr::new(address, host.port))]);
    }
    let mut places: Vec<Place> = tokio::net::lookup_host((host.name.as_str(), host.port)).await?.map(Place::Tcp).collect();
    places.dedup();
    if shuffled {
        places.sort_by_cached_key(|_| random());
    }
    if places.is_empty() { Err(std::io::Error::other("it has none")) } else { Ok(places) }
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// One place, in the ways that the mode allows.
async fn attempt(config: &Config, host: &Host, place: &Place, target: Target) -> Result<Session, Failure> {
    let plain = async || login(config, host, place, socket(config, place).await?, target).await;
    #[cfg(not(feature = "tls"))]
    return plain().await;
    #[cfg(feature = "tls")]
    {
        let encrypted = async |or_plain: bool| {
            let socket = socket(config, place).await?;
            let socket = tls::encrypt(&config.server().tls, host, socket, or_plain).await?;
            login(config, host, place, socket, target).await
        };
        match if place.is_local() { SslMode::Disable } else { config.server().tls.mode } {
            SslMode::Disable => plain().await,
            SslMode::Allow => match plain().await {
                Err(first) if hba_refused(&first.error) => {
                    encrypted(false).await.map_err(|second| if second.handshake { first } else { second })
                }
                other => other,
            },
            SslMode::Prefer => match encrypted(true).await {
                Err(first) if first.handshake || hba_refused(&first.error) => {
                    plain().await.map_err(|second| if hba_refused(&second.error) { first } else { second })
                }
                other => other,
            },
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => encrypted(false).await,
        }
    }
}

/// The server's rules have no line for a login of this sort (encrypted or not).
#[cfg(feature = "tls")]
fn hba_refused(error: &Error) -> bool {
    error.sqlstate() == Some("28000")
}

async fn socket(config: &Config, place: &Place) -> Result<Socket, Failure> {
    Socket::connect(config.server(), place)
        .await
        .map_err(|e| elsewhere(Error::new(ErrorKind::Unreachable, format!("error connecting to server: {e}"))))
}

#[cfg_attr(not(feature = "cli"), allow(unused_variables, reason = "the place is for what cancels"))]
async fn login(config: &Config, host: &Host, place: &Place, socket: Socket, target: Target) -> Result<Session, Failure> {
    let server = config.server();
    let database = server.database.as_deref().unwrap_or(&server.user);
    let mut driver = tokio_postgres::Config::new();
    driver.user(&server.user).application_name(&server.application_name).channel_binding(server.channel_binding);
    driver.dbname(database);
    if let Some(options) = &server.options {
        driver.options(options);
    }
    let secret = server.password.find(host.name_in_passfile(), host.port, database, &server.user)?;
    if let Some(secret) = &secret {
        driver.password(&secret.0);
    }
    // The negotiation is done: the driver takes the stream as it is.
    let encrypted = socket.is_encrypted();
    if encrypted {
        driver.ssl_mode(DriverSslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    } else {
        driver.ssl_mode(DriverSslMode::Disable);
    }
    let link = Link::new();
    let (client, connection) =
        driver.connect_raw(Stream::new(socket, link.clone()), Hello).await.map_err(|e| login_failure(e, secret.is_some()))?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
    let mut session = Session {
        client,
        driver,
        pooled: false,
        #[cfg(feature = "cli")]
        host: host.clone(),
        #[cfg(feature = "cli")]
        place: place.clone(),
        #[cfg(feature = "cli")]
        encrypted,
    };
    let pooled = match config.pooler {
        Pooler::None if target == Target::Any => false,
        Pooler::Transaction if target == Target::Any => true,
        pooler => {
            let state = State::ask(&session.client).await?;
            state.check(target)?;
            // A pooler makes up the number that it tells at login.
            pooler == Pooler::Transaction || pooler == Pooler::Auto && link.process_id().is_some_and(|told| told != state.process_id)
        }
    };
    link.decide(pooled);
    session.pooled = pooled;
    Ok(session)
}

/// What a server said to the login, or what came in between.
fn login_failure(e: tokio_postgres::Error, has_password: bool) -> Failure {
    const ADVICE: &str = "put it into the URL, PGPASSWORD, a password file or ~/.pgpass";
    #[cfg(feature = "tls")]
    if let Some(error) = tls::refused_by_server(&e) {
        return error.into();
    }
    let refused = e.code().is_none() && e.to_string().starts_with("authentication error");
    let error = Error::database("", e);
    match error.sqlstate() {
        // It is starting or stopping.
        Some("57P03") => elsewhere(error),
        Some("28P01") if !has_password => error.with(&format!("no password was given: {ADVICE}")).into(),
        Some(_) => error.into(),
        None if error.to_string().contains("password missing") => {
            Error::new(ErrorKind::Refused, format!("the server asks for a password and there is none; {ADVICE}")).into()
        }
        None if refused => Error::new(ErrorKind::Refused, error.to_string()).caused_by(error).into(),
        None => elsewhere(error),
    }
}

/// What a server says of itself.
struct State {
    process_id: u32,
    in_recovery: bool,
    read_only: bool,
}

impl State {
    async fn ask(client: &Client) -> Result<Self, Failure> {
        let doing = "asking the server for its state";
        let query =
            "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')";
        let messages = client.simple_query(query).await.map_err(|e| elsewhere(Error::database(doing, e)))?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let text = |n: usize| row.and_then(|row| row.try_get(n).ok().flatten()).unwrap_or_default();
        Ok(Self { process_id: text(0).parse().unwrap_or_default(), in_recovery: text(1) == "t", read_only: text(2) == "on" })
    }

    fn check(&self, target: Target) -> Result<(), Failure> {
        let unfit = match target {
            Target::ReadWrite if self.read_only => "it takes no writes (read-only or a standby), and target_session_attrs is read-write",
            Target::ReadOnly if !self.read_only => "it takes writes, and target_session_attrs is read-only",
            Target::Primary if self.in_recovery => "it is a standby, and target_session_attrs is primary",
            Target::Standby if !self.in_recovery => "it is no standby, and target_session_attrs asks for one",
            _ => return Ok(()),
        };
        Err(elsewhere(Error::new(ErrorKind::Unreachable, unfit)))
    }
}
