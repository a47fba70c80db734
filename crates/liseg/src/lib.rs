//! Label-efficient liver segmentation in multi-phase MRI: the LiSeg libraries under one name.
//!
//! | module | what it is for |
//! |---|---|
//! | [`volume`] | voxels with spacing, affine and orientation; seeds |
//! | [`mri`] | NIfTI files, resampling, normalization |
//! | [`morphology`] | distance transforms, components, hole filling |
//! | [`metrics`] | overlap and surface distances, reports |
//! | [`augment`] | random transforms of training patches |
//! | [`data`] | datasets, plans, preprocessing, patches |
//! | [`nn`] | layers, losses, optimisers, checkpoints on libtorch |
//! | [`stunet`] | STU-Net |
//! | [`ssl`] | training strategies behind one trait |
//! | [`engine`] | training runs, prediction, evaluation |
//! | [`picture`] | slices with mask outlines as PNG |
//! | [`phantom`] | synthetic multi-phase abdominal MRI |
//! | [`report`] | the HTML report |
//!
//! Each is a crate of its own (`liseg-metrics`, …): depend on the one you need.
//!
//! # Example
//! ```
//! use liseg::metrics::{Settings, evaluate_case};
//! use liseg::volume::{Affine, Spacing, Volume};
//! use ndarray::{Array3, s};
//!
//! let affine = Affine::from_spacing(Spacing::new(5.0, 1.0, 1.0)?);
//! let mut mask = Array3::<u8>::zeros((8, 32, 32));
//! mask.slice_mut(s![2..6, 8..24, 8..24]).fill(1);
//! let reference = Volume::new(mask.clone(), affine)?;
//! mask.slice_mut(s![6, 8..24, 8..24]).fill(1); // one slice too many
//! let prediction = Volume::new(mask, affine)?;
//!
//! let case = evaluate_case(&prediction, &reference, 1, &Settings::default())?;
//! assert_eq!(case.hd, Some(5.0)); // millimetres
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use liseg_augment as augment;
pub use liseg_data as data;
pub use liseg_engine as engine;
pub use liseg_metrics as metrics;
pub use liseg_morphology as morphology;
pub use liseg_mri as mri;
pub use liseg_nn as nn;
pub use liseg_phantom as phantom;
pub use liseg_picture as picture;
pub use liseg_report as report;
pub use liseg_ssl as ssl;
pub use liseg_stunet as stunet;
pub use liseg_volume as volume;
