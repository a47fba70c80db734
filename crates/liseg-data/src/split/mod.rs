//! Which cases train, with and without their labels, and which validate.

mod budget;
mod holdout;
mod kfold;
mod nnunet;
mod order;
mod protocol;

pub use budget::{choose_unlabelled, reduce_labels};
pub use holdout::holdout;
pub use kfold::folds;
pub use nnunet::nnunet_folds;
pub use protocol::SplitProtocol;

use crate::{Case, Error, Result, Subset, json};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// One way to part cases into training and validation; serialised with nnU-Net's names.
///
/// nnU-Net reads a file of such folds and does not look at `unlabelled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fold {
    /// Ids of the labelled cases to train on, sorted.
    #[serde(rename = "train")]
    pub training: Vec<String>,
    /// Ids of the cases to validate on, sorted.
    #[serde(rename = "val")]
    pub validation: Vec<String>,
    /// Ids of the cases to train on without their labels, sorted; `None` for all unlabelled ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<Vec<String>>,
}

impl Fold {
    /// The split that a collection declares: labelled cases that are meant for training and for
    /// validation, and unlabelled ones meant for training. `None` unless there are both kinds of
    /// labelled cases.
    pub fn declared(cases: &[Case]) -> Option<Self> {
        let ids = |subset: Subset, split: &str| -> Vec<String> {
            let mut ids: Vec<String> = cases
                .iter()
                .filter(|case| case.subset == subset && case.split.as_deref() == Some(split))
                .map(|case| case.id.clone())
                .collect();
            ids.sort();
            ids
        };
        let fold = Self {
            training: ids(Subset::Labelled, "train"),
            validation: ids(Subset::Labelled, "val"),
            unlabelled: None,
        };
        if fold.training.is_empty() || fold.validation.is_empty() {
            return None;
        }
        let mut fold = fold.with_unlabelled(cases);
        let meant = ids(Subset::Unlabelled, "train");
        if let Some(ids) = &mut fold.unlabelled {
            ids.retain(|id| meant.binary_search(id).is_ok());
        }
        Some(fold)
    }

    /// Lists the unlabelled cases, those of patients who are validated on excepted: another phase of
    /// a patient shows the same liver.
    #[must_use]
    pub fn with_unlabelled(mut self, cases: &[Case]) -> Self {
        let kept_back: BTreeSet<&str> = cases
            .iter()
            .filter(|case| self.validation.binary_search(&case.id).is_ok())
            .map(Case::group)
            .collect();
        let mut ids: Vec<String> = cases
            .iter()
            .filter(|case| case.subset == Subset::Unlabelled && !kept_back.contains(case.group()))
            .map(|case| case.id.clone())
            .collect();
        ids.sort();
        self.unlabelled = Some(ids);
        self
    }

    /// Leaves the unlabelled cases of these phases, all of them for an empty list.
    #[must_use]
    pub fn of_phases(mut self, phases: &[String], cases: &[Case]) -> Self {
        let has_phase = |id: &String| {
            let case = cases.iter().find(|case| case.id == *id);
            let phase = case.and_then(|case| case.phase.as_ref());
            phase.is_some_and(|phase| phases.contains(phase))
        };
        if let Some(ids) = &mut self.unlabelled
            && !phases.is_empty()
        {
            ids.retain(has_phase);
        }
        self
    }
}

/// Reads folds, as in nnU-Net's `splits_final.json`.
///
/// # Errors
/// [`Error::Io`]; [`Error::Json`] for anything but a list of folds, for an empty list, and for a fold
/// that trains on a case it validates on.
pub fn read_splits(path: &Path) -> Result<Vec<Fold>> {
    let mut folds: Vec<Fold> = json::read(path)?;
    let bad = |reason: String| Error::Json {
        path: path.to_owned(),
        reason,
    };
    if folds.is_empty() {
        return Err(bad("it has no folds".into()));
    }
    for (number, fold) in folds.iter_mut().enumerate() {
        fold.training.sort();
        fold.validation.sort();
        let unlabelled = fold.unlabelled.iter().flatten();
        let mut used = fold.training.iter().chain(unlabelled);
        if let Some(id) = used.find(|id| fold.validation.binary_search(id).is_ok()) {
            return Err(bad(format!(
                "fold {number} trains on `{id}` and validates on it"
            )));
        }
    }
    Ok(folds)
}

/// Writes folds in nnU-Net's form, whole or not at all.
///
/// # Errors
/// [`Error::Io`].
pub fn write_splits(path: &Path, folds: &[Fold]) -> Result<()> {
    json::write(path, &folds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(id: &str, patient: &str, subset: Subset, split: &str) -> Case {
        Case {
            patient: Some(patient.to_owned()),
            split: Some(split.to_owned()),
            ..Case::new(id, "image.nii.gz", subset)
        }
    }

    fn cases() -> Vec<Case> {
        use Subset::{Labelled, Test, Unlabelled};
        vec![
            case("a_GED4", "a", Labelled, "train"),
            case("a_T1", "a", Unlabelled, "train"),
            case("b_GED4", "b", Labelled, "val"),
            case("b_T1", "b", Unlabelled, "train"),
            case("c_GED4", "c", Unlabelled, "val"),
            case("d_GED4", "d", Unlabelled, "train"),
            case("e_GED4", "e", Test, "test"),
        ]
    }

    #[test]
    fn the_declared_split_keeps_other_phases_of_validated_patients_out() {
        let fold = Fold::declared(&cases()).unwrap();
        assert_eq!(
            (fold.training, fold.validation),
            (vec!["a_GED4".into()], vec!["b_GED4".into()])
        );
        assert_eq!(fold.unlabelled.unwrap(), ["a_T1", "d_GED4"]);
        assert_eq!(Fold::declared(&cases()[..2]), None);
    }

    #[test]
    fn splits_survive_their_file_and_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("splits_final.json");
        let fold = Fold::declared(&cases()).unwrap();
        write_splits(&path, std::slice::from_ref(&fold)).unwrap();
        assert_eq!(read_splits(&path).unwrap(), [fold]);
        // nnU-Net's own files have no third list.
        std::fs::write(&path, r#"[{"train": ["b", "a"], "val": ["c"]}]"#).unwrap();
        assert_eq!(read_splits(&path).unwrap()[0].training, ["a", "b"]);
        for (text, part) in [
            ("[]", "no folds"),
            (r#"[{"train": ["a"], "val": ["a"]}]"#, "trains on `a`"),
            (
                r#"[{"train": [], "val": ["a"], "unlabelled": ["a"]}]"#,
                "trains on `a`",
            ),
            (r#"[{"train": []}]"#, "val"),
        ] {
            std::fs::write(&path, text).unwrap();
            let message = read_splits(&path).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
