//! The crate against numbers of nibabel and nnU-Net.
//!
//! The reference numbers are not part of the crate: they are looked for in the folder
//! `../reference/golden` next to the one that `LISEG_DATA` names. Without that variable these tests
//! say that they are skipped and return.

mod golden {
    mod nifti;
    mod nnunet;
}

use std::path::PathBuf;

/// A folder of reference numbers, or `None` after saying that the test is skipped.
fn golden(group: &str) -> Option<PathBuf> {
    let Some(data) = std::env::var_os("LISEG_DATA") else {
        eprintln!("skipped: LISEG_DATA is not set");
        return None;
    };
    let folder = PathBuf::from(data).join("../reference/golden").join(group);
    assert!(folder.is_dir(), "{} is missing", folder.display());
    Some(folder)
}

/// Parses a JSON file.
fn json(path: &std::path::Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
