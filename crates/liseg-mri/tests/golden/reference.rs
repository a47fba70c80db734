//! Where the reference numbers are.

use std::path::{Path, PathBuf};

/// A folder of reference numbers, or `None` after saying that the test is skipped.
pub(super) fn golden(group: &str) -> Option<PathBuf> {
    let Some(data) = std::env::var_os("LISEG_DATA") else {
        eprintln!("skipped: LISEG_DATA is not set");
        return None;
    };
    let folder = PathBuf::from(data).join("../reference/golden").join(group);
    assert!(folder.is_dir(), "{} is missing", folder.display());
    Some(folder)
}

/// Parses a JSON file.
pub(super) fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The corpus of NIfTI files, which is part of the repository; `None` after saying that the test is
/// skipped where the crate was taken without it.
pub(super) fn nifti_corpus() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/nifti");
    if !folder.is_dir() {
        eprintln!("skipped: {} is missing", folder.display());
        return None;
    }
    Some(folder)
}
