//! NIfTI files: reading with every doubt turned into an error or a warning, writing with the
//! source's geometry.

mod data_type;
mod extension;
mod fields;
mod form;
mod gzip;
mod header;
mod open;
mod read;
mod repair;
mod source;
mod warning;
mod whole;
mod write;

pub use data_type::DataType;
pub use fields::Version;
pub use form::AffineSource;
pub use header::Header;
pub use open::header_path;
pub use read::{read_header, read_image, read_labels, read_volume};
pub use repair::{Repair, repair, squeeze};
pub use warning::Warning;
pub use write::{WriteOptions, write_image, write_image_with, write_labels, write_labels_with};

use liseg_volume::Volume;

/// A volume as read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Nifti<T> {
    /// Voxels, axes (z, y, x), with their affine in millimetres.
    pub volume: Volume<T>,
    /// What the file says about itself; pass it on to write a result with the same geometry.
    pub header: Header,
    /// What is odd about the file, header and voxels.
    pub warnings: Vec<Warning>,
}
