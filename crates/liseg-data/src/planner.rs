//! From a fingerprint to a plan.

use crate::fingerprint::{Fingerprint, percentile};
use crate::plan::{Normalization, Plan, check_patch};
use crate::topology::{divisor, five_strides, padded};
use crate::{Dataset, Error, Result};
use liseg_mri::resample::resampled_shape;
use liseg_volume::{Orientation, Spacing};
use serde::{Deserialize, Serialize};

/// A grid is anisotropic when one axis is more than this much coarser than the others.
const ANISOTROPY: f64 = 3.0;

/// The smallest limit for a patch, in voxels.
const SMALLEST_LIMIT: usize = 16 * 16 * 16;

/// What a user may ask of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanOptions {
    /// Largest patch, in voxels. The default, 128³, is STU-Net's own patch, and close to where
    /// nnU-Net's estimate for an 8 GB device ends. At least 16³.
    pub max_patch_voxels: usize,
    /// Spacing to use in place of the median, `[z, y, x]` in mm.
    pub spacing: Option<Spacing>,
    /// Patch to use in place of the planned one, in voxels `[z, y, x]`.
    pub patch_size: Option<[usize; 3]>,
    /// Batch size to use in place of the planned one.
    pub batch_size: Option<usize>,
    /// How intensities are normalised.
    pub normalization: Normalization,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            max_patch_voxels: 128 * 128 * 128,
            spacing: None,
            patch_size: None,
            batch_size: None,
            normalization: Normalization::default(),
        }
    }
}

impl Plan {
    /// Plans a data set from its fingerprint.
    ///
    /// Spacing, patch and poolings follow nnU-Net v2 with two differences: the patch is reduced
    /// until it holds at most `max_patch_voxels` voxels, in place of an estimate of device memory,
    /// and there are always five poolings. Axes are not transposed.
    ///
    /// # Errors
    /// [`Error::Setting`] when an option cannot be met, [`Error::Patch`] when the patch asked for is
    /// not divisible by the strides, [`Error::Dataset`] for a fingerprint without cases.
    ///
    /// # Source
    /// Isensee et al. 2021, Nature Methods 18; nnU-Net v2.
    pub fn new(
        dataset: &Dataset,
        fingerprint: &Fingerprint,
        options: &PlanOptions,
    ) -> Result<Self> {
        if fingerprint.cases.is_empty() {
            return Err(Error::Dataset {
                folder: dataset.folder().to_owned(),
                reason: "there is no training case to plan from".into(),
            });
        }
        let spacings: Vec<Spacing> = fingerprint.cases.iter().map(|c| c.spacing).collect();
        let shapes: Vec<[usize; 3]> = fingerprint
            .cases
            .iter()
            .map(|c| c.shape_after_crop)
            .collect();
        let spacing = match options.spacing {
            Some(spacing) => spacing,
            None => target_spacing(&spacings, &shapes)?,
        };
        let median_shape = median_resampled_shape(&spacings, &shapes, spacing)?;
        let (patch_size, strides) = match options.patch_size {
            Some(patch) => (patch, five_strides(spacing.zyx(), patch.map(|n| n as f64))),
            None => patch_size(spacing, median_shape, options.max_patch_voxels)?,
        };
        check_patch(patch_size, &strides)?;
        let batch_size = options.batch_size.unwrap_or_else(|| {
            batch_size(
                patch_size,
                median_shape,
                shapes.len(),
                options.max_patch_voxels,
            )
        });
        let plan = Self {
            dataset_name: dataset.name().to_owned(),
            orientation: Orientation::RAS,
            spacing,
            median_image_size_in_voxels: median_shape,
            patch_size,
            batch_size,
            pool_op_kernel_sizes: strides,
            normalization_scheme: options.normalization,
            labels: dataset.labels().clone(),
            original_median_spacing: Spacing::try_from(percentiles(
                &spacings.iter().map(|s| s.zyx()).collect::<Vec<_>>(),
                50.0,
            ))?,
            original_median_shape: percentiles(&as_floats(&shapes), 50.0),
        };
        plan.validate()?;
        Ok(plan)
    }
}

/// The spacing to resample to: the median per axis, unless one axis is more than three times
/// coarser and three times shorter than the others. Then that axis takes its 10th percentile, so
/// that thin slices lose less, but stays the coarsest.
///
/// `shapes` in voxels after cropping; both per case, `[z, y, x]`, of one length.
///
/// # Errors
/// [`Error::Geometry`] when there are no cases.
pub fn target_spacing(spacings: &[Spacing], shapes: &[[usize; 3]]) -> Result<Spacing> {
    let values: Vec<[f64; 3]> = spacings.iter().map(|s| s.zyx()).collect();
    let mut target = percentiles(&values, 50.0);
    let size = percentiles(&as_floats(shapes), 50.0);
    let worst = (1..3).fold(0, |w, axis| if target[axis] > target[w] { axis } else { w });
    let others = || (0..3).filter(|&axis| axis != worst);
    let coarsest_other = others().map(|a| target[a]).fold(0.0, f64::max);
    let shortest_other = others().map(|a| size[a]).fold(f64::INFINITY, f64::min);
    if target[worst] > ANISOTROPY * coarsest_other && ANISOTROPY * size[worst] < shortest_other {
        let fine = percentiles(&values, 10.0)[worst];
        target[worst] = if fine < coarsest_other {
            coarsest_other + 1e-5
        } else {
            fine
        };
    }
    Ok(Spacing::try_from(target)?)
}

/// The median, per axis, of the shapes that the cases have at spacing `to`.
fn median_resampled_shape(
    spacings: &[Spacing],
    shapes: &[[usize; 3]],
    to: Spacing,
) -> Result<[f64; 3]> {
    let resampled: Vec<[usize; 3]> = spacings
        .iter()
        .zip(shapes)
        .map(|(&from, &shape)| resampled_shape(shape, from, to))
        .collect();
    Ok(percentiles(&as_floats(&resampled), 50.0))
}

/// Patch and strides: start from a cube in millimetres of 256³ voxels cut to the median image, and
/// shorten the axis that covers most of the image until the patch is small enough.
fn patch_size(
    spacing: Spacing,
    median_shape: [f64; 3],
    max_voxels: usize,
) -> Result<([usize; 3], [[usize; 3]; 5])> {
    let mm = spacing.zyx();
    let scale = (256f64.powi(3) * mm.iter().product::<f64>()).cbrt();
    let start = std::array::from_fn(|a| (scale / mm[a]).round_ties_even().min(median_shape[a]));
    let mut strides = five_strides(mm, start);
    let mut multiple = divisor(&strides);
    let mut patch = padded(start, multiple);
    if max_voxels < SMALLEST_LIMIT {
        let reason =
            format!("{max_voxels} is below {SMALLEST_LIMIT} (16³): a network sees nothing");
        return Err(Error::setting("max_patch_voxels", reason));
    }
    while patch.iter().product::<usize>() > max_voxels {
        // Ties go to the last axis.
        let coverage = |a: usize| patch[a] as f64 / median_shape[a];
        let axis = (0..3)
            .filter(|&a| patch[a] > multiple[a])
            .max_by(|&a, &b| coverage(a).total_cmp(&coverage(b)))
            .ok_or_else(|| {
                let reason = format!("no patch of at most {max_voxels} voxels was found");
                Error::setting("max_patch_voxels", reason)
            })?;
        // The step is what the topology of the shorter patch asks for.
        let shorter = |step: usize| {
            let mut size = patch.map(|n| n as f64);
            size[axis] -= step as f64;
            size
        };
        let step = divisor(&five_strides(mm, shorter(multiple[axis])))[axis];
        let size = shorter(step);
        strides = five_strides(mm, size);
        multiple = divisor(&strides);
        let next = padded(size, multiple);
        if next.iter().product::<usize>() >= patch.iter().product() {
            let reason = format!("no patch of at most {max_voxels} voxels was found");
            return Err(Error::setting("max_patch_voxels", reason));
        }
        patch = next;
    }
    Ok((patch, strides))
}

/// As many patches as fill the voxels of two of the largest, at most 5 % of all voxels of the data
/// set, at least 2.
fn batch_size(
    patch: [usize; 3],
    median_shape: [f64; 3],
    cases: usize,
    max_patch_voxels: usize,
) -> usize {
    let voxels = patch.iter().product::<usize>() as f64;
    let fitting = (2.0 * max_patch_voxels as f64 / voxels).round_ties_even();
    let share = 0.05 * median_shape.iter().product::<f64>() * cases as f64 / voxels;
    fitting.min(share.round_ties_even()).max(2.0) as usize
}

fn as_floats(shapes: &[[usize; 3]]) -> Vec<[f64; 3]> {
    shapes.iter().map(|s| s.map(|n| n as f64)).collect()
}

fn percentiles(rows: &[[f64; 3]], percent: f64) -> [f64; 3] {
    std::array::from_fn(|axis| {
        let mut values: Vec<f64> = rows.iter().map(|row| row[axis]).collect();
        percentile(&mut values, percent)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::{Value, from_value};

    /// Spacings and shapes of a golden fingerprint, axes in the order of its plan.
    fn fingerprint(case: &Value) -> (Vec<Spacing>, Vec<[usize; 3]>) {
        let order: [usize; 3] = from_value(case["outputs"]["transpose_forward"].clone()).unwrap();
        let fingerprint = &case["params"]["fingerprint"];
        let spacings: Vec<[f64; 3]> = from_value(fingerprint["spacings"].clone()).unwrap();
        let shapes: Vec<[usize; 3]> = from_value(fingerprint["shapes_after_crop"].clone()).unwrap();
        (
            spacings
                .iter()
                .map(|s| Spacing::try_from(order.map(|a| s[a])).unwrap())
                .collect(),
            shapes.iter().map(|s| order.map(|a| s[a])).collect(),
        )
    }

    #[test]
    fn golden_spacing_and_median_shape() {
        let Some(golden) = testing::golden("nnunet/planner.json") else {
            return;
        };
        for name in [
            "liver_mri_dynamic",
            "isotropic_1p5",
            "thick_slices",
            "thick_slices_fine_tail",
            "lowres_axis_last",
            "large_ct",
            "cropped_two_channels",
            "tiny_dataset",
            "small_volumes",
        ] {
            let case = testing::case(&golden, name);
            let (spacings, shapes) = fingerprint(case);
            let expected = &case["outputs"]["configurations"]["3d_fullres"];
            let spacing = target_spacing(&spacings, &shapes).unwrap();
            let exact: [f64; 3] = from_value(expected["spacing"].clone()).unwrap();
            for (found, exact) in spacing.zyx().into_iter().zip(exact) {
                assert!((found - exact).abs() < 1e-12, "{name}: {spacing}");
            }
            let median = median_resampled_shape(&spacings, &shapes, spacing).unwrap();
            let exact: [f64; 3] =
                from_value(expected["median_image_size_in_voxels"].clone()).unwrap();
            let same = |a: &f64, b: &f64| (a - b).abs() < 1e-9;
            assert!(
                median.iter().zip(&exact).all(|(a, b)| same(a, b)),
                "{name}: {median:?}"
            );
        }
    }

    #[test]
    fn golden_patches_where_both_limits_end_alike() {
        let Some(golden) = testing::golden("nnunet/planner.json") else {
            return;
        };
        // The reference stops at an estimate of memory, this planner at 128³ voxels; datasets with
        // six poolings, or where the estimate allows a little more, end elsewhere.
        for name in [
            "liver_mri_dynamic",
            "isotropic_1p5",
            "large_ct",
            "cropped_two_channels",
            "tiny_dataset",
            "small_volumes",
        ] {
            let case = testing::case(&golden, name);
            let expected = &case["outputs"]["configurations"]["3d_fullres"];
            let spacing: Spacing = from_value(expected["spacing"].clone()).unwrap();
            let median: [f64; 3] =
                from_value(expected["median_image_size_in_voxels"].clone()).unwrap();
            let (patch, strides) =
                patch_size(spacing, median, PlanOptions::default().max_patch_voxels).unwrap();
            let exact: [usize; 3] = from_value(expected["patch_size"].clone()).unwrap();
            assert_eq!(patch, exact, "{name}");
            let exact: Vec<[usize; 3]> = from_value(expected["strides"].clone()).unwrap();
            for (stage, stride) in strides.iter().enumerate() {
                let exact = exact.get(stage + 1).copied().unwrap_or([1; 3]);
                assert_eq!(*stride, exact, "{name}, stage {stage}");
            }
        }
    }

    #[test]
    fn plans_a_data_set() {
        let (_folder, dataset) = testing::dataset();
        let fingerprint = Fingerprint::of(&dataset).unwrap();
        assert_eq!(fingerprint.cases.len(), 5);
        let case = &fingerprint.cases[1];
        // The border of zeros is gone: one slice, two rows, three columns.
        assert_eq!(case.shape_before_crop, [11, 24, 22]);
        assert_eq!(case.shape_after_crop, [10, 22, 19]);
        assert!(case.foreground_intensity.unwrap().mean > 150.0);
        assert!(fingerprint.cases[4].foreground_intensity.is_none());

        let plan = Plan::new(&dataset, &fingerprint, &PlanOptions::default()).unwrap();
        let mm = plan.spacing.zyx();
        for (found, expected) in mm.into_iter().zip([3.0, 2.0, 2.0]) {
            assert!((found - expected).abs() < 1e-6);
        }
        assert_eq!(
            plan.median_image_size_in_voxels.map(|n| n as usize),
            [11, 22, 21]
        );
        assert!(plan.patch_size.iter().product::<usize>() <= 128 * 128 * 128);
        assert_eq!(plan.batch_size, 2);
        plan.validate().unwrap();
    }

    #[test]
    fn options_are_honoured_or_refused() {
        let (_folder, dataset) = testing::dataset();
        let fingerprint = Fingerprint::of(&dataset).unwrap();
        let plan = |options| Plan::new(&dataset, &fingerprint, &options);
        let spacing = Spacing::new(7.7, 2.5, 2.5).unwrap();
        let chosen = plan(PlanOptions {
            spacing: Some(spacing),
            patch_size: Some([32, 96, 96]),
            batch_size: Some(5),
            ..PlanOptions::default()
        })
        .unwrap();
        assert_eq!((chosen.spacing, chosen.batch_size), (spacing, 5));
        assert_eq!(chosen.pool_op_kernel_sizes[0], [1, 2, 2]);
        let refused = plan(PlanOptions {
            patch_size: Some([33, 96, 96]),
            ..PlanOptions::default()
        });
        assert!(matches!(refused, Err(Error::Patch { .. })));
        let refused = plan(PlanOptions {
            max_patch_voxels: 3,
            ..PlanOptions::default()
        });
        assert!(matches!(
            refused,
            Err(Error::Setting {
                field: "max_patch_voxels",
                ..
            })
        ));
    }
}
