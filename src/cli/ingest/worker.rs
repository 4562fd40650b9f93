//! Threads and tasks that work for a run and hand over piece by piece.
//!
//! Each has a last word of its own, an end or an error. One that ends without it has panicked: what it had yet to
//! hand over is missing, and that must not be taken for the end of the lines.

use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};

/// What a worker hands over.
pub(super) struct Handed<T> {
    from: mpsc::Receiver<T>,
    who: &'static str,
}

impl<T> Handed<T> {
    /// What comes next. Not to be asked once the last word was said.
    ///
    /// # Errors
    /// `Panicked` when the worker has ended without its last word.
    pub(super) async fn next(&mut self) -> Result<T> {
        self.from.recv().await.ok_or_else(|| panicked(self.who))
    }

    /// The same on a thread.
    pub(super) fn blocking_next(&mut self) -> Result<T> {
        self.from.blocking_recv().ok_or_else(|| panicked(self.who))
    }
}

/// Starts a thread; so many pieces wait to be taken, at most.
pub(super) fn thread<T: Send + 'static>(who: &'static str, room: usize, work: impl FnOnce(mpsc::Sender<T>) + Send + 'static) -> Handed<T> {
    let (to, from) = mpsc::channel(room);
    named(who, move || work(to));
    Handed { from, who }
}

/// Starts a task.
pub(super) fn task<T, W: Future<Output = ()> + Send + 'static>(
    who: &'static str,
    room: usize,
    work: impl FnOnce(mpsc::Sender<T>) -> W,
) -> Handed<T> {
    let (to, from) = mpsc::channel(room);
    tokio::spawn(work(to));
    Handed { from, who }
}

/// Starts a thread under a name that shows when it panics.
pub(super) fn named(who: &'static str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(who.to_owned()).spawn(work) {
        // Whoever waits for it hears of it as of one that has gone.
        tracing::error!(%error, "{who} can't be started");
    }
}

/// A worker has gone without its last word.
pub(super) fn panicked(who: &str) -> Error {
    let message = format!(
        "{who} has failed, for a reason that is told above and is this program's fault; what came after it is not stored: report it, and send \
         the stream again from its start, what is stored or in a spool is not stored twice"
    );
    Error::new(ErrorKind::Panicked, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_that_panics_is_an_error_that_names_it() {
        let mut handed = thread("the counter", 1, |to| {
            to.blocking_send(1).unwrap();
            panic!("on purpose");
        });
        assert_eq!(handed.next().await.unwrap(), 1);
        let error = handed.next().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Panicked && error.to_string().starts_with("the counter has failed"), "{error}");
        let mut handed = task("the dreamer", 1, async |_: mpsc::Sender<()>| panic!("on purpose"));
        let error = handed.next().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Panicked && error.to_string().starts_with("the dreamer has failed"), "{error}");
    }
}
