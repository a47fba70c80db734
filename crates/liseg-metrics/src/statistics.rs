//! Is one method better than another? Intervals, paired tests, corrections and ranks.
//!
//! Everything works on one value per patient: volumes of one patient are not independent, so
//! [`Comparison`](crate::Comparison) averages them first.

mod bootstrap;
mod correction;
mod normal;
mod ranking;
mod wilcoxon;

pub use bootstrap::{Bootstrap, IntervalKind, bootstrap, interval_of};
pub use correction::holm;
pub use ranking::{average_ranks, mean_ranks};
pub use wilcoxon::{Alternative, Null, SignedRank, Zeros, signed_rank};
