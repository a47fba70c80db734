//! The crate against numbers of nibabel and nnU-Net.
//!
//! Files and numbers lie in the repository's `tests/fixtures`.

mod nifti;
mod nnunet;
mod reference;
