//! A safetensors file mapped into memory: the one place with unsafe code.

use crate::{Error, Result};
use bytemuck::AnyBitPattern;
use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, SafeTensors};
use std::fs::File;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

#[cfg(target_endian = "big")]
compile_error!("stored cases are little-endian and used in place");

/// A safetensors file mapped into memory.
#[derive(Debug)]
pub(crate) struct Mapped {
    path: PathBuf,
    bytes: Mmap,
    metadata: Metadata,
    /// Where tensor data starts: after the length of the header and the header.
    start: usize,
}

/// Where a tensor with elements of `T` lies in a file, once size and alignment were checked.
#[derive(Debug)]
pub(crate) struct Tensor<T> {
    range: Range<usize>,
    element: PhantomData<fn() -> T>,
}

impl Mapped {
    /// Maps a file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = liseg_file::open(path).map_err(Error::io("opening", path))?;
        let bytes = map(&file).map_err(Error::io("mapping", path))?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| {
            let reason = format!("it is damaged or cut short ({e}); preprocess the case again");
            Error::store(path, reason)
        })?;
        Ok(Self {
            path: path.to_owned(),
            bytes,
            start: header + size_of::<u64>(),
            metadata,
        })
    }

    /// A text of the header's metadata.
    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        let texts = self.metadata.metadata().as_ref()?;
        texts.get(key).map(String::as_str)
    }

    /// The names of all tensors.
    pub(crate) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Finds a tensor and checks its type, shape and alignment.
    pub(crate) fn tensor<T: AnyBitPattern>(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<Tensor<T>> {
        let tensor = self.any_length(name, dtype)?;
        match self.metadata.info(name) {
            Some(info) if info.shape == shape => Ok(tensor),
            info => Err(self.fault(format!(
                "tensor `{name}` has shape {:?} where {shape:?} is needed",
                info.map(|info| &info.shape)
            ))),
        }
    }

    /// Finds a tensor and checks its type and alignment; its shape is not looked at.
    pub(crate) fn any_length<T: AnyBitPattern>(
        &self,
        name: &str,
        dtype: Dtype,
    ) -> Result<Tensor<T>> {
        let info = self
            .metadata
            .info(name)
            .ok_or_else(|| self.fault(format!("tensor `{name}` is missing")))?;
        if info.dtype != dtype {
            return Err(self.fault(format!(
                "tensor `{name}` is of type {:?} where {dtype:?} is needed",
                info.dtype
            )));
        }
        let (from, to) = info.data_offsets;
        let range = self.start + from..self.start + to;
        let bytes = self
            .bytes
            .get(range.clone())
            .ok_or_else(|| self.fault(format!("tensor `{name}` ends past the file")))?;
        bytemuck::try_cast_slice::<u8, T>(bytes)
            .map_err(|e| self.fault(format!("tensor `{name}` is not aligned for use ({e})")))?;
        Ok(Tensor {
            range,
            element: PhantomData,
        })
    }

    /// The elements of a tensor of this file, without a copy.
    pub(crate) fn slice<T: AnyBitPattern>(&self, tensor: &Tensor<T>) -> &[T] {
        // The same cast succeeded when the tensor was found, and a mapping never moves.
        self.bytes
            .get(tensor.range.clone())
            .and_then(|bytes| bytemuck::try_cast_slice(bytes).ok())
            .unwrap_or_default()
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of a tensor; none for one that is not there.
    pub(crate) fn bytes(&self, name: &str) -> &[u8] {
        self.metadata
            .info(name)
            .map(|info| info.data_offsets)
            .and_then(|(from, to)| self.bytes.get(self.start + from..self.start + to))
            .unwrap_or_default()
    }

    fn fault(&self, reason: String) -> Error {
        Error::store(&self.path, format!("{reason}; preprocess the case again"))
    }
}

/// Maps a whole file for reading.
#[expect(
    unsafe_code,
    reason = "memory maps are how patches are read without a copy"
)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the mapping is read-only. It is sound as long as nobody changes or truncates the file
    // in place; LiSeg never does: a store's files are written under another name and renamed, which
    // leaves an open mapping on the old file. The elements read from it accept any bit pattern.
    unsafe { Mmap::map(file) }
}
