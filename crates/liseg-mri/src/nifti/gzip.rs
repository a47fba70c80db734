//! Compressing on all cores into one gzip member that every reader takes.

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use rayon::prelude::*;
use std::io::{self, Write};

/// Bytes compressed as one piece. Pieces know nothing of each other, which costs a deflate window
/// (32 KiB) of context each: well below 1 % of the size.
const PIECE: usize = 1 << 20;

/// Pieces held at once: bounds the memory, and is more than most machines have cores.
const BATCH: usize = 16;

/// A writer that compresses what it is given, in parallel, as a single gzip member.
///
/// The input is cut at fixed places and every piece is deflated by itself and ended at a byte
/// boundary (a sync flush, RFC 1951 §3.2.4), so that the pieces put together are one deflate stream;
/// their checksums are combined (Adler's pigz works alike). The bytes do not depend on the number of
/// threads.
pub(super) struct ParallelGzip<W: Write> {
    out: W,
    level: Compression,
    pending: Vec<u8>,
    crc: Crc,
}

impl<W: Write> ParallelGzip<W> {
    pub(super) fn new(mut out: W, level: u32) -> io::Result<Self> {
        // Deflate, no name and no time (so that files are reproducible), unknown system.
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        Ok(Self {
            out,
            level: Compression::new(level.min(9)),
            pending: Vec::new(),
            crc: Crc::new(),
        })
    }

    /// Compresses and writes whole pieces.
    fn flush_pieces(&mut self) -> io::Result<()> {
        let level = self.level;
        let parts: Vec<io::Result<(Vec<u8>, Crc)>> = self
            .pending
            .par_chunks(PIECE)
            .map(|piece| {
                let mut crc = Crc::new();
                crc.update(piece);
                deflate(piece, level, FlushCompress::Sync).map(|bytes| (bytes, crc))
            })
            .collect();
        self.pending.clear();
        for part in parts {
            let (bytes, crc) = part?;
            self.crc.combine(&crc);
            self.out.write_all(&bytes)?;
        }
        Ok(())
    }

    /// Writes what is left, the end of the stream, its checksum and length.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.flush_pieces()?;
        let end = deflate(&[], self.level, FlushCompress::Finish)?;
        self.out.write_all(&end)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }
}

impl<W: Write> Write for ParallelGzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE * BATCH - self.pending.len());
        self.pending.extend_from_slice(&bytes[..n]);
        if self.pending.len() == PIECE * BATCH {
            self.flush_pieces()?;
        }
        Ok(n)
    }

    /// Passes on only whole batches: a flush in between would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Raw deflate of one piece.
fn deflate(piece: &[u8], level: Compression, flush: FlushCompress) -> io::Result<Vec<u8>> {
    let mut state = Compress::new(level, false);
    let mut bytes = Vec::with_capacity(piece.len() / 2 + 1024);
    loop {
        let taken = state.total_in() as usize;
        let status = state
            .compress_vec(&piece[taken..], &mut bytes, flush)
            .map_err(io::Error::other)?;
        let all_in = state.total_in() as usize == piece.len();
        // Room left over means that nothing is held back.
        let done = match flush {
            FlushCompress::Finish => matches!(status, Status::StreamEnd),
            _ => all_in && bytes.len() < bytes.capacity(),
        };
        if done {
            return Ok(bytes);
        }
        bytes.reserve(bytes.capacity().max(1024));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    fn compressed(bytes: &[u8], level: u32, step: usize) -> Vec<u8> {
        let mut writer = ParallelGzip::new(Vec::new(), level).unwrap();
        bytes
            .chunks(step)
            .for_each(|part| writer.write_all(part).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn every_length_and_level_comes_back_from_a_single_member() {
        // Numbers without and with patterns, around the borders of pieces and of batches.
        let noise = (0..PIECE * BATCH + 5).scan(1u32, |state, i| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some(if i % 3 == 0 { 7 } else { (*state >> 24) as u8 })
        });
        let bytes: Vec<u8> = noise.collect();
        let lengths = [0, 1, PIECE - 1, PIECE, PIECE + 1, bytes.len()];
        for (length, level) in lengths.into_iter().zip([0, 1, 6, 9, 6, 1]) {
            let file = compressed(&bytes[..length], level, 100_000);
            let mut back = Vec::new();
            // This decoder stops after one member and checks its checksum and length.
            GzDecoder::new(&file[..]).read_to_end(&mut back).unwrap();
            assert!(back == bytes[..length], "{length} bytes at level {level}");
        }
    }

    #[test]
    fn bytes_do_not_depend_on_threads_or_on_how_they_arrive() {
        let bytes: Vec<u8> = (0..3 * PIECE + 17).map(|i| (i / 5) as u8).collect();
        let expected = compressed(&bytes, 6, bytes.len());
        assert!(compressed(&bytes, 6, 777) == expected);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        assert!(one.unwrap().install(|| compressed(&bytes, 6, 4096)) == expected);
    }
}
