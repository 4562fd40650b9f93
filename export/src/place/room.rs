//! Where files wait until they get their place: a folder of one's own on this machine.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Says that somebody uses the folder.
const USED: &str = "used";
/// A folder may be this old before it says so.
const MAKING: Duration = Duration::from_secs(60);

/// A folder that goes with its last user; made when it is needed.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) path: PathBuf,
    /// What its name and those of its kind begin with.
    name: &'static str,
    used: Mutex<Option<File>>,
}

impl Room {
    /// One of its own in this folder, of this kind.
    pub(crate) fn new(parent: &Path, name: &'static str) -> Self {
        Self { path: parent.join(format!("{name}{}", uuid::Uuid::new_v4())), name, used: Mutex::new(None) }
    }

    /// Makes the folder, for nobody else to read, and removes those of users that were killed.
    pub(crate) fn make(&self) -> io::Result<()> {
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
            sweep(parent, self.name);
        }
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn sweep(parent: &Path, name: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(name) && left(&entry.path()) {
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
        let room = |name: &str| Room { path: parent.path().join(format!("kind-{name}")), name: "kind-", used: Mutex::new(None) };
        let (living, killed) = (room("living"), room("killed"));
        living.make().unwrap();
        killed.make().unwrap();
        // The system lets go of a killed one's lock.
        drop(killed.used.lock().unwrap().take());
        fs::create_dir(parent.path().join("kind-young")).unwrap();
        let next = room("next");
        next.make().unwrap();
        let there = |room: &Path| room.exists();
        assert!(there(&living.path) && there(&next.path) && !there(&killed.path));
        assert!(there(&parent.path().join("kind-young")));
        let path = next.path.clone();
        drop(next);
        assert!(!there(&path));
    }
}
