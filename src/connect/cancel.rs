//! Stopping what a session is at, from outside.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{CancelToken, Client};

use super::stream::{Hello, Link, Stream};
use super::{Failure, Session, socket};
use crate::config::{Config, Host};
use crate::connect::socket::Place;

/// How long the server may take to stop a statement and to be left.
const PATIENCE: Duration = Duration::from_secs(5);

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
    /// The client, and what stops its statement once the client is dropped.
    pub(crate) fn cancellable(self, config: &Config) -> (Client, Canceller) {
        let token = self.client.cancel_token();
        let Self { client, driver, host, place, encrypted, .. } = self;
        (client, Canceller { config: config.clone(), host, place, encrypted, token, driver })
    }
}

impl Canceller {
    /// Has the server stop the statement and waits until the session has ended. A server that does not
    /// answer is left after some seconds.
    pub(crate) async fn cancel(self) {
        if let Err(error) = timeout(PATIENCE, self.send()).await.unwrap_or(Ok(())) {
            tracing::debug!("the server could not be told to stop: {}", error.error);
        }
        let _ = timeout(PATIENCE, self.driver).await;
    }

    async fn send(&self) -> Result<(), Failure> {
        let socket = socket(&self.config, &self.place).await?;
        #[cfg(feature = "tls")]
        let socket = if self.encrypted { super::tls::encrypt(&self.config.server().tls, &self.host, socket, false).await? } else { socket };
        let link = Link::new();
        link.decide(false);
        self.token
            .cancel_query_raw(Stream::new(socket, link), Hello)
            .await
            .map_err(|e| super::elsewhere(crate::Error::database("telling the server to stop", e)))
    }
}
