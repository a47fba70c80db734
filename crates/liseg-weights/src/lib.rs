//! What files of network weights hold, read without torch: names, shapes, number formats, bytes.
//!
//! - [`Checkpoint`]: what `torch.save` wrote, zip or legacy, parsed as data and never executed.
//! - [`Safetensors`]: the header of a safetensors file, then its tensors one by one.
//! - [`Numbers`]: one tensor as a shape, strides and bytes.
//!
//! Files may be damaged or hostile. What comes of them is an answer or a [`Refusal`], never a panic,
//! and memory in proportion to the file.
//!
//! # Example
//! ```
//! use liseg_weights::Safetensors;
//! use std::io::Cursor;
//!
//! let header = br#"{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}"#;
//! let mut file = (header.len() as u64).to_le_bytes().to_vec();
//! file.extend(header);
//! file.extend([1.5f32, -2.0].map(f32::to_le_bytes).concat());
//! let mut weights = Safetensors::open(Cursor::new(file))?;
//! let (name, numbers) = weights.next()?.ok_or("no tensor")?;
//! assert_eq!((name.as_str(), numbers.size.as_slice()), ("w", &[2][..]));
//! assert!(weights.next()?.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(
    test,
    allow(clippy::float_cmp, reason = "tests compare what was copied")
)]

mod archive;
mod globals;
mod pickle;
mod pytorch;
mod safetensors;

pub use pytorch::{Checkpoint, Entry};
pub use safetensors::Safetensors;

/// Why a file is no weights that can be used, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

/// How a number is written; all little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NumberFormat {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// IEEE 16-bit float.
    F16,
    /// The upper half of a 32-bit float.
    BF16,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 8 bits.
    U8,
    /// A byte, 0 or 1.
    Bool,
}

impl NumberFormat {
    /// Bytes of a number.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

/// The numbers of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// How they are written.
    pub format: NumberFormat,
    /// The tensor's shape; none negative.
    pub size: Vec<i64>,
    /// Numbers from one to the next along each axis; none negative. Several places of a tensor may
    /// share a number.
    pub stride: Vec<i64>,
    /// From the tensor's first number to the last one that its strides reach.
    pub bytes: Vec<u8>,
}

impl Numbers {
    /// Whether the numbers lie in C order without gaps.
    pub fn is_contiguous(&self) -> bool {
        is_contiguous(&self.size, &self.stride)
    }
}

/// The strides of a shape in C order; nothing when they do not fit into 64 bits.
fn contiguous(size: &[i64]) -> Option<Vec<i64>> {
    let mut stride = vec![1; size.len()];
    for axis in (1..size.len()).rev() {
        stride[axis - 1] = size[axis].max(1).checked_mul(stride[axis])?;
    }
    Some(stride)
}

fn is_contiguous(size: &[i64], stride: &[i64]) -> bool {
    let mut expected: i64 = 1;
    size.iter().zip(stride).rev().all(|(&size, &stride)| {
        let fits = size == 1 || stride == expected;
        expected = expected.saturating_mul(size);
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_of_c_order_are_known_as_such() {
        for size in [&[2, 3, 4][..], &[], &[5], &[1, 1, 7]] {
            assert!(is_contiguous(size, &contiguous(size).unwrap()), "{size:?}");
        }
        assert_eq!(contiguous(&[2, 3, 4]).unwrap(), [12, 4, 1]);
        assert!(!is_contiguous(&[4, 3], &[1, 4]));
        assert_eq!(contiguous(&[1, i64::MAX, 2, 2]), None);
    }
}
