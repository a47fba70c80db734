//! Files that appear under their name when they are whole, or not at all.
//!
//! Every function that writes does so beside `path` under another name, brings the bytes to disk, renames the file and brings
//! its new name to disk. Whatever interrupts it, `path` is the old file or the new one. The new one has the permissions of
//! any new file of the user, where a temporary file would be private. What a killed process leaves behind is removed by
//! the next one that writes into the folder.
//!
//! Where `path` is a link, the file that it leads to is replaced, and the link stays. A device or a FIFO, such as
//! `/dev/null` or `/dev/stdout`, is written to once all is known.
//!
//! For tests of what is left then, `LISEG_KILL_AT_WRITE=N` in the environment ends the process before its N-th file gets its
//! name, and with `LISEG_FULL_AT_WRITE=N` no file gets one from the N-th on, as on a full disk.
//!
//! [`open`], [`read`] and [`read_text`] read files and refuse what is none, which may never end. [`text`] makes text that
//! came out of files fit to be shown, [`mod@number`] keeps numbers that JSON has no form for.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("table.csv");
//! liseg_file::write(&path, "case,dice\n")?;
//! let failed = liseg_file::write_with(&path, |file| {
//!     std::io::Write::write_all(file, b"half a ")?;
//!     Err(std::io::Error::other("no more"))
//! });
//! assert!(failed.is_err());
//! assert_eq!(std::fs::read_to_string(&path)?, "case,dice\n");
//! # Ok(())
//! # }
//! ```

mod fault;
mod leftover;
pub mod number;
mod place;
mod source;
pub mod text;

pub use place::resolved;
pub use source::{open, read, read_text};

use place::Place;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Bytes that are gathered before they go to the system.
const BUFFER: usize = 256 * 1024;

/// Whether an error says that nothing more can be written where it happened: the disk or the user's share of it is full, or
/// it cannot be written to at all. Whoever works on many files then stops, since all others would fail as well.
pub fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        let kind = error.downcast_ref().map(io::Error::kind);
        matches!(kind, Some(StorageFull | QuotaExceeded | ReadOnlyFilesystem))
    })
}

/// Writes `bytes` as the whole of the file `path`.
///
/// # Errors
/// When the folder is not there or cannot be written to, `path` is a folder, or the disk is full.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let place = Place::of(path.as_ref())?;
    let mut file = place.temporary_file()?;
    file.write_all(bytes.as_ref())?;
    place.put(file)
}

/// Writes what `body` writes as the whole of the file `path`.
///
/// # Errors
/// That of `body`, and as [`write()`]; nothing is left behind.
pub fn write_with<E: From<io::Error>>(
    path: impl AsRef<Path>,
    body: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
) -> Result<(), E> {
    let place = Place::of(path.as_ref())?;
    let file = place.temporary_file()?;
    let mut buffer = BufWriter::with_capacity(BUFFER, file.as_file());
    body(&mut buffer)?;
    buffer.flush()?;
    drop(buffer);
    Ok(place.put(file)?)
}

/// Makes the file `path` of what `body` makes at the path that it is given, for libraries that open files
/// themselves. The folder of that path holds nothing else, and is removed with whatever they leave in it.
///
/// # Errors
/// That of `body`, and as [`write()`]; nothing is left behind.
pub fn make_with<E: From<io::Error>>(
    path: impl AsRef<Path>,
    body: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let place = Place::of(path.as_ref())?;
    let folder = place.temporary_folder()?;
    let there = folder.path().join("file");
    let usual = File::create_new(&there)?.metadata()?.permissions();
    body(&there)?;
    // The body may have put another file in the place of the one that was made here.
    let made = File::options().write(true).open(&there)?;
    made.set_permissions(usual)?;
    made.sync_all()?;
    Ok(place.take(&there)?)
}

/// A folder that is filled under another name and gets its own when it is whole. Until then, and when it is dropped, nothing
/// is there under its name.
#[derive(Debug)]
pub struct NewFolder {
    path: PathBuf,
    temporary: TempDir,
}

impl NewFolder {
    /// Begins the folder `path`; the folder in which it lies is made where needed.
    ///
    /// # Errors
    /// When folders cannot be made there.
    pub fn begin(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let parent = place::folder_of(&path);
        std::fs::create_dir_all(parent)?;
        leftover::clear_once(parent);
        let temporary = leftover::temporary().tempdir_in(parent)?;
        let folder = Self { path, temporary };
        std::fs::create_dir(folder.path())?;
        Ok(folder)
    }

    /// Where to fill it. It lies in the temporary folder, which only its owner can read.
    pub fn path(&self) -> PathBuf {
        self.temporary.path().join("folder")
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// When there is something under that name but an empty folder.
    pub fn finish(self) -> io::Result<()> {
        // One that is not empty stays, and is in the way.
        let _ = std::fs::remove_dir(&self.path);
        std::fs::rename(self.path(), &self.path)?;
        place::sync(place::folder_of(&self.path));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_known_behind_other_errors() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert!(is_full(&full()));
        #[derive(Debug)]
        struct Table(io::Error);
        impl std::fmt::Display for Table {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the table cannot be written")
            }
        }
        impl std::error::Error for Table {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        assert!(is_full(&Table(full())));
        assert!(!is_full(&io::Error::from(io::ErrorKind::NotFound)));
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        entries
            .map(|entry| name(entry).to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn a_failure_leaves_what_was_there_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, "old").unwrap();
        let stopped = || Err(io::Error::other("stopped"));
        let failed = write_with(&path, |file| {
            file.write_all(&[0; 2 * BUFFER])?;
            stopped()
        });
        assert!(failed.is_err());
        let failed = make_with(&path, |there| {
            std::fs::write(there, "new")?;
            stopped()
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["a"]);
        let nowhere = write(folder.path().join("nowhere/a"), "").unwrap_err();
        assert!(nowhere.to_string().ends_with("nowhere"), "{nowhere}");
    }

    #[test]
    fn a_body_may_put_another_file_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        make_with::<io::Error>(&path, |there| {
            let other = there.with_extension("other");
            std::fs::write(&other, "made elsewhere")?;
            std::fs::rename(&other, there)
        })
        .unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "made elsewhere");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn a_folder_appears_when_it_is_whole() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("new/folder");
        let begin = || {
            let folder = NewFolder::begin(&path).unwrap();
            std::fs::write(folder.path().join("a"), "").unwrap();
            folder
        };
        drop(begin());
        assert_eq!(names(path.parent().unwrap()), [""; 0]);
        let folder = begin();
        assert!(!path.exists());
        std::fs::create_dir(&path).unwrap();
        folder.finish().unwrap();
        assert_eq!(names(&path), ["a"]);
        assert!(begin().finish().is_err());
        assert_eq!(names(path.parent().unwrap()), ["folder"]);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("plain"), "").unwrap();
        write(path("bytes"), "").unwrap();
        write_with::<io::Error>(path("written"), |_| Ok(())).unwrap();
        make_with::<io::Error>(path("made"), |there| {
            let private = tempfile::NamedTempFile::new_in(folder.path())?;
            private.persist(there).map_err(|failed| failed.error)?;
            Ok(())
        })
        .unwrap();
        let mode = |name: &str| std::fs::metadata(path(name)).unwrap().permissions().mode();
        for name in ["bytes", "written", "made"] {
            assert_eq!(mode(name), mode("plain"), "{name}");
        }
    }
}
