//! What the tests of files share.

use liseg_mri::nifti::write_image;
use liseg_volume::{Affine, Volume};
use ndarray::Array3;
use std::path::{Path, PathBuf};

/// A left-handed, oblique grid with thick slices, away from the origin.
pub(crate) fn oblique() -> Affine {
    let (s, c) = 0.3f64.sin_cos();
    Affine::from_columns(
        [-1.25 * c, -1.25 * s, 0.0],
        [-1.5 * s, 1.5 * c, 0.0],
        [0.0, 0.0, 7.7],
        [110.5, -92.25, 31.125],
    )
    .unwrap()
}

/// `z·100 + y·10 + x`: every voxel names its index.
pub(crate) fn numbered(shape: [usize; 3], affine: Affine) -> Volume<f32> {
    let data = Array3::from_shape_fn(shape, |(z, y, x)| (100 * z + 10 * y + x) as f32);
    Volume::new(data, affine).unwrap()
}

/// A file of a numbered 3×4×5 volume as bytes, changed by `patch`, under `name`.
pub(crate) fn patched(folder: &Path, name: &str, patch: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let plain = folder.join("unpatched.nii");
    write_image(&plain, &numbered([3, 4, 5], oblique()), None).unwrap();
    let mut bytes = std::fs::read(&plain).unwrap();
    patch(&mut bytes);
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Puts a little-endian number into a header.
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}
