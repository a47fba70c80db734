//! One part kept back for validation.

use super::{Fold, order};
use crate::{Case, Error, Result};
use liseg_volume::Seed;

/// Keeps `validation` patients back, each vendor giving its share; the others train.
///
/// Five of LiQA's thirty labelled patients, ten per vendor, are two of A, two of B1 and one of B2:
/// the 25 and 5 of the LiSeg paper (arXiv 2510.04705), which does not say which. The result depends
/// on ids, patients, vendors and `seed`, not on the order of `cases`.
///
/// # Errors
/// [`Error::Setting`] when no patient would be left to train on, or none to validate on.
pub fn holdout<'a>(
    cases: impl IntoIterator<Item = &'a Case>,
    validation: usize,
    seed: Seed,
) -> Result<Fold> {
    let patients = order::patients(cases);
    if validation == 0 || validation >= patients.len() {
        let reason = format!(
            "{validation} of {} labelled patients cannot be kept back: at least one must be, and \
             one must be left",
            patients.len()
        );
        return Err(Error::setting("validation", reason));
    }
    let order = order::stratified(patients, seed, "hold-out");
    let (kept_back, training) = order.split_at(validation);
    Ok(Fold {
        training: order::ids(training),
        validation: order::ids(kept_back),
        unlabelled: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subset;

    #[test]
    fn the_papers_split_takes_two_two_and_one() {
        let cases: Vec<Case> = (0..30)
            .map(|i| Case {
                vendor: Some(["B2", "A", "B1"][i % 3].into()),
                ..Case::new(format!("case_{i:02}"), "image.nii.gz", Subset::Labelled)
            })
            .collect();
        let fold = holdout(&cases, 5, Seed(7)).unwrap();
        assert_eq!((fold.training.len(), fold.validation.len()), (25, 5));
        let of = |vendor: &str| {
            let ids = fold.validation.iter();
            let of_vendor = ids.filter(|id| {
                let case = cases.iter().find(|case| &case.id == *id).unwrap();
                case.vendor.as_deref() == Some(vendor)
            });
            of_vendor.count()
        };
        assert_eq!([of("A"), of("B1"), of("B2")], [2, 2, 1]);
        let mut turned = cases.clone();
        turned.reverse();
        assert_eq!(holdout(&turned, 5, Seed(7)).unwrap(), fold);
        assert_ne!(holdout(&cases, 5, Seed(8)).unwrap(), fold);
        assert!(holdout(&cases, 30, Seed(7)).is_err() && holdout(&cases, 0, Seed(7)).is_err());
    }
}
