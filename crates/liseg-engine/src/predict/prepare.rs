//! An image on its way to the networks.

use crate::Result;
use liseg_data::{Plan, PreprocessedImage, preprocess_phase, preprocess_volume};
use liseg_volume::Volume;

/// An image on the grid that networks see.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) image: PreprocessedImage,
    /// As the model that finds the liver sees it, where that is another one.
    pub(super) coarse: Option<PreprocessedImage>,
}

impl Prepared {
    /// By the first plan and, where there is one, by the second; normalised as they say for the phase.
    pub(super) fn new(volume: Volume<f32>, phase: Option<&str>, plans: &[Plan]) -> Result<Self> {
        let coarse = match plans.get(1) {
            Some(plan) => Some(preprocess_phase(&volume, phase, plan)?),
            None => None,
        };
        let plan = plans.first().ok_or_else(|| crate::Error::Setting {
            field: "plan",
            reason: "there is none to prepare an image by".into(),
        })?;
        Ok(Self {
            image: preprocess_volume(volume, phase, None, plan)?,
            coarse,
        })
    }
}
