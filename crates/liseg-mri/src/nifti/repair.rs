//! A sound copy of a file whose header or voxels are odd.

use super::open::open;
use super::source::Source;
use super::write::write_file;
use super::{AffineSource, DataType, Header, Warning, extension, form, read_header};
use crate::{Error, Result};
use std::path::Path;

/// Bytes copied at once; a multiple of the size of every voxel type.
const CHUNK: usize = 256 * 1024;

/// What [`repair`] found and did.
#[derive(Debug, Clone, PartialEq)]
pub struct Repair {
    /// What was odd about the header of the source.
    pub found: Vec<Warning>,
    /// What is still odd about the copy: nothing in the file tells what would be right.
    pub left: Vec<Warning>,
    /// Voxels that were NaN or infinite and became 0.
    pub zeroed: u64,
}

/// Writes a copy of a NIfTI file that every reader reads as this crate reads the source.
///
/// - forms and spacing say one thing, that of the form which was used; lengths are in millimetres
/// - sizes, bits per voxel and the place of the voxels are right; a slope that scaled nothing is 1
/// - voxels are little-endian in the source's type, unchanged but for NaN and infinite ones, which
///   become 0; extensions are kept
///
/// A file that names no orientation keeps none: [`Repair::left`] says so. The source is never
/// touched; the copy appears whole or not at all, compressed when its name ends in `.gz`.
///
/// # Errors
/// [`Error::Unsupported`] for a copy that is the source itself, by whatever name; as
/// [`read_image`](super::read_image) for files that cannot be read at all, files of several
/// volumes excepted, and [`Error::Io`].
pub fn repair(source: impl AsRef<Path>, copy: impl AsRef<Path>) -> Result<Repair> {
    copy_with(source.as_ref(), copy.as_ref(), sound_fields)
}

/// Writes a copy as [`repair`] does, with three axes: trailing axes of one voxel are dropped. Another
/// ending of the name also turns `.nii` into `.nii.gz` and back.
///
/// # Errors
/// As [`repair`], and [`Error::Unsupported`] for a file of several volumes.
pub fn squeeze(source: impl AsRef<Path>, copy: impl AsRef<Path>) -> Result<Repair> {
    let source = source.as_ref();
    let volumes = read_header(source)?.volumes();
    if volumes != 1 {
        return Err(Error::Unsupported {
            path: source.to_owned(),
            what: format!("a file of {volumes} volumes where one is expected"),
            advice: "write each volume to a file of its own",
        });
    }
    copy_with(source, copy.as_ref(), |header| {
        let mut fields = sound_fields(header);
        fields.dim[0] = fields.dim[0].min(3);
        fields.dim[4..].fill(1);
        fields
    })
}

fn copy_with(
    source: &Path,
    copy: &Path,
    fields: impl Fn(&Header) -> super::fields::Fields,
) -> Result<Repair> {
    refuse_itself(source, copy)?;
    let (header, mut stream) = open(source)?;
    let start = fields(&header).encode(&extension::encode(&header.extensions()));
    let mut zeroed = 0;
    write_file(copy, 6, |out| {
        let mut write = |bytes: &[u8]| {
            out.write_all(bytes)
                .map_err(Error::io(copy, "write the file"))
        };
        write(&start)?;
        zeroed = copy_voxels(&header, &mut stream, &mut write)?;
        Ok(())
    })?;
    Ok(Repair {
        found: header.warnings().to_vec(),
        left: read_header(copy)?.warnings().to_vec(),
        zeroed,
    })
}

/// Refuses to put a copy in the place of its source.
fn refuse_itself(source: &Path, copy: &Path) -> Result<()> {
    let place = |path: &Path| path.canonicalize().ok();
    match (place(source), place(copy)) {
        (Some(a), Some(b)) if a == b => Err(Error::Unsupported {
            path: source.to_owned(),
            what: format!("a copy in its own place, {}", copy.display()),
            advice: "name another file for the copy",
        }),
        _ => Ok(()),
    }
}

fn sound_fields(header: &Header) -> super::fields::Fields {
    let mut fields = header.fields.clone();
    let geometry = header.geometry();
    let code = match header.affine_source() {
        AffineSource::Sform => fields.sform_code,
        AffineSource::Qform => fields.qform_code,
        AffineSource::Pixdim => 0,
    };
    form::set_forms(&mut fields, geometry, code);
    fields.xyzt_units = fields.xyzt_units & !7 | 2;
    fields.bitpix = 8 * header.data_type().bytes() as i16;
    if header.scaling().is_none() {
        (fields.scl_slope, fields.scl_inter) = (1.0, 0.0);
    }
    fields.big_endian = false;
    fields.paired = false;
    fields
}

/// Passes on all voxels of all volumes as little-endian bytes; returns how many were no numbers.
fn copy_voxels(
    header: &Header,
    stream: &mut Source,
    write: &mut impl FnMut(&[u8]) -> Result<()>,
) -> Result<u64> {
    let size = header.data_type().bytes();
    let mut left = header.voxels() * size as u64;
    let needed = header.offset() + left;
    stream.skip_to(header.offset())?;
    let mut chunk = vec![0; CHUNK];
    let mut zeroed = 0;
    while left > 0 {
        let step = left.min(CHUNK as u64) as usize;
        let bytes = &mut chunk[..step];
        stream.read_exact(bytes, needed)?;
        if header.big_endian() {
            bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        zeroed += zero_non_finite(header.data_type(), bytes);
        write(bytes)?;
        left -= step as u64;
    }
    stream.verify()?;
    Ok(zeroed)
}

fn zero_non_finite(data_type: DataType, bytes: &mut [u8]) -> u64 {
    let finite: fn(&[u8]) -> bool = match data_type {
        DataType::F32 => |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite(),
        DataType::F64 => {
            |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]).is_finite()
        }
        _ => return 0,
    };
    let mut zeroed = 0;
    for voxel in bytes.chunks_exact_mut(data_type.bytes()) {
        if !finite(voxel) {
            voxel.fill(0);
            zeroed += 1;
        }
    }
    zeroed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nifti::read_image;

    #[test]
    fn a_source_is_not_replaced_by_its_copy() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/nifti/valid");
        let copies = tempfile::tempdir().unwrap();
        std::fs::create_dir(copies.path().join("below")).unwrap();
        let file = copies.path().join("a.nii");
        std::fs::copy(folder.join("dim_4d_one_volume.nii"), &file).unwrap();
        let before = std::fs::read(&file).unwrap();
        let same = copies.path().join("below/../a.nii");
        for refused in [repair(&file, &same), squeeze(&file, &same)] {
            let message = refused.unwrap_err().to_string();
            assert!(message.contains("in its own place"), "{message}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }

    #[test]
    fn squeezing_drops_the_fourth_axis_and_nothing_else() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/nifti/valid");
        let source = folder.join("dim_4d_one_volume.nii");
        assert_eq!(read_header(&source).unwrap().dims().len(), 4);
        let copies = tempfile::tempdir().unwrap();
        let copy = copies.path().join("copy.nii.gz");
        squeeze(&source, &copy).unwrap();
        let header = read_header(&copy).unwrap();
        assert_eq!(header.dims().len(), 3);
        let before = read_image(&source).unwrap();
        assert_eq!(read_image(&copy).unwrap().volume, before.volume);
        assert_eq!(header.data_type(), before.header.data_type());

        let several = squeeze(folder.join("dim_4d_three_volumes.nii.gz"), &copy).unwrap_err();
        assert!(several.to_string().contains("3 volumes"), "{several}");
    }
}
