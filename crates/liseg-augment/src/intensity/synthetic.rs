//! Synthetic contrast from labels and supervoxels.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};

use super::statistics::{Statistics, restore};
use super::supervoxels::supervoxels;
use crate::{Interval, Params, PatchInfo, Transform};

/// Gives every tissue a new, random intensity: what a sequence that was never seen might show.
///
/// Tissues are the labels and, where nothing is labelled, classes of supervoxels of like
/// intensity. Each gets a random mean; voxels keep some of their distance from their supervoxel's
/// mean as texture. (Billot et al. 2023, SynthSeg: contrasts drawn for each label; supervoxels in
/// place of labels after the MA2 entry to CARE 2025.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SyntheticContrast {
    /// Side of a supervoxel in voxels, where the sample brings no map of regions.
    pub supervoxel: usize,
    /// Classes of unlabelled supervoxels.
    pub tissues: usize,
    /// Share of the texture that is kept.
    pub detail: Interval,
}

impl Transform for SyntheticContrast {
    fn name(&self) -> &'static str {
        "synthetic"
    }

    fn sample(&self, _: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::Synthetic {
            seed: rng.next_u64() >> 11,
            supervoxel: self.supervoxel,
            tissues: self.tissues,
            detail: self.detail.draw(rng),
        }
    }
}

/// What is known of one region.
#[derive(Debug, Clone, Copy, Default)]
struct Region {
    sum: f64,
    squares: f64,
    count: f64,
    mean: f32,
    target: f32,
}

/// How far regions of one tissue differ from each other, in units of their own spread: air, which
/// has none, stays even.
const JITTER: f64 = 0.5;

/// Redraws one channel; `regions` are the sample's own supervoxels, if it has any.
pub(crate) fn redraw(
    image: &mut [f32],
    shape: [usize; 3],
    label: &[i8],
    regions: Option<&[f32]>,
    (supervoxel, tissues): (usize, usize),
    detail: f64,
    seed: u64,
) {
    let before = Statistics::of(image);
    if before.std == 0.0 || tissues == 0 {
        return;
    }
    let groups: Vec<u32> = match regions {
        // Regions outside the image are −1: one group of their own.
        Some(map) => map
            .iter()
            .map(|&id| (id.clamp(-1.0, 1e6) as i32 + 1) as u32)
            .collect(),
        None => supervoxels(image, shape, supervoxel),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let draw = |rng: &mut ChaCha8Rng| -> f64 { rng.random_range(-1.0..1.0) };
    let of_tissue: Vec<f64> = (0..tissues).map(|_| draw(&mut rng)).collect();
    let of_label: Vec<f64> = (0..128).map(|_| draw(&mut rng)).collect();
    let count = groups.iter().max().map_or(0, |&most| most as usize + 1);
    let mut table = vec![Region::default(); count];
    for ((value, group), _) in image
        .iter()
        .zip(&groups)
        .zip(label)
        .filter(|(_, l)| **l <= 0)
    {
        let region = &mut table[*group as usize];
        region.sum += f64::from(*value);
        region.squares += f64::from(*value).powi(2);
        region.count += 1.0;
    }
    // Tissues are equal steps of intensity within two standard deviations of the mean.
    for region in &mut table {
        let jitter = draw(&mut rng) * JITTER;
        if region.count > 0.0 {
            let mean = region.sum / region.count;
            let step = ((mean - before.mean) / before.std + 2.0) / 4.0 * tissues as f64;
            let tissue = (step.clamp(0.0, tissues as f64 - 1.0)) as usize;
            region.mean = mean as f32;
            let spread = (region.squares / region.count - mean * mean)
                .max(0.0)
                .sqrt();
            region.target = (of_tissue[tissue] * before.std + jitter * spread) as f32;
        }
    }
    let mut labelled = [(0.0f64, 0.0f64); 128];
    for (value, label) in image.iter().zip(label).filter(|(_, l)| **l > 0) {
        let (sum, count) = &mut labelled[*label as usize];
        *sum += f64::from(*value);
        *count += 1.0;
    }
    let detail = detail as f32;
    for ((value, group), label) in image.iter_mut().zip(&groups).zip(label) {
        let (mean, target) = if *label > 0 {
            let (sum, count) = labelled[*label as usize];
            let target = of_label[*label as usize] * before.std;
            ((sum / count) as f32, target as f32)
        } else {
            let region = table[*group as usize];
            (region.mean, region.target)
        };
        *value = target + detail * (*value - mean);
    }
    restore(image, &before);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_texture_the_organ_is_flat_and_its_edge_stays() {
        let shape = [4, 8, 8];
        let mut image: Vec<f32> = (0..256).map(|k| (k as f32 * 0.37).sin()).collect();
        let label: Vec<i8> = (0..256).map(|k| i8::from(k % 8 < 3)).collect();
        redraw(&mut image, shape, &label, None, (4, 5), 0.0, 3);
        let organ: Vec<f32> = (0..256)
            .filter(|k| label[*k] > 0)
            .map(|k| image[k])
            .collect();
        assert!(organ.iter().all(|v| (v - organ[0]).abs() < 1e-6));
        assert!(image.iter().any(|v| (v - organ[0]).abs() > 0.05));
    }

    #[test]
    fn regions_of_the_sample_are_used_where_it_has_any() {
        let shape = [1, 4, 8];
        let image: Vec<f32> = (0..32).map(|k| (k as f32 * 0.9).cos()).collect();
        let regions: Vec<f32> = (0..32).map(|k| if k % 8 < 4 { 0.0 } else { 7.0 }).collect();
        let mut redrawn = image.clone();
        let label = vec![0i8; 32];
        redraw(&mut redrawn, shape, &label, Some(&regions), (4, 5), 0.0, 9);
        for (region, value) in regions.iter().zip(&redrawn) {
            let first = if *region < 1.0 {
                redrawn[0]
            } else {
                redrawn[4]
            };
            assert!((value - first).abs() < 1e-6);
        }
    }
}
