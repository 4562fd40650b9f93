//! The sessions that an export reads over, and their end before its time.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use hitherto_export::Connector;
use tokio_postgres::Client;

use crate::config::Config;
use crate::connect::{self, Canceller};
use crate::engine::Engine;
use crate::error::Result;
use crate::store::Store;

/// Sessions of an export's own, since its snapshot may last long.
#[derive(Clone)]
pub(in crate::cli) struct Sessions {
    config: Config,
    open: Arc<Mutex<Vec<Canceller>>>,
}

impl Sessions {
    pub(in crate::cli) fn new(config: &Config) -> Self {
        Self { config: config.clone().with_application_name("hitherto export"), open: Arc::default() }
    }

    /// The first of them, and a way to more where the engine has more; the schema is looked at first. `days`: rows
    /// will be looked for by their days.
    pub(super) async fn first(&self, days: bool) -> Result<(Client, Option<Connector>)> {
        let capabilities = Store::connect(self.config.clone()).await?.capabilities().clone();
        if capabilities.max_connections <= 1 {
            return Ok((self.config.connect().await?, None));
        }
        let client = self.another().await?;
        if days && capabilities.engine == Engine::Postgresql {
            summarize(&client).await;
        }
        let sessions = self.clone();
        let connector = Connector::new(move || {
            let sessions = sessions.clone();
            async move { sessions.another().await }
        });
        Ok((client, Some(connector)))
    }

    async fn another(&self) -> Result<Client> {
        let (client, canceller) = connect::open(&self.config).await?.cancellable(&self.config);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(canceller);
        Ok(client)
    }

    /// Has the server stop whatever they are at. Gives them, to be waited for once their clients are dropped.
    pub(super) async fn stop(&self) -> Vec<Canceller> {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        join_all(open.iter().map(Canceller::stop)).await;
        open
    }
}

/// Days are found through ranges of pages, which the index must know: those of a load that is just done it does not, and each
/// day would be looked for in all of them. A standby, or an older schema, does without.
async fn summarize(client: &Client) {
    if let Err(e) = client.execute("SELECT hitherto.time_index_summarize()", &[]).await {
        tracing::debug!("the indexes on time were not summarised: {e}");
    }
}
