//! Folders that a verb fills must hold nothing before.

use super::{Failure, Result};
use std::path::Path;

/// Refuses a folder that holds something, and a file.
pub(crate) fn refuse_occupied(folder: &Path) -> Result<()> {
    let is_empty = || std::fs::read_dir(folder).is_ok_and(|mut found| found.next().is_none());
    if folder.symlink_metadata().is_ok() && !is_empty() {
        return Err(Failure::usage(format!(
            "{} exists and is not an empty folder; choose another --out",
            folder.display()
        )));
    }
    Ok(())
}
