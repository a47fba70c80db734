//! One training at a time in a folder.

use crate::{Error, Result};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

/// The right to write into the folder of a run. The system takes it back when the process ends, however it
/// ends, so that a killed run can be resumed at once.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the right to write into a folder, which is made if it is not there.
    ///
    /// Where the file system has no locks, as some network drives, a warning says so and the work goes on.
    ///
    /// # Errors
    /// [`Error::Run`] when another process has it; [`Error::Io`].
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let path = folder.join(".lock");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Run {
                    path: folder.to_owned(),
                    reason:
                        "another process is training here; wait for it, or choose another --out"
                            .to_owned(),
                });
            }
            Err(TryLockError::Error(error)) if has_no_locks(&error) => tracing::warn!(
                "{}: this file system has no locks ({error}): see to it that nothing else trains here",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
        }
        Ok(Self { _file: file })
    }
}

fn has_no_locks(error: &std::io::Error) -> bool {
    /// `ENOLCK` of Linux: the record locks of a network drive are not available.
    const NO_LOCKS: i32 = 37;
    error.kind() == ErrorKind::Unsupported
        || cfg!(target_os = "linux") && error.raw_os_error() == Some(NO_LOCKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_until_its_holder_ends() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let first = Lock::take(&run).unwrap();
        let message = Lock::take(&run).unwrap_err().to_string();
        assert!(message.contains("another process"), "{message}");
        drop(first);
        let _again = Lock::take(&run).unwrap();
    }

    #[test]
    fn drives_without_locks_are_told_apart_from_failures() {
        let unsupported = std::io::Error::from(ErrorKind::Unsupported);
        assert!(has_no_locks(&unsupported));
        let denied = std::io::Error::from(ErrorKind::PermissionDenied);
        assert!(!has_no_locks(&denied));
    }
}
