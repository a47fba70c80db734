//! A protocol: how many labelled patients are kept back, which unlabelled scans are learnt from.

use super::{Fold, choose_unlabelled, holdout};
use crate::{Case, Result, Subset, phases_of};
use liseg_volume::Seed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How labelled patients are kept back and unlabelled scans drawn, once, whatever the seed of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SplitProtocol {
    /// Labelled patients to validate on, each vendor its share; the others train.
    pub validation: usize,
    /// Unlabelled patients of each vendor, as in { A = 90, B1 = 90 }; all of them when empty.
    pub unlabelled: BTreeMap<String, usize>,
    /// Phases of the unlabelled scans, as in ["GED4"]; all of them when empty.
    pub unlabelled_phases: Vec<String>,
    /// What the draws depend on; 0.
    pub seed: u64,
}

impl SplitProtocol {
    /// The LiSeg paper's on LiQA: 25 labelled patients train and 5 validate, with 220 unlabelled GED4
    /// scans, 90 of vendor A, 90 of B1 and 40 of B2 (section 3.1; which ones is not published).
    pub fn paper() -> Self {
        let unlabelled = [("A", 90), ("B1", 90), ("B2", 40)];
        Self {
            validation: 5,
            unlabelled: unlabelled.map(|(v, n)| (v.to_owned(), n)).into(),
            unlabelled_phases: vec!["GED4".to_owned()],
            seed: 0,
        }
    }

    /// The fold that this protocol draws from the cases of a dataset.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for more patients than there are, or a phase that no
    /// case has.
    pub fn draw(&self, cases: &[Case]) -> Result<Fold> {
        let seed = Seed(self.seed);
        let labelled = cases.iter().filter(|case| case.subset == Subset::Labelled);
        let fold = holdout(labelled, self.validation, seed)?.with_unlabelled(cases);
        let phases = phases_of("unlabelled_phases", &self.unlabelled_phases, cases)?;
        match self.unlabelled.is_empty() {
            true => Ok(fold.of_phases(&phases, cases)),
            false => choose_unlabelled(fold, cases, &self.unlabelled, &phases, seed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(id: &str, subset: Subset, vendor: &str, phase: &str) -> Case {
        Case {
            vendor: Some(vendor.to_owned()),
            phase: Some(phase.to_owned()),
            patient: Some(id.to_owned()),
            ..Case::new(format!("{id}_{phase}"), "image.nii.gz", subset)
        }
    }

    /// The training data of LiQA as the paper counts them: 10 labelled patients of each vendor.
    fn liqa() -> Vec<Case> {
        let mut cases = Vec::new();
        for (vendor, count) in [("A", 130), ("B1", 170), ("B2", 60)] {
            for patient in 0..count {
                let id = format!("{vendor}{patient:03}");
                let subset = match patient < 10 {
                    true => Subset::Labelled,
                    false => Subset::Unlabelled,
                };
                cases.push(case(&id, subset, vendor, "GED4"));
                cases.push(case(&id, Subset::Unlabelled, vendor, "T2WI"));
            }
        }
        cases
    }

    #[test]
    fn the_papers_protocol_has_the_papers_numbers() {
        let cases = liqa();
        let fold = SplitProtocol::paper().draw(&cases).unwrap();
        assert_eq!((fold.training.len(), fold.validation.len()), (25, 5));
        let unlabelled = fold.unlabelled.unwrap();
        let of = |vendor: &str| {
            unlabelled
                .iter()
                .filter(|id| id.starts_with(vendor))
                .count()
        };
        assert_eq!((of("A"), of("B1"), of("B2")), (90, 90, 40));
        assert!(unlabelled.iter().all(|id| id.ends_with("GED4")));
    }

    #[test]
    fn without_numbers_all_unlabelled_scans_of_the_phases_are_learnt_from() {
        let protocol = SplitProtocol {
            validation: 3,
            unlabelled_phases: vec!["T2WI".into()],
            ..SplitProtocol::default()
        };
        let fold = protocol.draw(&liqa()).unwrap();
        // Those of the three patients who are validated on excepted.
        assert_eq!(fold.unlabelled.unwrap().len(), 360 - 3);
        let other = SplitProtocol {
            seed: 1,
            ..protocol.clone()
        };
        assert_ne!(
            protocol.draw(&liqa()).unwrap().validation,
            other.draw(&liqa()).unwrap().validation
        );
    }

    #[test]
    fn a_protocol_that_asks_for_more_than_there_is_is_refused() {
        let mut cases = liqa();
        cases.retain(|case| case.vendor.as_deref() != Some("B2"));
        let error = SplitProtocol::paper().draw(&cases).unwrap_err();
        assert!(error.to_string().contains("vendor B2"), "{error}");
    }
}
