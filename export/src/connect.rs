//! How an export comes by more connections.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio_postgres::Client;

type Connecting = Pin<Box<dyn Future<Output = Result<Client, Box<dyn Error + Send + Sync>>> + Send>>;

/// Opens connections to the database that an export reads, as the same user.
#[derive(Clone)]
pub struct Connector(Arc<dyn Fn() -> Connecting + Send + Sync>);

impl Connector {
    /// Opens a connection by calling this. An export whose further connections can't be had does
    /// without them.
    pub fn new<F, O, E>(connect: F) -> Self
    where
        F: Fn() -> O + Send + Sync + 'static,
        O: Future<Output = Result<Client, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self(Arc::new(move || {
            let connecting = connect();
            Box::pin(async move { connecting.await.map_err(Into::into) })
        }))
    }

    pub(crate) async fn connect(&self) -> Result<Client, Box<dyn Error + Send + Sync>> {
        (self.0)().await
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}
