//! Supervised and semi-supervised training strategies behind one trait, [`Strategy`].
//!
//! A strategy owns its networks and optimisers, says what batch it needs ([`BatchRequest`]), turns a
//! [`Batch`] into gradients, names the networks that predict, and can save and restore everything
//! it owns. The trainer knows nothing else about it.
//!
//! - [`Supervised`]: labelled patches only; the control of every other strategy.
//! - [`Cps`]: cross pseudo supervision (Chen et al., CVPR 2021).
//! - [`Bcp`]: bidirectional copy-paste (Bai et al., CVPR 2023).
//! - [`MeanTeacher`]: agreement with the average of the past (Tarvainen & Valpola, NeurIPS 2017).
//! - [`Midss`]: intermediate domains, symmetric guidance, amplitude mixup (Ma et al., CVPR 2024).
//! - [`WeakToStrong`]: labels of weak views taught to strong ones (Yang et al., TPAMI 2025).
//!
//! [`StrategyConfig`] turns a name and its settings into a boxed strategy.
//!
//! # Example
//! ```
//! use liseg_nn::tch::{Device, Kind, Tensor};
//! use liseg_nn::{OptimiserConfig, Precision};
//! use liseg_ssl::{Batch, Labelled, Progress, StepContext, Strategy, StrategyConfig};
//! use liseg_stunet::{StuNet, StuNetConfig};
//! use liseg_volume::Seed;
//!
//! let shape = StuNetConfig { widths: [4; 6], precision: Precision::F32, ..StuNetConfig::small(2) };
//! let mut strategy = StrategyConfig::default().build(OptimiserConfig::adamw(), &mut |name| {
//!     let mut rng = Seed(1).stream(name, 0, 0);
//!     Ok(Box::new(StuNet::new(&shape, Device::Cpu, &mut rng)?))
//! })?;
//! let batch = Batch {
//!     labelled: Some(Labelled {
//!         image: Tensor::f_zeros([1, 1, 32, 64, 32], (Kind::Float, Device::Cpu))?,
//!         label: Tensor::f_zeros([1, 32, 64, 32], (Kind::Int64, Device::Cpu))?,
//!         valid: None,
//!     }),
//!     unlabelled: None,
//! };
//! let mut context = StepContext::new(Progress { iteration: 0, iterations: 10 }, 1);
//! strategy.step(&batch, &mut context)?;
//! let norms = strategy.optimise(1e-3, 12.0)?;
//! assert!(norms[0].is_finite() && context.log()?["supervised"].is_finite());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(
    test,
    allow(clippy::float_cmp, reason = "tests compare what was copied")
)]

mod batch;
mod bcp;
mod boxes;
mod channel_dropout;
mod context;
mod cps;
mod error;
mod fourier;
mod guidance;
mod learner;
mod mean_teacher;
mod midss;
mod monitor;
mod pseudo;
mod ramp;
mod region_dice;
mod registry;
mod sentinel;
mod strategy;
mod supervised;
mod teacher;
mod weak_to_strong;

pub use batch::{Batch, BatchRequest, Labelled, Unlabelled};
pub use bcp::{Bcp, BcpConfig, region_loss};
pub use boxes::{PasteBox, paste, paste_images, relative_sides, sides_in_voxels, toggled_boxes};
pub use channel_dropout::{complementary_factors, draw_kept, draw_spared};
pub use context::{Progress, StepContext};
pub use cps::{Cps, CpsConfig, Prediction, Reduction, Scope, Views};
pub use error::{Error, Result};
pub use fourier::{FrequencyWindow, mix_amplitudes, mix_spectra, published_half_width};
pub use guidance::{Guidance, TeacherLogits, masked_loss};
pub use learner::Learner;
pub use mean_teacher::{MeanTeacher, MeanTeacherConfig, softmax_difference};
pub use midss::{AmplitudeAxes, Midss, MidssConfig};
pub use monitor::mean_within;
pub use pseudo::{clean, confident_labels, hard_labels, label_and_confidence};
pub use ramp::{share_of_run, stepped_ramp};
pub use region_dice::{RegionDice, region_cross_entropy};
pub use registry::{NetworkFactory, StrategyConfig};
pub use sentinel::{Sentinel, Trouble, relative_distance};
pub use strategy::{Candidate, Strategy};
pub use supervised::{Supervised, SupervisedConfig};
pub use teacher::{Decay, Teacher};
pub use weak_to_strong::{WeakToStrong, WeakToStrongConfig, sure_cross_entropy, with_partner};
