//! What can go wrong when transforms are configured or applied.

/// The result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A configuration, a parameter or a sample that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of [`AugmentConfig`](crate::AugmentConfig) is out of range.
    #[error("augmentation setting `{field}` is {found}, expected {expected}")]
    Config {
        /// The field's name, as in the configuration file.
        field: &'static str,
        /// The value found.
        found: String,
        /// What the field may be.
        expected: &'static str,
    },
    /// A drawn or replayed parameter is out of range.
    #[error("parameter `{field}` of {transform} is {found}, expected {expected}")]
    Parameter {
        /// The transform's name.
        transform: &'static str,
        /// The parameter's name.
        field: &'static str,
        /// The value found.
        found: String,
        /// What the parameter may be.
        expected: &'static str,
    },
    /// A parameter names a channel that the sample does not have.
    #[error("{transform} names channel {channel}, but the sample has {channels} channels")]
    Channel {
        /// The transform's name.
        transform: &'static str,
        /// The channel asked for, counted from 0.
        channel: usize,
        /// How many channels the sample has.
        channels: usize,
    },
    /// Image and label do not cover the same voxels.
    #[error("image has {image:?} voxels (z, y, x), label {label:?}: both must cover the same grid")]
    GridMismatch {
        /// Grid of the image.
        image: [usize; 3],
        /// Grid of the label.
        label: [usize; 3],
    },
    /// A map beside the image does not cover the same voxels.
    #[error(
        "image has {image:?} voxels (z, y, x), a map beside it {map:?}: both must cover the same grid"
    )]
    MapMismatch {
        /// Grid of the image.
        image: [usize; 3],
        /// Grid of the map.
        map: [usize; 3],
    },
    /// A sample without voxels, or with an axis too long to address.
    #[error(
        "sample has shape {found:?} (c, z, y, x), expected every axis in 1..=32767 and fewer than 2^32 voxels"
    )]
    Shape {
        /// Shape of the image.
        found: [usize; 4],
    },
}
