//! The header of a NIfTI file, checked.

use super::extension;
use super::fields::{Fields, Version};
use super::form::{self, AffineSource};
use super::{DataType, Warning};
use crate::{Error, Result};
use liseg_volume::{Affine, Geometry};
use std::path::Path;

/// What a NIfTI header says about a file, checked, and what is needed to write a result with the
/// same geometry.
///
/// Kept for writing back: dimensions, spacing, both forms with their codes, units, slice order and
/// the description; extensions where [`WriteOptions`](super::WriteOptions) ask for them. Left out,
/// because they describe the source's values and not its place: display window, intent, statistics
/// and `aux_file`.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    pub(crate) fields: Fields,
    pub(crate) data_type: DataType,
    affine: Affine,
    affine_source: AffineSource,
    warnings: Vec<Warning>,
    pub(crate) extensions: Vec<u8>,
}

impl Header {
    /// Checks the fields of a file.
    pub(crate) fn new(path: &Path, fields: Fields) -> Result<Self> {
        let mut warnings = Vec::new();
        let expected_size = fields.version.header_bytes() as i32;
        if fields.sizeof_hdr != expected_size {
            warnings.push(Warning::HeaderSize {
                found: fields.sizeof_hdr,
            });
        }
        check_dimensions(path, &fields)?;
        let data_type = DataType::from_code(fields.datatype).ok_or_else(|| Error::Unsupported {
            path: path.to_owned(),
            what: DataType::unsupported_name(fields.datatype),
            advice: "convert the file to float32 or to an integer type",
        })?;
        let bits = 8 * data_type.bytes() as i16;
        if fields.bitpix != bits {
            warnings.push(Warning::BitsPerVoxel {
                found: fields.bitpix,
                expected: bits,
            });
        }
        check_scaling(path, &fields, &mut warnings)?;
        let shape = shape(&fields);
        let (affine, affine_source) = form::affine(path, &fields, shape, &mut warnings)?;
        if first_voxel(path, &fields)?.1 {
            warnings.push(Warning::NoOffset);
        }
        Ok(Self {
            fields,
            data_type,
            affine,
            affine_source,
            warnings,
            extensions: Vec::new(),
        })
    }

    /// The grid: shape (z, y, x) and affine in millimetres. Axes that the file lacks have one voxel.
    pub fn geometry(&self) -> Geometry {
        Geometry {
            shape: shape(&self.fields),
            affine: self.affine,
        }
    }

    /// How the file stores its voxels.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// The dimensions in file order (x, y, z, t, …), trailing axes of one voxel included.
    pub fn dims(&self) -> Vec<u64> {
        dims(&self.fields).iter().map(|&n| n as u64).collect()
    }

    /// How many 3-D volumes the file holds.
    pub fn volumes(&self) -> u64 {
        dims(&self.fields)
            .iter()
            .skip(3)
            .map(|&n| n as u64)
            .product()
    }

    /// Slope and intercept that turn stored into scaled values; `None` when values mean what is
    /// stored.
    #[expect(clippy::float_cmp, reason = "1 and 0 are exact in any float")]
    pub fn scaling(&self) -> Option<(f64, f64)> {
        let (slope, intercept) = (self.fields.scl_slope, self.fields.scl_inter);
        let identity = slope == 1.0 && intercept == 0.0;
        (slope.is_finite() && slope != 0.0 && !identity).then_some((slope, intercept))
    }

    /// Which part of the header the affine came from.
    pub fn affine_source(&self) -> AffineSource {
        self.affine_source
    }

    /// `sform_code`: 0 unset, 1 scanner, 2 aligned, 3 Talairach, 4 MNI 152, 5 template.
    pub fn sform_code(&self) -> i32 {
        self.fields.sform_code
    }

    /// `qform_code`, with the meaning of [`Header::sform_code`].
    pub fn qform_code(&self) -> i32 {
        self.fields.qform_code
    }

    /// Which generation of the standard the file follows.
    pub fn version(&self) -> Version {
        self.fields.version
    }

    /// Whether the file stores its numbers with the most significant byte first.
    pub fn big_endian(&self) -> bool {
        self.fields.big_endian
    }

    /// Millimetres in the file's unit of length; `None` when the file does not name one, which is
    /// read as millimetres.
    pub fn mm_factor(&self) -> Option<f64> {
        form::mm_factor(&self.fields)
    }

    /// The free text of the header; bytes that are no UTF-8 are replaced.
    pub fn description(&self) -> String {
        let text = self
            .fields
            .descrip
            .split(|&b| b == 0)
            .next()
            .unwrap_or_default();
        String::from_utf8_lossy(text).trim_end().to_owned()
    }

    /// The header's extensions: the code of each (4 DICOM, 6 text, 44 JSON, …) and its content, the
    /// zeros that fill it up included.
    pub fn extensions(&self) -> Vec<(i32, &[u8])> {
        extension::list(&self.extensions, self.fields.big_endian)
    }

    /// What is odd about the header.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Number of voxels in all volumes.
    pub(crate) fn voxels(&self) -> u64 {
        self.dims().iter().product()
    }

    /// Where the first voxel is, in bytes from the start of the (decompressed) file.
    pub(crate) fn offset(&self) -> u64 {
        // Checked in `new`.
        first_voxel(Path::new(""), &self.fields).map_or(0, |(offset, _)| offset)
    }

    /// The fields as stored; an sform that was of no use is written anew, for readers that trust it.
    fn place(&self) -> Fields {
        let mut fields = self.fields.clone();
        let unusable = |w: &Warning| matches!(w, Warning::SformIsUnusable { .. });
        if self.warnings.iter().any(unusable) {
            let code = fields.qform_code;
            form::set_forms(&mut fields, self.geometry(), code);
        }
        fields
    }

    /// The fields of a result on the grid `geometry`. Where that is the grid of `like`, everything
    /// about its place is taken over as stored; else it is written from the affine.
    pub(crate) fn fields_for(
        geometry: Geometry,
        data_type: DataType,
        like: Option<&Self>,
    ) -> Fields {
        // Within f32 noise of a voxel: the grid went through canonical orientation and back.
        let spacing = geometry.spacing().zyx();
        let tolerance = 1e-3 * spacing.iter().copied().fold(f64::INFINITY, f64::min);
        let same =
            like.filter(|h| h.volumes() == 1 && h.geometry().is_within(&geometry, tolerance));
        let mut fields = match same {
            Some(header) => header.place(),
            None => resampled_fields(geometry, like),
        };
        if fields.xyzt_units & 7 == 0 {
            fields.xyzt_units |= 2;
        }
        let used = fields.dim[0].clamp(1, 7) as usize;
        fields.dim[used + 1..].fill(1);
        if fields.dim.iter().any(|&n| n > i64::from(i16::MAX)) {
            fields.version = Version::Two;
        }
        fields.datatype = data_type.code();
        fields.bitpix = 8 * data_type.bytes() as i16;
        fields.scl_slope = 1.0;
        fields.scl_inter = 0.0;
        fields.big_endian = false;
        fields.paired = false;
        fields
    }
}

/// Fields for a grid of its own; codes, time unit and description follow `like`.
fn resampled_fields(geometry: Geometry, like: Option<&Header>) -> Fields {
    let [z, y, x] = geometry.shape.map(|n| n as i64);
    let mut fields = Fields {
        version: like.map_or(Version::One, Header::version),
        big_endian: false,
        paired: false,
        sizeof_hdr: 0,
        dim_info: 0,
        dim: [3, x, y, z, 1, 1, 1, 1],
        datatype: 0,
        bitpix: 0,
        slice_start: 0,
        slice_end: 0,
        slice_code: 0,
        slice_duration: 0.0,
        toffset: 0.0,
        pixdim: [1.0; 8],
        vox_offset: 0.0,
        scl_slope: 1.0,
        scl_inter: 0.0,
        xyzt_units: like.map_or(0, |h| h.fields.xyzt_units),
        qform_code: 0,
        sform_code: 0,
        quatern: [0.0; 3],
        qoffset: [0.0; 3],
        srow: [[0.0; 4]; 3],
        descrip: like.map_or([0; 80], |h| h.fields.descrip),
    };
    let code = like.map_or(0, |h| match h.affine_source {
        AffineSource::Sform => h.fields.sform_code,
        AffineSource::Qform => h.fields.qform_code,
        AffineSource::Pixdim => 0,
    });
    // Without a source the grid is in scanner coordinates, code 1.
    form::set_forms(&mut fields, geometry, if code > 0 { code } else { 1 });
    fields
}

/// The extents that `dim[0]` announces; checked to be at least 1.
fn dims(fields: &Fields) -> &[i64] {
    let rank = fields.dim[0].clamp(1, 7) as usize;
    &fields.dim[1..=rank]
}

/// The shape (z, y, x) of one volume.
fn shape(fields: &Fields) -> [usize; 3] {
    let extent = |axis: usize| dims(fields).get(axis).map_or(1, |&n| n as usize);
    [extent(2), extent(1), extent(0)]
}

fn check_dimensions(path: &Path, fields: &Fields) -> Result<()> {
    const NAMES: [&str; 8] = [
        "dim[0]", "dim[1]", "dim[2]", "dim[3]", "dim[4]", "dim[5]", "dim[6]", "dim[7]",
    ];
    if !(1..=7).contains(&fields.dim[0]) {
        return Err(Error::header(path, NAMES[0], fields.dim[0], "1 to 7 axes"));
    }
    let mut voxels = 1i64;
    for (axis, &extent) in dims(fields).iter().enumerate() {
        let name = NAMES[axis + 1];
        if extent < 1 {
            return Err(Error::header(path, name, extent, "at least one voxel"));
        }
        // Eight bytes are the largest voxel; 2^59 of them still count in 63 bits.
        voxels = voxels
            .checked_mul(extent)
            .filter(|&v| v < 1 << 59 && usize::try_from(v).is_ok())
            .ok_or_else(|| {
                let found = format!("{extent}, so dimensions {:?}", dims(fields));
                Error::header(path, name, found, "fewer voxels than can be counted")
            })?;
    }
    Ok(())
}

/// A slope of 0 or one that is no number means that values are stored as they are; a good slope with
/// an intercept that is no number means nothing at all.
fn check_scaling(path: &Path, fields: &Fields, warnings: &mut Vec<Warning>) -> Result<()> {
    let (slope, intercept) = (fields.scl_slope, fields.scl_inter);
    if slope.is_finite() && slope != 0.0 {
        if !intercept.is_finite() {
            return Err(Error::header(
                path,
                "scl_inter",
                intercept,
                "a finite number",
            ));
        }
    } else if intercept.is_finite() && intercept != 0.0 {
        warnings.push(Warning::InterceptIgnored { intercept });
    }
    Ok(())
}

/// Where the first voxel is, and whether that had to be assumed.
fn first_voxel(path: &Path, fields: &Fields) -> Result<(u64, bool)> {
    let offset = fields.vox_offset;
    let refuse = |expected| Err(Error::header(path, "vox_offset", offset, expected));
    // 2^53: whole numbers of bytes up to here are exact.
    if !(0.0..9.007_199_254_740_992e15).contains(&offset) {
        return refuse("a number of bytes within the file");
    }
    let offset = offset as u64;
    let header = fields.version.header_bytes();
    match (fields.paired, offset) {
        (true, _) => Ok((offset, false)),
        (false, 0) => Ok((header + 4, true)),
        (false, _) if offset < header => refuse("a place behind the header"),
        (false, _) => Ok((offset, false)),
    }
}
