//! Networks together with what they need to know about images.

use super::{Postprocessing, SlidingWindow, Tta};
use super::{labels_on_source_grid, probabilities_on_source_grid};
use crate::{Error, Result, RunFolder};
use liseg_data::{Plan, preprocess_image};
use liseg_nn::tch::Device;
use liseg_nn::{Precision, SegmentationNet, TensorMap, checkpoint};
use liseg_stunet::{StuNet, StuNetConfig};
use liseg_volume::{LabelMap, Seed, Volume};
use std::collections::BTreeMap;
use std::path::Path;

/// The key of a checkpoint's facts under which a model describes itself.
const KEY: &str = "liseg_model";

/// What a checkpoint says about the networks in it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Description {
    network: StuNetConfig,
    plan: Plan,
    patch_size: [usize; 3],
    predictors: Vec<String>,
}

/// Trained networks, the plan they were trained with, and how to run them.
///
/// Loading a checkpoint gives everything prediction needs: no config, no dataset.
#[derive(Debug)]
pub struct Model {
    description: Description,
    networks: Vec<StuNet>,
    window: SlidingWindow,
    /// What is done to every mask.
    pub postprocessing: Postprocessing,
}

/// What a model says about one image.
#[derive(Debug)]
pub struct Prediction {
    /// The label map, in the geometry of the image.
    pub labels: LabelMap,
    /// The probability of each class, in the geometry of the image, when asked for.
    pub probabilities: Option<Vec<Volume<f32>>>,
}

impl Model {
    /// Loads the networks of a checkpoint onto a device.
    ///
    /// # Errors
    /// When the file is damaged, is no LiSeg checkpoint or does not fit its own description.
    pub fn load(path: &Path, device: Device, precision: Precision) -> Result<Self> {
        let (tensors, facts) = checkpoint::read(path)?;
        let refuse = |reason: String| Error::Run {
            path: path.to_owned(),
            reason,
        };
        let text = facts.get(KEY).ok_or_else(|| {
            refuse(
                "no LiSeg checkpoint: it does not describe its network; give a run's checkpoint"
                    .into(),
            )
        })?;
        let mut description: Description = serde_json::from_str(text)
            .map_err(|e| refuse(format!("its description cannot be read: {e}")))?;
        description.plan.validate()?;
        description.network.precision = precision;
        let mut networks = Vec::new();
        for name in &description.predictors {
            // The fresh weights are overwritten: their seed does not matter.
            let mut rng = Seed(0).stream("overwritten", 0, 0);
            let mut network = StuNet::new(&description.network, device, &mut rng)?;
            network
                .parameters_mut()
                .load(&format!("{name}."), &tensors)?;
            networks.push(network);
        }
        let window = SlidingWindow::new(description.patch_size, 0.5, Tta::None)?;
        Ok(Self {
            description,
            networks,
            window,
            postprocessing: Postprocessing::default(),
        })
    }

    /// Loads the networks that a run predicts with.
    ///
    /// # Errors
    /// As [`Model::load`], and when the run has no checkpoint yet.
    pub fn of_run(run: &RunFolder, device: Device, precision: Precision) -> Result<Self> {
        Self::load(&run.weights()?, device, precision)
    }

    /// Moves the window by at most `step` of a tile and averages over `tta`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a step outside (0, 1].
    pub fn with_window(mut self, step: f64, tta: Tta) -> Result<Self> {
        self.window = SlidingWindow::new(self.description.patch_size, step, tta)?;
        Ok(self)
    }

    /// The plan that images are prepared by.
    pub fn plan(&self) -> &Plan {
        &self.description.plan
    }

    /// Number of networks whose softmax maps are averaged.
    pub fn network_count(&self) -> usize {
        self.networks.len()
    }

    /// Segments an image of any grid and orientation.
    ///
    /// `on_tile` hears (tiles done, tiles in all) and stops the work by returning false, which
    /// gives `None`.
    ///
    /// # Errors
    /// When the image cannot be prepared (NaN voxels, for instance) or libtorch fails.
    pub fn predict(
        &self,
        image: &Volume<f32>,
        probabilities: bool,
        on_tile: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Prediction>> {
        let prepared = preprocess_image(image, &self.description.plan)?;
        let (z, y, x) = prepared.image.dim();
        let tiles = self.window.tiles([z, y, x]);
        let mut done = 0;
        let mut count = || {
            done += 1;
            on_tile(done, tiles)
        };
        let networks: Vec<&dyn SegmentationNet> = self
            .networks
            .iter()
            .map(|n| n as &dyn SegmentationNet)
            .collect();
        let Some(logits) = self
            .window
            .predict(&networks, prepared.image.view(), &mut count)?
        else {
            return Ok(None);
        };
        let mut labels = labels_on_source_grid(&logits, &prepared.restore)?;
        self.postprocessing.apply(&mut labels);
        let probabilities = if probabilities {
            Some(probabilities_on_source_grid(&logits, &prepared.restore)?)
        } else {
            None
        };
        Ok(Some(Prediction {
            labels,
            probabilities,
        }))
    }
}

/// The facts that let [`Model::load`] find its way in a checkpoint.
pub(crate) fn describe_model(
    network: &StuNetConfig,
    plan: &Plan,
    patch_size: [usize; 3],
    predictors: Vec<String>,
) -> BTreeMap<String, String> {
    let description = Description {
        network: network.clone(),
        plan: plan.clone(),
        patch_size,
        predictors,
    };
    let text = serde_json::to_string(&description).unwrap_or_default();
    BTreeMap::from([(KEY.to_owned(), text)])
}

/// Saves networks for prediction alone: no optimiser, no progress.
pub(crate) fn save_predictors(
    path: &Path,
    predictors: &[(&str, &dyn SegmentationNet)],
    facts: &BTreeMap<String, String>,
) -> Result<()> {
    let mut tensors = TensorMap::new();
    for (name, network) in predictors {
        network
            .parameters()
            .save_into(&format!("{name}."), &mut tensors)?;
    }
    Ok(checkpoint::write(path, &tensors, facts)?)
}
