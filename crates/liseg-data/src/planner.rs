//! From a fingerprint to a plan.

use crate::capacity::PlanNetwork;
use crate::fingerprint::{Fingerprint, percentile};
use crate::plan::{Normalization, Plan, check_patch};
use crate::topology::{divisor, five_strides, padded};
use crate::{Dataset, Error, Result};
use liseg_mri::resample::resampled_shape;
use liseg_volume::{Orientation, Spacing};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A grid is anisotropic when one axis is more than this much coarser than the others.
const ANISOTROPY: f64 = 3.0;

/// Where less than this share of the voxels is left after cropping, z-scores are masked.
const CROPPED: f64 = 0.75;

/// The smallest limit for a patch, in voxels.
const SMALLEST_LIMIT: usize = 16 * 16 * 16;

/// What a user may ask of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PlanOptions {
    /// Largest patch, in voxels. The default, 128³, is STU-Net's own patch, and close to where
    /// nnU-Net's estimate for an 8 GB device ends. At least 16³.
    pub max_patch_voxels: usize,
    /// The network to plan for. With one, patch and batch are the largest whose feature maps fit into
    /// `memory_gb`, in place of `max_patch_voxels`.
    pub network: Option<PlanNetwork>,
    /// Memory of the device in GB, with `network`; 8 as in nnU-Net. As there, the estimate is of
    /// feature maps in mixed precision.
    pub memory_gb: f64,
    /// Spacing to use in place of the median, `[z, y, x]` in mm.
    #[cfg_attr(feature = "schema", schemars(with = "Option<[f64; 3]>"))]
    pub spacing: Option<Spacing>,
    /// Patch to use in place of the planned one, in voxels `[z, y, x]`.
    pub patch_size: Option<[usize; 3]>,
    /// Batch size to use in place of the planned one.
    pub batch_size: Option<usize>,
    /// How intensities are normalised.
    pub normalization: Normalization,
    /// Other normalizations for single phases.
    pub normalization_by_phase: BTreeMap<String, Normalization>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            max_patch_voxels: 128 * 128 * 128,
            network: None,
            memory_gb: 8.0,
            spacing: None,
            patch_size: None,
            batch_size: None,
            normalization: Normalization::default(),
            normalization_by_phase: BTreeMap::new(),
        }
    }
}

impl Plan {
    /// Plans a data set from its fingerprint.
    ///
    /// Spacing, patch, poolings, batch and `use_mask_for_norm` follow nnU-Net v2 with two differences:
    /// without `network` the patch is reduced until it holds at most `max_patch_voxels` voxels, in
    /// place of an estimate of device memory, and there are always five poolings. Axes are not
    /// transposed.
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
        let limit = Limit::new(options, dataset.labels().len())?;
        let (patch_size, strides) = match options.patch_size {
            Some(patch) => (patch, five_strides(spacing.zyx(), patch.map(|n| n as f64))),
            None => patch_size(spacing, median_shape, &limit)?,
        };
        check_patch(patch_size, &strides)?;
        let fitting = limit.fitting(patch_size, &strides);
        let batch_size = options
            .batch_size
            .unwrap_or_else(|| batch_size(patch_size, median_shape, shapes.len(), fitting));
        let plan = Self {
            dataset_name: dataset.name().to_owned(),
            orientation: Orientation::RAS,
            spacing,
            median_image_size_in_voxels: median_shape,
            patch_size,
            batch_size,
            pool_op_kernel_sizes: strides,
            normalization_scheme: options.normalization,
            normalization_by_phase: options.normalization_by_phase.clone(),
            use_mask_for_norm: fingerprint.median_relative_size_after_cropping < CROPPED,
            foreground_intensity_properties: fingerprint.foreground,
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

/// What keeps a patch from being larger.
enum Limit {
    Voxels(usize),
    Memory {
        network: PlanNetwork,
        gigabytes: f64,
        outputs: usize,
    },
}

impl Limit {
    fn new(options: &PlanOptions, outputs: usize) -> Result<Self> {
        let Some(network) = options.network else {
            if options.max_patch_voxels < SMALLEST_LIMIT {
                let reason = format!(
                    "{} is below {SMALLEST_LIMIT} (16³): a network sees nothing",
                    options.max_patch_voxels
                );
                return Err(Error::setting("max_patch_voxels", reason));
            }
            return Ok(Self::Voxels(options.max_patch_voxels));
        };
        if !options.memory_gb.is_finite() || options.memory_gb <= 0.0 {
            let reason = format!("{} GB is no memory", options.memory_gb);
            return Err(Error::setting("memory_gb", reason));
        }
        Ok(Self::Memory {
            network,
            gigabytes: options.memory_gb,
            outputs,
        })
    }

    /// How many patches fit, not rounded; two of the largest allowed patch do.
    fn fitting(&self, patch: [usize; 3], strides: &[[usize; 3]]) -> f64 {
        match *self {
            Self::Voxels(most) => 2.0 * most as f64 / patch.iter().product::<usize>() as f64,
            Self::Memory {
                network,
                gigabytes,
                outputs,
            } => {
                let numbers = network.feature_numbers(patch, strides, outputs);
                network.patches_that_fit(numbers, gigabytes)
            }
        }
    }

    fn error(&self) -> Error {
        match self {
            Self::Voxels(most) => {
                let reason = format!("no patch of at most {most} voxels was found");
                Error::setting("max_patch_voxels", reason)
            }
            Self::Memory { gigabytes, .. } => {
                let reason = format!("not even the smallest patch fits into {gigabytes} GB");
                Error::setting("memory_gb", reason)
            }
        }
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
    Ok(Spacing::try_from(target(&values, &as_floats(shapes)))?)
}

/// [`target_spacing`] on plain numbers.
pub(crate) fn target(values: &[[f64; 3]], shapes: &[[f64; 3]]) -> [f64; 3] {
    let mut target = percentiles(values, 50.0);
    let size = percentiles(shapes, 50.0);
    let worst = (1..3).fold(0, |w, axis| if target[axis] > target[w] { axis } else { w });
    let others = || (0..3).filter(|&axis| axis != worst);
    let coarsest_other = others().map(|a| target[a]).fold(0.0, f64::max);
    let shortest_other = others().map(|a| size[a]).fold(f64::INFINITY, f64::min);
    if target[worst] > ANISOTROPY * coarsest_other && ANISOTROPY * size[worst] < shortest_other {
        let fine = percentiles(values, 10.0)[worst];
        target[worst] = if fine < coarsest_other {
            coarsest_other + 1e-5
        } else {
            fine
        };
    }
    target
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
/// shorten the axis that covers most of the image until two patches fit.
fn patch_size(
    spacing: Spacing,
    median_shape: [f64; 3],
    limit: &Limit,
) -> Result<([usize; 3], [[usize; 3]; 5])> {
    let mm = spacing.zyx();
    let scale = (256f64.powi(3) * mm.iter().product::<f64>()).cbrt();
    let start = std::array::from_fn(|a| (scale / mm[a]).round_ties_even().min(median_shape[a]));
    let mut strides = five_strides(mm, start);
    let mut multiple = divisor(&strides);
    let mut patch = padded(start, multiple);
    while limit.fitting(patch, &strides) < 2.0 {
        // Ties go to the last axis.
        let coverage = |a: usize| patch[a] as f64 / median_shape[a];
        let axis = (0..3)
            .filter(|&a| patch[a] > multiple[a])
            .max_by(|&a, &b| coverage(a).total_cmp(&coverage(b)))
            .ok_or_else(|| limit.error())?;
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
            return Err(limit.error());
        }
        patch = next;
    }
    Ok((patch, strides))
}

/// As many patches as fit, at most 5 % of all voxels of the data set, at least 2.
fn batch_size(patch: [usize; 3], median_shape: [f64; 3], cases: usize, fitting: f64) -> usize {
    let voxels = patch.iter().product::<usize>() as f64;
    let share = 0.05 * median_shape.iter().product::<f64>() * cases as f64 / voxels;
    let fitting = fitting.round_ties_even();
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
        let golden = testing::golden("nnunet/planner.json");
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
        let golden = testing::golden("nnunet/planner.json");
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
                patch_size(spacing, median, &Limit::Voxels(128 * 128 * 128)).unwrap();
            let exact: [usize; 3] = from_value(expected["patch_size"].clone()).unwrap();
            assert_eq!(patch, exact, "{name}");
            let exact: Vec<[usize; 3]> = from_value(expected["strides"].clone()).unwrap();
            for (stage, stride) in strides.iter().enumerate() {
                let exact = exact.get(stage + 1).copied().unwrap_or([1; 3]);
                assert_eq!(*stride, exact, "{name}, stage {stage}");
            }
        }
    }

    /// With nnU-Net's network and device, patch, poolings and batch are nnU-Net's wherever it pools
    /// five times at most.
    #[test]
    fn golden_patches_and_batches_for_nnunets_network() {
        let golden = testing::golden("nnunet/planner.json");
        let mut compared = 0;
        for case in golden["cases"].as_array().unwrap() {
            let expected = &case["outputs"]["configurations"]["3d_fullres"];
            if case["op"] != "plan_experiment" || expected.is_null() {
                continue;
            }
            let exact: Vec<[usize; 3]> = from_value(expected["strides"].clone()).unwrap();
            if exact.len() > 6 {
                continue;
            }
            let (_, shapes) = fingerprint(case);
            let name = case["name"].as_str().unwrap();
            let limit = Limit::Memory {
                network: PlanNetwork::UNet,
                gigabytes: case["params"]["gpu_memory_target_gb"].as_f64().unwrap(),
                outputs: case["params"]["n_labels_with_background"].as_u64().unwrap() as usize,
            };
            let spacing: Spacing = from_value(expected["spacing"].clone()).unwrap();
            let median: [f64; 3] =
                from_value(expected["median_image_size_in_voxels"].clone()).unwrap();
            let (patch, strides) = patch_size(spacing, median, &limit).unwrap();
            let expected_patch: [usize; 3] = from_value(expected["patch_size"].clone()).unwrap();
            // Fewer poolings than five leave strides of 1 at the end, and with them one more stage
            // in the estimate, so that only the full number is bound to end alike.
            if exact.len() == 6 {
                assert_eq!(patch, expected_patch, "{name}");
                assert_eq!(strides[..], exact[1..], "{name}");
                let fitting = limit.fitting(patch, &strides);
                let batch = batch_size(patch, median, shapes.len(), fitting) as u64;
                assert_eq!(Some(batch), expected["batch_size"].as_u64(), "{name}");
                compared += 1;
            }
        }
        assert!(compared >= 5, "{compared}");
    }

    #[test]
    fn more_memory_or_a_smaller_network_gives_larger_patches() {
        let (_folder, dataset) = testing::dataset();
        let mut fingerprint = Fingerprint::of(&dataset).unwrap();
        for case in &mut fingerprint.cases {
            case.shape_after_crop = [64, 320, 320];
            case.spacing = Spacing::new(2.5, 1.0, 1.0).unwrap();
        }
        let voxels = |network, memory_gb| {
            let options = PlanOptions {
                network: Some(network),
                memory_gb,
                ..PlanOptions::default()
            };
            let plan = Plan::new(&dataset, &fingerprint, &options).unwrap();
            plan.patch_size.iter().product::<usize>()
        };
        use PlanNetwork::{StuNetB, StuNetL, StuNetS};
        assert!(voxels(StuNetS, 8.0) > voxels(StuNetB, 8.0));
        assert!(voxels(StuNetB, 8.0) > voxels(StuNetL, 8.0));
        assert!(voxels(StuNetB, 24.0) > voxels(StuNetB, 8.0));
        let options = PlanOptions {
            network: Some(StuNetL),
            memory_gb: 1e-5,
            ..PlanOptions::default()
        };
        let error = Plan::new(&dataset, &fingerprint, &options).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Setting {
                    field: "memory_gb",
                    ..
                }
            ),
            "{error}"
        );
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
