//! Which voxels are neighbours, and what lies beyond the image.

use serde::{Deserialize, Serialize};

/// Which voxels count as neighbours of a voxel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Connectivity {
    /// The 6 voxels that share a face.
    Face,
    /// The 18 voxels that share a face or an edge.
    Edge,
    /// The 26 voxels that share a face, an edge or a corner.
    Vertex,
}

impl Connectivity {
    /// Number of neighbours: 6, 18 or 26.
    pub fn neighbours(self) -> usize {
        match self {
            Self::Face => 6,
            Self::Edge => 18,
            Self::Vertex => 26,
        }
    }

    /// The connectivity that the background must have when the object has this one: faces for an
    /// object joined over edges or corners, and corners for one joined over faces.
    ///
    /// With any other pair a closed surface could leak, or an open one could enclose (Kong and
    /// Rosenfeld 1989, digital topology).
    pub fn dual(self) -> Self {
        match self {
            Self::Face => Self::Vertex,
            Self::Edge | Self::Vertex => Self::Face,
        }
    }

    /// How far along x neighbours reach in the row at the offset (`dz`, `dy`): `Some(0)` for the
    /// voxel at the same x alone, `Some(1)` for those beside it too, `None` for no neighbours.
    pub(crate) fn reach(self, dz: isize, dy: isize) -> Option<usize> {
        let axes_allowed = match self {
            Self::Face => 1,
            Self::Edge => 2,
            Self::Vertex => 3,
        };
        match dz.unsigned_abs() + dy.unsigned_abs() {
            used if used > axes_allowed => None,
            used if used == axes_allowed => Some(0),
            _ => Some(1),
        }
    }
}

/// What lies beyond the edge of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outside {
    /// Background: an object cut by the edge of the image ends there.
    Background,
    /// Object: an object cut by the edge of the image goes on.
    Object,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reach_adds_up_to_the_number_of_neighbours() {
        for connectivity in [Connectivity::Face, Connectivity::Edge, Connectivity::Vertex] {
            let offsets = (-1..=1).flat_map(|dz| (-1..=1).map(move |dy| (dz, dy)));
            let voxels: usize = offsets
                .filter_map(|(dz, dy)| connectivity.reach(dz, dy))
                .map(|reach| 2 * reach + 1)
                .sum();
            assert_eq!(voxels - 1, connectivity.neighbours());
        }
    }
}
