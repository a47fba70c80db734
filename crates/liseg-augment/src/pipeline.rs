//! Transforms in a row, each with its probability.

use rand::Rng;

use crate::transform::chance;
use crate::{Params, PatchInfo, Result, Sample, Scratch, Transform};

/// Random transforms that are drawn and applied one after another.
///
/// Made from a configuration by [`AugmentConfig::build`](crate::AugmentConfig::build), or by
/// hand with [`Pipeline::with`].
#[derive(Default)]
pub struct Pipeline {
    steps: Vec<(f64, Box<dyn Transform>)>,
}

impl Pipeline {
    /// A pipeline that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a transform that is applied with the given probability: 0 or less is never, 1 or
    /// more is always.
    #[must_use]
    pub fn with(mut self, probability: f64, transform: impl Transform + 'static) -> Self {
        self.steps.push((probability, Box::new(transform)));
        self
    }

    /// Names and probabilities of the transforms, in order.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        self.steps
            .iter()
            .map(|(probability, transform)| (transform.name(), *probability))
    }

    /// The size of the patch to load so that the network gets one of `final_shape` (both
    /// `[z, y, x]`, in voxels): larger where patches are turned or scaled, equal otherwise.
    pub fn initial_shape(&self, final_shape: [usize; 3]) -> [usize; 3] {
        self.steps
            .iter()
            .rev()
            .fold(final_shape, |shape, (_, transform)| {
                transform.initial_shape(shape)
            })
    }

    /// Draws the parameters for one patch: those of the transforms that happen, in order.
    pub fn draw(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Vec<Params> {
        let mut params = Vec::with_capacity(self.steps.len());
        for (probability, transform) in &self.steps {
            if chance(rng, *probability) {
                params.push(transform.sample(info, rng));
            }
        }
        params
    }

    /// Applies drawn parameters in order. Needs no pipeline, so a logged patch can be made again
    /// long after its configuration has changed.
    ///
    /// # Errors
    /// Those of [`Params::apply`].
    pub fn apply(params: &[Params], sample: Sample) -> Result<Sample> {
        Scratch::with(|scratch| Self::apply_with(params, sample, scratch))
    }

    /// [`Self::apply`] with the buffers of `scratch`.
    ///
    /// # Errors
    /// Those of [`Params::apply`].
    pub fn apply_with(params: &[Params], sample: Sample, scratch: &mut Scratch) -> Result<Sample> {
        params
            .iter()
            .try_fold(sample, |sample, params| params.apply_with(sample, scratch))
    }

    /// Draws and applies to a patch that has its final shape already, such as one that another
    /// pipeline made: the strong view of a weak one.
    ///
    /// # Errors
    /// Those of [`Params::apply`].
    pub fn run_on_view(&self, sample: Sample, rng: &mut dyn Rng) -> Result<Sample> {
        let shape = sample.shape();
        self.run(sample, shape, rng)
    }

    /// Draws and applies: from a patch of [`Self::initial_shape`] to one of `final_shape`
    /// (`[z, y, x]`, voxels).
    ///
    /// # Errors
    /// Those of [`Params::apply`].
    pub fn run(
        &self,
        sample: Sample,
        final_shape: [usize; 3],
        rng: &mut dyn Rng,
    ) -> Result<Sample> {
        let info = PatchInfo {
            final_shape,
            channels: sample.channels(),
        };
        Self::apply(&self.draw(&info, rng), sample)
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.steps()).finish()
    }
}
