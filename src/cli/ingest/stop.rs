//! Being told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM: a service manager.
    Service,
    /// Ctrl-C: a person.
    Person,
}

/// Listens to SIGTERM and Ctrl-C.
pub(super) struct Stop {
    /// For threads: read no more.
    pub(super) flag: Arc<AtomicBool>,
    /// Who asked first, and how often they have asked.
    asked: watch::Receiver<(Option<Asked>, u32)>,
}

impl Stop {
    pub(super) fn listen() -> Self {
        let flag = Arc::new(AtomicBool::new(false));
        let (tell, asked) = watch::channel((None, 0));
        let raised = flag.clone();
        tokio::spawn(async move {
            let mut signals = Signals::new();
            while let Some(by) = signals.next().await {
                raised.store(true, Relaxed);
                tell.send_modify(|(first, times)| {
                    first.get_or_insert(by);
                    *times += 1;
                });
            }
            // Nobody can ask any more.
            std::future::pending::<()>().await;
        });
        Self { flag, asked }
    }

    /// Who asked, if anybody did.
    pub(super) fn by(&self) -> Option<Asked> {
        self.asked.borrow().0
    }

    /// Somebody asked so many times.
    pub(super) async fn asked(&self, times: u32) {
        let mut asked = self.asked.clone();
        if asked.wait_for(|(_, so_far)| *so_far >= times).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The time that is given after the first request has passed.
    pub(super) async fn overdue(&self, limit: Duration) {
        self.asked(1).await;
        tokio::time::sleep(limit).await;
    }
}

#[cfg(unix)]
struct Signals {
    terminate: Option<tokio::signal::unix::Signal>,
    interrupt: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self { terminate: signal(SignalKind::terminate()).ok(), interrupt: signal(SignalKind::interrupt()).ok() }
    }

    async fn next(&mut self) -> Option<Asked> {
        async fn one(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
            match signal {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            told = one(&mut self.terminate) => told.map(|()| Asked::Service),
            told = one(&mut self.interrupt) => told.map(|()| Asked::Person),
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Self {
        Self
    }

    async fn next(&mut self) -> Option<Asked> {
        tokio::signal::ctrl_c().await.ok().map(|()| Asked::Person)
    }
}
