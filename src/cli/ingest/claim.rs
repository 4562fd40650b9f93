//! One run a file of refused lines.

use std::fs::{self, File};
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};

use super::rejects::failed;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{FileLock, NotLocked};

/// Held while a run may write to a file of refused lines: a file beside it, locked, and removed at the end. The file of
/// refused lines itself is replaced at the end, and is not there while nothing is refused.
pub(super) struct Claim {
    #[cfg_attr(not(unix), expect(dead_code, reason = "it is removed where it is known to be its own"))]
    path: PathBuf,
    _lock: FileLock,
}

impl Claim {
    /// Claims the file; there is nothing to claim in a device, nor where no file can be made.
    ///
    /// # Errors
    /// `Conflict` while another run has it.
    pub(super) fn take(rejects: &Path) -> Result<Option<Self>> {
        let Some(name) = rejects.file_name().filter(|_| rejects.is_file() || !rejects.exists()) else { return Ok(None) };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".lock");
        let path = rejects.with_file_name(hidden);
        loop {
            let file = match open(&path) {
                Ok(file) => file,
                // Then a line that is refused can't be written there either, which is told when there is one.
                Err(e) if matches!(e.kind(), Io::NotFound | Io::PermissionDenied | Io::ReadOnlyFilesystem) => return Ok(None),
                Err(e) => return Err(failed(rejects, &e)),
            };
            match FileLock::on(file) {
                // Whoever had it before has removed it in between.
                #[cfg(unix)]
                Ok(lock) if !lock.is_at(&path) => {}
                Ok(lock) => return Ok(Some(Self { path, _lock: lock })),
                Err(NotLocked::Held(who)) => {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!(
                            "{} is in use by {who}, whose refused lines go there; nothing was read: name another file with --rejects",
                            rejects.display()
                        ),
                    ));
                }
                Err(NotLocked::Failed(error)) => {
                    tracing::warn!(%error, "{} can't be locked; see to it that no other run writes there", rejects.display());
                    return Ok(None);
                }
            }
        }
    }
}

/// Another user's can be locked, too, though not written to.
fn open(path: &Path) -> std::io::Result<File> {
    let ours = File::options().read(true).write(true).create(true).truncate(false).open(path);
    ours.or_else(|e| if e.kind() == Io::PermissionDenied { File::open(path).map_err(|_| e) } else { Err(e) })
}

#[cfg(unix)]
impl Drop for Claim {
    fn drop(&mut self) {
        // Still locked: nobody else has it under this name.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_claimed_by_one_at_a_time_and_nothing_stays_behind() {
        let folder = tempfile::tempdir().unwrap();
        let rejects = folder.path().join("r.ndjson");
        let first = Claim::take(&rejects).unwrap().unwrap();
        let error = Claim::take(&rejects).err().unwrap();
        assert!(
            error.kind() == ErrorKind::Conflict && error.to_string().contains(&format!("process id {}", std::process::id())),
            "{error}"
        );
        assert!(Claim::take(&folder.path().join("other.ndjson")).unwrap().is_some());
        drop(first);
        drop(Claim::take(&rejects).unwrap().unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn many_who_come_and_go_never_have_it_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (rejects, inside) = (folder.path().join("r.ndjson"), std::sync::atomic::AtomicU32::new(0));
        let claim = || {
            let mut claimed = 0;
            while claimed < 200 {
                let Ok(claim) = Claim::take(&rejects) else { continue };
                assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                claimed += u32::from(claim.is_some());
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(claim))));
    }

    #[test]
    fn there_is_nothing_to_claim_in_a_device_or_a_folder_that_is_not_there() {
        assert!(Claim::take(Path::new("/nowhere/r.ndjson")).unwrap().is_none());
        #[cfg(unix)]
        assert!(Claim::take(Path::new("/dev/null")).unwrap().is_none());
    }
}
