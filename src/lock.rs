//! One program at a time: a lock on a file, which the system lets go of when the program ends, however it does.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};

/// A lock that is held, until it is dropped.
pub(crate) struct FileLock {
    #[cfg_attr(not(all(unix, feature = "cli")), expect(dead_code, reason = "held, not looked at"))]
    file: File,
}

/// Why there is no lock.
pub(crate) enum NotLocked {
    /// Somebody has it; who, in words.
    Held(String),
    Failed(io::Error),
}

impl FileLock {
    /// Locks a file, and notes in it who has it.
    pub(crate) fn on(mut file: File) -> Result<Self, NotLocked> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = (&file).take(32).read_to_string(&mut holder);
                let holder = holder.trim();
                return Err(NotLocked::Held(match holder {
                    "" => "another program".to_owned(),
                    holder => format!("the program with process id {holder}"),
                }));
            }
            Err(TryLockError::Error(error)) => return Err(NotLocked::Failed(error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // On a full disk the name of the holder is missing, no more.
        let _ = write(&mut file);
        Ok(Self { file })
    }

    /// Whether the locked file still has this name. One that removes its file when it ends may leave the next with a
    /// lock on a file that nobody else finds.
    #[cfg(all(unix, feature = "cli"))]
    pub(crate) fn is_at(&self, path: &std::path::Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let (Ok(here), Ok(there)) = (self.file.metadata(), std::fs::metadata(path)) else { return false };
        (here.dev(), here.ino()) == (there.dev(), there.ino())
    }
}
