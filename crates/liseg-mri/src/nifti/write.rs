//! Writing: whole files or none.

use super::fields::Fields;
use super::gzip::ParallelGzip;
use super::{DataType, Header};
use crate::atomic::write_atomically;
use crate::{Error, Result};
use liseg_volume::Volume;
use ndarray::ArrayView3;
use std::io::Write;
use std::path::Path;

/// Voxels turned into bytes at once.
const CHUNK: usize = 64 * 1024;

/// zlib's default. Level 1 is faster and makes MRI files a third larger.
const LEVEL: u32 = 6;

/// Writes an image as little-endian f32, compressed when the name ends in `.gz`.
///
/// `like` is the header of the file the image came from: where both have one grid (within a
/// thousandth of a voxel), its affine, form codes, spacing, units, dimensions and description are
/// written back exactly as stored; on another grid both forms are written from the volume's affine
/// with the source's code. Without `like`, both forms get code 1 (scanner). Lengths of unknown unit
/// are declared as millimetres.
///
/// The file appears under its name only when it is complete and on disk. The name is used as it is:
/// no ending is added or replaced.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be written to, [`Error::Unsupported`] for the names of a
/// `.hdr`/`.img` pair.
pub fn write_image(
    path: impl AsRef<Path>,
    volume: &Volume<f32>,
    like: Option<&Header>,
) -> Result<()> {
    let fields = Header::fields_for(volume.geometry(), DataType::F32, like);
    write(path.as_ref(), &fields, volume.data(), |values, bytes| {
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    })
}

/// Writes labels as u8, compressed when the name ends in `.gz`; the rest as [`write_image`].
///
/// # Errors
/// As [`write_image`].
pub fn write_labels(
    path: impl AsRef<Path>,
    volume: &Volume<u8>,
    like: Option<&Header>,
) -> Result<()> {
    let fields = Header::fields_for(volume.geometry(), DataType::U8, like);
    write(path.as_ref(), &fields, volume.data(), |values, bytes| {
        bytes.extend_from_slice(values)
    })
}

fn write<T: Clone>(
    path: &Path,
    fields: &Fields,
    data: ArrayView3<'_, T>,
    encode: impl Fn(&[T], &mut Vec<u8>),
) -> Result<()> {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().to_ascii_lowercase());
    let name = name.unwrap_or_default();
    let compressed = name.ends_with(".gz");
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    if stem.ends_with(".hdr") || stem.ends_with(".img") {
        return Err(Error::Unsupported {
            path: path.to_owned(),
            what: "writing a pair of files".into(),
            advice: "use a name that ends in .nii or .nii.gz",
        });
    }
    let data = data.as_standard_layout();
    let mut voxels = data.as_slice().unwrap_or_default().chunks(CHUNK);
    write_atomically(path, |file| {
        let mut body = |out: &mut dyn Write| {
            out.write_all(&fields.encode())?;
            let mut bytes = Vec::new();
            voxels.try_for_each(|values| {
                bytes.clear();
                encode(values, &mut bytes);
                out.write_all(&bytes)
            })
        };
        if compressed {
            let mut encoder = ParallelGzip::new(file, LEVEL)?;
            body(&mut encoder)?;
            encoder.finish().map(|_| ())
        } else {
            body(file)
        }
    })
    .map_err(Error::io(path, "write the file"))
}
