//! What is odd about an image, and why a mask may be empty.

use super::Training;
use liseg_data::{Plan, Restore};
use liseg_mri::nifti::Warning;
use ndarray::ArrayView3;

/// What is known about an image and its mask.
pub(super) struct Facts<'a> {
    pub(super) plan: &'a Plan,
    pub(super) restore: &'a Restore,
    pub(super) warnings: &'a [Warning],
    /// Phase of the image, where known.
    pub(super) phase: Option<&'a str>,
    /// What the model was trained on.
    pub(super) training: &'a Training,
    /// The largest probability of foreground anywhere, where known.
    pub(super) largest_probability: Option<f64>,
    /// Foreground before cleaning, in millilitres.
    pub(super) before_cleaning_ml: f64,
}

/// Field of view, in millimetres, below which a liver is not to be expected.
const SMALL_FIELD_MM: f64 = 60.0;

/// Share of voxels of one value from which on an image is odd: air around a body is up to two thirds.
const MOSTLY_ONE_VALUE: f64 = 0.95;

/// How far outside the spacings of training an image may lie: augmentation scales by about as much.
const SPACING_MARGIN: f64 = 1.5;

/// What is odd about an image, or was not met in training, the most telling first.
pub(super) fn remarks(facts: &Facts<'_>, image: ArrayView3<'_, f32>) -> Vec<String> {
    let mut found = Vec::new();
    match share_of_one_value(image) {
        1.0 if is_constant(image) => {
            found.push("the image is constant: the file holds no picture".into());
        }
        share if share >= MOSTLY_ONE_VALUE => found.push(format!(
            "{:.0} % of the image have one value: does the file hold a picture?",
            (100.0 * share).min(99.0)
        )),
        _ => {}
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
    found.extend(odd_spacing(facts, spacing));
    let phases = &facts.training.phases;
    if let Some(phase) = facts.phase
        && !phases.is_empty()
        && !phases.iter().any(|known| known == phase)
    {
        let known = phases.join(", ");
        found.push(format!(
            "the image is {phase}; the model was trained on {known}"
        ));
    }
    found
}

/// Whether all voxels have one value.
fn is_constant(image: ArrayView3<'_, f32>) -> bool {
    let first = image.first().map(|v| v.to_bits());
    image.iter().all(|v| Some(v.to_bits()) == first)
}

/// The share of voxels that have the most frequent of a few values, from a sample of some thousand voxels
/// at equal steps.
fn share_of_one_value(image: ArrayView3<'_, f32>) -> f64 {
    const SAMPLE: usize = 8191;
    let step = (image.len() / SAMPLE).max(1);
    let mut values: Vec<u32> = image.iter().step_by(step).map(|v| v.to_bits()).collect();
    values.sort_unstable();
    let longest = values.chunk_by(|a, b| a == b).map(<[u32]>::len).max();
    longest.unwrap_or(0) as f64 / values.len().max(1) as f64
}

/// The axis along which the spacing is farthest from what training met; from the plan's spacing where the
/// model does not say.
fn odd_spacing(facts: &Facts<'_>, spacing: [f64; 3]) -> Option<String> {
    let Some([low, high]) = facts.training.spacing_range else {
        let planned = facts.plan.spacing.zyx();
        let ratios = (0..3).map(|a| spacing[a] / planned[a]);
        let worst = ratios.max_by(|a, b| a.ln().abs().total_cmp(&b.ln().abs()))?;
        return (!(0.25..=4.0).contains(&worst)).then(|| {
            format!(
                "the spacing is {} and the model's is {}: voxels {worst:.2} times as large",
                facts.restore.source_spacing(),
                facts.plan.spacing
            )
        });
    };
    let beyond = |a: usize| (spacing[a] / high[a]).max(low[a] / spacing[a]);
    let axis = (0..3).max_by(|&a, &b| beyond(a).total_cmp(&beyond(b)))?;
    (beyond(axis) > SPACING_MARGIN).then(|| {
        format!(
            "the spacing along {} is {:.2} mm; the images of the training had {:.2} to {:.2} mm",
            ["z", "y", "x"][axis],
            spacing[axis],
            low[axis],
            high[axis]
        )
    })
}

/// Likely causes of an empty mask, the most telling first; never none.
pub(super) fn causes(facts: &Facts<'_>, remarks: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    if facts.before_cleaning_ml > 0.0 {
        found.push(format!(
            "post-processing removed all of the {:.1} ml that was found: look at the minimum volume",
            facts.before_cleaning_ml
        ));
    }
    found.extend_from_slice(remarks);
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
        let told = |spacing: [f64; 3], value: fn(usize) -> f32, phase, training: &Training| {
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
                training,
                largest_probability: Some(0.3),
                before_cleaning_ml: 0.0,
            };
            let remarks = remarks(&facts, made.image.view());
            causes(&facts, &remarks).join("; ")
        };
        let varied = |n: usize| (n % 17) as f32;
        let unknown = Training::default();
        assert!(told([5.0, 3.0, 3.0], |_| 3.0, None, &unknown).contains("constant"));
        let rarely = |n: usize| f32::from(u8::from(n.is_multiple_of(51)));
        assert!(told([5.0, 3.0, 3.0], rarely, None, &unknown).contains("98 %"));
        assert!(told([0.5, 0.3, 0.3], varied, None, &unknown).contains("millimetres"));
        assert!(told([30.0, 3.0, 3.0], varied, None, &unknown).contains("6.00 times"));
        let known = Training {
            phases: vec!["T2".to_owned()],
            spacing_range: Some([[4.0, 2.5, 2.5], [6.0, 3.0, 3.0]]),
            ..unknown
        };
        let text = told([9.5, 3.0, 3.0], varied, Some("DWI"), &known);
        assert!(text.contains("trained on T2"), "{text}");
        assert!(text.contains("along z is 9.50 mm"), "{text}");
        assert!(text.contains("had 4.00 to 6.00 mm"), "{text}");
        let text = told([8.5, 3.0, 3.0], varied, Some("T2"), &known);
        assert!(text.starts_with("nearly found"), "{text}");
    }
}
