//! Draws one patch: case, place and augmentation, all from the patch's own random stream.

use crate::batch::{LabelledPatch, Origin, UnlabelledPatch};
use crate::sampler::{PatchSampler, cut, cut_inside, is_forced};
use crate::{Error, LoaderConfig, Result, StoredCase};
use liseg_augment::{Pipeline, Sample};
use liseg_volume::Seed;
use ndarray::{ArrayView3, Axis};
use rand::{Rng, RngExt};
use std::sync::Arc;

/// A case of the unlabelled stream: its label, if it has one, cannot be reached.
#[derive(Debug, Clone)]
pub(crate) struct ImageOnly(Arc<StoredCase>);

impl ImageOnly {
    pub(crate) fn new(case: Arc<StoredCase>) -> Self {
        Self(case)
    }

    fn image(&self) -> ArrayView3<'_, f32> {
        self.0.image()
    }
}

/// A patch of either stream.
#[derive(Debug)]
pub(crate) enum Patch {
    Labelled(LabelledPatch),
    Unlabelled(UnlabelledPatch),
}

/// Everything needed to make any patch of a run; shared by all workers.
#[derive(Debug)]
pub(crate) struct PatchMaker {
    pub(crate) config: LoaderConfig,
    pub(crate) labelled: Vec<Arc<StoredCase>>,
    pub(crate) unlabelled: Vec<ImageOnly>,
    pub(crate) sampler: PatchSampler,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) seed: Seed,
}

impl PatchMaker {
    /// Patches per batch, of both streams together.
    pub(crate) fn patches(&self) -> usize {
        self.config.labelled + self.config.unlabelled
    }

    /// Makes a patch of a batch: the labelled ones come first.
    pub(crate) fn make(&self, iteration: u64, patch: usize) -> Result<Patch> {
        match patch.checked_sub(self.config.labelled) {
            None => self.labelled(iteration, patch).map(Patch::Labelled),
            Some(slot) => self.unlabelled(iteration, slot).map(Patch::Unlabelled),
        }
    }

    fn labelled(&self, iteration: u64, slot: usize) -> Result<LabelledPatch> {
        let mut rng = self.seed.stream("labelled", iteration, slot as u64);
        let case = &self.labelled[rng.random_range(0..self.labelled.len())];
        let shape = case.shape();
        let forced = is_forced(slot, self.config.labelled, self.config.foreground_share);
        let voxel = if forced {
            foreground_voxel(case, &mut rng)
        } else {
            None
        };
        let corner = match voxel {
            Some(voxel) => self.sampler.corner_around(shape, voxel),
            None => self.sampler.random_corner(shape, &mut rng),
        };
        let size = self.sampler.initial();
        let label = match case.label() {
            Some(label) => cut(label, corner, size, -1),
            None => cut_inside(shape, corner, size),
        };
        let image = cut(case.image(), corner, size, 0.0).insert_axis(Axis(0));
        let sample = self.augment(Sample::new(image, label), case, iteration, slot, &mut rng)?;
        Ok(LabelledPatch {
            valid: sample.label.mapv(|label| u8::from(label >= 0)),
            label: sample.label.mapv(|label| label.max(0) as u8),
            image: sample.image,
            origin: origin(case),
        })
    }

    fn unlabelled(&self, iteration: u64, slot: usize) -> Result<UnlabelledPatch> {
        let mut rng = self.seed.stream("unlabelled", iteration, slot as u64);
        let case = &self.unlabelled[rng.random_range(0..self.unlabelled.len())];
        let shape = case.image().dim().into();
        let corner = self.sampler.random_corner(shape, &mut rng);
        let size = self.sampler.initial();
        let image = cut(case.image(), corner, size, 0.0).insert_axis(Axis(0));
        let label = cut_inside(shape, corner, size);
        let sample = self.augment(
            Sample::new(image, label),
            &case.0,
            iteration,
            slot,
            &mut rng,
        )?;
        Ok(UnlabelledPatch {
            valid: sample.label.mapv(|label| u8::from(label >= 0)),
            image: sample.image,
            origin: origin(&case.0),
        })
    }

    fn augment(
        &self,
        sample: Sample,
        case: &StoredCase,
        iteration: u64,
        slot: usize,
        rng: &mut dyn Rng,
    ) -> Result<Sample> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Patching {
            case: case.id().to_owned(),
            iteration,
            slot,
            source,
        };
        let last = self.config.patch_size;
        let sample = self
            .pipeline
            .run(sample, last, rng)
            .map_err(|e| failed(e.into()))?;
        if sample.shape() != last {
            return Err(failed(Box::new(Error::Shape {
                what: "the patch after augmentation",
                expected: last,
                found: sample.shape(),
            })));
        }
        Ok(sample)
    }
}

/// A remembered voxel (z, y, x) of a label that is drawn uniformly among those that occur.
fn foreground_voxel<R: Rng + ?Sized>(case: &StoredCase, rng: &mut R) -> Option<[usize; 3]> {
    let labels: Vec<u8> = case.foreground_labels().collect();
    if labels.is_empty() {
        return None;
    }
    let voxels = case.foreground(labels[rng.random_range(0..labels.len())]);
    let flat = *voxels.get(rng.random_range(0..voxels.len().max(1)))? as usize;
    let [_, height, width] = case.shape();
    let plane = height * width;
    Some([flat / plane, flat % plane / width, flat % width])
}

fn origin(case: &StoredCase) -> Origin {
    let provenance = &case.record().provenance;
    Origin {
        case: case.id().to_owned(),
        phase: provenance.phase.clone(),
        vendor: provenance.vendor.clone(),
    }
}
