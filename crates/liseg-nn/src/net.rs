//! The trait at which networks and strategies meet.

use crate::{Parameters, Result};
use tch::Tensor;

/// A network that turns images into per-voxel class logits.
///
/// Strategies see networks only through this trait, so any architecture serves any strategy.
pub trait SegmentationNet: Send {
    /// Logits at every scale the network supervises, finest first: the first has the input's
    /// grid, `[N, classes, Z, Y, X]`; the following are coarser by the network's strides.
    ///
    /// `images` is f32 `[N, channels, Z, Y, X]` on the network's device, every spatial axis
    /// divisible by [`SegmentationNet::stride_product`]. Logits are f32.
    ///
    /// # Errors
    /// When the shape does not fit or libtorch fails (out of memory, for instance).
    fn forward_scales(&self, images: &Tensor) -> Result<Vec<Tensor>>;

    /// Logits at full resolution, f32 `[N, classes, Z, Y, X]`; cheaper than all scales.
    ///
    /// # Errors
    /// As [`SegmentationNet::forward_scales`].
    fn forward(&self, images: &Tensor) -> Result<Tensor>;

    /// As [`SegmentationNet::forward`], with the features of every encoder stage, `[N, channels, Z,
    /// Y, X]`, replaced by what `perturb` makes of them. Stages are counted from 0, the finest.
    ///
    /// A network without such stages ignores `perturb`, which is what this default does.
    ///
    /// # Errors
    /// As [`SegmentationNet::forward_scales`], and those of `perturb`.
    fn forward_perturbed(
        &self,
        images: &Tensor,
        perturb: &mut dyn FnMut(usize, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let _ = perturb;
        self.forward(images)
    }

    /// The network's weights.
    fn parameters(&self) -> &Parameters;

    /// The network's weights, to load or freeze.
    fn parameters_mut(&mut self) -> &mut Parameters;

    /// Number of output classes, background included.
    fn classes(&self) -> i64;

    /// By how much the network divides each spatial axis, (z, y, x).
    fn stride_product(&self) -> [usize; 3];

    /// Name prefixes of the segmentation heads, which transfer learning leaves out and
    /// co-training re-initialises.
    fn head_prefixes(&self) -> Vec<String>;

    /// Names of the convolution weights that see the image, `[outputs, channels, …]`: those that
    /// transfer learning repeats when the images have more channels than the weights.
    fn stem_weights(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether published checkpoints hold this name beside the network's own, for weights that they
    /// list twice. Such names are passed over in loading.
    fn is_second_name(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}
