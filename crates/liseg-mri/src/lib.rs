//! Reads and writes medical volumes, and brings them to the grid and the intensity range of a
//! network.
//!
//! - [`nifti`]: files in and out, hardened against broken and hostile ones
//! - [`resample`]: to another spacing, with nnU-Net's numbers
//! - [`normalize`]: z-score, percentiles, minimum and maximum, histogram matching, Nyúl's standard
//! - [`crop`]: the box of non-zero voxels
//! - [`summarize`]: range, mean and sum of an image; [`replace_non_finite`]: its voxels that are no numbers
//!
//! # Example
//! ```
//! use liseg_mri::{nifti, normalize, resample};
//! use liseg_volume::{Affine, Spacing, Volume};
//! use ndarray::Array3;
//!
//! # let folder = std::env::temp_dir().join(format!("liseg-mri-example-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let file = folder.join("case.nii.gz");
//! let spacing = Spacing::new(2.5, 1.0, 1.0)?;
//! let image = Array3::from_shape_fn((8, 32, 32), |(z, y, x)| (z * y + x) as f32);
//! nifti::write_image(&file, &Volume::new(image, Affine::from_spacing(spacing))?, None)?;
//!
//! // To the grid and range of a network …
//! let source = nifti::read_image(&file)?;
//! let mut network = resample::resample_image(&source.volume.to_canonical(), Spacing::new(1.25, 1.5, 1.5)?)?;
//! assert_eq!(network.shape(), [16, 21, 21]);
//! normalize::z_score(&mut network.data_mut())?;
//!
//! // … and a mask back into the file's own geometry.
//! let mask = source.volume.map(|&v| u8::from(v > 40.0));
//! nifti::write_labels(folder.join("mask.nii.gz"), &mask, Some(&source.header))?;
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod crop;
mod error;
mod finite;
mod format;
pub mod nifti;
pub mod normalize;
pub mod resample;
mod summary;

pub use error::{Error, Result};
pub use finite::{mostly_non_finite, replace_non_finite};
pub use format::OtherFormat;
pub use summary::{Summary, summarize};
