//! Draws one patch: case, place and augmentation, all from the patch's own random stream.

use crate::balance::CaseDraw;
use crate::batch::{LabelledPatch, Origin, UnlabelledPatch};
use crate::sampler::{PatchSampler, cut, cut_inside, is_forced};
use crate::{Error, LoaderConfig, Result, StoredCase};
use liseg_augment::{Pipeline, Sample};
use liseg_volume::Seed;
use ndarray::Axis;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A case of the unlabelled stream: its label, if it has one, cannot be reached.
#[derive(Debug, Clone)]
pub(crate) struct ImageOnly(Arc<StoredCase>);

impl ImageOnly {
    pub(crate) fn new(case: Arc<StoredCase>) -> Self {
        Self(case)
    }

    pub(crate) fn case(&self) -> &StoredCase {
        &self.0
    }
}

/// A patch of either stream.
#[derive(Debug)]
pub(crate) enum Patch {
    Labelled(LabelledPatch),
    Unlabelled(UnlabelledPatch),
}

/// The random transforms of a loader.
#[derive(Debug, Clone)]
pub struct Pipelines {
    /// Of labelled patches.
    pub labelled: Arc<Pipeline>,
    /// Of unlabelled patches: their weak view.
    pub unlabelled: Arc<Pipeline>,
    /// From a weak view to a strong one. It must leave every voxel in its place.
    pub strong: Arc<Pipeline>,
}

impl From<Arc<Pipeline>> for Pipelines {
    /// The same transforms for both streams, and strong views like the weak ones.
    fn from(both: Arc<Pipeline>) -> Self {
        Self {
            labelled: Arc::clone(&both),
            unlabelled: both,
            strong: Arc::new(Pipeline::new()),
        }
    }
}

/// Everything needed to make any patch of a run; shared by all workers.
#[derive(Debug)]
pub(crate) struct PatchMaker {
    pub(crate) config: LoaderConfig,
    pub(crate) labelled: Vec<Arc<StoredCase>>,
    pub(crate) unlabelled: Vec<ImageOnly>,
    pub(crate) draw_labelled: CaseDraw,
    pub(crate) draw_unlabelled: CaseDraw,
    /// Nanoseconds that making patches took.
    pub(crate) making: AtomicU64,
    /// Where patches of either stream are cut.
    pub(crate) samplers: [PatchSampler; 2],
    pub(crate) pipelines: Pipelines,
    pub(crate) seed: Seed,
}

impl PatchMaker {
    /// Patches per batch, of both streams together.
    pub(crate) fn patches(&self) -> usize {
        self.config.labelled + self.config.unlabelled
    }

    /// Makes a patch of a batch: the labelled ones come first.
    pub(crate) fn make(&self, iteration: u64, patch: usize) -> Result<Patch> {
        let start = Instant::now();
        let made = match patch.checked_sub(self.config.labelled) {
            None => self.labelled(iteration, patch).map(Patch::Labelled),
            Some(slot) => self.unlabelled(iteration, slot).map(Patch::Unlabelled),
        };
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.making.fetch_add(nanoseconds, Ordering::Relaxed);
        made
    }

    fn labelled(&self, iteration: u64, slot: usize) -> Result<LabelledPatch> {
        let mut rng = self.seed.stream("labelled", iteration, slot as u64);
        let case = &self.labelled[self.draw_labelled.draw(&mut rng)];
        let shape = case.shape();
        let forced = is_forced(slot, self.config.labelled, self.config.foreground_share);
        let voxel = if forced {
            case.random_foreground(&mut rng)
        } else {
            None
        };
        let [sampler, _] = &self.samplers;
        let corner = match voxel {
            Some(voxel) => sampler.corner_around(shape, voxel),
            None => sampler.random_corner(shape, &mut rng),
        };
        let size = sampler.initial();
        let label = match case.label() {
            Some(label) => cut(label, corner, size, -1),
            None => cut_inside(shape, corner, size),
        };
        let image = case.cut_image(corner, size).insert_axis(Axis(0));
        let place = (case.as_ref(), iteration, slot);
        let sample = Sample::new(image, label);
        let sample = self.augment(&self.pipelines.labelled, sample, place, &mut rng)?;
        Ok(LabelledPatch {
            valid: sample.label.mapv(|label| u8::from(label >= 0)),
            label: sample.label.mapv(|label| label.max(0) as u8),
            image: sample.image,
            origin: origin(case),
        })
    }

    fn unlabelled(&self, iteration: u64, slot: usize) -> Result<UnlabelledPatch> {
        let mut rng = self.seed.stream("unlabelled", iteration, slot as u64);
        let case = &self.unlabelled[self.draw_unlabelled.draw(&mut rng)];
        let shape = case.0.shape();
        let [_, sampler] = &self.samplers;
        let corner = sampler.random_corner(shape, &mut rng);
        let size = sampler.initial();
        let image = case.0.cut_image(corner, size).insert_axis(Axis(0));
        let label = cut_inside(shape, corner, size);
        let place = (case.0.as_ref(), iteration, slot);
        let sample = Sample::new(image, label);
        let sample = self.augment(&self.pipelines.unlabelled, sample, place, &mut rng)?;
        let strong = (0..self.config.strong_views)
            .map(|view| {
                let mut rng = self
                    .seed
                    .stream(&format!("strong/{view}"), iteration, slot as u64);
                let strong = &self.pipelines.strong;
                Ok(self.augment(strong, sample.clone(), place, &mut rng)?.image)
            })
            .collect::<Result<_>>()?;
        Ok(UnlabelledPatch {
            valid: sample.label.mapv(|label| u8::from(label >= 0)),
            image: sample.image,
            strong,
            origin: origin(&case.0),
        })
    }

    fn augment(
        &self,
        pipeline: &Pipeline,
        sample: Sample,
        (case, iteration, slot): (&StoredCase, u64, usize),
        rng: &mut dyn Rng,
    ) -> Result<Sample> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Patching {
            case: case.id().to_owned(),
            iteration,
            slot,
            source,
        };
        let last = self.config.patch_size;
        let sample = pipeline
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

fn origin(case: &StoredCase) -> Origin {
    let provenance = &case.record().provenance;
    Origin {
        case: case.id().to_owned(),
        phase: provenance.phase.clone(),
        vendor: provenance.vendor.clone(),
    }
}
