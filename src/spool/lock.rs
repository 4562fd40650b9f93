//! One program a folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::failed;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{FileLock, NotLocked};

/// Held while a program uses the folder.
pub(super) struct Lock {
    _lock: FileLock,
}

impl Lock {
    /// # Errors
    /// `Conflict` while another program, or another part of this one, has it.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let fail = |error: std::io::Error| failed("locking it", folder, &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match FileLock::on(options.open(folder.join("lock")).map_err(fail)?) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(NotLocked::Held(who)) => Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "the spool {} is in use by {who}; a folder is for one program: end that one, or name another folder",
                    folder.display()
                ),
            )),
            Err(NotLocked::Failed(error)) => Err(fail(error)),
        }
    }

    /// Whether some program holds it now.
    pub(super) fn is_held(folder: &Path) -> bool {
        let Ok(file) = File::open(folder.join("lock")) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}
