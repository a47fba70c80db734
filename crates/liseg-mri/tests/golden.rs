//! The crate against numbers of nibabel and nnU-Net.
//!
//! The NIfTI files lie in the repository's `tests/fixtures/nifti`. The other reference numbers are not part
//! of it: they are looked for in the folder
//! `../reference/golden` next to the one that `LISEG_DATA` names. Without that variable these tests
//! say that they are skipped and return.

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod golden {
    mod nifti;
    mod nnunet;
    mod reference;
}
