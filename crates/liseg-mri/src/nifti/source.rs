//! Files, compressed or not, as streams of bytes.

use crate::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// The first bytes of every gzip member.
pub(crate) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Deflate cannot expand a byte to more than this (zlib's documentation gives 1032:1), so a header
/// that asks for more than the file can hold is refused before any memory is taken.
const LARGEST_EXPANSION: u64 = 1032;

/// Bytes read from the disk at once.
const BUFFER: usize = 256 * 1024;

/// After the last voxel of a compressed file at most so much is read to reach its checksum.
const LARGEST_TAIL: usize = 64 << 20;

/// A file as a stream; gzip is recognised by its content, not by the name.
pub(crate) struct Source {
    path: PathBuf,
    compressed: bool,
    /// Size on disk; `None` for pipes and devices.
    size: Option<u64>,
    stream: Box<dyn Read>,
    position: u64,
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = liseg_file::open(path).map_err(Error::io(path, "open the file"))?;
        let metadata = file.metadata().map_err(Error::io(path, "open the file"))?;
        let mut start = [0; 2];
        let n = read_up_to(&mut file, &mut start).map_err(Error::io(path, "read the file"))?;
        let start = &start[..n];
        let compressed = start == GZIP;
        // Put the two bytes back in front: the file may be a pipe.
        let whole = std::io::Cursor::new(start.to_vec()).chain(file);
        let stream: Box<dyn Read> = if compressed {
            // Several members in a row are one stream (bgzip, pigz, concatenated files).
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, whole)))
        } else {
            Box::new(whole)
        };
        Ok(Self {
            path: path.to_owned(),
            compressed,
            size: metadata.is_file().then_some(metadata.len()),
            stream,
            position: 0,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The size on disk of a compressed file; `None` for others, and for pipes and devices.
    pub(crate) fn compressed_size(&self) -> Option<u64> {
        self.size.filter(|_| self.compressed)
    }

    /// Fills the buffer as far as the stream goes; returns how far.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = read_up_to(&mut self.stream, buffer).map_err(|source| {
            let path = self.path.clone();
            if self.compressed {
                Error::Gzip { path, source }
            } else {
                Error::Io {
                    path,
                    action: "read the file",
                    source,
                }
            }
        })?;
        self.position += n as u64;
        Ok(n)
    }

    /// Fills the buffer or fails; `needed` is what the whole file should hold.
    pub(crate) fn read_exact(&mut self, buffer: &mut [u8], needed: u64) -> Result<()> {
        if self.read(buffer)? == buffer.len() {
            Ok(())
        } else {
            Err(Error::Truncated {
                path: self.path.clone(),
                expected: needed,
                found: self.position,
            })
        }
    }

    /// Fails when the file is too small for `needed` bytes: exactly for plain files, by the best
    /// ratio of the compression for others.
    pub(crate) fn check_size(&self, needed: u64) -> Result<()> {
        let Some(size) = self.size else { return Ok(()) };
        let found = if self.compressed {
            size.saturating_mul(LARGEST_EXPANSION)
        } else {
            size
        };
        if needed <= found {
            Ok(())
        } else {
            Err(Error::Truncated {
                path: self.path.clone(),
                expected: needed,
                found,
            })
        }
    }

    /// Skips to a place further on.
    pub(crate) fn skip_to(&mut self, position: u64) -> Result<()> {
        let mut scratch = [0; 4096];
        while self.position < position {
            let step = (position - self.position).min(scratch.len() as u64) as usize;
            self.read_exact(&mut scratch[..step], position)?;
        }
        Ok(())
    }

    /// Reads a compressed stream to its end, where the checksum is; false when the end is too far.
    pub(crate) fn verify(&mut self) -> Result<bool> {
        if !self.compressed {
            return Ok(true);
        }
        let mut scratch = [0; 16 * 1024];
        let mut left = LARGEST_TAIL;
        while left > 0 {
            match self.read(&mut scratch)? {
                0 => return Ok(true),
                n => left = left.saturating_sub(n),
            }
        }
        Ok(false)
    }
}

fn read_up_to(stream: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
