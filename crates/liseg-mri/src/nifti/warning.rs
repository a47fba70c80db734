//! What is odd about a file that was read all the same.

use std::fmt;

/// Something odd about a file that was read all the same: what was found and what was assumed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// Neither an sform nor a qform is set: orientation and position are a guess.
    NoForm,
    /// The sform and the qform put a corner of the grid at different places; the sform was used.
    FormsDisagree {
        /// Largest distance between the corners of the two grids.
        distance_mm: f64,
    },
    /// The sform's code is set but all its entries are zero; it was ignored.
    SformIsZero,
    /// The sform's code is set but its axes span no space; the qform was used.
    SformIsUnusable {
        /// What is wrong with the sform.
        reason: String,
    },
    /// `pixdim` contradicts the affine; the affine was used.
    SpacingDisagrees {
        /// Spacing in `pixdim`, file order x, y, z, in millimetres.
        pixdim_mm: [f64; 3],
        /// Spacing of the affine, file order x, y, z, in millimetres.
        affine_mm: [f64; 3],
    },
    /// A spacing was zero; 1 was assumed.
    ZeroSpacing {
        /// File axis: 0 for x, 1 for y, 2 for z.
        axis: usize,
    },
    /// A spacing was negative; its magnitude was used.
    NegativeSpacing {
        /// File axis: 0 for x, 1 for y, 2 for z.
        axis: usize,
    },
    /// Lengths were not in millimetres and were converted.
    UnitsConverted {
        /// Millimetres in the file's unit.
        mm_factor: f64,
    },
    /// The slope is 0 or not finite, so values were not scaled, but the intercept is not 0: other
    /// readers may add it.
    InterceptIgnored {
        /// The intercept.
        intercept: f64,
    },
    /// `sizeof_hdr` is wrong.
    HeaderSize {
        /// The value found.
        found: i32,
    },
    /// `bitpix` contradicts `datatype`, which was used.
    BitsPerVoxel {
        /// The value found.
        found: i16,
        /// What the type needs.
        expected: i16,
    },
    /// `vox_offset` was 0; voxels were taken from right after the header.
    NoOffset,
    /// Some voxels are NaN or infinite.
    NotFinite {
        /// How many.
        count: usize,
    },
    /// Much data follows the last voxel; the checksum at the end was not verified.
    Unverified,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoForm => f.write_str(
                "neither sform nor qform is set: assumed x to the left, y to the front, z to the head, origin at the centre",
            ),
            Self::FormsDisagree { distance_mm } => write!(
                f,
                "sform and qform disagree by up to {distance_mm:.3} mm; the sform was used"
            ),
            Self::SformIsZero => {
                f.write_str("sform_code is set but the sform is all zero; it was ignored")
            }
            Self::SformIsUnusable { reason } => {
                write!(f, "the sform is unusable ({reason}); the qform was used")
            }
            Self::SpacingDisagrees { pixdim_mm: [a, b, c], affine_mm: [x, y, z] } => write!(
                f,
                "pixdim says {a:.4}×{b:.4}×{c:.4} mm, the affine {x:.4}×{y:.4}×{z:.4} mm (x, y, z); the affine was used"
            ),
            Self::ZeroSpacing { axis } => {
                write!(f, "pixdim[{}] is 0; a spacing of 1 was assumed", axis + 1)
            }
            Self::NegativeSpacing { axis } => {
                write!(f, "pixdim[{}] is negative; its magnitude was used", axis + 1)
            }
            Self::UnitsConverted { mm_factor } => {
                write!(f, "lengths were multiplied by {mm_factor} to be in millimetres")
            }
            Self::InterceptIgnored { intercept } => write!(
                f,
                "scl_slope is 0 or not finite, so scl_inter {intercept} was not added; other readers may add it"
            ),
            Self::HeaderSize { found } => write!(f, "sizeof_hdr is {found}"),
            Self::BitsPerVoxel { found, expected } => {
                write!(f, "bitpix is {found} where the datatype needs {expected}")
            }
            Self::NoOffset => {
                f.write_str("vox_offset is 0; voxels were read from right after the header")
            }
            Self::NotFinite { count } => write!(f, "{count} voxels are NaN or infinite"),
            Self::Unverified => f.write_str(
                "much data follows the last voxel; the checksum at its end was not verified",
            ),
        }
    }
}
