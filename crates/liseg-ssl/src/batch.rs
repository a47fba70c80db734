//! What a strategy asks for and what it gets.

use crate::Error;
use liseg_nn::Result;
use liseg_nn::loss::Target;
use liseg_nn::tch::Tensor;

/// How many samples of each kind a strategy wants in every batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchRequest {
    /// Patches with labels.
    pub labelled: usize,
    /// Patches without labels; 0 for supervised training.
    pub unlabelled: usize,
    /// Strong views of every unlabelled patch: the same crop after intensity transforms, drawn
    /// independently for each view. With 1 or more the patch itself is a weak view, moved in space
    /// but not in intensity; with 0 it gets the transforms of the labelled ones.
    pub strong_views: usize,
    /// Whether labelled patches are weak views as well, moved in space alone.
    pub weak_labelled: bool,
}

/// Patches with labels, on the training device.
#[derive(Debug)]
pub struct Labelled {
    /// f32 `[n, channels, z, y, x]`.
    pub image: Tensor,
    /// Class of every voxel, int64 `[n, z, y, x]`.
    pub label: Tensor,
    /// Voxels inside the scanned volume, bool `[n, z, y, x]`; all of them when `None`.
    pub valid: Option<Tensor>,
}

/// Patches without labels, on the training device. There is no field a label could hide in.
#[derive(Debug)]
pub struct Unlabelled {
    /// f32 `[n, channels, z, y, x]`.
    pub image: Tensor,
    /// The strong views, each like `image` and of the same crops; as many as were requested.
    pub strong: Vec<Tensor>,
    /// Voxels inside the scanned volume, bool `[n, z, y, x]`; all of them when `None`.
    pub valid: Option<Tensor>,
}

/// One training batch.
#[derive(Debug)]
pub struct Batch {
    /// Patches with labels.
    pub labelled: Option<Labelled>,
    /// Patches without labels.
    pub unlabelled: Option<Unlabelled>,
}

impl Batch {
    /// Both parts, for a strategy that needs both.
    ///
    /// # Errors
    /// [`Error::Batch`] when one is missing or empty.
    pub fn both(&self, strategy: &'static str) -> crate::Result<(&Labelled, &Unlabelled)> {
        let missing = |needed| Error::Batch { strategy, needed };
        let labelled = self.labelled.as_ref().filter(|part| !part.is_empty());
        let unlabelled = self.unlabelled.as_ref().filter(|part| !part.is_empty());
        Ok((
            labelled.ok_or(missing("labelled patches"))?,
            unlabelled.ok_or(missing("unlabelled patches"))?,
        ))
    }
}

impl Labelled {
    /// What a loss compares logits with: the labels, where there is a scan.
    pub fn target(&self) -> Target {
        Target {
            label: self.label.shallow_clone(),
            valid: self.valid.as_ref().map(Tensor::shallow_clone),
        }
    }

    /// Number of patches.
    pub fn len(&self) -> usize {
        self.image.size().first().map_or(0, |&n| n as usize)
    }

    /// Whether there is no patch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `count` patches from `start` on; views, no copies.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn part(&self, start: usize, count: usize) -> Result<Self> {
        Ok(Self {
            image: narrow(&self.image, start, count)?,
            label: narrow(&self.label, start, count)?,
            valid: self
                .valid
                .as_ref()
                .map(|v| narrow(v, start, count))
                .transpose()?,
        })
    }
}

impl Unlabelled {
    /// Number of patches.
    pub fn len(&self) -> usize {
        self.image.size().first().map_or(0, |&n| n as usize)
    }

    /// Whether there is no patch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Strong view `view`, for a strategy that asked for it.
    ///
    /// # Errors
    /// [`Error::Batch`] when the batch holds fewer views.
    pub fn strong_view(&self, strategy: &'static str, view: usize) -> crate::Result<&Tensor> {
        self.strong.get(view).ok_or(Error::Batch {
            strategy,
            needed: "strong views of the unlabelled patches",
        })
    }

    /// `count` patches from `start` on; views, no copies.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn part(&self, start: usize, count: usize) -> Result<Self> {
        Ok(Self {
            image: narrow(&self.image, start, count)?,
            strong: self
                .strong
                .iter()
                .map(|view| narrow(view, start, count))
                .collect::<Result<_>>()?,
            valid: self
                .valid
                .as_ref()
                .map(|v| narrow(v, start, count))
                .transpose()?,
        })
    }
}

fn narrow(tensor: &Tensor, start: usize, count: usize) -> Result<Tensor> {
    Ok(tensor.f_narrow(0, start as i64, count as i64)?)
}
