//! Binary volumes: everything that needs only a mask and, where millimetres matter, a spacing.
//!
//! Masks are views of `bool` with axes (z, y, x), in any memory layout. All results are exact and
//! do not depend on the number of threads.
//!
//! - distance: [`squared_distance_to`], [`squared_distance_where`], [`squared_distances_at`],
//!   [`signed_distance`], [`nearest_target`]
//! - components: [`connected_components`], [`keep_largest`], [`remove_small`], [`bounding_region`]
//! - holes: [`fill_holes`], [`fill_holes_in_slices`]
//! - shape: [`boundary`], [`erode`], [`dilate`], [`open`], [`close`]
//! - the foreground of a label map, in place: [`keep_largest_foreground`],
//!   [`remove_small_foreground`], [`fill_foreground_holes`]
//!
//! # Example
//! ```
//! use liseg_morphology::{Connectivity, Ties, fill_holes, keep_largest, squared_distance_to};
//! use liseg_volume::Spacing;
//! use ndarray::{Array3, s};
//!
//! // A hollow block and a stray voxel.
//! let mut mask = Array3::from_elem((9, 9, 9), false);
//! mask.slice_mut(s![1..6, 1..6, 1..6]).fill(true);
//! mask[[3, 3, 3]] = false;
//! mask[[8, 8, 8]] = true;
//!
//! // Islands go first: one that sits in a cavity must not become part of the organ.
//! let organ = keep_largest(mask.view(), Connectivity::Vertex, Ties::First);
//! let organ = fill_holes(organ.view(), Connectivity::Vertex);
//! assert_eq!(organ.iter().filter(|&&inside| inside).count(), 125);
//!
//! // How far is the stray voxel from the organ, with 5 mm slices?
//! let squared = squared_distance_to(organ.view(), Spacing::new(5.0, 1.0, 1.0)?);
//! assert_eq!(squared[[8, 8, 8]], 15.0f64.powi(2) + 9.0 + 9.0);
//! # Ok::<(), liseg_volume::Error>(())
//! ```

mod boundary;
mod components;
mod connectivity;
mod distance;
mod erode;
mod error;
mod fill;
mod foreground;
mod nearby;
mod nearest;
mod opening;
#[cfg(test)]
mod testing;

pub use boundary::boundary;
pub use components::{
    Components, Ties, bounding_region, connected_components, keep_largest, remove_small,
};
pub use connectivity::{Connectivity, Outside};
pub use distance::{
    signed_distance, squared_distance_to, squared_distance_where, squared_distances_at,
};
pub use erode::{dilate, erode};
pub use error::{Error, Result};
pub use fill::{fill_holes, fill_holes_in_slices};
pub use foreground::{fill_foreground_holes, keep_largest_foreground, remove_small_foreground};
pub use nearest::{Nearest, nearest_target};
pub use opening::{close, open};
