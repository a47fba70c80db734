//! Why a mask may be empty.

use liseg_data::{Plan, Restore};
use liseg_mri::nifti::Warning;
use ndarray::ArrayView3;

/// What is known about an image in which nothing was found.
pub(super) struct Facts<'a> {
    pub(super) plan: &'a Plan,
    pub(super) restore: &'a Restore,
    pub(super) warnings: &'a [Warning],
    /// Phase of the image, where known.
    pub(super) phase: Option<&'a str>,
    /// Phases the model was trained on, where known.
    pub(super) phases: &'a [String],
    /// The largest probability of foreground anywhere, where known.
    pub(super) largest_probability: Option<f64>,
    /// Foreground before cleaning, in millilitres.
    pub(super) before_cleaning_ml: f64,
}

/// Field of view, in millimetres, below which a liver is not to be expected.
const SMALL_FIELD_MM: f64 = 60.0;

/// Likely causes of an empty mask, the most telling first; never none.
pub(super) fn causes(facts: &Facts<'_>, image: ArrayView3<'_, f32>) -> Vec<String> {
    let mut found = Vec::new();
    if facts.before_cleaning_ml > 0.0 {
        found.push(format!(
            "post-processing removed all of the {:.1} ml that was found: look at the minimum volume",
            facts.before_cleaning_ml
        ));
    }
    let first = image.first().copied().unwrap_or_default();
    if image.iter().all(|v| (v - first).abs() <= f32::EPSILON) {
        found.push("the image is constant: the file holds no picture".into());
    }
    for warning in facts.warnings {
        found.push(format!("the file is odd: {warning}"));
    }
    let spacing = facts.restore.source_spacing().zyx();
    let shape = facts.restore.canonical().shape;
    let field: [f64; 3] = std::array::from_fn(|a| spacing[a] * shape[a] as f64);
    if field.iter().any(|&mm| mm < SMALL_FIELD_MM) {
        let [z, y, x] = field.map(f64::round);
        found.push(format!(
            "the field of view is {x} × {y} × {z} mm (x, y, z): is the unit of the spacing \
             millimetres, and does it show the liver?"
        ));
    }
    let planned = facts.plan.spacing.zyx();
    let ratio = (0..3)
        .map(|a| spacing[a] / planned[a])
        .fold(1.0, |worst: f64, r| {
            if r.ln().abs() > worst.ln().abs() {
                r
            } else {
                worst
            }
        });
    if !(0.25..=4.0).contains(&ratio) {
        found.push(format!(
            "the spacing is {} and the model's is {}: voxels {ratio:.2} times as large",
            facts.restore.source_spacing(),
            facts.plan.spacing
        ));
    }
    if let Some(phase) = facts.phase
        && !facts.phases.is_empty()
        && !facts.phases.iter().any(|known| known == phase)
    {
        let known = facts.phases.join(", ");
        found.push(format!(
            "the image is {phase}; the model was trained on {known}"
        ));
    }
    if let Some(p) = facts.largest_probability.filter(|p| *p > 0.1) {
        found.push(format!(
            "nearly found: the foreground's probability reaches {p:.2}; try --tta mirror, or an \
             ensemble"
        ));
    }
    if found.is_empty() {
        found.push(
            "nothing odd about the file: does its header give the right orientation (liseg info), \
             and is this the kind of image the model was trained on?"
                .into(),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_data::preprocess_image;
    use liseg_volume::{Affine, Spacing, Volume};
    use ndarray::Array3;

    fn plan() -> Plan {
        serde_json::from_value(serde_json::json!({
            "dataset_name": "tiny", "orientation": "RAS", "spacing": [5.0, 3.0, 3.0],
            "median_image_size_in_voxels": [16.0, 48.0, 48.0], "patch_size": [16, 32, 32],
            "batch_size": 2, "normalization_scheme": "zscore",
            "pool_op_kernel_sizes": [[1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 1, 1], [1, 1, 1]],
            "labels": {"background": 0, "liver": 1},
            "original_median_spacing": [5.0, 3.0, 3.0], "original_median_shape": [16.0, 48.0, 48.0],
        }))
        .unwrap()
    }

    #[test]
    fn names_what_is_odd() {
        let plan = plan();
        let told = |spacing: [f64; 3], value: fn(usize) -> f32, phase, phases: &[String]| {
            let affine = Affine::from_spacing(Spacing::try_from(spacing).unwrap());
            let mut n = 0;
            let data = Array3::from_shape_simple_fn((20, 30, 30), || {
                n += 1;
                value(n)
            });
            let image = Volume::new(data, affine).unwrap();
            let made = preprocess_image(&image, &plan).unwrap();
            let facts = Facts {
                plan: &plan,
                restore: &made.restore,
                warnings: &[],
                phase,
                phases,
                largest_probability: Some(0.3),
                before_cleaning_ml: 0.0,
            };
            causes(&facts, made.image.view()).join("; ")
        };
        let varied = |n: usize| (n % 17) as f32;
        assert!(told([5.0, 3.0, 3.0], |_| 3.0, None, &[]).contains("constant"));
        assert!(told([0.5, 0.3, 0.3], varied, None, &[]).contains("millimetres"));
        assert!(told([30.0, 3.0, 3.0], varied, None, &[]).contains("6.00 times"));
        let phases = ["T2".to_owned()];
        assert!(told([5.0, 3.0, 3.0], varied, Some("DWI"), &phases).contains("trained on T2"));
        let text = told([5.0, 3.0, 3.0], varied, Some("T2"), &phases);
        assert!(text.starts_with("nearly found"), "{text}");
    }
}
