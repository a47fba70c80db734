//! `cases.json`: where every image of a data set comes from.

use crate::{Result, json};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One entry of `cases.json`; everything but the id may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CaseAttributes {
    /// The case: the name of its image without channel and ending.
    pub id: String,
    /// Images of one patient share this name.
    pub patient: Option<String>,
    /// Phase or sequence, such as `GED4` or `T2WI`.
    pub phase: Option<String>,
    /// Vendor or centre.
    pub vendor: Option<String>,
    /// Whether the data set holds a label for it.
    pub labelled: Option<bool>,
    /// The label file, relative to the folder of the data set; for information, the folders decide.
    pub label: Option<PathBuf>,
    /// What the collection meant it for: `train`, `val` or `test`.
    pub split: Option<String>,
    /// Where it was imported from: collection and file.
    pub source: Option<String>,
}

impl CaseAttributes {
    /// Reads a list of cases.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) and [`Error::Json`](crate::Error::Json).
    pub fn read_list(path: &Path) -> Result<Vec<Self>> {
        json::read(path)
    }

    /// Writes a list of cases, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn write_list(path: &Path, cases: &[Self]) -> Result<()> {
        json::write(path, &cases)
    }
}
