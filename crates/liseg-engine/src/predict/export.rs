//! From logits on the network's grid to a mask on the file's grid.

use crate::Result;
use liseg_data::Restore;
use liseg_mri::resample::{Resampling, resample_array};
use liseg_volume::{LabelMap, Volume};
use ndarray::{Array3, Array4, ArrayView3, Axis, Zip, s};

/// Logits `[classes, z, y, x]` of the preprocessed image → the label map in the file's own geometry.
///
/// As nnU-Net: the logits are interpolated to the image's own grid, then the class with the largest
/// one is taken (the first on a tie); outside the non-zero box everything is background. Classes
/// are interpolated one after another, so only one of them is held at full resolution; of two
/// classes only the difference is, because interpolation is linear.
///
/// # Errors
/// When the logits do not have the grid that `restore` remembers.
pub fn labels_on_source_grid(logits: &Array4<f32>, restore: &Restore) -> Result<LabelMap> {
    let enlarge = |class: ArrayView3<'_, f32>| to_cropped_grid(class, restore);
    let classes = logits.len_of(Axis(0));
    let labels = if classes == 2 {
        let mut difference = logits.index_axis(Axis(0), 1).to_owned();
        difference -= &logits.index_axis(Axis(0), 0);
        enlarge(difference.view()).mapv(|d| u8::from(d > 0.0))
    } else {
        let mut best = enlarge(logits.index_axis(Axis(0), 0));
        let mut labels = Array3::<u8>::zeros(best.raw_dim());
        for class in 1..classes {
            let value = enlarge(logits.index_axis(Axis(0), class));
            Zip::from(&mut best)
                .and(&mut labels)
                .and(&value)
                .par_for_each(|best, label, &v| {
                    if v > *best {
                        *best = v;
                        *label = class as u8;
                    }
                });
        }
        labels
    };
    Ok(restore.restore_labels(labels)?)
}

/// The probability of each class on the file's grid, in the file's orientation; outside the
/// non-zero box the background has probability 1.
///
/// # Errors
/// When the logits do not have the grid that `restore` remembers.
pub fn probabilities_on_source_grid(
    logits: &Array4<f32>,
    restore: &Restore,
) -> Result<Vec<Volume<f32>>> {
    let mut classes: Vec<Array3<f32>> = logits
        .axis_iter(Axis(0))
        .map(|class| to_cropped_grid(class, restore))
        .collect();
    softmax(&mut classes);
    let region = restore.region();
    let (a, b) = (region.start, region.end);
    classes
        .into_iter()
        .enumerate()
        .map(|(class, values)| {
            let outside = if class == 0 { 1.0 } else { 0.0 };
            let mut whole = Array3::from_elem(restore.canonical().shape, outside);
            whole
                .slice_mut(s![a[0]..b[0], a[1]..b[1], a[2]..b[2]])
                .assign(&values);
            let turned = Volume::new(whole, restore.canonical().affine)?
                .reorient(restore.source_orientation());
            Ok(Volume::new(turned.into_data(), restore.source().affine)?)
        })
        .collect()
}

fn to_cropped_grid(class: ArrayView3<'_, f32>, restore: &Restore) -> Array3<f32> {
    resample_array(
        class,
        restore.cropped_shape(),
        restore.plan_spacing(),
        restore.source_spacing(),
        Resampling::LOGITS,
    )
}

/// Softmax over the classes at every voxel, in place.
fn softmax(classes: &mut [Array3<f32>]) {
    let Some(first) = classes.first() else { return };
    let mut largest = first.clone();
    for class in classes.iter() {
        Zip::from(&mut largest)
            .and(class)
            .par_for_each(|l, &c| *l = l.max(c));
    }
    let mut sum = Array3::<f32>::zeros(largest.raw_dim());
    for class in classes.iter_mut() {
        Zip::from(class)
            .and(&largest)
            .and(&mut sum)
            .par_for_each(|c, &l, s| {
                *c = (*c - l).exp();
                *s += *c;
            });
    }
    for class in classes.iter_mut() {
        Zip::from(class).and(&sum).par_for_each(|c, &s| *c /= s);
    }
}
