//! Pictures of medical volumes: slices in true proportions, with mask outlines and captions.
//!
//! [`overlay`] turns a volume and any number of masks into a [`Picture`]: one section through each
//! body plane, or a row of slices. It shows what a radiologist expects whatever the stored
//! orientation and spacing are: the patient's right on the left of axial and coronal pictures, the
//! patient's front on top of axial and on the left of sagittal ones, millimetres equally long along
//! both sides. Pictures are put together into sheets by [`Picture::beside`], [`Picture::below`] and
//! [`Picture::captioned`].
//!
//! # Example
//! ```
//! use liseg_picture::{Layout, Plane, overlay};
//! use liseg_volume::{Affine, Spacing, Volume};
//! use ndarray::Array3;
//!
//! let affine = Affine::from_spacing(Spacing::new(7.0, 2.0, 2.0)?);
//! let image = Volume::new(Array3::from_shape_fn((20, 60, 80), |(z, y, x)| (z + y + x) as f32), affine)?;
//! let mask = image.map(|&v| u8::from((60.0..90.0).contains(&v)));
//! let layout = Layout::slices(Plane::Axial, 3).with_caption("three slices");
//! let picture = overlay(&image, &[(&mask, [255, 200, 0])], &layout)?;
//! assert!(picture.width > 3 * 160); // 80 × 2 mm at one pixel per millimetre
//! let png = picture.to_png()?;
//! assert_eq!(&png[1..4], b"PNG");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod font;
mod layout;
mod overlay;
mod picture;

pub use error::{Error, Result};
pub use layout::{Arrangement, Layout, Plane};
pub use overlay::overlay;
pub use picture::{MAX_SIDE, Picture};
