//! One program a folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::failed;
use crate::error::{Error, ErrorKind, Result};

/// Held while a program uses the folder; the system lets go of it when the program ends, however it does.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// # Errors
    /// `Conflict` while another program, or another part of this one, has it.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join("lock");
        let fail = |error: std::io::Error| failed("locking it", folder, &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = (&file).take(32).read_to_string(&mut holder);
                let holder = holder.trim();
                let who = if holder.is_empty() { "another program".to_owned() } else { format!("the program with process id {holder}") };
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "the spool {} is in use by {who}; a folder is for one program: end that one, or name another folder",
                        folder.display()
                    ),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // On a full disk the name of the holder is missing, no more.
        let _ = write(&mut file);
        Ok(Self { _file: file })
    }

    /// Whether some program holds it now.
    pub(super) fn is_held(folder: &Path) -> bool {
        let Ok(file) = File::open(folder.join("lock")) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}
