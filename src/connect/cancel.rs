//! Stopping what a session is at, from outside.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::tls::{ChannelBinding, TlsStream};
use tokio_postgres::{CancelToken, Client};

use super::stream::{Hello, Link, Stream};
use super::{Failure, Session, socket};
use crate::config::{Config, Host};
use crate::connect::socket::Place;

/// How long it may take to tell a server to stop.
const TELLING: Duration = Duration::from_secs(2);
/// How long a session may take to end once it is left.
const ENDING: Duration = Duration::from_secs(5);

/// What stops a session's statement.
pub(crate) struct Canceller {
    config: Config,
    host: Host,
    place: Place,
    encrypted: bool,
    token: CancelToken,
    driver: JoinHandle<()>,
}

impl Session {
    /// The client, and what stops its statement and waits for its end.
    pub(crate) fn cancellable(self, config: &Config) -> (Client, Canceller) {
        let token = self.client.cancel_token();
        let Self { client, driver, host, place, encrypted, .. } = self;
        (client, Canceller { config: config.clone(), host, place, encrypted, token, driver })
    }
}

impl Canceller {
    /// Has the server stop the statement. The client must still be there: a pooler stops nothing for one that has left.
    /// A server that does not answer is left after some seconds.
    pub(crate) async fn stop(&self) {
        if let Err(error) = timeout(TELLING, self.send()).await.unwrap_or(Ok(())) {
            tracing::debug!("the server could not be told to stop: {}", error.error);
        }
    }

    /// Waits until the session has ended, whose client is dropped.
    pub(crate) async fn ended(self) {
        let _ = timeout(ENDING, self.driver).await;
    }

    async fn send(&self) -> Result<(), Failure> {
        let socket = socket(&self.config, &self.place).await?;
        #[cfg(feature = "tls")]
        let socket = if self.encrypted { super::tls::encrypt(&self.config.server().tls, &self.host, socket, false).await? } else { socket };
        let link = Link::new();
        link.decide(false);
        self.token
            .cancel_query_raw(UntilHeard(Stream::new(socket, link)), Hello)
            .await
            .map_err(|e| super::elsewhere(crate::Error::database("telling the server to stop", e)))
    }
}

/// A stream that is closed only once the other end has: that is how a server says that it has heard, and pgbouncer 1.18 to
/// 1.24 may die of a request whose sender has left (its issue 801). libpq's `PQcancel` waits, too.
struct UntilHeard(Stream);

impl AsyncRead for UntilHeard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for UntilHeard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 16];
        loop {
            let mut read = ReadBuf::new(&mut bytes);
            // However the other end closes, it has heard.
            if ready!(Pin::new(&mut self.0).poll_read(cx, &mut read)).is_err() || read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl TlsStream for UntilHeard {
    fn channel_binding(&self) -> ChannelBinding {
        self.0.channel_binding()
    }
}
