//! Which cases a run learns from.

use crate::run::CaseRoles;
use crate::{Error, Result, RunConfig};
use liseg_data::{Case, Fold, StoredCase, Subset, folds, phases_of, read_splits, reduce_labels};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which cases are learnt from, with and without their labels, and which are kept back.
///
/// Patients who are validated on are not learnt from in any phase, unless a file of splits lists their
/// unlabelled cases itself.
pub(super) fn assign_cases(config: &RunConfig, cases: &[Case]) -> Result<CaseRoles> {
    let mut fold = chosen_fold(config, cases)?;
    if fold.unlabelled.is_none() {
        fold = fold.with_unlabelled(cases);
    }
    if let Some(budget) = config.label_budget {
        fold = reduce_labels(fold, cases, budget, config.seed)?;
    }
    let phases = phases_of("unlabelled_phases", &config.unlabelled_phases, cases)?;
    let of_wanted_phase: BTreeSet<&str> = cases
        .iter()
        .filter(|case| phases.is_empty() || case.phase.as_ref().is_some_and(|p| phases.contains(p)))
        .map(|case| case.id.as_str())
        .collect();
    let wanted = |id: &String| of_wanted_phase.contains(id.as_str());
    Ok(CaseRoles {
        labelled: fold.training,
        unlabelled: fold
            .unlabelled
            .into_iter()
            .flatten()
            .filter(wanted)
            .collect(),
        validation: fold.validation,
    })
}

/// The fold that the config names, or one that trains on all labelled cases.
fn chosen_fold(config: &RunConfig, cases: &[Case]) -> Result<Fold> {
    let labelled: Vec<&Case> = cases
        .iter()
        .filter(|case| case.subset == Subset::Labelled)
        .collect();
    if labelled.is_empty() {
        return Err(Error::Run {
            path: config.data.clone(),
            reason: "no labelled case to learn from; labels belong into labelsTr before \
                     preprocessing"
                .into(),
        });
    }
    let validation = &config.validation;
    if let Some(path) = &validation.splits {
        return declared_fold(config, cases, path);
    }
    if validation.folds > 0 {
        let mut folds = folds(labelled, validation.folds, config.seed)?;
        return Ok(folds.swap_remove(validation.fold));
    }
    let mut training: Vec<String> = labelled.iter().map(|case| case.id.clone()).collect();
    training.sort();
    Ok(Fold {
        training,
        validation: Vec::new(),
        unlabelled: None,
    })
}

/// The fold of a file of splits; the file is looked for beside the cases as well.
fn declared_fold(config: &RunConfig, cases: &[Case], path: &Path) -> Result<Fold> {
    let beside = config.data.join(path);
    let path = if path.is_file() { path } else { &beside };
    let mut folds = read_splits(path)?;
    let refuse = |reason: String| {
        Err(Error::Run {
            path: path.to_owned(),
            reason,
        })
    };
    let (fold, count) = (config.validation.fold, folds.len());
    if fold >= count {
        return refuse(format!(
            "it has {count} folds, and validation.fold is {fold}; the first is 0"
        ));
    }
    let fold = folds.swap_remove(fold);
    let known: BTreeSet<&str> = cases.iter().map(|case| case.id.as_str()).collect();
    let unlabelled = fold.unlabelled.iter().flatten();
    let listed = fold
        .training
        .iter()
        .chain(&fold.validation)
        .chain(unlabelled);
    for id in listed {
        if !known.contains(id.as_str()) {
            let data = config.data.display();
            return refuse(format!("it lists case `{id}`, which {data} does not hold"));
        }
    }
    Ok(fold)
}

/// A stored case as the splitter knows it.
pub(super) fn as_case(stored: &StoredCase) -> Case {
    let facts = stored.record().provenance.clone();
    Case {
        patient: facts.patient,
        phase: facts.phase,
        vendor: facts.vendor,
        ..Case::new(stored.id(), PathBuf::new(), facts.subset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four patients with a labelled GED4 scan, and all with unlabelled T2WI and DWI scans.
    fn cases() -> Vec<Case> {
        let case = |patient: usize, phase: &str, subset: Subset| Case {
            patient: Some(format!("p{patient}")),
            phase: Some(phase.into()),
            ..Case::new(format!("p{patient}_{phase}"), "", subset)
        };
        let of_patient = |patient: usize| {
            [
                case(patient, "DWI", Subset::Unlabelled),
                case(patient, "GED4", Subset::Labelled),
                case(patient, "T2WI", Subset::Unlabelled),
            ]
        };
        (0..4).flat_map(of_patient).collect()
    }

    #[test]
    fn a_phase_that_no_case_has_is_refused() {
        let mut config = RunConfig::new("d");
        config.unlabelled_phases = vec!["DWI".into(), "T2W".into()];
        let error = assign_cases(&config, &cases()).unwrap_err().to_string();
        assert!(
            error.contains("T2W") && error.contains("DWI, GED4, T2WI"),
            "{error}"
        );
        config.unlabelled_phases.pop();
        assert_eq!(assign_cases(&config, &cases()).unwrap().unlabelled.len(), 4);
        config.unlabelled_phases = vec!["non_contrast".into()];
        assert_eq!(assign_cases(&config, &cases()).unwrap().unlabelled.len(), 8);
    }

    fn patients(ids: &[String]) -> BTreeSet<&str> {
        ids.iter().map(|id| &id[..2]).collect()
    }

    #[test]
    fn validated_patients_are_learnt_from_in_no_phase() {
        let mut config = RunConfig::new("data");
        config.validation.folds = 4;
        for fold in 0..4 {
            config.validation.fold = fold;
            let roles = assign_cases(&config, &cases()).unwrap();
            let validated = patients(&roles.validation);
            assert_eq!((validated.len(), roles.labelled.len()), (1, 3));
            assert_eq!(roles.unlabelled.len(), 6);
            assert!(validated.is_disjoint(&patients(&roles.unlabelled)));
        }
        config.validation.folds = 0;
        let roles = assign_cases(&config, &cases()).unwrap();
        assert_eq!((roles.labelled.len(), roles.unlabelled.len()), (4, 8));
    }

    #[test]
    fn unlabelled_cases_are_of_the_wanted_phases_whatever_the_budget() {
        let config = RunConfig {
            unlabelled_phases: vec!["T2WI".into()],
            label_budget: Some(2),
            ..RunConfig::new("data")
        };
        let roles = assign_cases(&config, &cases()).unwrap();
        assert_eq!(roles.labelled.len(), 2);
        let expected = ["p0_T2WI", "p1_T2WI", "p2_T2WI", "p3_T2WI"];
        assert_eq!(roles.unlabelled, expected);
    }

    #[test]
    fn a_collection_without_labels_is_refused() {
        let cases: Vec<Case> = cases()
            .into_iter()
            .filter(|case| case.subset == Subset::Unlabelled)
            .collect();
        let error = assign_cases(&RunConfig::new("data"), &cases).unwrap_err();
        assert!(error.to_string().contains("labelsTr"), "{error}");
    }
}
