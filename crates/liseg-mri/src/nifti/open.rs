//! Recognising files: which version, which byte order, one file or a pair.

use super::Header;
use super::extension;
use super::fields::{Fields, Version};
use super::source::{GZIP, Source};
use crate::{Error, OtherFormat, Result};
use std::path::{Path, PathBuf};

/// Opens a file and checks its header; the stream is that of the file with the voxels.
pub(crate) fn open(path: &Path) -> Result<(Header, Source)> {
    refuse_other(path)?;
    let path = &header_path(path);
    let mut source = Source::open(path)?;
    let mut bytes = [0; 540];
    let found = source.read(&mut bytes[..348])?;
    if found < 348 && bytes[..2] != GZIP {
        let reason = format!(
            "it has {found} bytes and is too short: the header alone takes 348; copy or export it again"
        );
        return Err(Error::NotNifti {
            path: path.to_owned(),
            reason,
        });
    }
    let mut fields = match recognise(path, &bytes)? {
        (Version::One, big_endian, paired) => {
            Fields::decode(&bytes, Version::One, big_endian, paired)
        }
        (Version::Two, big_endian, paired) => {
            source.read_exact(&mut bytes[348..], 540)?;
            Fields::decode(&bytes, Version::Two, big_endian, paired)
        }
    };
    let image = image_path(path);
    if fields.paired && image.is_none() {
        // The magic of a pair in a file whose name says that it is not one: voxels follow.
        fields.paired = false;
        let header = fields.version.header_bytes() as f64;
        if fields.vox_offset < header {
            fields.vox_offset = 0.0;
        }
    }
    let mut header = Header::new(path, fields)?;
    header.extensions = extensions(&header, &mut source)?;
    if let (true, Some(image)) = (header.fields.paired, image) {
        source = Source::open(&image)?;
    }
    let bytes = header.voxels() * header.data_type.bytes() as u64;
    source.check_size(header.offset() + bytes)?;
    Ok((header, source))
}

/// Refuses folders, and files whose names or content say another format.
fn refuse_other(path: &Path) -> Result<()> {
    let refuse = |reason: String| {
        Err(Error::NotNifti {
            path: path.to_owned(),
            reason,
        })
    };
    if path.is_dir() {
        return match OtherFormat::of_folder(path) {
            Some(format) => refuse(format!(
                "it is a folder with {format}; {}",
                format.conversion()
            )),
            None => refuse("it is a folder; expected a file".into()),
        };
    }
    match OtherFormat::of_file(path) {
        Some(format) => refuse(format!("it is {format}; {}", format.conversion())),
        None => Ok(()),
    }
}

/// The block between the header and the voxels, or behind the header of a pair; empty when there is
/// none or when it is too large to be one.
fn extensions(header: &Header, source: &mut Source) -> Result<Vec<u8>> {
    let behind = header.fields.version.header_bytes() + 4;
    let room = if header.fields.paired {
        extension::LARGEST
    } else {
        header.offset().saturating_sub(behind)
    };
    let mut announced = [0; 4];
    if room < 16 || source.read(&mut announced)? < 4 || announced[0] == 0 {
        return Ok(Vec::new());
    }
    let mut block = Vec::new();
    if room <= extension::LARGEST {
        // Grows with what is there, not with what the header says.
        let mut piece = [0; 4096];
        while (block.len() as u64) < room {
            let step = (room - block.len() as u64).min(piece.len() as u64) as usize;
            let n = source.read(&mut piece[..step])?;
            block.extend_from_slice(&piece[..n]);
            if n < step {
                break;
            }
        }
    }
    Ok(block)
}

/// Version, byte order (true for big endian) and whether the voxels are in a file of their own.
fn recognise(path: &Path, bytes: &[u8; 540]) -> Result<(Version, bool, bool)> {
    let refuse = |reason: String| {
        Err(Error::NotNifti {
            path: path.to_owned(),
            reason,
        })
    };
    let size: [u8; 4] = std::array::from_fn(|i| bytes[i]);
    if let magic @ (b"n+2\0" | b"ni2\0") = &bytes[4..8] {
        if bytes[8..12] != *b"\r\n\x1a\n" {
            return refuse(
                "its NIfTI-2 signature is damaged, as by a transfer in text mode".into(),
            );
        }
        let big_endian = i32::from_be_bytes(size) == 540;
        return Ok((Version::Two, big_endian, magic[1] == b'i'));
    }
    let paired = match &bytes[344..348] {
        b"n+1\0" => false,
        b"ni1\0" => true,
        _ if bytes[..2] == GZIP => return refuse("it was compressed twice".into()),
        _ if i32::from_le_bytes(size) == 348 || i32::from_be_bytes(size) == 348 => {
            return refuse("it looks like an Analyze 7.5 file, which stores no orientation".into());
        }
        _ => {
            let start = bytes[..8].escape_ascii();
            return refuse(format!("it starts with `{start}` and lacks the mark `n+1`"));
        }
    };
    let big_endian = match (i32::from_le_bytes(size), i32::from_be_bytes(size)) {
        (348, _) => false,
        (_, 348) => true,
        // A wrong size: the number of axes tells the byte order.
        _ => (1..=7).contains(&i16::from_be_bytes([bytes[40], bytes[41]])),
    };
    Ok((Version::One, big_endian, paired))
}

/// The file with the header: for the `.img` of a pair its `.hdr`, whether it is there or not, else the
/// file itself.
pub fn header_path(path: &Path) -> PathBuf {
    sibling(path, ".img", ".hdr").unwrap_or_else(|| path.to_owned())
}

/// The voxels' file, for the name of a pair's header; `None` for single files.
fn image_path(path: &Path) -> Option<PathBuf> {
    sibling(path, ".hdr", ".img")
}

/// `name<from>[.gz]` → the first of `name<to>` and `name<to>.gz` that exists, or the first if none
/// does; the compressed one comes first for a compressed name.
fn sibling(path: &Path, from: &str, to: &str) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    // ASCII lower case has as many bytes.
    let lower = name.to_ascii_lowercase();
    let plain = lower.strip_suffix(".gz").unwrap_or(&lower);
    let stem = name.get(..plain.strip_suffix(from)?.len())?;
    let mut names = [format!("{stem}{to}"), format!("{stem}{to}.gz")];
    if lower.ends_with(".gz") {
        names.reverse();
    }
    let candidates = names.map(|name| path.with_file_name(name));
    let existing = candidates.iter().find(|p| p.exists()).cloned();
    existing.or_else(|| candidates.into_iter().next())
}
