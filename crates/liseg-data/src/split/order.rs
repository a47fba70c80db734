//! An order of patients in which every beginning is spread over the vendors.

use crate::Case;
use liseg_volume::Seed;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;

/// The cases of one patient.
pub(super) type Patient<'a> = Vec<&'a Case>;

/// Cases by patient, in order of the patients' names.
pub(super) fn patients<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Vec<Patient<'a>> {
    let mut patients: BTreeMap<&str, Patient<'a>> = BTreeMap::new();
    for case in cases {
        patients.entry(case.group()).or_default().push(case);
    }
    patients.into_values().collect()
}

/// Patients in random order, vendor by vendor in turn: among the first `n`, each vendor has its share
/// of `n` as closely as whole patients allow (Sainte-Laguë's method, in which a longer beginning
/// holds every shorter one). Ties go to the vendor first in order of names.
pub(super) fn stratified<'a>(
    patients: Vec<Patient<'a>>,
    seed: Seed,
    purpose: &str,
) -> Vec<Patient<'a>> {
    let mut vendors: BTreeMap<Option<&str>, Vec<Patient<'a>>> = BTreeMap::new();
    for patient in patients {
        let vendor = patient.first().and_then(|case| case.vendor.as_deref());
        vendors.entry(vendor).or_default().push(patient);
    }
    let mut queues: Vec<(usize, Vec<Patient<'a>>)> = vendors
        .into_values()
        .enumerate()
        .map(|(number, mut queue)| {
            queue.shuffle(&mut seed.stream(purpose, 0, number as u64));
            (queue.len(), queue)
        })
        .collect();
    let mut order = Vec::new();
    loop {
        let claim = |(size, queue): &(usize, Vec<Patient<'a>>)| {
            *size as f64 / (2 * (size - queue.len()) + 1) as f64
        };
        // The first of the largest claims.
        let next = queues
            .iter_mut()
            .filter(|(_, queue)| !queue.is_empty())
            .reduce(|best, other| {
                if claim(other) > claim(best) {
                    other
                } else {
                    best
                }
            });
        match next.and_then(|(_, queue)| queue.pop()) {
            Some(patient) => order.push(patient),
            None => return order,
        }
    }
}

/// The ids of all cases of some patients, sorted.
pub(super) fn ids(patients: &[Patient<'_>]) -> Vec<String> {
    let mut ids: Vec<String> = patients
        .iter()
        .flatten()
        .map(|case| case.id.clone())
        .collect();
    ids.sort();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subset;

    #[test]
    fn every_beginning_has_each_vendors_share() {
        let cases: Vec<Case> = (0..36)
            .map(|i| Case {
                vendor: Some(["A", "B1", "B2"][usize::from(i >= 13) + usize::from(i >= 30)].into()),
                ..Case::new(format!("case_{i:02}"), "image.nii.gz", Subset::Labelled)
            })
            .collect();
        let order = stratified(patients(&cases), Seed(3), "test");
        assert_eq!(order.len(), 36);
        for n in 1..36 {
            for (vendor, size) in [("A", 13), ("B1", 17), ("B2", 6)] {
                let of_vendor = |p: &&Patient<'_>| p[0].vendor.as_deref() == Some(vendor);
                let count = order[..n].iter().filter(of_vendor).count() as f64;
                let share = f64::from(size) * n as f64 / 36.0;
                assert!((count - share).abs() <= 1.0, "{vendor}: {count} of {n}");
            }
        }
        assert_ne!(
            ids(&order[..5]),
            ids(&stratified(patients(&cases), Seed(4), "test")[..5])
        );
    }
}
