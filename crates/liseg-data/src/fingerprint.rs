//! What the training images of a data set look like.

use crate::{Case, Dataset, Error, Result, Subset, bytes_of_voxels, check_voxels, side_by_side};
use liseg_mri::{crop::nonzero_region, nifti, replace_non_finite};
use liseg_volume::Spacing;
use ndarray::s;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;

/// What the training images of a data set look like, labelled and unlabelled, in canonical RAS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// One entry per training case, in order of their ids.
    pub cases: Vec<CaseFingerprint>,
    /// Median over the cases of the share of voxels that is left after cropping to non-zero.
    pub median_relative_size_after_cropping: f64,
    /// Intensities in the foreground of all labelled images together; `None` without foreground.
    pub foreground: Option<IntensitySummary>,
}

/// Foreground voxels of all cases together that are looked at, at most: evenly spaced ones of each
/// case beyond that.
const FOREGROUND_VOXELS: usize = 20_000_000;

/// Bytes for every voxel while a case is looked at, at least: the image before and after turning.
const LEAST_BYTES: u64 = 8;

/// And where it is turned and all of it is foreground: label, values inside the crop and of the foreground beside it.
const USUAL_BYTES: u64 = 17;

/// What one image looks like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseFingerprint {
    /// The case.
    pub id: String,
    /// Voxel spacing, `[z, y, x]` in mm, of the canonical volume.
    pub spacing: Spacing,
    /// Shape of the canonical volume, `[z, y, x]`.
    pub shape_before_crop: [usize; 3],
    /// Shape after cropping to non-zero, `[z, y, x]`.
    pub shape_after_crop: [usize; 3],
    /// Intensities of the cropped image.
    pub intensity: IntensitySummary,
    /// Intensities where the label is foreground; `None` without label or foreground.
    pub foreground_intensity: Option<IntensitySummary>,
}

/// The distribution of intensities, in the image's own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IntensitySummary {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
    /// Median.
    pub median: f64,
    /// 0.5th percentile.
    pub percentile_00_5: f64,
    /// 99.5th percentile.
    pub percentile_99_5: f64,
}

impl Fingerprint {
    /// Looks at every labelled and unlabelled image of a data set, as many at a time as rayon has
    /// threads.
    ///
    /// # Errors
    /// [`Error::Case`] for the first case, in order of ids, that cannot be read, or of whose
    /// image most is NaN; [`Error::Dataset`] when there are no training cases.
    pub fn of(dataset: &Dataset) -> Result<Self> {
        let (fingerprint, failed) = Self::of_readable(dataset)?;
        match failed.into_iter().next() {
            Some((case, error)) => Err(Error::of_case(&case)(error)),
            None => Ok(fingerprint),
        }
    }

    /// As [`Fingerprint::of`], without the cases that fail; these are returned with their errors, in order of ids.
    ///
    /// # Errors
    /// [`Error::Dataset`] when there are no training cases; [`Error::Case`] when none can be read.
    pub fn of_readable(dataset: &Dataset) -> Result<(Self, Vec<(String, Error)>)> {
        let labelled = dataset.subset(Subset::Labelled).count();
        let most = FOREGROUND_VOXELS / labelled.max(1);
        let training: Vec<&Case> = dataset
            .cases()
            .iter()
            .filter(|case| case.subset != Subset::Test)
            .collect();
        let looked_at = side_by_side(
            &training,
            |case| bytes_of_voxels(&case.image, USUAL_BYTES),
            |case| (&case.id, CaseFingerprint::of(case, most)),
        );
        let (mut cases, mut foreground) = (Vec::new(), Vec::new());
        let refused = dataset.refused().iter();
        let mut failed: Vec<(String, Error)> = refused
            .map(|case| (case.id.clone(), case.error()))
            .collect();
        for (id, looked_at) in looked_at {
            match looked_at {
                Ok((case, voxels)) => {
                    cases.push(case);
                    foreground.extend(voxels);
                }
                Err(error) => failed.push((id.clone(), error)),
            }
        }
        failed.sort_by(|a, b| a.0.cmp(&b.0));
        if cases.is_empty() {
            return Err(match failed.into_iter().next() {
                Some((case, error)) => Error::of_case(&case)(error),
                None => Error::Dataset {
                    folder: dataset.folder().to_owned(),
                    reason: "there is no training case to look at".into(),
                },
            });
        }
        let mut shares: Vec<f64> = cases.iter().map(CaseFingerprint::relative_size).collect();
        let fingerprint = Self {
            median_relative_size_after_cropping: percentile(&mut shares, 50.0),
            foreground: IntensitySummary::of(&mut foreground),
            cases,
        };
        Ok((fingerprint, failed))
    }

    /// Writes the fingerprint with nnU-Net's names and order of axes (`dataset_fingerprint.json`), in
    /// canonical orientation.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_nnunet(&self, path: &Path) -> Result<()> {
        let mut properties = serde_json::Map::new();
        if let Some(foreground) = &self.foreground {
            properties.insert("0".into(), json!(foreground));
        }
        let shapes: Vec<_> = self.cases.iter().map(|c| c.shape_after_crop).collect();
        let spacings: Vec<_> = self.cases.iter().map(|c| c.spacing.zyx()).collect();
        let fingerprint = json!({
            "foreground_intensity_properties_per_channel": properties,
            "median_relative_size_after_cropping": self.median_relative_size_after_cropping,
            "shapes_after_crop": shapes,
            "spacings": spacings,
        });
        crate::json::write(path, &fingerprint)
    }
}

impl CaseFingerprint {
    /// Looks at a case; returns some of its foreground intensities, at most `most`, as well.
    fn of(case: &Case, most: usize) -> Result<(Self, Vec<f32>)> {
        check_voxels(&case.image, &nifti::read_header(&case.image)?, LEAST_BYTES)?;
        let mut image = nifti::read_image(&case.image)?.volume.to_canonical();
        replace_non_finite(&mut image.data_mut())?;
        let region = nonzero_region(image.data());
        let (a, b) = (region.start, region.end);
        let inside = s![a[0]..b[0], a[1]..b[1], a[2]..b[2]];
        let mut values: Vec<f32> = image.data().slice(inside).iter().copied().collect();
        let mut kept = Vec::new();
        let foreground_intensity = match &case.label {
            Some(path) => {
                check_voxels(path, &nifti::read_header(path)?, 1)?;
                let label = nifti::read_labels(path)?.volume.to_canonical();
                if !image.geometry().same_grid(&label.geometry()) {
                    return Err(Error::Grid {
                        path: path.clone(),
                        expected: image.shape(),
                        found: label.shape(),
                        distance_mm: image.geometry().corner_distance_mm(&label.geometry()),
                    });
                }
                let mut foreground: Vec<f32> = image
                    .data()
                    .iter()
                    .zip(label.data())
                    .filter_map(|(&value, &label)| (label > 0).then_some(value))
                    .collect();
                let step = foreground.len().div_ceil(most.max(1)).max(1);
                kept = foreground.iter().copied().step_by(step).collect();
                IntensitySummary::of(&mut foreground)
            }
            None => None,
        };
        // A volume is never empty, so neither is its crop.
        let intensity = IntensitySummary::of(&mut values)
            .ok_or(liseg_volume::Error::Empty { shape: [0; 3] })?;
        let fingerprint = Self {
            id: case.id.clone(),
            spacing: image.spacing(),
            shape_before_crop: image.shape(),
            shape_after_crop: region.shape(),
            intensity,
            foreground_intensity,
        };
        Ok((fingerprint, kept))
    }

    /// Voxels after cropping divided by voxels before.
    pub fn relative_size(&self) -> f64 {
        let voxels = |shape: [usize; 3]| shape.iter().product::<usize>() as f64;
        voxels(self.shape_after_crop) / voxels(self.shape_before_crop)
    }
}

impl IntensitySummary {
    /// The distribution of finite values, which are reordered; `None` when there are none.
    pub fn of(values: &mut [f32]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values
            .iter()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / n;
        Some(Self {
            min: percentile(values, 0.0),
            max: percentile(values, 100.0),
            mean,
            std: variance.sqrt(),
            median: percentile(values, 50.0),
            percentile_00_5: percentile(values, 0.5),
            percentile_99_5: percentile(values, 99.5),
        })
    }
}

/// A percentile with linear interpolation between neighbours, as NumPy has it; reorders `values`.
/// NaN for no values.
pub(crate) fn percentile<T: Copy + PartialOrd + Into<f64>>(values: &mut [T], percent: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let last = values.len() - 1;
    let position = (percent / 100.0 * last as f64).clamp(0.0, last as f64);
    let below = position.floor() as usize;
    let order = |a: &T, b: &T| (*a).into().total_cmp(&(*b).into());
    let (_, &mut low, above) = values.select_nth_unstable_by(below, order);
    let low: f64 = low.into();
    let t = position - below as f64;
    let Some(high) = above.iter().map(|&v| v.into()).min_by(f64::total_cmp) else {
        return low;
    };
    // NumPy interpolates from the nearer side; the last bit depends on it.
    if t < 0.5 {
        low + (high - low) * t
    } else {
        high - (high - low) * (1.0 - t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate_linearly() {
        let of = |values: &[f64], percent| percentile(&mut values.to_vec(), percent);
        assert!((of(&[4.0, 1.0, 3.0, 2.0], 50.0) - 2.5).abs() < 1e-15);
        assert!((of(&[10.0, 0.0], 10.0) - 1.0).abs() < 1e-15);
        assert!((of(&[5.0, 1.0, 3.0], 100.0) - 5.0).abs() < 1e-15);
        assert!(of(&[], 50.0).is_nan());
    }

    #[test]
    fn summaries_are_of_the_population() {
        let summary = IntensitySummary::of(&mut [1.0, 3.0, 1.0, 3.0]).unwrap();
        assert!((summary.mean - 2.0).abs() < 1e-12 && (summary.std - 1.0).abs() < 1e-12);
        assert!((summary.min - 1.0).abs() < 1e-12 && (summary.max - 3.0).abs() < 1e-12);
        assert_eq!(IntensitySummary::of(&mut []), None);
    }
}
