//! Judging one label of one case.

use crate::centre::centre_distance;
use crate::confusion::{Counts, compare};
use crate::{CaseMetrics, Convention, Empty, Error, MeanRule, Measure, Result, SurfaceDistances};
use liseg_volume::{GRID_TOLERANCE_MM, Geometry, LabelMap};
use serde::{Deserialize, Serialize};

/// How cases are judged.
///
/// # Examples
/// ```
/// use liseg_metrics::{Convention, Settings};
///
/// let settings: Settings = serde_json::from_str(r#"{"convention": "medpy"}"#)?;
/// assert_eq!(settings, Settings { convention: Convention::MedPy, ..Settings::default() });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How surface distances are measured.
    pub convention: Convention,
    /// Within how many millimetres of the other surface a point counts for NSD.
    pub nsd_tolerance_mm: f64,
    /// What a report shows where a measure is undefined.
    pub empty: EmptyPolicy,
    /// How far apart, in millimetres, prediction and reference may place the same corner voxel. A
    /// larger one judges masks of tools that round their grids more; measures are taken on the grid of
    /// the reference.
    pub grid_tolerance_mm: f64,
}

impl Default for Settings {
    /// MONAI's convention; NSD at 3 mm as in TotalSegmentator (FLARE takes 5 mm for the liver);
    /// the worst value for empty predictions; grids within [`GRID_TOLERANCE_MM`] as everywhere.
    fn default() -> Self {
        Self {
            convention: Convention::default(),
            nsd_tolerance_mm: 3.0,
            empty: EmptyPolicy::default(),
            grid_tolerance_mm: GRID_TOLERANCE_MM,
        }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        let mut numbers = vec![
            ("nsd_tolerance_mm", self.nsd_tolerance_mm),
            ("grid_tolerance_mm", self.grid_tolerance_mm),
        ];
        if let EmptyPolicy::Value(value) = self.empty {
            numbers.push(("empty", value));
        }
        let wrong = numbers
            .into_iter()
            .find(|(_, v)| !v.is_finite() || *v < 0.0);
        match wrong {
            Some((name, found)) => Err(Error::Setting { name, found }),
            None => Ok(()),
        }
    }
}

/// What a report shows where a measure is undefined, as distances are when a mask is empty.
///
/// The measures themselves never take a stand: they return [`Error::EmptyMask`].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyPolicy {
    /// Nothing, with the reason; the mean leaves the case out and counts it.
    Exclude,
    /// An empty prediction missed the organ and gets the worst value: 0 for a share, the diagonal
    /// of the image for a distance. An empty reference is an error in the data: its case fails.
    #[default]
    Worst,
    /// Distances become this many millimetres; other measures stay undefined.
    Value(f64),
    /// Two empty masks agree perfectly; where one is empty, the worst value, and no refusal. For
    /// labels that some cases do not have, such as tumours.
    BothEmptyIsPerfect,
}

/// Judges one label of a prediction against a reference on the same grid.
///
/// # Errors
/// [`Error::Shape`] or [`Error::Grid`] when the grids differ, [`Error::EmptyReference`] when the
/// policy is [`EmptyPolicy::Worst`] and the reference does not have the label,
/// [`Error::Setting`] when a number among the settings is negative or not finite.
///
/// # Examples
/// ```
/// use liseg_metrics::{Settings, evaluate_case};
/// use liseg_volume::{Affine, LabelMap, Spacing};
/// use ndarray::{Array3, s};
///
/// let affine = Affine::from_spacing(Spacing::new(5.0, 1.0, 1.0)?);
/// let mut reference = LabelMap::new(Array3::zeros((8, 16, 16)), affine)?;
/// let mut prediction = reference.clone();
/// reference.data_mut().slice_mut(s![2..6, 4..12, 4..12]).fill(1);
/// prediction.data_mut().slice_mut(s![2..6, 4..12, 4..13]).fill(1);
///
/// let metrics = evaluate_case(&prediction, &reference, 1, &Settings::default())?;
/// assert_eq!(metrics.dice, Some(16.0 / 17.0));
/// assert_eq!(metrics.hd, Some(1.0));
/// assert_eq!(metrics.volume_error_ml, Some(0.16));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn evaluate_case(
    prediction: &LabelMap,
    reference: &LabelMap,
    label: u8,
    settings: &Settings,
) -> Result<CaseMetrics> {
    settings.check()?;
    let geometry = reference.geometry();
    same_grid(
        &prediction.geometry(),
        &geometry,
        settings.grid_tolerance_mm,
    )?;
    let is_label = |&found: &u8| found == label;
    let compared = compare(prediction.data(), reference.data(), is_label)?;
    let (counts, region) = compared;
    if settings.empty == EmptyPolicy::Worst && counts.referenced() == 0 {
        return Err(Error::EmptyReference { label });
    }
    let distances = SurfaceDistances::within(
        prediction.data(),
        reference.data(),
        is_label,
        compared,
        geometry.spacing(),
        settings.convention.rule(),
    );
    let centres = centre_distance(
        prediction.data(),
        reference.data(),
        is_label,
        (&counts, region),
        geometry.spacing(),
    );
    Ok(tabulate(&counts, &distances, &centres, &geometry, settings))
}

/// Refuses a prediction that does not lie on the grid of its reference.
pub(crate) fn same_grid(
    prediction: &Geometry,
    reference: &Geometry,
    tolerance_mm: f64,
) -> Result<()> {
    let (expected, found) = (reference.shape, prediction.shape);
    if expected != found {
        return Err(Error::Shape { expected, found });
    }
    let distance_mm = reference.corner_distance_mm(prediction);
    if !reference.is_within(prediction, tolerance_mm) {
        return Err(Error::Grid {
            distance_mm,
            tolerance_mm,
        });
    }
    Ok(())
}

/// What a case scores that has no prediction: the worst value of every measure, whatever the
/// policy, with every voxel of the reference a false negative.
///
/// # Errors
/// [`Error::EmptyReference`] when the policy is [`EmptyPolicy::Worst`] and the reference does not
/// have the label, [`Error::Setting`] as in [`evaluate_case`].
pub fn missing_case(reference: &LabelMap, label: u8, settings: &Settings) -> Result<CaseMetrics> {
    settings.check()?;
    let geometry = reference.geometry();
    let found = reference.data().iter().filter(|&&v| v == label).count() as u64;
    if settings.empty == EmptyPolicy::Worst && found == 0 {
        return Err(Error::EmptyReference { label });
    }
    let counts = Counts {
        false_negative: found,
        true_negative: geometry.voxels() as u64 - found,
        ..Counts::default()
    };
    let mut metrics = CaseMetrics::new(&counts, &geometry);
    for measure in Measure::ALL {
        let (value, reason) = match measure {
            Measure::VolumeMl | Measure::ReferenceVolumeMl | Measure::VolumeErrorMl => {
                let [predicted, referenced] = volumes_ml(&counts, &geometry);
                let volume = match measure {
                    Measure::VolumeMl => predicted,
                    Measure::ReferenceVolumeMl => referenced,
                    _ => volume_error_ml(&counts, &geometry),
                };
                (Some(volume), "of volume 0")
            }
            Measure::RelativeVolumeError => (counts.relative_volume_error().ok(), "of volume 0"),
            _ => (measure.worst(&geometry), "the worst value"),
        };
        let reason = format!("there is no prediction: counted as {reason}");
        metrics.set(measure, value, Some(reason));
    }
    Ok(metrics)
}

fn tabulate(
    counts: &Counts,
    distances: &Result<SurfaceDistances>,
    centres: &Result<f64>,
    geometry: &Geometry,
    settings: &Settings,
) -> CaseMetrics {
    let rule = settings.convention.rule();
    let mut metrics = CaseMetrics::new(counts, geometry);
    let [volume, reference_volume] = volumes_ml(counts, geometry);
    for measure in Measure::ALL {
        // Distances exist or not for all measures alike, so their error is shown by its text.
        let on_surfaces = |take: &dyn Fn(&SurfaceDistances) -> Result<f64>| match distances {
            Ok(distances) => take(distances).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let on_counts = |value: Result<f64>| value.map_err(|error| error.to_string());
        let measured = match measure {
            Measure::Dice => on_counts(counts.dice()),
            Measure::Iou => on_counts(counts.iou()),
            Measure::Precision => on_counts(counts.precision()),
            Measure::Recall => on_counts(counts.recall()),
            Measure::CentreDistance => match centres {
                Ok(distance) => Ok(*distance),
                Err(error) => Err(error.to_string()),
            },
            Measure::VolumeMl => Ok(volume),
            Measure::ReferenceVolumeMl => Ok(reference_volume),
            Measure::VolumeErrorMl => Ok(volume_error_ml(counts, geometry)),
            Measure::RelativeVolumeError => on_counts(counts.relative_volume_error()),
            Measure::Hd => on_surfaces(&|d| Ok(d.hausdorff())),
            Measure::Hd95 => on_surfaces(&|d| d.hausdorff_percentile(95.0, rule.percentile)),
            Measure::Assd => on_surfaces(&|d| Ok(d.average(rule.mean))),
            Measure::Masd => on_surfaces(&|d| Ok(d.average(MeanRule::MeanOfMeans))),
            Measure::Rmsd => on_surfaces(&|d| Ok(d.root_mean_square())),
            Measure::Nsd => on_surfaces(&|d| d.surface_dice(settings.nsd_tolerance_mm)),
        };
        let (value, reason) = match measured {
            Ok(value) => (Some(value), None),
            Err(reason) => instead(measure, reason, counts.empty(), geometry, settings.empty),
        };
        metrics.set(measure, value, reason);
    }
    metrics
}

/// What the policy puts in the place of an undefined measure, and why.
fn instead(
    measure: Measure,
    reason: String,
    empty: Option<Empty>,
    geometry: &Geometry,
    policy: EmptyPolicy,
) -> (Option<f64>, Option<String>) {
    let worst = (measure.worst(geometry), "counted as the worst value");
    let (value, rule) = match policy {
        EmptyPolicy::Exclude => (None, ""),
        EmptyPolicy::Worst => worst,
        EmptyPolicy::Value(value) if measure.is_distance() => {
            (Some(value), "counted as the value of the settings")
        }
        EmptyPolicy::Value(_) => (None, ""),
        EmptyPolicy::BothEmptyIsPerfect if empty == Some(Empty::Both) => {
            (measure.perfect(), "counted as perfect agreement")
        }
        EmptyPolicy::BothEmptyIsPerfect => worst,
    };
    let reason = match value {
        Some(_) => format!("{reason}: {rule}"),
        None => reason,
    };
    (value, Some(reason))
}

/// The volumes of prediction and reference in ml.
fn volumes_ml(counts: &Counts, geometry: &Geometry) -> [f64; 2] {
    let voxel_mm3 = geometry.voxel_volume_mm3();
    [counts.predicted(), counts.referenced()].map(|voxels| voxels as f64 * voxel_mm3 / 1000.0)
}

/// The difference of both volumes in ml.
fn volume_error_ml(counts: &Counts, geometry: &Geometry) -> f64 {
    let voxels = counts.predicted() as f64 - counts.referenced() as f64;
    voxels * geometry.voxel_volume_mm3() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pairs;
    use liseg_volume::{Affine, Orientation};
    use ndarray::Array3;
    use proptest::prelude::*;

    fn map(data: Array3<u8>, origin: f64) -> LabelMap {
        let affine = Affine::from_columns(
            [-1.0, 0.0, 0.0],
            [0.0, 1.5, 0.0],
            [0.0, 0.0, 4.0],
            [origin, 0.0, 0.0],
        );
        LabelMap::new(data, affine.unwrap()).unwrap()
    }

    fn binary(mask: &Array3<bool>) -> LabelMap {
        map(mask.map(|&v| u8::from(v)), 0.0)
    }

    fn with(empty: EmptyPolicy) -> Settings {
        Settings {
            empty,
            ..Settings::default()
        }
    }

    /// Equal up to the order of summation.
    fn same(a: &CaseMetrics, b: &CaseMetrics) -> bool {
        a.counts() == b.counts()
            && Measure::ALL.iter().all(|&m| match (a.get(m), b.get(m)) {
                (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * a.abs().max(1.0),
                (a, b) => a == b,
            })
    }

    #[test]
    fn volumes_of_sheared_grids_are_those_of_their_voxels() {
        let leaning =
            Affine::from_columns([-1.0, 0.0, 0.0], [0.0, 1.5, 0.0], [0.6, 0.8, 4.0], [0.0; 3]);
        let mask = Array3::from_elem((2, 5, 10), 1);
        let mask = LabelMap::new(mask, leaning.unwrap()).unwrap();
        let found = evaluate_case(&mask, &mask, 1, &Settings::default()).unwrap();
        // 100 voxels of 1 × 1.5 × 4 mm³, though the slices' axis is 4.12 mm long.
        for measure in [Measure::VolumeMl, Measure::ReferenceVolumeMl] {
            let ml = found.get(measure).unwrap();
            assert!((ml - 0.6).abs() < 1e-12, "{ml}");
        }
    }

    proptest! {
        #[test]
        fn orientation_does_not_matter((p, r) in pairs(), axes in 0usize..3, signs in 0usize..8) {
            let (p, r) = (binary(&p), binary(&r));
            let order = [[0, 1, 2], [1, 2, 0], [2, 1, 0]][axes];
            let letters = [['L', 'R'], ['P', 'A'], ['I', 'S']];
            let target: String = (0..3).map(|i| letters[order[i]][signs >> i & 1]).collect();
            let target: Orientation = target.parse().unwrap();
            let settings = with(EmptyPolicy::Exclude);
            let stored = evaluate_case(&p, &r, 1, &settings).unwrap();
            let turned = evaluate_case(&p.reorient(target), &r.reorient(target), 1, &settings).unwrap();
            prop_assert!(same(&stored, &turned), "{stored:?}\n{turned:?}");
        }

        #[test]
        fn every_value_is_finite_or_explained((p, r) in pairs()) {
            for empty in [
                EmptyPolicy::Exclude,
                EmptyPolicy::Worst,
                EmptyPolicy::Value(100.0),
                EmptyPolicy::BothEmptyIsPerfect,
            ] {
                for (_, convention) in Convention::NAMED {
                    let settings = Settings { convention, ..with(empty) };
                    match evaluate_case(&binary(&p), &binary(&r), 1, &settings) {
                        Ok(metrics) => for measure in Measure::ALL {
                            match metrics.get(measure) {
                                Some(value) => prop_assert!(value.is_finite()),
                                None => prop_assert!(metrics.reasons.contains_key(&measure)),
                            }
                        },
                        Err(Error::EmptyReference { label: 1 }) => {
                            prop_assert!(empty == EmptyPolicy::Worst && !r.iter().any(|&v| v));
                        }
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
            }
        }
    }

    #[test]
    fn policies_say_what_an_empty_mask_is_worth() {
        let none = Array3::from_elem((3, 4, 5), false);
        let mut some = none.clone();
        some[[1, 1, 1]] = true;
        let (none, some) = (binary(&none), binary(&some));
        let diagonal = (8f64.powi(2) + 4.5f64.powi(2) + 4f64.powi(2)).sqrt();

        let missed = evaluate_case(&none, &some, 1, &with(EmptyPolicy::Worst)).unwrap();
        assert_eq!((missed.dice, missed.nsd), (Some(0.0), Some(0.0)));
        assert_eq!((missed.hd, missed.assd), (Some(diagonal), Some(diagonal)));
        assert_eq!(missed.precision, Some(0.0));
        assert_eq!(
            missed.reasons[&Measure::Hd],
            "the prediction is empty: counted as the worst value"
        );
        let refused = evaluate_case(&some, &none, 1, &with(EmptyPolicy::Worst));
        assert!(matches!(refused, Err(Error::EmptyReference { label: 1 })));

        let excluded = evaluate_case(&none, &some, 1, &with(EmptyPolicy::Exclude)).unwrap();
        assert_eq!((excluded.dice, excluded.hd), (Some(0.0), None));
        assert_eq!(excluded.reasons[&Measure::Hd], "the prediction is empty");

        let capped = evaluate_case(&none, &some, 1, &with(EmptyPolicy::Value(1000.0))).unwrap();
        assert_eq!((capped.hd95, capped.nsd), (Some(1000.0), None));

        let perfect = EmptyPolicy::BothEmptyIsPerfect;
        let agreed = evaluate_case(&none, &none, 1, &with(perfect)).unwrap();
        assert_eq!((agreed.dice, agreed.hd), (Some(1.0), Some(0.0)));
        let invented = evaluate_case(&some, &none, 1, &with(perfect)).unwrap();
        assert_eq!((invented.dice, invented.hd), (Some(0.0), Some(diagonal)));
        assert_eq!(invented.relative_volume_error, None);
    }

    #[test]
    fn a_missing_prediction_scores_the_worst_whatever_the_policy() {
        let mut reference = map(Array3::zeros((3, 4, 5)), 0.0);
        reference.data_mut()[[1, 1, 1]] = 2;
        let metrics = missing_case(&reference, 2, &with(EmptyPolicy::Exclude)).unwrap();
        assert_eq!(metrics.dice, Some(0.0));
        assert_eq!(metrics.hd, Some(reference.geometry().diagonal_mm()));
        assert_eq!((metrics.false_negative, metrics.n_ref), (1, 1));
        assert_eq!(metrics.relative_volume_error, Some(-1.0));
        assert!(missing_case(&reference, 1, &Settings::default()).is_err());
    }

    #[test]
    fn grids_must_agree() {
        let a = map(Array3::ones((3, 4, 5)), 0.0);
        let shifted = map(Array3::ones((3, 4, 5)), 1.0);
        let error = evaluate_case(&shifted, &a, 1, &Settings::default()).unwrap_err();
        assert!(matches!(error, Error::Grid { .. }), "{error}");
        let nearly = map(Array3::ones((3, 4, 5)), 0.9 * GRID_TOLERANCE_MM);
        assert!(evaluate_case(&nearly, &a, 1, &Settings::default()).is_ok());
        let strict = Settings {
            grid_tolerance_mm: 0.01,
            ..Settings::default()
        };
        assert!(evaluate_case(&nearly, &a, 1, &strict).is_err());
        let cut = map(Array3::ones((3, 4, 4)), 0.0);
        let error = evaluate_case(&cut, &a, 1, &Settings::default()).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
    }

    #[test]
    fn settings_are_checked_and_come_back() {
        let a = map(Array3::ones((1, 1, 1)), 0.0);
        let settings = Settings {
            nsd_tolerance_mm: f64::NAN,
            ..Settings::default()
        };
        assert!(matches!(
            evaluate_case(&a, &a, 1, &settings),
            Err(Error::Setting {
                name: "nsd_tolerance_mm",
                ..
            })
        ));
        let settings = Settings {
            convention: Convention::Custom(Convention::Chaos.rule()),
            empty: EmptyPolicy::Value(1000.0),
            ..Settings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        assert!(serde_json::from_str::<Settings>(r#"{"tolerance": 1}"#).is_err());
    }

    #[test]
    fn the_spacing_measured_in_is_told_in_file_order() {
        let a = map(Array3::ones((1, 1, 1)), 0.0);
        let metrics = evaluate_case(&a, &a, 1, &Settings::default()).unwrap();
        let told = serde_json::to_value(&metrics).unwrap();
        assert_eq!(told["spacing_mm"], serde_json::json!([1.0, 1.5, 4.0]));
    }
}
