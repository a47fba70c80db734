//! A patch on its way to the network.

use ndarray::{Array3, Array4};

use crate::{Error, Result};

/// Longest axis handled, in voxels: the limit of the NIfTI-1 header.
pub(crate) const LONGEST_SIDE: usize = 32767;

/// The label of voxels outside the image.
pub const OUTSIDE: i8 = -1;

/// How a map beside the image is carried along by spatial transforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKind {
    /// A quantity, such as a weight: interpolated linearly, 0 outside the image.
    Quantity,
    /// Numbers of regions, such as supervoxels: the nearest voxel's, −1 outside the image.
    Regions,
}

impl MapKind {
    /// What stands for the outside of the image.
    pub(crate) fn outside(self) -> f32 {
        match self {
            Self::Quantity => 0.0,
            Self::Regions => f32::from(OUTSIDE),
        }
    }
}

/// A map beside the image: supervoxels, a weight for each voxel, a soft label.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtraMap {
    /// One value for each voxel, `[z, y, x]`.
    pub values: Array3<f32>,
    /// How the values are read between voxels.
    pub kind: MapKind,
}

/// An image patch, its label and further maps on one grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Intensities with axes `[c, z, y, x]`, normalised; 0 where the patch leaves the image.
    pub image: Array4<f32>,
    /// Labels with axes `[z, y, x]`: 0 is background, [`OUTSIDE`] (−1) lies outside the image.
    /// An unlabelled patch holds 0 and −1 only.
    pub label: Array3<i8>,
    /// Further maps: moved by spatial transforms, untouched by all others. Usually none.
    pub maps: Vec<ExtraMap>,
}

impl Sample {
    /// An image and its label, without further maps.
    pub fn new(image: Array4<f32>, label: Array3<i8>) -> Self {
        let maps = Vec::new();
        Self { image, label, maps }
    }

    /// An image without a label: all its voxels are inside and background.
    pub fn unlabelled(image: Array4<f32>) -> Self {
        let (_, z, y, x) = image.dim();
        Self::new(image, Array3::zeros((z, y, x)))
    }

    /// Size of the grid, `[z, y, x]` in voxels.
    pub fn shape(&self) -> [usize; 3] {
        let (z, y, x) = self.label.dim();
        [z, y, x]
    }

    /// How many channels the image has.
    pub fn channels(&self) -> usize {
        self.image.dim().0
    }

    /// Sets the listed channels to 0 where the label is negative.
    ///
    /// nnU-Net does so, after mirroring, for channels that were normalised inside the non-zero
    /// mask of the image. Channels that the image does not have are ignored.
    pub fn mask_outside(&mut self, channels: &[usize]) {
        for (channel, mut image) in self.image.outer_iter_mut().enumerate() {
            if channels.contains(&channel) {
                image.zip_mut_with(&self.label, |value, &label| {
                    if label < 0 {
                        *value = 0.0;
                    }
                });
            }
        }
    }

    /// Turns the label [`OUTSIDE`] into background: the last step before a loss that knows no −1.
    pub fn outside_to_background(&mut self) {
        self.label
            .mapv_inplace(|label| if label == OUTSIDE { 0 } else { label });
    }

    /// Checks the shapes and brings both arrays into C order, without a copy where they are.
    pub(crate) fn into_checked(self) -> Result<Self> {
        let (c, z, y, x) = self.image.dim();
        let label = self.shape();
        if [z, y, x] != label {
            return Err(Error::GridMismatch {
                image: [z, y, x],
                label,
            });
        }
        let sides_fit = [c, z, y, x]
            .iter()
            .all(|side| (1..=LONGEST_SIDE).contains(side));
        let voxels: u64 = [z, y, x].iter().map(|&side| side as u64).product();
        if !sides_fit || voxels >= u64::from(u32::MAX) {
            return Err(Error::Shape {
                found: [c, z, y, x],
            });
        }
        if let Some(map) = self.maps.iter().find(|map| map.values.dim() != (z, y, x)) {
            let (z, y, x) = map.values.dim();
            return Err(Error::MapMismatch {
                image: label,
                map: [z, y, x],
            });
        }
        let in_order = |map: ExtraMap| ExtraMap {
            values: standard(map.values),
            ..map
        };
        Ok(Self {
            image: standard(self.image),
            label: standard(self.label),
            maps: self.maps.into_iter().map(in_order).collect(),
        })
    }
}

/// The same array in C order.
fn standard<T: Clone, D: ndarray::Dimension>(array: ndarray::Array<T, D>) -> ndarray::Array<T, D> {
    if array.is_standard_layout() {
        array
    } else {
        array.as_standard_layout().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_on_two_grids_is_refused() {
        let sample = Sample::new(Array4::zeros((1, 2, 3, 4)), Array3::zeros((2, 3, 5)));
        let message = sample.into_checked().unwrap_err().to_string();
        assert!(
            message.contains("[2, 3, 4]") && message.contains("[2, 3, 5]"),
            "{message}"
        );
        let sample = Sample::new(Array4::zeros((0, 2, 3, 4)), Array3::zeros((2, 3, 4)));
        assert_eq!(
            sample.into_checked(),
            Err(Error::Shape {
                found: [0, 2, 3, 4]
            })
        );
    }

    #[test]
    fn reversed_views_become_contiguous_and_keep_their_values() {
        let mut image =
            Array4::from_shape_fn((1, 2, 3, 4), |(_, z, y, x)| (z * 12 + y * 4 + x) as f32);
        image.invert_axis(ndarray::Axis(3));
        let sample = Sample::new(image.clone(), Array3::zeros((2, 3, 4)));
        let checked = sample.into_checked().unwrap();
        assert!(checked.image.is_standard_layout());
        assert_eq!(checked.image, image);
    }
}
