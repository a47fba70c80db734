//! One data set of the cases of several, such as labels of one modality and scans of another.

use crate::{Case, Dataset, Error, Result, Subset};

impl Dataset {
    /// The labelled cases of some data sets together with the training images of others, taken without labels.
    /// No file is copied: cases stay where they are. Test cases are left out. A labelled case that an
    /// `unlabelled` data set has as well stays labelled.
    ///
    /// # Errors
    /// [`Error::Dataset`] when `labelled` is empty, labels differ, there is no case, or two different cases
    /// have one id.
    pub fn joined(labelled: &[Self], unlabelled: &[Self]) -> Result<Self> {
        let Some(first) = labelled.first() else {
            return Err(Error::Dataset {
                folder: unlabelled
                    .first()
                    .map_or_else(Default::default, |d| d.folder.clone()),
                reason: "none of the data sets to join gives labels".into(),
            });
        };
        for other in labelled.iter().chain(unlabelled) {
            if other.labels != first.labels {
                return Err(other.error(format!(
                    "its labels are {:?}, those of {} are {:?}; data sets are joined when they are the same",
                    other.labels,
                    first.folder.display(),
                    first.labels
                )));
            }
        }
        let with_labels = labelled
            .iter()
            .flat_map(|d| d.subset(Subset::Labelled).cloned());
        let mut cases: Vec<Case> = with_labels.collect();
        for dataset in unlabelled {
            let training = dataset
                .cases
                .iter()
                .filter(|case| case.subset != Subset::Test);
            let fresh: Vec<Case> = training
                .filter(|case| cases.iter().all(|known| known.image != case.image))
                .map(|case| Case {
                    label: None,
                    subset: Subset::Unlabelled,
                    ..case.clone()
                })
                .collect();
            cases.extend(fresh);
        }
        let mut joined = Self {
            cases,
            any_foreground: labelled.iter().any(|dataset| dataset.any_foreground),
            refused: labelled
                .iter()
                .chain(unlabelled)
                .flat_map(|dataset| dataset.refused.clone())
                .collect(),
            notes: Vec::new(),
            ..first.clone()
        };
        joined.sort("")?;
        Ok(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::slice::from_ref;

    /// The same files under other names.
    fn other() -> (tempfile::TempDir, Dataset) {
        let (folder, mut dataset) = testing::dataset();
        for case in &mut dataset.cases {
            case.id = format!("other_{}", case.id);
        }
        (folder, dataset)
    }

    #[test]
    fn labels_come_from_some_and_scans_from_others() {
        let ((_a, here), (_b, there)) = (testing::dataset(), other());
        let joined = Dataset::joined(from_ref(&here), from_ref(&there)).unwrap();
        let of = |subset| joined.subset(subset).collect::<Vec<_>>();
        assert_eq!(
            of(Subset::Labelled),
            here.subset(Subset::Labelled).collect::<Vec<_>>()
        );
        let unlabelled = of(Subset::Unlabelled);
        assert_eq!(unlabelled.len(), 5, "three labelled ones and two others");
        assert!(
            unlabelled
                .iter()
                .all(|c| c.label.is_none() && c.id.starts_with("other_"))
        );
        assert!(of(Subset::Test).is_empty());
        assert!(
            joined
                .cases()
                .windows(2)
                .all(|pair| pair[0].id < pair[1].id)
        );
    }

    #[test]
    fn a_labelled_case_stays_labelled() {
        let (_a, here) = testing::dataset();
        let joined = Dataset::joined(from_ref(&here), from_ref(&here)).unwrap();
        let training = here.cases().iter().filter(|c| c.subset != Subset::Test);
        assert_eq!(joined.cases(), training.cloned().collect::<Vec<_>>());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ((_a, here), (_b, twin), (_c, mut other)) =
            (testing::dataset(), testing::dataset(), other());
        let refused = |labelled: &[Dataset], unlabelled: &[Dataset]| {
            Dataset::joined(labelled, unlabelled)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&[], from_ref(&here)).contains("gives labels"));
        assert!(refused(from_ref(&here), &[twin]).contains("occurs twice"));
        other.labels.insert("tumour".into(), 2);
        assert!(refused(&[here], &[other]).contains("tumour"));
    }
}
