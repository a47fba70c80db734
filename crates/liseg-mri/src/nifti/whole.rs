//! Decompressing a whole file at once, twice as fast as in a stream, in the memory of the result.
//!
//! Stored voxels are rarely wider than those they become: 16-bit images are read as f32. The array of
//! the result then has room for the decompressed file at its end and, before that, for the
//! compressed one. Voxels are converted from the front; none is overwritten before it is read.

use super::Header;
use super::source::Source;
use crate::Result;
use bytemuck::Pod;
use libdeflater::Decompressor;
use std::io::{Read, Seek, SeekFrom};

/// Voxels converted at once.
const CHUNK: usize = 16 * 1024;

/// All voxels of a compressed file with one volume; `None` where this way is not open: streams,
/// several members, voxels that shrink, too little room, or damage, which the stream describes best.
pub(super) fn voxels<T: Pod>(
    header: &Header,
    source: &Source,
    decode: &mut impl FnMut(usize, &[u8], &mut [T]) -> Result<()>,
) -> Result<Option<Vec<T>>> {
    let Some(layout) = Layout::of::<T>(header, source) else {
        return Ok(None);
    };
    let length = layout.room / size_of::<T>();
    // Asked first, because `vec!` ends the program where there is no memory; that it gives zeros
    // without touching them is worth asking twice.
    if Vec::<T>::new().try_reserve_exact(length).is_err() {
        return Ok(None);
    }
    let mut values = vec![T::zeroed(); length];
    if layout
        .fill(source, bytemuck::cast_slice_mut(&mut values))
        .is_none()
    {
        return Ok(None);
    }
    let mut scratch = vec![0; CHUNK * layout.size];
    for first in (0..layout.count).step_by(CHUNK) {
        let step = CHUNK.min(layout.count - first);
        let bytes = &mut scratch[..step * layout.size];
        let at = layout.first_voxel() + first * layout.size;
        bytes.copy_from_slice(&bytemuck::cast_slice::<T, u8>(&values)[at..at + bytes.len()]);
        decode(first, bytes, &mut values[first..first + step])?;
    }
    values.truncate(layout.count);
    Ok(Some(values))
}

/// What lies where in the memory of the result, in bytes.
struct Layout {
    /// The compressed file, at the start.
    compressed: usize,
    /// The decompressed file, at the end.
    plain: usize,
    /// All of it.
    room: usize,
    /// Voxels, and the bytes of each as stored.
    count: usize,
    size: usize,
}

impl Layout {
    fn of<T>(header: &Header, source: &Source) -> Option<Self> {
        let compressed = usize::try_from(source.compressed_size()?).ok()?;
        let count = usize::try_from(header.voxels()).ok()?;
        let size = header.data_type().bytes();
        if header.volumes() != 1 || header.fields.paired || size > size_of::<T>() {
            return None;
        }
        let offset = usize::try_from(header.offset()).ok()?;
        let plain = count.checked_mul(size)?.checked_add(offset)?;
        let result = count.checked_mul(size_of::<T>())?;
        // Up to a tenth more than the result: the header and, of masks, the compressed bytes.
        let room = result.max(plain.checked_add(compressed)?);
        let room = room.next_multiple_of(size_of::<T>());
        let fits = room <= result + result / 10 + 1024;
        (fits && told_length(source)? == plain).then_some(Self {
            compressed,
            plain,
            room,
            count,
            size,
        })
    }

    /// Reads and decompresses; `None` unless the file is one sound member of the expected length.
    fn fill(&self, source: &Source, memory: &mut [u8]) -> Option<()> {
        let (front, plain) = memory.split_at_mut(self.room - self.plain);
        let compressed = front.get_mut(..self.compressed)?;
        let mut file = liseg_file::open(source.path()).ok()?;
        file.read_exact(compressed).ok()?;
        let found = Decompressor::new()
            .gzip_decompress(compressed, plain)
            .ok()?;
        (found == self.plain).then_some(())
    }

    /// Where the voxels begin.
    fn first_voxel(&self) -> usize {
        self.room - self.count * self.size
    }
}

/// The length after decompression, as the last four bytes of the file tell it.
fn told_length(source: &Source) -> Option<usize> {
    let mut file = liseg_file::open(source.path()).ok()?;
    let mut last = [0; 4];
    file.seek(SeekFrom::End(-4)).ok()?;
    file.read_exact(&mut last).ok()?;
    usize::try_from(u32::from_le_bytes(last)).ok()
}
