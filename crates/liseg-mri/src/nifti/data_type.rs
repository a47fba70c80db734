//! The voxel types of NIfTI files.

/// How a file stores a voxel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataType {
    /// Unsigned 8 bits.
    U8,
    /// Signed 8 bits.
    I8,
    /// Unsigned 16 bits.
    U16,
    /// Signed 16 bits.
    I16,
    /// Unsigned 32 bits.
    U32,
    /// Signed 32 bits.
    I32,
    /// Unsigned 64 bits.
    U64,
    /// Signed 64 bits.
    I64,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl DataType {
    /// The type with a NIfTI `datatype` code; `None` for types that are not real scalars of at most
    /// 64 bits.
    pub fn from_code(code: i16) -> Option<Self> {
        Some(match code {
            2 => Self::U8,
            4 => Self::I16,
            8 => Self::I32,
            16 => Self::F32,
            64 => Self::F64,
            256 => Self::I8,
            512 => Self::U16,
            768 => Self::U32,
            1024 => Self::I64,
            1280 => Self::U64,
            _ => return None,
        })
    }

    /// The NIfTI `datatype` code.
    pub fn code(self) -> i16 {
        match self {
            Self::U8 => 2,
            Self::I16 => 4,
            Self::I32 => 8,
            Self::F32 => 16,
            Self::F64 => 64,
            Self::I8 => 256,
            Self::U16 => 512,
            Self::U32 => 768,
            Self::I64 => 1024,
            Self::U64 => 1280,
        }
    }

    /// Bytes of one voxel.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The name that NumPy and nibabel use, as in `int16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::U64 => "uint64",
            Self::I64 => "int64",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// What a `datatype` code that is not read stands for.
    pub(crate) fn unsupported_name(code: i16) -> String {
        let name = match code {
            1 => "binary",
            32 => "complex64",
            128 => "RGB24",
            1536 => "float128",
            1792 => "complex128",
            2048 => "complex256",
            2304 => "RGBA32",
            _ => return format!("datatype {code}"),
        };
        format!("voxel type {name} (datatype {code})")
    }

    /// Decodes as many voxels as fit into `out` from bytes, passing each through `convert` as f64;
    /// 64-bit integers beyond 2^53 are rounded.
    ///
    /// One loop per type and byte order, so that the compiler can vectorise each of them.
    pub(crate) fn decode<T>(
        self,
        bytes: &[u8],
        big_endian: bool,
        out: &mut [T],
        convert: impl Fn(f64) -> T,
    ) {
        macro_rules! decode {
            ($type:ty) => {{
                let voxels = bytes.as_chunks::<{ size_of::<$type>() }>().0;
                if big_endian {
                    for (o, b) in out.iter_mut().zip(voxels) {
                        *o = convert(<$type>::from_be_bytes(*b) as f64);
                    }
                } else {
                    for (o, b) in out.iter_mut().zip(voxels) {
                        *o = convert(<$type>::from_le_bytes(*b) as f64);
                    }
                }
            }};
        }
        match self {
            Self::U8 => decode!(u8),
            Self::I8 => decode!(i8),
            Self::U16 => decode!(u16),
            Self::I16 => decode!(i16),
            Self::U32 => decode!(u32),
            Self::I32 => decode!(i32),
            Self::U64 => decode!(u64),
            Self::I64 => decode!(i64),
            Self::F32 => decode!(f32),
            Self::F64 => decode!(f64),
        }
    }
}

impl std::fmt::Display for DataType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for code in -10..3000 {
            if let Some(found) = DataType::from_code(code) {
                assert_eq!(found.code(), code);
            }
        }
    }

    #[test]
    fn decodes_both_byte_orders() {
        let mut out = [0.0; 2];
        DataType::I16.decode(&[0xff, 0xfe, 0x00, 0x01], true, &mut out, |v| v);
        assert_eq!(out, [-2.0, 1.0]);
        DataType::I16.decode(&[0xfe, 0xff, 0x01, 0x00], false, &mut out, |v| v);
        assert_eq!(out, [-2.0, 1.0]);
    }
}
