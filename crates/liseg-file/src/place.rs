//! Where the bytes of a file go.

use super::{fault, leftover};
use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempDir};

/// As many links as Linux follows.
const LINKS: usize = 40;

/// What a path that is written to leads to.
pub(crate) enum Place {
    /// A file, which is replaced, or nothing yet.
    File(PathBuf),
    /// A device, a FIFO or an open file of the process, which is written to.
    Stream(PathBuf),
}

impl Place {
    /// Follows links to their end, which need not be there.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let Ok(found) = path.symlink_metadata() else {
                return Ok(Self::File(path));
            };
            if found.is_dir() {
                let reason = "it is a folder; name a file";
                return Err(io::Error::new(io::ErrorKind::IsADirectory, reason));
            }
            if found.is_file() {
                return Ok(Self::File(path));
            }
            if !found.is_symlink() || is_descriptor(&path) {
                return Ok(Self::Stream(path));
            }
            path = folder_of(&path).join(path.read_link()?);
        }
        Err(io::Error::other("its links lead back to themselves"))
    }

    /// A file that gets the permissions of any new one.
    pub(crate) fn temporary_file(&self) -> io::Result<NamedTempFile> {
        let mut temporary = leftover::temporary();
        // The user's umask still applies.
        #[cfg(unix)]
        temporary.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        temporary.tempfile_in(self.workshop()?).map_err(plain)
    }

    pub(crate) fn temporary_folder(&self) -> io::Result<TempDir> {
        leftover::temporary()
            .tempdir_in(self.workshop()?)
            .map_err(plain)
    }

    /// The folder for temporary files, without those of processes that are no more.
    fn workshop(&self) -> io::Result<PathBuf> {
        let Self::File(path) = self else {
            return Ok(std::env::temp_dir());
        };
        let folder = folder_of(path);
        if !folder.is_dir() {
            // The system would speak of the temporary file, whose name nobody knows.
            let reason = format!("there is no folder {}", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, reason));
        }
        leftover::clear_once(folder);
        Ok(folder.to_owned())
    }

    /// Puts a temporary file here.
    pub(crate) fn put(&self, file: NamedTempFile) -> io::Result<()> {
        match self {
            Self::Stream(to) => pour(file.as_file(), to),
            Self::File(path) => {
                file.as_file().sync_all()?;
                fault::before_naming()?;
                file.persist(path).map_err(|failed| failed.error)?;
                sync(folder_of(path));
                Ok(())
            }
        }
    }

    /// Puts the file `made`, which is on disk, here.
    pub(crate) fn take(&self, made: &Path) -> io::Result<()> {
        match self {
            Self::Stream(to) => pour(&File::open(made)?, to),
            Self::File(path) => {
                fault::before_naming()?;
                std::fs::rename(made, path)?;
                sync(folder_of(path));
                Ok(())
            }
        }
    }
}

/// An error without the path of the temporary file, whose name nobody knows.
fn plain(error: io::Error) -> io::Error {
    let source = error.get_ref().and_then(|inner| inner.source());
    let cause = source.and_then(|source| source.downcast_ref::<io::Error>());
    match cause.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}

/// A path with all links followed, of which the last parts need not exist.
pub fn resolved(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if parent.as_os_str().is_empty() => {
            resolved(Path::new(".")).join(name)
        }
        (Some(parent), Some(name)) => resolved(parent).join(name),
        _ => path.to_owned(),
    }
}

/// Whether a link stands for an open file of the process, as `/dev/stdout` does. Where that is a file, what was written to
/// it before stays.
fn is_descriptor(link: &Path) -> bool {
    let folder = folder_of(link).canonicalize();
    folder.is_ok_and(|folder| folder.starts_with("/proc") && folder.ends_with("fd"))
}

fn pour(mut file: &File, to: &Path) -> io::Result<()> {
    let mut to = File::options().append(true).open(to)?;
    file.rewind()?;
    io::copy(&mut file, &mut to)?;
    Ok(())
}

/// Brings the names in a folder to disk, without which a file that is whole may be gone after the power was.
pub(crate) fn sync(folder: &Path) {
    // Some network drives know no such thing, and the file is there all the same.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use crate::{make_with, write, write_with};
    use std::io::{self, Read, Write};
    use std::os::unix::fs::{FileTypeExt, symlink};
    use std::path::Path;

    /// The three ways to write `text`.
    fn write_each(path: &Path, text: &str, check: impl Fn()) {
        write(path, text).unwrap();
        check();
        write_with(path, |file| file.write_all(text.as_bytes())).unwrap();
        check();
        make_with(path, |there| std::fs::write(there, text)).unwrap();
        check();
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("below")).unwrap();
        symlink("below/second", at("first")).unwrap();
        symlink("../file", at("below/second")).unwrap();
        for text in ["nothing was there", "something was"] {
            write_each(&at("first"), text, || {
                assert_eq!(std::fs::read_to_string(at("file")).unwrap(), text);
                assert!(at("first").is_symlink() && at("below/second").is_symlink());
                assert!(!at("file").is_symlink());
                std::fs::write(at("file"), "").unwrap();
            });
        }
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        let error = write(at("a"), "").unwrap_err();
        assert!(error.to_string().contains("back to themselves"), "{error}");
        let error = write(folder.path(), "").unwrap_err();
        assert!(error.to_string().contains("it is a folder"), "{error}");
    }

    #[test]
    fn devices_and_fifos_are_written_to() {
        let folder = tempfile::tempdir().unwrap();
        write_each(Path::new("/dev/null"), "text", || {
            let null = std::fs::metadata("/dev/null").unwrap();
            assert!(null.file_type().is_char_device());
        });
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || {
                (0..3)
                    .map(|_| std::fs::read_to_string(&fifo).unwrap())
                    .collect::<Vec<_>>()
            }
        });
        write_each(&fifo, "text", || {
            let there = std::fs::symlink_metadata(&fifo).unwrap();
            assert!(there.file_type().is_fifo());
            // Two writers that follow each other at once would have one reader.
            std::thread::sleep(std::time::Duration::from_millis(100));
        });
        assert_eq!(reader.join().unwrap(), ["text"; 3]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_open_file_of_the_process_keeps_what_it_has() {
        use std::os::fd::AsRawFd;
        let mut open = tempfile::NamedTempFile::new().unwrap();
        open.write_all(b"before, ").unwrap();
        let path = format!("/dev/fd/{}", open.as_file().as_raw_fd());
        write(path, "after").unwrap();
        let mut text = String::new();
        open.reopen().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "before, after");
        let closed = write("/proc/self/fd/987654", "").unwrap_err();
        assert_eq!(closed.kind(), io::ErrorKind::NotFound);
    }
}
