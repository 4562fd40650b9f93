//! Where a test lets an export fail. Every step that makes something last (a file or folder made, synced,
//! linked or renamed) goes through `step`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many [`Fault`]s there are; without any, a step costs one look at this.
static ARMED: AtomicUsize = AtomicUsize::new(0);
static FAULTS: Mutex<Vec<State>> = Mutex::new(Vec::new());

struct State {
    below: PathBuf,
    at: usize,
    taken: usize,
    dies: bool,
}

/// While it lives, a step below a folder fails: for tests.
#[derive(Debug)]
pub struct Fault(PathBuf);

impl Fault {
    /// The step number `at`, counted from 0, fails with "no space left on device". If the export `dies`
    /// of it, so do all later ones, and it no longer tidies up, as if it had been killed there.
    pub fn new(below: &Path, at: usize, dies: bool) -> Self {
        faults().push(State { below: below.to_owned(), at, taken: 0, dies });
        ARMED.fetch_add(1, Ordering::SeqCst);
        Self(below.to_owned())
    }

    /// Steps taken so far, the failed one included.
    pub fn taken(&self) -> usize {
        faults().iter().find(|f| f.below == self.0).map_or(0, |f| f.taken)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        faults().retain(|f| f.below != self.0);
        ARMED.fetch_sub(1, Ordering::SeqCst);
    }
}

fn faults() -> MutexGuard<'static, Vec<State>> {
    FAULTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Is about to make something at this path last.
pub(crate) fn step(path: &Path) -> io::Result<()> {
    if ARMED.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    match faults().iter_mut().find(|f| path.starts_with(&f.below)) {
        Some(fault) => {
            fault.taken += 1;
            let failed = fault.taken == fault.at + 1 || fault.dies && fault.taken > fault.at;
            if failed { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
        None => Ok(()),
    }
}

/// Whether the export that writes here counts as killed.
pub(crate) fn killed(path: &Path) -> bool {
    ARMED.load(Ordering::Relaxed) > 0 && faults().iter().any(|f| path.starts_with(&f.below) && f.dies && f.taken > f.at)
}
