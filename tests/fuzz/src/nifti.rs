//! NIfTI files: whatever is read is of the size that the file can account for, and is read again
//! from a repaired copy and from what is written.

use crate::{with_folder, write};
use liseg_mri::nifti::{
    read_header, read_image, read_labels, read_volume, repair, write_image, write_labels,
};
use std::path::Path;

/// Inputs beyond this find nothing that smaller ones do not.
const LARGEST: usize = 64 << 10;

/// A single file, compressed or not.
pub fn nifti(data: &[u8]) -> bool {
    if data.len() > LARGEST {
        return false;
    }
    with_folder(|folder| {
        let file = folder.join("input.nii");
        write(&file, data);
        check(&file, data.len(), folder)
    })
}

/// A header, as long as the first two bytes say, and the voxels beside it.
pub fn nifti_pair(data: &[u8]) -> bool {
    if data.len() > LARGEST || data.len() < 2 {
        return false;
    }
    let (length, rest) = data.split_at(2);
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    let (header, voxels) = rest.split_at(length.min(rest.len()));
    with_folder(|folder| {
        let file = folder.join("pair.hdr");
        write(&file, header);
        write(&folder.join("pair.img"), voxels);
        check(&file, data.len(), folder)
    })
}

fn check(file: &Path, bytes: usize, folder: &Path) -> bool {
    let header = read_header(file);
    let image = read_image(file);
    let _ = read_volume(file, 1);
    if let Ok(header) = &header {
        // Deflate gives at most 1032 bytes for one.
        let voxels: u64 = header.dims().iter().product();
        assert!(
            voxels as f64 <= 1032.0 * bytes as f64,
            "{voxels} voxels in {bytes} bytes"
        );
    }
    if let Ok(image) = &image {
        let header = header.expect("the header of a file that can be read can be read");
        assert_eq!(header.geometry(), image.volume.geometry());

        let copy = folder.join("copy.nii");
        if let Err(error) = write_image(&copy, &image.volume, Some(&image.header)) {
            // A spacing beyond f32 cannot be written.
            assert!(!error.to_string().is_empty());
            return true;
        }
        let again = read_image(&copy).expect("a file that was written can be read");
        assert_eq!(again.volume.shape(), image.volume.shape());
        let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        let voxels = again.volume.data();
        assert!(
            voxels
                .iter()
                .zip(&image.volume.data())
                .all(|(a, b)| same(a, b))
        );

        let repaired = folder.join("repaired.nii");
        if repair(file, &repaired).is_ok() {
            let again = read_image(&repaired).expect("a repaired file can be read");
            assert_eq!(again.volume.shape(), image.volume.shape());
        }
    }
    if let Ok(labels) = read_labels(file) {
        let copy = folder.join("labels.nii.gz");
        if write_labels(&copy, &labels.volume, Some(&labels.header)).is_ok() {
            let again = read_labels(&copy).expect("labels that were written can be read");
            assert_eq!(again.volume.data(), labels.volume.data());
        }
    }
    image.is_ok()
}
