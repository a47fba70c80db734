//! Boxes of voxels.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A box of voxels, half open: `start` is inside, `end` is not; both in order (z, y, x).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Region {
    /// First voxel inside, (z, y, x).
    pub start: [usize; 3],
    /// First voxel past the box, (z, y, x).
    pub end: [usize; 3],
}

impl Region {
    /// The whole of a volume of that shape.
    pub fn full(shape: [usize; 3]) -> Self {
        Self {
            start: [0; 3],
            end: shape,
        }
    }

    /// Voxels along (z, y, x); zero where `end` does not lie past `start`.
    pub fn shape(&self) -> [usize; 3] {
        std::array::from_fn(|a| self.end[a].saturating_sub(self.start[a]))
    }

    /// Whether the box has no voxels.
    pub fn is_empty(&self) -> bool {
        self.shape().contains(&0)
    }

    /// The box grown by `margin` voxels on every side, cut at the borders of `shape`.
    pub fn dilated(&self, margin: [usize; 3], shape: [usize; 3]) -> Self {
        Self {
            start: std::array::from_fn(|a| self.start[a].saturating_sub(margin[a])),
            end: std::array::from_fn(|a| (self.end[a] + margin[a]).min(shape[a])),
        }
    }

    /// Checks that the box has voxels and lies inside a volume of that shape.
    ///
    /// # Errors
    /// [`Error::Region`] otherwise.
    pub fn check(&self, shape: [usize; 3]) -> Result<()> {
        if !self.is_empty() && (0..3).all(|a| self.end[a] <= shape[a]) {
            Ok(())
        } else {
            Err(Error::Region {
                region: self.to_string(),
                shape,
            })
        }
    }
}

impl std::fmt::Display for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [z, y, x]: [String; 3] =
            std::array::from_fn(|a| format!("{}..{}", self.start[a], self.end[a]));
        write!(f, "[{z}, {y}, {x}]")
    }
}
