//! Reading and writing small JSON files.

use crate::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::path::Path;

/// Reads a JSON file, with or without a byte-order mark.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = liseg_file::read_text(path).map_err(Error::io("reading", path))?;
    serde_json::from_str(&text).map_err(|source| Error::Json {
        path: path.to_owned(),
        reason: source.to_string(),
    })
}

/// Writes a JSON file, whole or not at all.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|source| Error::Json {
        path: path.to_owned(),
        reason: source.to_string(),
    })?;
    text.push('\n');
    write_bytes(path, text.as_bytes())
}

/// Writes a file whole or not at all.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    liseg_file::write(path, bytes).map_err(Error::io("writing", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_as_windows_saves_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, "\u{feff}[1,\r\n2]\r\n").unwrap();
        assert_eq!(read::<Vec<u8>>(&path).unwrap(), [1, 2]);
        std::fs::write(&path, b"\xff\xfe[\0").unwrap();
        let message = read::<Vec<u8>>(&path).unwrap_err().to_string();
        assert!(
            message.contains("a.json") && message.contains("UTF-16"),
            "{message}"
        );
    }
}
