//! Files that appear under their name when they are whole, or not at all.
//!
//! Every function that writes does so beside `path` under another name, brings the bytes to disk and renames the file. Whatever
//! interrupts it, `path` is the old file or the new one. The new one has the permissions of any new file of
//! the user, where a temporary file would be private.
//!
//! `LISEG_KILL_AT_WRITE=N` in the environment ends the process before its N-th file gets its name, for tests of what a
//! kill leaves behind.
//!
//! [`read_text`] reads text as editors on other systems save it.
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

mod kill;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Bytes that are gathered before they go to the system.
const BUFFER: usize = 256 * 1024;

/// Writes `bytes` as the whole of the file `path`.
///
/// # Errors
/// When the folder is not there or cannot be written to, or the disk is full.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let path = path.as_ref();
    let mut file = beside(path)?;
    file.write_all(bytes.as_ref())?;
    finish(file, path)
}

/// Writes what `body` writes as the whole of the file `path`.
///
/// # Errors
/// That of `body`, and as [`write()`]; nothing is left behind.
pub fn write_with<E: From<io::Error>>(
    path: impl AsRef<Path>,
    body: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
) -> Result<(), E> {
    let path = path.as_ref();
    let file = beside(path)?;
    let mut buffer = BufWriter::with_capacity(BUFFER, file.as_file());
    body(&mut buffer)?;
    buffer.flush()?;
    drop(buffer);
    Ok(finish(file, path)?)
}

/// Makes the file `path` of what `body` makes at the path that it is given, for libraries that open files
/// themselves.
///
/// # Errors
/// That of `body`, and as [`write()`]; nothing is left behind.
pub fn make_with<E: From<io::Error>>(
    path: impl AsRef<Path>,
    body: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let path = path.as_ref();
    let file = beside(path)?;
    let usual = file.as_file().metadata()?.permissions();
    body(file.path())?;
    // The body may have put another file in the place of the one that is open here.
    let made = File::options().write(true).open(file.path())?;
    made.set_permissions(usual)?;
    made.sync_all()?;
    kill::before_naming();
    file.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

/// Reads a text file in UTF-8, without the byte-order mark that editors on Windows put in front, which
/// readers of JSON and TOML take for a character.
///
/// # Errors
/// When the file cannot be read, or is no UTF-8: of kind [`io::ErrorKind::InvalidData`], with what it
/// seems to be.
pub fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = std::fs::read(path)?;
    let text = match &bytes[..] {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            let reason = "it is text in UTF-16; save it as UTF-8";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        [0xef, 0xbb, 0xbf, rest @ ..] => rest.to_vec(),
        _ => bytes,
    };
    String::from_utf8(text).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let reason = format!("byte {at} is no UTF-8; save the file as UTF-8");
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })
}

/// A file in the folder of `path`.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !folder.is_dir() {
        // The system would speak of the temporary file, whose name nobody knows.
        let reason = format!("there is no folder {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, reason));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".liseg-").suffix(".tmp");
    // The user's umask still applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn finish(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    kill::before_naming();
    file.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn text_is_read_without_a_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_text(&path).map_err(|error| error.to_string())
        };
        assert_eq!(read(b"\xef\xbb\xbf{}\r\n").unwrap(), "{}\r\n");
        assert_eq!(read("é".as_bytes()).unwrap(), "é");
        assert_eq!(read(b"").unwrap(), "");
        assert!(read(b"\xff\xfe{\0").unwrap_err().contains("UTF-16"));
        assert!(read(b"\xfe\xff\0{").unwrap_err().contains("UTF-16"));
        assert!(read(b"m\xfc").unwrap_err().contains("byte 1 is no UTF-8"));
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
            let private = NamedTempFile::new_in(folder.path())?;
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
