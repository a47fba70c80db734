//! Segmentation losses, as nnU-Net defines them.

mod deep_supervision;
mod dice_cross_entropy;

pub use deep_supervision::{DeepSupervision, downsample_target};
pub use dice_cross_entropy::{DiceCrossEntropy, LossTerms, Target};
