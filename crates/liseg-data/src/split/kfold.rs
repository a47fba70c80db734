//! Folds by patient, with vendors spread over them.

use super::Fold;
use crate::{Case, Error, Result};
use liseg_volume::Seed;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;

/// Parts cases into `count` folds whose validation lists are disjoint and together complete.
///
/// Cases of one patient stay together, and vendors are spread evenly over the folds. The result
/// depends on the ids, patients and vendors and on `seed` alone, not on the order of `cases`.
///
/// # Errors
/// [`Error::Setting`] when there are fewer than two folds, or fewer patients than folds.
pub fn folds<'a>(
    cases: impl IntoIterator<Item = &'a Case>,
    count: usize,
    seed: Seed,
) -> Result<Vec<Fold>> {
    let mut patients: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        patients.entry(case.group()).or_default().push(case);
    }
    if count < 2 || patients.len() < count {
        let reason = format!(
            "{count} folds of {} patients: at least 2 folds and one patient per fold are needed",
            patients.len()
        );
        return Err(Error::setting("folds", reason));
    }
    let mut groups: Vec<Vec<&Case>> = patients.into_values().collect();
    groups.shuffle(&mut seed.stream("folds", 0, 0));
    // A stable sort keeps the shuffled order within a vendor; dealing spreads each vendor.
    groups.sort_by(|a, b| a[0].vendor.cmp(&b[0].vendor));

    let ids = |chosen: &dyn Fn(usize) -> bool| {
        let mut ids: Vec<String> = groups
            .iter()
            .enumerate()
            .filter(|(index, _)| chosen(index % count))
            .flat_map(|(_, group)| group.iter().map(|case| case.id.clone()))
            .collect();
        ids.sort();
        ids
    };
    Ok((0..count)
        .map(|fold| Fold {
            training: ids(&|dealt| dealt != fold),
            validation: ids(&|dealt| dealt == fold),
            unlabelled: None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subset;
    use proptest::prelude::*;

    fn case(id: usize, patient: usize, vendor: usize) -> Case {
        Case {
            patient: Some(format!("patient_{patient}")),
            vendor: Some(format!("vendor_{vendor}")),
            ..Case::new(format!("case_{id:03}"), "image.nii.gz", Subset::Labelled)
        }
    }

    #[test]
    fn vendors_are_spread_over_folds() {
        // Ten labelled cases of each of three vendors, as in LiQA.
        let cases: Vec<Case> = (0..30).map(|i| case(i, i, i / 10)).collect();
        let folds = folds(&cases, 6, Seed(1)).unwrap();
        for fold in &folds {
            assert_eq!(fold.validation.len(), 5);
            for vendor in 0..3 {
                let of_vendor = |id: &&String| id[5..].parse::<usize>().unwrap() / 10 == vendor;
                let count = fold.validation.iter().filter(of_vendor).count();
                assert!((1..=2).contains(&count), "{fold:?}");
            }
        }
    }

    #[test]
    fn refuses_more_folds_than_patients() {
        let cases = [case(0, 0, 0), case(1, 0, 0)];
        let error = folds(&cases, 2, Seed(0)).unwrap_err().to_string();
        assert!(error.contains("2 folds of 1 patients"), "{error}");
    }

    proptest! {
        #[test]
        fn folds_are_disjoint_complete_and_keep_patients_together(
            patients in proptest::collection::vec(0usize..8, 12..40), seed: u64,
        ) {
            let mut cases: Vec<Case> =
                patients.iter().enumerate().map(|(i, &p)| case(i, p, p % 3)).collect();
            cases.extend((0..4).map(|i| case(100 + i, 100 + i, 0)));
            let made = folds(&cases, 4, Seed(seed)).unwrap();
            let mut all: Vec<&String> = made.iter().flat_map(|f| &f.validation).collect();
            all.sort();
            let mut ids: Vec<&String> = cases.iter().map(|c| &c.id).collect();
            ids.sort();
            prop_assert_eq!(all, ids);
            for fold in &made {
                for case in &cases {
                    let inside = fold.validation.contains(&case.id);
                    prop_assert_ne!(inside, fold.training.contains(&case.id));
                    for other in cases.iter().filter(|o| o.patient == case.patient) {
                        prop_assert_eq!(inside, fold.validation.contains(&other.id));
                    }
                }
            }
            cases.reverse();
            prop_assert_eq!(made, folds(&cases, 4, Seed(seed)).unwrap());
        }
    }
}
