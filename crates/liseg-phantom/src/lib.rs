//! Synthetic abdominal MRI with exact liver masks, for training, tests and pictures without data.
//!
//! Every patient has an own body, liver (900 to 2300 ml, one piece, under the right lung), spleen,
//! kidneys, stomach, bowel, vessels, spine, ribs, fat, muscles, lungs and heart, all bent by smooth
//! random fields, so that no two livers are alike. A patient is scanned in several phases
//! ([`Phase`]) by one of four vendors ([`Vendor`]), which differ in brightness, noise, shading, fat
//! suppression, sharpness, spacing and stored orientation. Phases have their own grids, are not
//! registered, and lie some millimetres apart with the breath; some are missing.
//!
//! Brightness alone does not find the liver: spleen, kidneys, bowel and muscles share its range in
//! most scans, and on T2 and diffusion images the liver is the dark one. Place and shape must be
//! learnt. The values are schematic: use the phantom to build, test and show, never to judge how
//! well a method does on patients.
//!
//! # Example
//! ```
//! use liseg_phantom::{Phase, PhantomConfig, patient};
//! use liseg_volume::Seed;
//!
//! let config = PhantomConfig::default().with_seed(Seed(7)).with_phases([Phase::Ged4]);
//! let patient = patient(&config, 3)?;
//! let scan = &patient.scans[0];
//! let voxels = scan.liver.data().iter().filter(|v| **v == 1).count();
//! let volume_ml = voxels as f64 * scan.liver.spacing().voxel_volume_mm3() / 1000.0;
//! assert!((900.0..2300.0).contains(&volume_ml));
//! assert_eq!(scan.image.shape(), scan.liver.shape());
//! # Ok::<(), liseg_phantom::Error>(())
//! ```
//!
//! Whole data sets are written by [`write_nnunet`] and [`write_liqa`].
//!
//! # How it is made
//! | module | idea |
//! |---|---|
//! | `body`, `organs`, `liver`, `vessels` | organs as signed distances of smooth solids in a template patient |
//! | `noise` | the smooth random fields that bend and roughen them |
//! | `contrast`, `vendor` | brightness of each tissue by phase, patient and scanner |
//! | `paint`, `scan` | from solids to voxels, with partial volume in and across the slices |
//! | `artefact` | shading, ghosts, Rician noise, blur |

mod anatomy;
mod artefact;
mod body;
mod config;
mod contrast;
mod dataset;
mod error;
mod islands;
mod liver;
mod noise;
mod organs;
mod paint;
mod patient;
mod phase;
mod scan;
mod shape;
mod tissue;
mod vector;
mod vendor;
mod vessels;

pub use config::{PhantomConfig, Resolution};
pub use dataset::{DatasetSummary, write_liqa, write_nnunet};
pub use error::{Error, Result};
pub use patient::{Patient, patient};
pub use phase::Phase;
pub use scan::Scan;
pub use tissue::Organ;
pub use vendor::Vendor;
