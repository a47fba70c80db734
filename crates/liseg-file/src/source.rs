//! Files to read.

use std::fs::{File, FileType};
use std::io::{self, Read};
use std::path::Path;

/// Opens a file to read. Opening a FIFO would wait for somebody who writes into it, and a device such as `/dev/zero` has
/// no end.
///
/// # Errors
/// When it cannot be opened, or is no file: of kind [`io::ErrorKind::InvalidInput`], with what it is.
pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
    let path = path.as_ref();
    let found = path.metadata()?.file_type();
    if found.is_file() {
        return File::open(path);
    }
    let reason = format!("it is {}; name a file", kind(found));
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// The bytes of a file.
///
/// # Errors
/// As [`open`], and when it cannot be read.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a text file in UTF-8, without the byte-order mark that editors on Windows put in front, which
/// readers of JSON and TOML take for a character.
///
/// # Errors
/// As [`read`], and when the file is no UTF-8: of kind [`io::ErrorKind::InvalidData`], with what it
/// seems to be.
pub fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = read(path)?;
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

fn kind(found: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if found.is_fifo() {
            return "a FIFO or pipe";
        }
        if found.is_socket() {
            return "a socket";
        }
    }
    if found.is_dir() {
        "a folder"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_no_file_is_named_and_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        let reason = |path: &Path| read(path).unwrap_err().to_string();
        assert_eq!(reason(&fifo), "it is a FIFO or pipe; name a file");
        let zeros = Path::new("/dev/zero");
        assert_eq!(reason(zeros), "it is a device; name a file");
        assert_eq!(reason(folder.path()), "it is a folder; name a file");
        let missing = open(folder.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
