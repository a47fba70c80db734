//! Writing: whole files or none.

use super::gzip::ParallelGzip;
use super::{DataType, Header, extension};
use crate::{Error, Result};
use liseg_volume::{Geometry, Volume};
use ndarray::ArrayView3;
use std::io::Write;
use std::path::Path;

/// Voxels turned into bytes at once.
const CHUNK: usize = 64 * 1024;

/// How a file is written.
///
/// # Examples
/// ```
/// use liseg_mri::nifti::WriteOptions;
///
/// let quick = WriteOptions { level: 1, ..WriteOptions::default() };
/// assert_eq!((WriteOptions::default().level, quick.keep_extensions), (6, false));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions {
    /// Effort of the compression, 0 (none) to 9; more counts as 9. Level 1 is several times faster
    /// than 6 and makes MRI files a third larger.
    pub level: u32,
    /// Whether the source's header extensions are written as well. They may hold names and dates of
    /// birth.
    pub keep_extensions: bool,
}

impl Default for WriteOptions {
    /// Level 6, zlib's default; extensions are left out, because masks are passed on more freely
    /// than images.
    fn default() -> Self {
        Self {
            level: 6,
            keep_extensions: false,
        }
    }
}

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
    write_image_with(path, volume, like, WriteOptions::default())
}

/// As [`write_image`], with options.
///
/// # Errors
/// As [`write_image`].
pub fn write_image_with(
    path: impl AsRef<Path>,
    volume: &Volume<f32>,
    like: Option<&Header>,
    options: WriteOptions,
) -> Result<()> {
    let start = start(volume.geometry(), DataType::F32, like, options);
    write(
        path.as_ref(),
        &start,
        options,
        volume.data(),
        |values, bytes| {
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        },
    )
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
    write_labels_with(path, volume, like, WriteOptions::default())
}

/// As [`write_labels`], with options.
///
/// # Errors
/// As [`write_image`].
pub fn write_labels_with(
    path: impl AsRef<Path>,
    volume: &Volume<u8>,
    like: Option<&Header>,
    options: WriteOptions,
) -> Result<()> {
    let start = start(volume.geometry(), DataType::U8, like, options);
    write(
        path.as_ref(),
        &start,
        options,
        volume.data(),
        |values, bytes| bytes.extend_from_slice(values),
    )
}

/// All bytes before the first voxel.
fn start(
    geometry: Geometry,
    data_type: DataType,
    like: Option<&Header>,
    options: WriteOptions,
) -> Vec<u8> {
    let extensions = like.filter(|_| options.keep_extensions);
    let extensions = extensions.map(|header| extension::encode(&header.extensions()));
    Header::fields_for(geometry, data_type, like).encode(&extensions.unwrap_or_default())
}

fn write<T: Clone>(
    path: &Path,
    start: &[u8],
    options: WriteOptions,
    data: ArrayView3<'_, T>,
    encode: impl Fn(&[T], &mut Vec<u8>),
) -> Result<()> {
    let data = data.as_standard_layout();
    let mut voxels = data.as_slice().unwrap_or_default().chunks(CHUNK);
    write_file(path, options.level, |out| {
        out.write_all(start)
            .map_err(Error::io(path, "write the file"))?;
        let mut bytes = Vec::new();
        voxels.try_for_each(|values| {
            bytes.clear();
            encode(values, &mut bytes);
            out.write_all(&bytes)
                .map_err(Error::io(path, "write the file"))
        })
    })
}

/// Writes a single file, compressed where its name says so, whole or not at all.
pub(super) fn write_file(
    path: &Path,
    level: u32,
    body: impl FnOnce(&mut dyn Write) -> Result<()>,
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
    // An error of `body` itself is kept aside: it says more than that writing failed.
    let mut failed = None;
    let fill = |out: &mut dyn Write| {
        body(out).map_err(|error| {
            let told = std::io::Error::other(error.to_string());
            failed = Some(error);
            told
        })
    };
    let written = liseg_file::write_with(path, |file| {
        if compressed {
            let mut encoder = ParallelGzip::new(file, level)?;
            fill(&mut encoder)?;
            encoder.finish().map(|_| ())
        } else {
            fill(file)
        }
    });
    match (failed, written) {
        (Some(error), _) => Err(error),
        (None, written) => written.map_err(Error::io(path, "write the file")),
    }
}
