//! The crate against numbers of nibabel and nnU-Net.
//!
//! Files and numbers lie in the repository's `tests/fixtures`; where the crate was taken without them,
//! every test says so and passes.

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod golden {
    mod nifti;
    mod nnunet;
    mod reference;
}
