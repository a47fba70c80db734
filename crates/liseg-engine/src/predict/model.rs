//! Networks together with what they need to know about images.

use super::description::Description;
use super::export::{Exporter, Layout, Maps, Outputs};
use super::finish::{Facts, Segmented};
use super::locate::{self, Coarse};
use super::memory::{self, CaseMemory, FileSize};
use super::prepare::Prepared;
use super::sliding_window::{Channels, Finished};
use super::{Postprocessing, Prediction, SlidingWindow, Tta};
use crate::{Error, Result, RunFolder};
use liseg_data::{Plan, PreprocessedImage};
use liseg_nn::tch::Device;
use liseg_nn::{Precision, SegmentationNet, TensorMap, checkpoint};
use liseg_stunet::Architecture;
use liseg_volume::{Region, Seed, Volume};
use ndarray::{Array3, ArrayView3, Axis, s};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Trained networks, the plan they were trained with, and how to run them.
///
/// Loading a checkpoint gives everything prediction needs: no config, no dataset.
#[derive(Debug)]
pub struct Model {
    description: Description,
    networks: Vec<Loaded>,
    window: SlidingWindow,
    coarse: Option<Coarse>,
    /// What is done to every mask.
    pub postprocessing: Postprocessing,
}

/// A network and its shape.
struct Loaded {
    shape: Architecture,
    network: Box<dyn SegmentationNet>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.shape.fmt(f)
    }
}

impl Model {
    /// Loads the networks of a checkpoint onto a device.
    ///
    /// # Errors
    /// When the file is damaged, is no LiSeg checkpoint or does not fit its own description.
    pub fn load(path: &Path, device: Device, precision: Precision) -> Result<Self> {
        let (tensors, facts) = checkpoint::read_beginning(path, Description::predictors)?;
        Self::of_tensors(path, &tensors, &facts, device, precision)
    }

    /// Builds the networks that `facts` describe from tensors that were read from `path`.
    pub(super) fn of_tensors(
        path: &Path,
        tensors: &TensorMap,
        facts: &BTreeMap<String, String>,
        device: Device,
        precision: Precision,
    ) -> Result<Self> {
        precision.check(device)?;
        let mut description = Description::of_facts(path, facts)?;
        description.network = description.network.with_precision(precision);
        description.refuse_without_weights(path, tensors)?;
        let mut networks = Vec::new();
        for name in &description.predictors {
            // The fresh weights are overwritten: their seed does not matter.
            let mut rng = Seed(0).stream("overwritten", 0, 0);
            let mut network = description.network.build(device, &mut rng)?;
            network
                .parameters_mut()
                .load(&format!("{name}."), tensors)?;
            networks.push(Loaded {
                shape: description.network.clone(),
                network,
            });
        }
        let window = SlidingWindow::new(description.patch_size, 0.5, Tta::None)?;
        Ok(Self {
            description,
            networks,
            window,
            coarse: None,
            postprocessing: Postprocessing::default(),
        })
    }

    /// Loads the networks that a run predicts with, and the post-processing chosen for it.
    ///
    /// # Errors
    /// As [`Model::load`], and when the run has no checkpoint yet.
    pub fn of_run(run: &RunFolder, device: Device, precision: Precision) -> Result<Self> {
        let mut model = Self::load(&run.weights()?, device, precision)?;
        let chosen = run.postprocessing_file();
        if chosen.is_file() {
            model.postprocessing = Postprocessing::read(&chosen)?;
        }
        Ok(model)
    }

    /// One model from several: folds, seeds, networks of other sizes. Its post-processing is that of the
    /// first.
    ///
    /// # Errors
    /// [`Error::Setting`] when there is none, or they see images differently: another spacing,
    /// normalization, patch or set of labels.
    pub fn ensemble(models: Vec<Self>) -> Result<Self> {
        let mut models = models.into_iter();
        let mut first = models.next().ok_or_else(|| Error::Setting {
            field: "--run",
            reason: "there is no model".into(),
        })?;
        for other in models {
            let (a, b) = (&first.description, &other.description);
            if a.plan.preprocessing_hash() != b.plan.preprocessing_hash()
                || a.patch_size != b.patch_size
            {
                return Err(Error::Setting {
                    field: "--run",
                    reason: format!(
                        "the models see images differently ({} with patch {:?}, {} with patch {:?}, or \
                         another normalization or labels); an ensemble needs runs on one preprocessed \
                         dataset",
                        a.plan.spacing, a.patch_size, b.plan.spacing, b.patch_size
                    ),
                });
            }
            first.description.training =
                first.description.training.and(&other.description.training);
            first.networks.extend(other.networks);
        }
        Ok(first)
    }

    /// Moves the window by at most `step` of a tile and averages over `tta`, where [`Tta::Mirror`] means the
    /// axes along which training mirrored images. [`Model::window_mut`] with [`SlidingWindow::moving`] flips along
    /// any axis.
    ///
    /// # Errors
    /// [`Error::Setting`] for a step outside (0, 1], and for axes that training never mirrored: the networks
    /// would be asked about images that they never saw.
    pub fn with_window(mut self, step: f64, tta: Tta) -> Result<Self> {
        let tta = self.description.training.flips(tta)?;
        self.window = self.window.moving(step, tta)?;
        Ok(self)
    }

    /// Looks for the liver first, with tiles that do not overlap, and segments only a box around it that
    /// is `margin_mm` larger on every side; the whole image where nothing is found.
    ///
    /// `by` finds the liver in place of this model: one trained on coarser images, for instance.
    #[must_use]
    pub fn coarse_to_fine(mut self, margin_mm: f64, by: Option<Self>) -> Self {
        self.coarse = Some(Coarse {
            margin_mm,
            by: by.map(Box::new),
        });
        self
    }

    /// How tiles are cut, weighted and summed.
    pub fn window(&self) -> &SlidingWindow {
        &self.window
    }

    /// How tiles are cut, weighted and summed, to change.
    pub fn window_mut(&mut self) -> &mut SlidingWindow {
        &mut self.window
    }

    /// The plan that images are prepared by.
    pub fn plan(&self) -> &Plan {
        &self.description.plan
    }

    /// Phases of the images it was trained on, where known.
    pub fn phases(&self) -> &[String] {
        &self.description.training.phases
    }

    fn networks(&self) -> Vec<&dyn SegmentationNet> {
        self.networks.iter().map(|n| n.network.as_ref()).collect()
    }

    /// Number of networks that answer together.
    pub fn network_count(&self) -> usize {
        self.networks.len()
    }

    /// Segments an image of any grid and orientation; `phase` chooses its normalization where the plan
    /// has one for it.
    ///
    /// `on_tile` hears (tiles done, tiles in all) and stops the work by returning false, which
    /// gives `None`.
    ///
    /// # Errors
    /// When the image cannot be prepared (NaN voxels, for instance) or libtorch fails.
    pub fn predict(
        &self,
        image: &Volume<f32>,
        phase: Option<&str>,
        outputs: Outputs,
        on_tile: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Prediction>> {
        let prepared = Prepared::new(image.clone(), phase, &self.plans())?;
        let Some(segmented) = self.segment(prepared, outputs, on_tile)? else {
            return Ok(None);
        };
        Ok(Some(segmented.finish(&self.facts(), &[], phase)?))
    }

    /// The plans that an image has to be prepared by: this model's, and that of the one that finds the liver.
    pub(super) fn plans(&self) -> Vec<Plan> {
        let coarse = self.coarse.as_ref().and_then(|coarse| coarse.by.as_ref());
        let plans = std::iter::once(self.plan().clone());
        plans
            .chain(coarse.map(|model| model.plan().clone()))
            .collect()
    }

    /// What finishing a mask needs to know of the model.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            plan: self.plan().clone(),
            training: self.description.training.clone(),
            postprocessing: self.postprocessing.clone(),
        }
    }

    /// Runs the networks over a prepared image; `None` when stopped.
    pub(super) fn segment(
        &self,
        prepared: Prepared,
        outputs: Outputs,
        on_tile: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Segmented>> {
        let Prepared { image, coarse } = prepared;
        let mut inside = None;
        if let Some(how) = &self.coarse {
            let finder = how.by.as_deref().unwrap_or(self);
            let Some(found) = locate::find(finder, coarse.as_ref().unwrap_or(&image), on_tile)?
            else {
                return Ok(None);
            };
            inside = found.and_then(|liver| {
                locate::on_plan_grid(liver, how.margin_mm, self.window.tile(), &image.restore)
            });
        }
        self.segment_inside(image, inside, outputs, on_tile)
    }

    /// [`Model::segment`] within a box of the prepared image.
    pub(super) fn segment_inside(
        &self,
        prepared: PreprocessedImage,
        inside: Option<Region>,
        outputs: Outputs,
        on_tile: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Segmented>> {
        let clock = Instant::now();
        let run = self.run(&self.window, &prepared, inside, outputs, on_tile)?;
        let Some((maps, network_seconds)) = run else {
            return Ok(None);
        };
        Ok(Some(Segmented {
            maps,
            disagreement_known: self.channels(outputs).disagreement,
            prepared,
            network_seconds,
            export_seconds: clock.elapsed().as_secs_f64() - network_seconds,
        }))
    }

    /// The maps of a whole image by another window than the model's own; `None` when stopped.
    pub(super) fn labels_with(
        &self,
        window: &SlidingWindow,
        prepared: &PreprocessedImage,
        on_tile: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Maps>> {
        let run = self.run(window, prepared, None, Outputs::default(), on_tile)?;
        Ok(run.map(|(maps, _)| maps))
    }

    /// The labels of a preprocessed image `[z, y, x]` on its own grid.
    pub(crate) fn labels_on_plan_grid(
        &self,
        image: ArrayView3<'_, f32>,
    ) -> Result<Option<Array3<u8>>> {
        let networks = self.networks();
        let mut labels = Array3::<u8>::zeros(image.raw_dim());
        let mut decide = |slices: Finished<'_>| {
            let end = slices.first + slices.logits.dim().1;
            let mut place = labels.slice_mut(s![slices.first..end, .., ..]);
            for (label, logits) in place.iter_mut().zip(slices.logits.lanes(Axis(0))) {
                let mut best = 0;
                for class in 1..logits.len() {
                    if logits[class] > logits[best] {
                        best = class;
                    }
                }
                *label = best as u8;
            }
            Ok(())
        };
        let all = Channels::default();
        let done = self
            .window
            .stream(&networks, image, all, &mut decide, &mut || true)?;
        Ok(done.map(|_| labels))
    }

    /// Maps, and the seconds spent in networks.
    fn run(
        &self,
        window: &SlidingWindow,
        prepared: &PreprocessedImage,
        inside: Option<Region>,
        outputs: Outputs,
        on_tile: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<(Maps, f64)>> {
        let channels = self.channels(outputs);
        let layout = Layout {
            classes: self.plan().classes(),
            margin: channels.margin,
            disagreement: channels.disagreement,
        };
        let whole = Region::full(prepared.restore.plan_shape());
        let Region { start: a, end: b } = inside.unwrap_or(whole);
        let view = prepared.image.slice(s![a[0]..b[0], a[1]..b[1], a[2]..b[2]]);
        let mut exporter = Exporter::new(&prepared.restore, inside, layout, outputs);
        let total = window.tiles(Region { start: a, end: b }.shape());
        let mut done = 0;
        let mut count = || {
            done += 1;
            on_tile(done, total)
        };
        let networks = self.networks();
        let mut take = |slices: Finished<'_>| {
            exporter.take(slices.first, slices.logits);
            Ok(())
        };
        let seconds = window.stream(&networks, view, channels, &mut take, &mut count)?;
        Ok(seconds.map(|seconds| (exporter.finish(), seconds)))
    }

    fn channels(&self, outputs: Outputs) -> Channels {
        Channels {
            margin: self.plan().classes() == 2,
            disagreement: outputs.uncertainty && self.networks.len() > 1,
        }
    }

    /// The memory that an image takes, judged by its header, and with `window` in place of the model's.
    pub(super) fn memory(
        &self,
        file: FileSize,
        outputs: Outputs,
        window: &SlidingWindow,
    ) -> CaseMemory {
        let channels = self.channels(outputs);
        let foreground = self.plan().classes() - 1;
        let known = usize::from(channels.disagreement);
        let job = memory::Job {
            channels: channels.count(self.plan().classes()),
            maps: if outputs.probabilities { foreground } else { 0 }
                + if outputs.uncertainty { 1 + known } else { 0 },
        };
        let forward = self
            .networks
            .iter()
            .filter_map(|Loaded { shape, network }| {
                let device = network.parameters().device();
                let kind = shape.precision().kind(device);
                let bytes = || shape.inference_bytes(self.window.tile(), window.batch, kind);
                (device == Device::Cpu).then(bytes)
            });
        let passes = forward.max().map(|forward| memory::Passes {
            forward,
            voxels: (window.batch * self.window.tile().iter().product::<usize>()) as u64,
            classes: self.plan().classes() as u64,
            networks: self.networks.len() as u64,
            flips: window.tta().passes() as u64,
            disagreement: channels.disagreement,
        });
        let mut found = memory::of_case(file, self.plan(), window, job, passes);
        if let Some(by) = self.coarse.as_ref().and_then(|coarse| coarse.by.as_ref()) {
            let other = by.memory(file, Outputs::default(), window);
            found.loading += other.loading;
            found.tiles = found.tiles.max(other.tiles) + 4 * file.geometry.voxels() as u64;
        }
        found
    }
}
