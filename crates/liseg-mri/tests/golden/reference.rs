//! Where the reference numbers are.

use std::path::{Path, PathBuf};

/// A folder of reference numbers, which is part of the repository; `None` after saying that the test
/// is skipped where the crate was taken without it.
pub(super) fn fixtures(group: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let folder = folder.join(group);
    if !folder.is_dir() {
        eprintln!("skipped: {} is missing", folder.display());
        return None;
    }
    Some(folder)
}

/// Parses a JSON file.
pub(super) fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
