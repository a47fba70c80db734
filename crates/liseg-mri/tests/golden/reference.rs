//! Where the reference numbers are.

use std::path::{Path, PathBuf};

/// A folder of reference numbers.
pub(super) fn fixtures(group: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    folder.join(group)
}

/// Parses a JSON file.
pub(super) fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
