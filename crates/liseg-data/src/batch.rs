//! What a loader hands over.

use ndarray::{Array3, Array4};

/// Where a patch comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The case.
    pub case: String,
    /// Phase or sequence of the image.
    pub phase: Option<String>,
    /// Vendor or centre of the image.
    pub vendor: Option<String>,
}

/// A patch with its label, after augmentation.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledPatch {
    /// Intensities `[c, z, y, x]`; 0 outside the image.
    pub image: Array4<f32>,
    /// Labels `[z, y, x]`; 0 outside the image.
    pub label: Array3<u8>,
    /// 1 inside the image and 0 outside, `[z, y, x]`.
    pub valid: Array3<u8>,
    /// Where the patch comes from.
    pub origin: Origin,
}

/// A patch without a label, after augmentation.
#[derive(Debug, Clone, PartialEq)]
pub struct UnlabelledPatch {
    /// Intensities `[c, z, y, x]`; 0 outside the image.
    pub image: Array4<f32>,
    /// Strong views: `image` after further transforms, each with its own draws.
    pub strong: Vec<Array4<f32>>,
    /// 1 inside the image and 0 outside, `[z, y, x]`.
    pub valid: Array3<u8>,
    /// Where the patch comes from.
    pub origin: Origin,
}

/// The patches of one iteration.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The iteration the batch was drawn for.
    pub iteration: u64,
    /// Patches with labels; the last ones show foreground.
    pub labelled: Vec<LabelledPatch>,
    /// Patches without labels.
    pub unlabelled: Vec<UnlabelledPatch>,
}
