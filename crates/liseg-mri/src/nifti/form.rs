//! From a header's sform, qform or spacing to an affine, and back.

use super::{Warning, fields::Fields};
use crate::{Error, Result};
use liseg_volume::{Affine, Geometry};
use std::path::Path;

/// Which part of a header gave the affine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AffineSource {
    /// The matrix in `srow_*`.
    Sform,
    /// Quaternion, offset and spacing.
    Qform,
    /// The spacing alone: orientation and position are a guess.
    Pixdim,
}

impl AffineSource {
    /// `sform`, `qform` or `pixdim`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sform => "sform",
            Self::Qform => "qform",
            Self::Pixdim => "pixdim",
        }
    }
}

/// How far quaternion components may be from a rotation: written as f32, and by some programs with
/// few digits. Beyond it the header is broken.
const QUATERNION_TOLERANCE: f64 = 1e-3;

/// Below this the quaternion's scalar part is noise and is taken as zero, as in the NIfTI C library.
const SCALAR_PART_FLOOR: f64 = 1e-7;

/// Millimetres in the file's unit of length; `None` when the header does not name one.
pub(crate) fn mm_factor(fields: &Fields) -> Option<f64> {
    match fields.xyzt_units & 7 {
        1 => Some(1000.0),
        2 => Some(1.0),
        3 => Some(0.001),
        _ => None,
    }
}

/// The affine of a header, in millimetres: the sform if its code is set, else the qform, else the
/// spacing as nibabel reads it (x to the left, origin at the centre). A sform whose axes span no space
/// gives way to a sound qform, as in ITK.
pub(crate) fn affine(
    path: &Path,
    fields: &Fields,
    shape: [usize; 3],
    warnings: &mut Vec<Warning>,
) -> Result<(Affine, AffineSource)> {
    let source = source(fields, shape, warnings);
    let refuse = |reason: String| Error::Affine {
        path: path.to_owned(),
        form: source.name(),
        reason,
    };
    let factor = mm_factor(fields).unwrap_or(1.0);
    if fields.xyzt_units & 7 != 2 && mm_factor(fields).is_some() {
        warnings.push(Warning::UnitsConverted { mm_factor: factor });
    }
    let affine = match source {
        AffineSource::Sform => in_mm(fields.srow, factor),
        AffineSource::Qform => usable_spacing(fields, shape, warnings)
            .and_then(|spacing| qform_rows(fields, spacing))
            .and_then(|rows| in_mm(rows, factor)),
        AffineSource::Pixdim => {
            let spacing = usable_spacing(fields, shape, warnings);
            warnings.push(Warning::NoForm);
            spacing.and_then(|spacing| in_mm(centred_rows(spacing, shape), factor))
        }
    }
    .map_err(refuse)?;
    if source == AffineSource::Sform {
        compare_with_the_rest(fields, shape, affine, factor, warnings);
    }
    Ok((affine, source))
}

/// Which part of a header says where the voxels are.
fn source(fields: &Fields, shape: [usize; 3], warnings: &mut Vec<Warning>) -> AffineSource {
    let otherwise = match fields.qform_code > 0 {
        true => AffineSource::Qform,
        false => AffineSource::Pixdim,
    };
    if fields.sform_code <= 0 {
        return otherwise;
    }
    let axes = fields.srow.iter().flat_map(|row| &row[..3]);
    if axes.into_iter().all(|&v| v == 0.0) {
        warnings.push(Warning::SformIsZero);
        return otherwise;
    }
    // Without a sound qform the sform stays, and is refused with its own reason.
    match in_mm(fields.srow, 1.0) {
        Err(reason) if qform_is_sound(fields, shape) => {
            warnings.push(Warning::SformIsUnusable { reason });
            AffineSource::Qform
        }
        _ => AffineSource::Sform,
    }
}

/// Whether the qform is set and gives every axis a length of its own.
fn qform_is_sound(fields: &Fields, shape: [usize; 3]) -> bool {
    let mut odd = Vec::new();
    let affine = usable_spacing(fields, shape, &mut odd)
        .and_then(|spacing| qform_rows(fields, spacing))
        .and_then(|rows| in_mm(rows, 1.0));
    fields.qform_code > 0 && odd.is_empty() && affine.is_ok()
}

/// An affine of rows in a unit of `factor` millimetres, or what is wrong with it.
fn in_mm(rows: [[f64; 4]; 3], factor: f64) -> Result<Affine, String> {
    let rows = rows.map(|row| row.map(|v| v * factor));
    Affine::from_rows(rows).map_err(|error| match error {
        liseg_volume::Error::Affine { reason } => reason,
        other => other.to_string(),
    })
}

/// Warns where the spacing or the qform of a header contradicts the sform that was used.
fn compare_with_the_rest(
    fields: &Fields,
    shape: [usize; 3],
    affine: Affine,
    factor: f64,
    warnings: &mut Vec<Warning>,
) {
    let used = affine.spacing().xyz();
    let pixdim: [f64; 3] = std::array::from_fn(|i| fields.pixdim[i + 1].abs() * factor);
    // A spacing that is no number contradicts as well.
    let agrees = |i: usize| shape[2 - i] == 1 || (pixdim[i] - used[i]).abs() <= 1e-3 * used[i];
    if !(0..3).all(agrees) {
        warnings.push(Warning::SpacingDisagrees {
            pixdim_mm: pixdim,
            affine_mm: used,
        });
    }
    if fields.qform_code > 0 {
        let spacing = pixdim.map(|v| v / factor);
        let other = qform_rows(fields, spacing)
            .ok()
            .and_then(|rows| Affine::from_rows(rows.map(|r| r.map(|v| v * factor))).ok());
        if let Some(other) = other {
            let grid = |affine| Geometry { shape, affine };
            let distance_mm = grid(affine).corner_distance_mm(&grid(other));
            // A tenth of a voxel is f32 noise and rounding by scanners, not a contradiction.
            if distance_mm > 0.1 * used.iter().copied().fold(f64::INFINITY, f64::min) {
                warnings.push(Warning::FormsDisagree { distance_mm });
            }
        }
    }
}

/// `pixdim[1..4]` as positive numbers, in the file's unit.
fn usable_spacing(
    fields: &Fields,
    shape: [usize; 3],
    warnings: &mut Vec<Warning>,
) -> Result<[f64; 3], String> {
    let mut spacing = [1.0; 3];
    for axis in 0..3 {
        let found = fields.pixdim[axis + 1];
        // The spacing along an axis of one voxel that the file does not even have means nothing.
        let used = axis < fields.dim[0].max(0) as usize;
        if !found.is_finite() {
            if used {
                return Err(format!("pixdim[{}] is {found}", axis + 1));
            }
        } else if found == 0.0 {
            if shape[2 - axis] > 1 {
                warnings.push(Warning::ZeroSpacing { axis });
            }
        } else {
            if found < 0.0 {
                warnings.push(Warning::NegativeSpacing { axis });
            }
            spacing[axis] = found.abs();
        }
    }
    Ok(spacing)
}

/// nibabel's guess for a header without forms: x to the left, origin at the centre.
fn centred_rows(spacing: [f64; 3], shape: [usize; 3]) -> [[f64; 4]; 3] {
    let steps = [-spacing[0], spacing[1], spacing[2]];
    std::array::from_fn(|r| {
        let mut row = [0.0; 4];
        row[r] = steps[r];
        row[3] = -steps[r] * (shape[2 - r] as f64 - 1.0) / 2.0;
        row
    })
}

/// The qform with a given spacing, in the file's unit.
fn qform_rows(fields: &Fields, spacing: [f64; 3]) -> Result<[[f64; 4]; 3], String> {
    let [mut b, mut c, mut d] = fields.quatern;
    let squared = b * b + c * c + d * d;
    // Written so that NaN is refused too.
    if squared.is_nan() || squared > 1.0 + QUATERNION_TOLERANCE {
        return Err(format!("the quaternion ({b}, {c}, {d}) is no rotation"));
    }
    let mut a = 1.0 - squared;
    if a < SCALAR_PART_FLOOR {
        let scale = squared.sqrt().recip();
        (a, b, c, d) = (0.0, b * scale, c * scale, d * scale);
    } else {
        a = a.sqrt();
    }
    // pixdim[0] is -1 for left-handed axes; many writers leave 0 where 1 is meant.
    let handedness = if fields.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
    let rotation = [
        [
            a * a + b * b - c * c - d * d,
            2.0 * (b * c - a * d),
            2.0 * (b * d + a * c),
        ],
        [
            2.0 * (b * c + a * d),
            a * a + c * c - b * b - d * d,
            2.0 * (c * d - a * b),
        ],
        [
            2.0 * (b * d - a * c),
            2.0 * (c * d + a * b),
            a * a + d * d - c * c - b * b,
        ],
    ];
    Ok(std::array::from_fn(|r| {
        [
            rotation[r][0] * spacing[0],
            rotation[r][1] * spacing[1],
            rotation[r][2] * spacing[2] * handedness,
            fields.qoffset[r],
        ]
    }))
}

/// Sets sform, qform and spacing from an affine in millimetres. The qform says the same as the
/// sform, because programs differ in which of the two they trust; where the axes are sheared, which
/// no qform can say, its code is 0.
pub(crate) fn set_forms(fields: &mut Fields, geometry: Geometry, code: i32) {
    let affine = geometry.affine;
    fields.xyzt_units = (fields.xyzt_units & !7) | 2;
    fields.srow = affine.rows();
    fields.sform_code = code;
    let spacing = affine.spacing().xyz();
    let handedness = if affine.determinant() < 0.0 {
        -1.0
    } else {
        1.0
    };
    fields.pixdim[0] = handedness;
    fields.pixdim[1..4].copy_from_slice(&spacing);
    fields.qoffset = affine.origin();

    let mut axes: [[f64; 3]; 3] = std::array::from_fn(|c| affine.column(c).map(|v| v / spacing[c]));
    axes[2] = axes[2].map(|v| v * handedness);
    let rotation = nearest_rotation(std::array::from_fn(|r| std::array::from_fn(|c| axes[c][r])));
    fields.quatern = quaternion(rotation);

    let same = qform_rows(fields, spacing)
        .ok()
        .and_then(|rows| Affine::from_rows(rows).ok());
    let close = same.is_some_and(|affine| {
        let finest = spacing.iter().copied().fold(f64::INFINITY, f64::min);
        geometry.is_within(&Geometry { affine, ..geometry }, 0.01 * finest)
    });
    fields.qform_code = if close { code } else { 0 };
    if !close {
        fields.quatern = [0.0; 3];
    }
}

/// The rotation nearest to a matrix of positive determinant: Newton's iteration for the orthogonal
/// polar factor, X ← (X + X⁻ᵀ)/2 (Higham 1986), which converges quadratically.
fn nearest_rotation(mut x: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    for _ in 0..20 {
        // X⁻ᵀ is the matrix of cofactors over the determinant; cyclic indices carry the signs.
        let cofactor: [[f64; 3]; 3] = std::array::from_fn(|r| {
            std::array::from_fn(|c| {
                let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
                x[r1][c1] * x[r2][c2] - x[r1][c2] * x[r2][c1]
            })
        });
        let determinant: f64 = (0..3).map(|c| x[0][c] * cofactor[0][c]).sum();
        x = std::array::from_fn(|r| {
            std::array::from_fn(|c| 0.5 * (x[r][c] + cofactor[r][c] / determinant))
        });
    }
    x
}

/// The vector part (b, c, d) of the unit quaternion of a rotation, with a scalar part that is not
/// negative. Each case divides by the largest component (NIfTI-1 standard, section 6).
fn quaternion(r: [[f64; 3]; 3]) -> [f64; 3] {
    let trace = 1.0 + r[0][0] + r[1][1] + r[2][2];
    if trace > 0.5 {
        let a = 0.5 * trace.sqrt();
        return [
            0.25 * (r[2][1] - r[1][2]) / a,
            0.25 * (r[0][2] - r[2][0]) / a,
            0.25 * (r[1][0] - r[0][1]) / a,
        ];
    }
    let x = 1.0 + r[0][0] - (r[1][1] + r[2][2]);
    let y = 1.0 + r[1][1] - (r[0][0] + r[2][2]);
    let z = 1.0 + r[2][2] - (r[0][0] + r[1][1]);
    let (scalar, vector) = if x > 1.0 {
        let b = 0.5 * x.sqrt();
        let (c, d) = (
            0.25 * (r[0][1] + r[1][0]) / b,
            0.25 * (r[0][2] + r[2][0]) / b,
        );
        (r[2][1] - r[1][2], [b, c, d])
    } else if y > 1.0 {
        let c = 0.5 * y.sqrt();
        let (b, d) = (
            0.25 * (r[0][1] + r[1][0]) / c,
            0.25 * (r[1][2] + r[2][1]) / c,
        );
        (r[0][2] - r[2][0], [b, c, d])
    } else {
        let d = 0.5 * z.sqrt();
        let (b, c) = (
            0.25 * (r[0][2] + r[2][0]) / d,
            0.25 * (r[1][2] + r[2][1]) / d,
        );
        (r[1][0] - r[0][1], [b, c, d])
    };
    if scalar < 0.0 {
        vector.map(|v| -v)
    } else {
        vector
    }
}
