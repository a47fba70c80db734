//! Fewer labels, and chosen unlabelled cases, for experiments on label budgets.

use super::{Fold, order};
use crate::{Case, Error, Result, Subset};
use liseg_volume::Seed;
use std::collections::BTreeMap;

/// Leaves the labels of `labelled` training patients, each vendor keeping its share; the others go on
/// as unlabelled cases. With one seed a larger budget holds every smaller one.
///
/// # Errors
/// [`Error::Setting`] for a budget of 0, or of more patients than the fold trains on.
pub fn reduce_labels(fold: Fold, cases: &[Case], labelled: usize, seed: Seed) -> Result<Fold> {
    let fold = match fold.unlabelled {
        Some(_) => fold,
        None => fold.with_unlabelled(cases),
    };
    let training = cases
        .iter()
        .filter(|case| fold.training.binary_search(&case.id).is_ok());
    let order = order::stratified(order::patients(training), seed, "budget");
    if labelled == 0 || labelled > order.len() {
        let reason = format!(
            "{labelled} labelled patients were asked for, and the fold trains on {}",
            order.len()
        );
        return Err(Error::setting("labelled", reason));
    }
    let (kept, dropped) = order.split_at(labelled);
    let mut unlabelled = fold.unlabelled.unwrap_or_default();
    unlabelled.extend(order::ids(dropped));
    unlabelled.sort();
    Ok(Fold {
        training: order::ids(kept),
        validation: fold.validation,
        unlabelled: Some(unlabelled),
    })
}

/// Draws unlabelled cases of a fold: `wanted` of each vendor, of the given phases only (all phases for
/// an empty list).
///
/// # Errors
/// [`Error::Setting`] when a vendor has fewer.
pub fn choose_unlabelled(
    fold: Fold,
    cases: &[Case],
    wanted: &BTreeMap<String, usize>,
    phases: &[String],
    seed: Seed,
) -> Result<Fold> {
    let fold = match fold.unlabelled {
        Some(_) => fold,
        None => fold.with_unlabelled(cases),
    };
    let available = fold.unlabelled.unwrap_or_default();
    let mut chosen = Vec::new();
    for (vendor, &count) in wanted {
        let of_vendor = cases.iter().filter(|case| {
            case.subset == Subset::Unlabelled
                && case.vendor.as_ref() == Some(vendor)
                && (phases.is_empty() || case.phase.as_ref().is_some_and(|p| phases.contains(p)))
                && available.binary_search(&case.id).is_ok()
        });
        let order = order::stratified(order::patients(of_vendor), seed, "unlabelled");
        if order.len() < count {
            let reason = format!(
                "{count} patients of vendor {vendor} were asked for, and {} are there",
                order.len()
            );
            return Err(Error::setting("unlabelled", reason));
        }
        chosen.extend(order::ids(&order[..count]));
    }
    chosen.sort();
    Ok(Fold {
        unlabelled: Some(chosen),
        ..fold
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holdout;

    fn cases() -> Vec<Case> {
        let labelled = (0..12).map(|i| (i, Subset::Labelled));
        let unlabelled = (12..40).map(|i| (i, Subset::Unlabelled));
        labelled
            .chain(unlabelled)
            .map(|(i, subset)| Case {
                vendor: Some(["A", "B"][i % 2].into()),
                phase: Some(if i < 32 { "GED4" } else { "T2WI" }.into()),
                ..Case::new(format!("case_{i:02}"), "image.nii.gz", subset)
            })
            .collect()
    }

    #[test]
    fn smaller_budgets_lie_within_larger_ones() {
        let cases = cases();
        let all = cases.iter().filter(|case| case.subset == Subset::Labelled);
        let fold = holdout(all, 4, Seed(1)).unwrap();
        let budgets: Vec<Fold> = (1..=8)
            .map(|n| reduce_labels(fold.clone(), &cases, n, Seed(2)).unwrap())
            .collect();
        for pair in budgets.windows(2) {
            let within = |id: &String| pair[1].training.contains(id);
            assert!(pair[0].training.iter().all(within));
        }
        for (less, budget) in budgets.iter().enumerate() {
            assert_eq!(budget.training.len(), less + 1);
            // What loses its label stays as an image.
            assert_eq!(budget.unlabelled.as_ref().unwrap().len(), 28 + 7 - less);
            assert_eq!(budget.validation, fold.validation);
        }
        assert!(reduce_labels(fold.clone(), &cases, 9, Seed(2)).is_err());
        assert!(reduce_labels(fold, &cases, 0, Seed(2)).is_err());
    }

    #[test]
    fn unlabelled_cases_are_drawn_by_vendor_and_phase() {
        let cases = cases();
        let all = cases.iter().filter(|case| case.subset == Subset::Labelled);
        let fold = holdout(all, 2, Seed(1)).unwrap();
        let wanted = BTreeMap::from([("A".to_owned(), 5), ("B".to_owned(), 3)]);
        let phases = ["GED4".to_owned()];
        let drawn = choose_unlabelled(fold.clone(), &cases, &wanted, &phases, Seed(4)).unwrap();
        let ids = drawn.unlabelled.unwrap();
        let numbers: Vec<usize> = ids.iter().map(|id| id[5..].parse().unwrap()).collect();
        assert!(numbers.iter().all(|n| (12..32).contains(n)), "{numbers:?}");
        assert_eq!(numbers.iter().filter(|n| *n % 2 == 0).count(), 5);
        assert_eq!(numbers.len(), 8);
        let many = BTreeMap::from([("A".to_owned(), 11)]);
        let error = choose_unlabelled(fold, &cases, &many, &phases, Seed(4)).unwrap_err();
        assert!(error.to_string().contains("10 are there"), "{error}");
    }
}
