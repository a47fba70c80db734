//! The header as bytes: one set of fields for NIfTI-1 (348 bytes) and NIfTI-2 (540 bytes).

/// Which generation of the standard a header follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// NIfTI-1: 348 bytes, axes up to 32767 voxels, affine in f32.
    One,
    /// NIfTI-2: 540 bytes, 64-bit sizes, affine in f64.
    Two,
}

impl Version {
    /// Bytes of the header without the four that announce extensions.
    pub(crate) fn header_bytes(self) -> u64 {
        match self {
            Self::One => 348,
            Self::Two => 540,
        }
    }
}

/// Header fields as stored, wide enough for both versions. f32 fields survive the way to f64 and
/// back bit by bit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fields {
    pub(crate) version: Version,
    pub(crate) big_endian: bool,
    /// Voxels in a separate `.img` file.
    pub(crate) paired: bool,
    pub(crate) sizeof_hdr: i32,
    pub(crate) dim_info: u8,
    pub(crate) dim: [i64; 8],
    pub(crate) datatype: i16,
    pub(crate) bitpix: i16,
    pub(crate) slice_start: i64,
    pub(crate) slice_end: i64,
    pub(crate) slice_code: i32,
    pub(crate) slice_duration: f64,
    pub(crate) toffset: f64,
    pub(crate) pixdim: [f64; 8],
    pub(crate) vox_offset: f64,
    pub(crate) scl_slope: f64,
    pub(crate) scl_inter: f64,
    pub(crate) xyzt_units: i32,
    pub(crate) qform_code: i32,
    pub(crate) sform_code: i32,
    pub(crate) quatern: [f64; 3],
    pub(crate) qoffset: [f64; 3],
    pub(crate) srow: [[f64; 4]; 3],
    pub(crate) descrip: [u8; 80],
}

/// Reads numbers of one byte order at fixed places.
struct Cursor<'a> {
    bytes: &'a [u8; 540],
    big_endian: bool,
}

impl Cursor<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| self.bytes[at + i])
    }

    fn ordered<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = self.array(at);
        if self.big_endian {
            bytes.reverse();
        }
        bytes
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.ordered(at))
    }

    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.ordered(at))
    }

    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.ordered(at))
    }

    fn f32(&self, at: usize) -> f64 {
        f64::from(f32::from_le_bytes(self.ordered(at)))
    }

    fn f64(&self, at: usize) -> f64 {
        f64::from_le_bytes(self.ordered(at))
    }
}

impl Fields {
    /// The fields of a header; the bytes of a NIfTI-1 header are followed by zeros.
    pub(crate) fn decode(
        bytes: &[u8; 540],
        version: Version,
        big_endian: bool,
        paired: bool,
    ) -> Self {
        let c = Cursor { bytes, big_endian };
        match version {
            Version::One => Self {
                version,
                big_endian,
                paired,
                sizeof_hdr: c.i32(0),
                dim_info: bytes[39],
                dim: std::array::from_fn(|i| c.i16(40 + 2 * i).into()),
                datatype: c.i16(70),
                bitpix: c.i16(72),
                slice_start: c.i16(74).into(),
                slice_end: c.i16(120).into(),
                slice_code: bytes[122].into(),
                slice_duration: c.f32(132),
                toffset: c.f32(136),
                pixdim: std::array::from_fn(|i| c.f32(76 + 4 * i)),
                vox_offset: c.f32(108),
                scl_slope: c.f32(112),
                scl_inter: c.f32(116),
                xyzt_units: bytes[123].into(),
                qform_code: c.i16(252).into(),
                sform_code: c.i16(254).into(),
                quatern: std::array::from_fn(|i| c.f32(256 + 4 * i)),
                qoffset: std::array::from_fn(|i| c.f32(268 + 4 * i)),
                srow: std::array::from_fn(|r| std::array::from_fn(|i| c.f32(280 + 16 * r + 4 * i))),
                descrip: c.array(148),
            },
            Version::Two => Self {
                version,
                big_endian,
                paired,
                sizeof_hdr: c.i32(0),
                dim_info: bytes[524],
                dim: std::array::from_fn(|i| c.i64(16 + 8 * i)),
                datatype: c.i16(12),
                bitpix: c.i16(14),
                slice_start: c.i64(224),
                slice_end: c.i64(232),
                slice_code: c.i32(496),
                slice_duration: c.f64(208),
                toffset: c.f64(216),
                pixdim: std::array::from_fn(|i| c.f64(104 + 8 * i)),
                vox_offset: c.i64(168) as f64,
                scl_slope: c.f64(176),
                scl_inter: c.f64(184),
                xyzt_units: c.i32(500),
                qform_code: c.i32(344),
                sform_code: c.i32(348),
                quatern: std::array::from_fn(|i| c.f64(352 + 8 * i)),
                qoffset: std::array::from_fn(|i| c.f64(376 + 8 * i)),
                srow: std::array::from_fn(|r| std::array::from_fn(|i| c.f64(400 + 32 * r + 8 * i))),
                descrip: c.array(240),
            },
        }
    }

    /// The little-endian header of a single file with its extensions and voxels right behind it.
    /// Fields that are not kept are zero: display windows, intents and statistics of the source do
    /// not hold for a result.
    pub(crate) fn encode(&self, extensions: &[u8]) -> Vec<u8> {
        let header = self.version.header_bytes() as usize;
        let length = header + 4 + extensions.len();
        let mut out = Writer(vec![0; length]);
        out.put(0, &(header as i32).to_le_bytes());
        out.put(header, &[u8::from(!extensions.is_empty()), 0, 0, 0]);
        out.put(header + 4, extensions);
        match self.version {
            Version::One => {
                let f32 = |v: f64| (v as f32).to_le_bytes();
                // Only values that were read from, or checked to fit into, 16 or 8 bits get here.
                let i16 = |v: i64| (v as i16).to_le_bytes();
                out.put(38, b"r");
                out.put(39, &[self.dim_info]);
                for (i, &v) in self.dim.iter().enumerate() {
                    out.put(40 + 2 * i, &i16(v));
                }
                out.put(70, &self.datatype.to_le_bytes());
                out.put(72, &self.bitpix.to_le_bytes());
                out.put(74, &i16(self.slice_start));
                for (i, &v) in self.pixdim.iter().enumerate() {
                    out.put(76 + 4 * i, &f32(v));
                }
                for (at, v) in [
                    (108, length as f64),
                    (112, self.scl_slope),
                    (116, self.scl_inter),
                    (132, self.slice_duration),
                    (136, self.toffset),
                ] {
                    out.put(at, &f32(v));
                }
                out.put(120, &i16(self.slice_end));
                out.put(122, &[self.slice_code as u8, self.xyzt_units as u8]);
                out.put(148, &self.descrip);
                out.put(252, &i16(self.qform_code.into()));
                out.put(254, &i16(self.sform_code.into()));
                let forms = self.quatern.iter().chain(&self.qoffset);
                for (i, &v) in forms.chain(self.srow.iter().flatten()).enumerate() {
                    out.put(256 + 4 * i, &f32(v));
                }
                out.put(344, b"n+1\0");
            }
            Version::Two => {
                out.put(4, b"n+2\0\r\n\x1a\n");
                out.put(12, &self.datatype.to_le_bytes());
                out.put(14, &self.bitpix.to_le_bytes());
                for (i, v) in self.dim.iter().enumerate() {
                    out.put(16 + 8 * i, &v.to_le_bytes());
                }
                for (i, v) in self.pixdim.iter().enumerate() {
                    out.put(104 + 8 * i, &v.to_le_bytes());
                }
                out.put(168, &(length as i64).to_le_bytes());
                for (at, v) in [
                    (176, self.scl_slope),
                    (184, self.scl_inter),
                    (208, self.slice_duration),
                    (216, self.toffset),
                ] {
                    out.put(at, &v.to_le_bytes());
                }
                out.put(224, &self.slice_start.to_le_bytes());
                out.put(232, &self.slice_end.to_le_bytes());
                out.put(240, &self.descrip);
                out.put(344, &self.qform_code.to_le_bytes());
                out.put(348, &self.sform_code.to_le_bytes());
                let forms = self.quatern.iter().chain(&self.qoffset);
                for (i, v) in forms.chain(self.srow.iter().flatten()).enumerate() {
                    out.put(352 + 8 * i, &v.to_le_bytes());
                }
                out.put(496, &self.slice_code.to_le_bytes());
                out.put(500, &self.xyzt_units.to_le_bytes());
                out.put(524, &[self.dim_info]);
            }
        }
        out.0
    }
}

/// Puts bytes at fixed places of a buffer that is long enough by construction.
struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kept_field_survives_both_versions() {
        for version in [Version::One, Version::Two] {
            let fields = Fields {
                version,
                big_endian: false,
                paired: false,
                sizeof_hdr: version.header_bytes() as i32,
                dim_info: 57,
                dim: [4, 5, 6, 7, 1, 1, 1, 1],
                datatype: 16,
                bitpix: 32,
                slice_start: 1,
                slice_end: 6,
                slice_code: 3,
                slice_duration: 0.25,
                toffset: 2.5,
                pixdim: [-1.0, 1.5, 1.25, 7.75, 2.0, 1.0, 1.0, 1.0],
                vox_offset: version.header_bytes() as f64 + 4.0,
                scl_slope: 1.0,
                scl_inter: 0.0,
                xyzt_units: 10,
                qform_code: 1,
                sform_code: 2,
                quatern: [0.125, 0.25, 0.5],
                qoffset: [-1.0, -2.0, -3.0],
                srow: std::array::from_fn(|r| std::array::from_fn(|c| (4 * r + c) as f64)),
                descrip: std::array::from_fn(|i| i as u8),
            };
            let mut bytes = [0; 540];
            let encoded = fields.encode(&[]);
            let n = version.header_bytes() as usize;
            assert_eq!(encoded.len(), n + 4);
            bytes[..n].copy_from_slice(&encoded[..n]);
            assert_eq!(Fields::decode(&bytes, version, false, false), fields);
        }
    }
}
