//! Where data files wait that are to be sent: a folder of one's own on this machine.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What the folders' names begin with.
const NAME: &str = "hitherto-export-";
/// Says that somebody uses the folder.
const USED: &str = "used";
/// A folder may be this old before it says so.
const MAKING: Duration = Duration::from_secs(60);

/// A folder that goes with its last user; made when it is needed.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) path: PathBuf,
    used: Mutex<Option<File>>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { path: std::env::temp_dir().join(format!("{NAME}{}", uuid::Uuid::new_v4())), used: Mutex::new(None) }
    }

    /// Makes the folder, for nobody else to read, and removes those of users that were killed.
    pub(super) fn make(&self) -> io::Result<()> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.is_some() {
            return Ok(());
        }
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path)?;
        let file = File::create_new(self.path.join(USED))?;
        file.lock()?;
        *used = Some(file);
        if let Some(parent) = self.path.parent() {
            sweep(parent);
        }
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(NAME) && left(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether nobody uses a folder any more.
fn left(room: &Path) -> bool {
    let old = || fs::metadata(room)?.modified().map(|made| SystemTime::now().duration_since(made).is_ok_and(|age| age > MAKING));
    match File::open(room.join(USED)) {
        Ok(file) => file.try_lock().is_ok(),
        Err(e) => e.kind() == io::ErrorKind::NotFound && old().unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_of_the_killed_are_swept_and_others_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let room = |name: &str| Room { path: parent.path().join(format!("{NAME}{name}")), used: Mutex::new(None) };
        let (living, killed) = (room("living"), room("killed"));
        living.make().unwrap();
        killed.make().unwrap();
        // The system lets go of a killed one's lock.
        drop(killed.used.lock().unwrap().take());
        fs::create_dir(parent.path().join(format!("{NAME}young"))).unwrap();
        let next = room("next");
        next.make().unwrap();
        let there = |room: &Path| room.exists();
        assert!(there(&living.path) && there(&next.path) && !there(&killed.path));
        assert!(there(&parent.path().join(format!("{NAME}young"))));
        let path = next.path.clone();
        drop(next);
        assert!(!there(&path));
    }
}
