//! Connections on loan from the pool.

use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::pool::{Object, PoolError};

/// A connection that is closed unless its user says that it came to a clean end: one that was
/// cancelled amid a transaction must not reach the next user.
pub(crate) struct Lease {
    object: Option<Object>,
    clean: bool,
}

impl Lease {
    pub(crate) fn new(object: Object) -> Self {
        Self { object: Some(object), clean: false }
    }

    pub(crate) fn client(&mut self) -> &mut Object {
        self.object.as_mut().expect("a lease holds its connection until it is dropped")
    }

    /// Takes the word back: the connection is in use again.
    pub(crate) fn keep(&mut self) {
        self.clean = false;
    }

    pub(crate) fn give_back(&mut self) {
        self.clean = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take_if(|_| !self.clean) {
            drop(Object::take(object));
        }
    }
}

pub(crate) fn pool_error(error: PoolError, config: &Config) -> Error {
    match error {
        PoolError::Backend(error) => error,
        PoolError::Timeout(_) => Error::new(
            ErrorKind::Timeout,
            format!("no connection to {config} became free in time; raise the pool's size or look for transactions that do not end"),
        ),
        other => Error::new(ErrorKind::Unreachable, format!("no connection to {config}: {other}")),
    }
}
