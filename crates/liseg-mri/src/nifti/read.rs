//! Reading: header, then voxels straight into their array.

use super::open::open;
use super::source::Source;
use super::whole;
use super::{DataType, Header, Nifti, Warning};
use crate::{Error, Result};
use bytemuck::Pod;
use liseg_volume::Volume;
use ndarray::Array3;
use std::path::Path;

/// Bytes decoded at once: fits into a core's own cache together with what it becomes.
const CHUNK: usize = 128 * 1024;

/// Reads the header of a NIfTI file; of a compressed file only the first bytes are decompressed.
///
/// Files with several volumes are described too. The geometry, and that the file is large enough
/// for its voxels, are checked as they are when the voxels are read.
///
/// # Errors
/// As [`read_image`], except [`Error::SeveralVolumes`] and what only the voxels can show.
pub fn read_header(path: impl AsRef<Path>) -> Result<Header> {
    open(path.as_ref()).map(|(header, _)| header)
}

/// Reads one 3-D volume as f32, scaled by the file's slope and intercept.
///
/// `.nii`, `.nii.gz` and `.hdr`/`.img` pairs (either name may be given) of NIfTI-1 and NIfTI-2, in
/// both byte orders; compression is recognised by content. Trailing axes of one voxel are dropped,
/// missing axes get one voxel. Values are scaled in f64 and rounded once. NaN and infinite voxels
/// are kept and counted in a warning.
///
/// # Errors
/// An [`Error`] naming the file, for everything that makes voxels, values or place doubtful: files
/// cut short, damaged compression, impossible header fields, an affine that is not invertible, or
/// more than one volume. Memory is never taken before the file is known to be able to fill it.
pub fn read_image(path: impl AsRef<Path>) -> Result<Nifti<f32>> {
    read_scaled(path.as_ref(), None)
}

/// Reads one volume of a file with several, counted from 0 in the order of the file; else as
/// [`read_image`].
///
/// # Errors
/// [`Error::NoSuchVolume`] when the file has no such volume, and as [`read_image`].
pub fn read_volume(path: impl AsRef<Path>, index: u64) -> Result<Nifti<f32>> {
    read_scaled(path.as_ref(), Some(index))
}

fn read_scaled(path: &Path, volume: Option<u64>) -> Result<Nifti<f32>> {
    let (header, mut source) = open(path)?;
    let chosen = choose(path, &header, volume)?;
    let (data_type, big_endian) = (header.data_type, header.big_endian());
    let mut count = 0;
    let values = match header.scaling() {
        None => voxels(path, &header, chosen, &mut source, |_, bytes, out| {
            data_type.decode(bytes, big_endian, out, |v| v as f32);
            count += out.iter().filter(|v| !v.is_finite()).count();
            Ok(())
        }),
        Some((slope, intercept)) => voxels(path, &header, chosen, &mut source, |_, bytes, out| {
            data_type.decode(bytes, big_endian, out, |v| (v * slope + intercept) as f32);
            count += out.iter().filter(|v| !v.is_finite()).count();
            Ok(())
        }),
    }?;
    let mut nifti = finish(header, values)?;
    if count > 0 {
        nifti.warnings.push(Warning::NotFinite { count });
    }
    Ok(nifti)
}

/// Reads one 3-D label map exactly, whatever type it is stored in.
///
/// Files as for [`read_image`]. Stored values must be whole numbers from 0 to 255; where the file has
/// a slope or intercept, scaled values may miss a whole number by the slope's f32 rounding (1e-4).
///
/// # Errors
/// [`Error::Label`] with value and place of the first voxel that is no label, and as [`read_image`].
pub fn read_labels(path: impl AsRef<Path>) -> Result<Nifti<u8>> {
    let path = path.as_ref();
    let (header, mut source) = open(path)?;
    let (data_type, big_endian) = (header.data_type, header.big_endian());
    let scaling = header.scaling();
    let [_, ny, nx] = header.geometry().shape;
    let mut scratch = Vec::new();
    let chosen = choose(path, &header, None)?;
    let values = voxels(path, &header, chosen, &mut source, |first, bytes, out| {
        if data_type == DataType::U8 && scaling.is_none() {
            out.copy_from_slice(bytes);
            return Ok(());
        }
        scratch.resize(out.len(), 0f64);
        let found = &mut scratch[..];
        let (slope, intercept) = scaling.unwrap_or((1.0, 0.0));
        data_type.decode(bytes, big_endian, found, |v| v * slope + intercept);
        let tolerance = if scaling.is_some() { 1e-4 } else { 0.0 };
        for (i, (label, &value)) in out.iter_mut().zip(found.iter()).enumerate() {
            let whole = value.round();
            // Written so that NaN is refused too.
            let valid = (value - whole).abs() <= tolerance && (0.0..=255.0).contains(&whole);
            if !valid {
                let at = first + i;
                let voxel = [at / (nx * ny), at / nx % ny, at % nx];
                return Err(Error::Label {
                    path: path.to_owned(),
                    value,
                    voxel,
                });
            }
            *label = whole as u8;
        }
        Ok(())
    })?;
    finish(header, values)
}

/// The volume to read: the one asked for, or the only one.
fn choose(path: &Path, header: &Header, volume: Option<u64>) -> Result<u64> {
    let volumes = header.volumes();
    match volume {
        None if volumes == 1 => Ok(0),
        None => Err(Error::SeveralVolumes {
            path: path.to_owned(),
            volumes,
            dims: header.dims(),
        }),
        Some(index) if index < volumes => Ok(index),
        Some(index) => Err(Error::NoSuchVolume {
            path: path.to_owned(),
            index,
            volumes,
        }),
    }
}

/// Reads the voxels of a volume; `decode` gets the index of a chunk's first voxel, its bytes and its
/// place in the result. Also whether the checksum at the end of the file was verified.
fn voxels<T: Pod>(
    path: &Path,
    header: &Header,
    volume: u64,
    source: &mut Source,
    mut decode: impl FnMut(usize, &[u8], &mut [T]) -> Result<()>,
) -> Result<(Vec<T>, bool)> {
    if let Some(values) = whole::voxels(header, source, &mut decode)? {
        return Ok((values, true));
    }
    let values = streamed(path, header, volume, source, decode)?;
    Ok((values, source.verify()?))
}

/// Reads in chunks from the stream. Memory beyond the chunk is touched only as voxels arrive.
fn streamed<T: Pod>(
    path: &Path,
    header: &Header,
    volume: u64,
    source: &mut Source,
    mut decode: impl FnMut(usize, &[u8], &mut [T]) -> Result<()>,
) -> Result<Vec<T>> {
    // The product of all dimensions was checked.
    let count = header.voxels() / header.volumes().max(1);
    let size = header.data_type().bytes();
    let start = header.offset() + volume * count * size as u64;
    let needed = start + count * size as u64;
    source.skip_to(start)?;

    let mut values = Vec::new();
    let total = count as usize;
    values.try_reserve_exact(total).map_err(|_| Error::Memory {
        path: path.to_owned(),
        voxels: count,
    })?;
    let mut chunk = vec![0; CHUNK];
    while values.len() < total {
        let first = values.len();
        let step = (total - first).min(CHUNK / size);
        let bytes = &mut chunk[..step * size];
        source.read_exact(bytes, needed)?;
        values.resize(first + step, T::zeroed());
        decode(first, bytes, &mut values[first..])?;
    }
    Ok(values)
}

/// Puts the voxels into their grid.
fn finish<T>(header: Header, (values, verified): (Vec<T>, bool)) -> Result<Nifti<T>> {
    let mut warnings = header.warnings().to_vec();
    if !verified {
        warnings.push(Warning::Unverified);
    }
    let geometry = header.geometry();
    // As many values as the shape has voxels were read; the product was checked.
    let data =
        Array3::from_shape_vec(geometry.shape, values).map_err(|_| liseg_volume::Error::Empty {
            shape: geometry.shape,
        })?;
    let volume = Volume::new(data, geometry.affine)?;
    Ok(Nifti {
        volume,
        header,
        warnings,
    })
}
