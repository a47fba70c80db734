//! Zeros outside the image.

use rand::Rng;

use crate::{Params, PatchInfo, Transform};

/// Sets all channels to 0 where the label is negative: nnU-Net's step for images that were
/// normalised inside their non-zero mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskOutside;

impl Transform for MaskOutside {
    fn name(&self) -> &'static str {
        "mask_outside"
    }

    fn sample(&self, info: &PatchInfo, _: &mut dyn Rng) -> Params {
        Params::MaskOutside {
            channels: (0..info.channels).collect(),
        }
    }
}
