//! A proxy that understands enough of PostgreSQL's protocol to break a connection at a chosen message.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hitherto::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Client,
    Server,
}

/// What happens at a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It arrives, and then the connection is cut.
    CutAfter,
    /// It does not arrive, and the connection is cut.
    CutBefore,
    /// It and everything after it, on all connections and both ways, is read and goes nowhere.
    Swallow,
}

/// A message, counted from when the plan was made, and what happens at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) from: From,
    pub(crate) message: usize,
    pub(crate) fault: Fault,
}

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    fired: bool,
    swallows: bool,
    drips: bool,
    seen: [usize; 2],
    /// The last message from a client that passed asks for nothing more: the server waits for no other to go on.
    asked: bool,
    connections: Vec<JoinHandle<()>>,
}

impl State {
    fn seen(&self, from: From) -> usize {
        self.seen[from as usize]
    }
}

/// Stands between a client and the server.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let task = tokio::spawn(connection(client, server, shared.clone()));
                let mut state = shared.lock().unwrap();
                state.connections.retain(|connection| !connection.is_finished());
                state.connections.push(task);
            }
        });
        Self { port, state, task }
    }

    /// The database as it is seen through the proxy, which reads along.
    pub(crate) fn config(&self, of: &Config) -> Config {
        Config::from_url(&format!("postgresql://postgres@127.0.0.1:{}/{}?sslmode=disable", self.port, of.database().unwrap())).unwrap()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Begins to count messages, and to follow a plan.
    pub(crate) fn arm(&self, plan: Option<Plan>) {
        let mut state = self.state();
        (state.plan, state.fired) = (plan, false);
        state.seen = [0; 2];
    }

    /// Whether the plan's message came.
    pub(crate) fn fired(&self) -> bool {
        self.state().fired
    }

    /// How many messages came since the plan was made.
    pub(crate) fn seen(&self, from: From) -> usize {
        self.state().seen(from)
    }

    /// Whether the server got the whole of what it was asked last. Otherwise it waits amid a question, where none of its
    /// timeouts ticks (docs/faults.md).
    pub(crate) fn asked(&self) -> bool {
        self.state().asked
    }

    /// From now on bytes go one by one.
    pub(crate) fn drip(&self, drips: bool) {
        self.state().drips = drips;
    }

    /// New connections pass again. Those that were swallowed stay silent, or are cut.
    pub(crate) fn heal(&self, cut: bool) {
        let mut state = self.state();
        (state.plan, state.swallows) = (None, false);
        if cut {
            state.connections.drain(..).for_each(|connection| connection.abort());
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.state().connections.drain(..).for_each(|connection| connection.abort());
    }
}

async fn connection(mut client: TcpStream, server: u16, state: Arc<Mutex<State>>) {
    if state.lock().unwrap().swallows {
        swallow(&mut client).await;
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (mut client, mut server) =
        (Pump::new(From::Client, from_client, to_server, &state), Pump::new(From::Server, from_server, to_client, &state));
    tokio::select! { _ = client.run() => {}, _ = server.run() => {} }
    let (Pump { input: from_client, output: mut to_server, .. }, Pump { input: mut from_server, output: to_client, .. }) = (client, server);
    drop((from_client, to_client));
    // What was forwarded arrives: closing a socket with unread bytes would reset it.
    let _ = to_server.shutdown().await;
    let _ = timeout(Duration::from_secs(5), swallow(&mut from_server)).await;
}

async fn swallow(input: &mut (impl AsyncReadExt + Unpin)) {
    let mut bytes = vec![0; 1 << 16];
    while input.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
}

/// One way of a connection.
struct Pump {
    from: From,
    input: OwnedReadHalf,
    output: OwnedWriteHalf,
    state: Arc<Mutex<State>>,
}

/// What becomes of a message.
enum Verdict {
    Pass { drips: bool, cut: bool },
    Cut,
    Swallow,
}

impl Pump {
    fn new(from: From, input: OwnedReadHalf, output: OwnedWriteHalf, state: &Arc<Mutex<State>>) -> Self {
        Self { from, input, output, state: state.clone() }
    }

    /// Passes messages on until the connection ends or is to be cut.
    async fn run(&mut self) -> std::io::Result<()> {
        let mut opening = self.from == From::Client;
        loop {
            let mut message = Vec::new();
            if !opening {
                message.push(self.input.read_u8().await?);
            }
            let length = self.input.read_u32().await?;
            message.extend(length.to_be_bytes());
            let (kind, head) = (if opening { 0 } else { message[0] }, message.len());
            message.resize(head + length as usize - 4, 0);
            self.input.read_exact(&mut message[head..]).await?;
            opening = false;
            match self.verdict(kind) {
                Verdict::Pass { drips: true, cut } => {
                    for byte in message {
                        self.output.write_all(&[byte]).await?;
                        tokio::task::yield_now().await;
                    }
                    if cut {
                        return Ok(());
                    }
                }
                Verdict::Pass { drips: false, cut } => {
                    self.output.write_all(&message).await?;
                    if cut {
                        return Ok(());
                    }
                }
                Verdict::Cut => return Ok(()),
                Verdict::Swallow => {
                    swallow(&mut self.input).await;
                    // The other side is not told.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    fn verdict(&self, kind: u8) -> Verdict {
        let mut state = self.state.lock().unwrap();
        if state.swallows {
            return Verdict::Swallow;
        }
        // A connection that was closed before says goodbye when it comes to it.
        if self.from == From::Client && kind == b'X' {
            return Verdict::Pass { drips: false, cut: false };
        }
        let number = state.seen(self.from);
        state.seen[self.from as usize] += 1;
        let plan = state.plan.filter(|plan| !state.fired && plan.from == self.from && plan.message == number);
        if self.from == From::Client && plan.is_none_or(|plan| plan.fault == Fault::CutAfter) {
            // A connection's first message, a password, a query and a sync.
            state.asked = matches!(kind, 0 | b'p' | b'Q' | b'S');
        }
        match plan {
            Some(plan) => {
                state.fired = true;
                match plan.fault {
                    Fault::CutAfter => Verdict::Pass { drips: state.drips, cut: true },
                    Fault::CutBefore => Verdict::Cut,
                    Fault::Swallow => {
                        state.swallows = true;
                        Verdict::Swallow
                    }
                }
            }
            None => Verdict::Pass { drips: state.drips, cut: false },
        }
    }
}
