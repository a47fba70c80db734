//! Which cases a run learns from.

use crate::run::CaseRoles;
use crate::{Error, Result, RunConfig};
use liseg_data::{Case, CaseStore, Fold, StoredCase, Subset, folds, read_splits, reduce_labels};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which cases are learnt from, with and without their labels, and which are kept back.
pub(super) fn assign_cases(config: &RunConfig, store: &CaseStore) -> Result<CaseRoles> {
    let wanted = |case: &StoredCase| {
        let phases = &config.unlabelled_phases;
        let phase = case.record().provenance.phase.as_ref();
        phases.is_empty() || phase.is_some_and(|phase| phases.contains(phase))
    };
    let ids = |cases: Vec<&Arc<StoredCase>>| cases.iter().map(|c| c.id().to_owned()).collect();
    let mut roles = CaseRoles {
        labelled: ids(store.subset(Subset::Labelled).collect()),
        unlabelled: ids(store
            .subset(Subset::Unlabelled)
            .filter(|c| wanted(c))
            .collect()),
        validation: Vec::new(),
    };
    if roles.labelled.is_empty() {
        return Err(Error::Run {
            path: config.data.clone(),
            reason: "no labelled case to learn from; labels belong into labelsTr before \
                     preprocessing"
                .into(),
        });
    }
    if let Some(path) = &config.validation.splits {
        let fold = declared_fold(config, store, path)?;
        roles.labelled = fold.training;
        roles.validation = fold.validation;
        if let Some(ids) = fold.unlabelled {
            roles.unlabelled = ids
                .into_iter()
                .filter(|id| store.get(id).is_some_and(|case| wanted(case)))
                .collect();
        }
    } else if config.validation.folds > 0 {
        let cases: Vec<Case> = store.subset(Subset::Labelled).map(|c| as_case(c)).collect();
        let mut folds = folds(&cases, config.validation.folds, config.seed)?;
        let fold = folds.swap_remove(config.validation.fold);
        roles.labelled = fold.training;
        roles.validation = fold.validation;
    }
    if let Some(budget) = config.label_budget {
        roles.labelled.sort();
        let cases: Vec<Case> = store.subset(Subset::Labelled).map(|c| as_case(c)).collect();
        let fold = Fold {
            training: roles.labelled,
            validation: roles.validation,
            unlabelled: Some(roles.unlabelled),
        };
        let fold = reduce_labels(fold, &cases, budget, config.seed)?;
        roles = CaseRoles {
            labelled: fold.training,
            unlabelled: fold
                .unlabelled
                .into_iter()
                .flatten()
                .filter(|id| store.get(id).is_some_and(|case| wanted(case)))
                .collect(),
            validation: fold.validation,
        };
    }
    Ok(roles)
}

/// The fold of a file of splits; the file is looked for beside the cases as well.
fn declared_fold(config: &RunConfig, store: &CaseStore, path: &Path) -> Result<Fold> {
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
    let unlabelled = fold.unlabelled.iter().flatten();
    let listed = fold
        .training
        .iter()
        .chain(&fold.validation)
        .chain(unlabelled);
    for id in listed {
        if store.get(id).is_none() {
            let data = config.data.display();
            return refuse(format!("it lists case `{id}`, which {data} does not hold"));
        }
    }
    Ok(fold)
}

/// A stored case as the splitter knows it.
fn as_case(stored: &StoredCase) -> Case {
    let facts = stored.record().provenance.clone();
    Case {
        patient: facts.patient,
        phase: facts.phase,
        vendor: facts.vendor,
        ..Case::new(stored.id(), PathBuf::new(), facts.subset)
    }
}
