//! The zip archives that `torch.save` writes: entries are stored, not compressed.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

/// Where an entry's bytes lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) length: u64,
}

impl Span {
    /// Whether it lies within a file of `length` bytes.
    fn fits(self, length: u64) -> bool {
        self.start
            .checked_add(self.length)
            .is_some_and(|end| end <= length)
    }
}

/// The longest list of entries that is read, in bytes.
const LONGEST_LIST: u64 = 32 << 20;

/// The entries of an archive by name.
///
/// # Errors
/// In words, when the list is damaged or an entry is compressed, encrypted or outside the file.
pub(crate) fn entries(
    file: &mut (impl Read + Seek),
    file_length: u64,
) -> Result<HashMap<String, Span>, String> {
    let list = list_of_entries(file, file_length)?;
    if !list.fits(file_length) || list.length > LONGEST_LIST {
        return Err("its list of entries lies outside the file".into());
    }
    let bytes = read_at(file, list)?;
    let mut found = HashMap::new();
    let mut rest = bytes.as_slice();
    while rest.starts_with(b"PK\x01\x02") {
        let (name, local, length, after) = entry(rest)?;
        rest = after;
        let head = read_at(
            file,
            Span {
                start: local,
                length: 30,
            },
        )?;
        if !head.starts_with(b"PK\x03\x04") {
            return Err(format!("its entry `{name}` does not begin where it should"));
        }
        let skip = 30 + u64::from(u16_at(&head, 26)?) + u64::from(u16_at(&head, 28)?);
        let start = local
            .checked_add(skip)
            .ok_or("an entry lies outside the file")?;
        let span = Span { start, length };
        if !span.fits(file_length) {
            return Err(format!("its entry `{name}` lies outside the file"));
        }
        found.insert(name, span);
    }
    Ok(found)
}

/// Name, place of the local header, length, and the rest of the list.
fn entry(list: &[u8]) -> Result<(String, u64, u64, &[u8]), String> {
    let short = |at| u16_at(list, at);
    let (name, extra, comment) = (
        short(28)? as usize,
        short(30)? as usize,
        short(32)? as usize,
    );
    let name_bytes = list.get(46..46 + name).ok_or_else(broken)?;
    let extra_bytes = list.get(46 + name..46 + name + extra).ok_or_else(broken)?;
    let after = list.get(46 + name + extra + comment..).ok_or_else(broken)?;
    let name = String::from_utf8_lossy(name_bytes).into_owned();
    if short(8)? & 1 != 0 || short(10)? != 0 {
        return Err(format!(
            "its entry `{name}` is compressed or encrypted; torch.save does neither: save it again"
        ));
    }
    let (packed, length) = (u32_at(list, 20)?, u32_at(list, 24)?);
    let place = u32_at(list, 42)?;
    // Sizes of 4 GiB and more stand in an extra field, in this order, where the short one is all ones.
    let mut long = zip64(extra_bytes)?.into_iter();
    let mut wide = |short: u32| match short {
        u32::MAX => long.next().ok_or_else(broken),
        short => Ok(u64::from(short)),
    };
    let length = wide(length)?;
    wide(packed)?;
    let place = wide(place)?;
    Ok((name, place, length, after))
}

/// The numbers of the extra field for large archives.
fn zip64(mut extra: &[u8]) -> Result<Vec<u64>, String> {
    while extra.len() >= 4 {
        let (kind, length) = (u16_at(extra, 0)?, u16_at(extra, 2)? as usize);
        let body = extra.get(4..4 + length).ok_or_else(broken)?;
        if kind == 1 {
            let (numbers, _) = body.as_chunks::<8>();
            return Ok(numbers.iter().map(|n| u64::from_le_bytes(*n)).collect());
        }
        extra = &extra[4 + length..];
    }
    Ok(Vec::new())
}

/// Where the list of entries lies, as the end of the archive says.
fn list_of_entries(file: &mut (impl Read + Seek), file_length: u64) -> Result<Span, String> {
    // The end is 22 bytes and a comment of at most 65535.
    let length = file_length.min(22 + 65_535);
    let start = file_length - length;
    let tail = read_at(file, Span { start, length })?;
    let end = tail
        .windows(4)
        .rposition(|w| w == b"PK\x05\x06")
        .filter(|end| end + 22 <= tail.len())
        .ok_or("the end of the archive is missing: the file was cut short")?;
    let (length, place) = (u32_at(&tail, end + 12)?, u32_at(&tail, end + 16)?);
    if length != u32::MAX && place != u32::MAX {
        return Ok(Span {
            start: place.into(),
            length: length.into(),
        });
    }
    let locator = end
        .checked_sub(20)
        .and_then(|at| tail.get(at..end))
        .ok_or_else(broken)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Err(broken());
    }
    let large = read_at(
        file,
        Span {
            start: u64_at(locator, 8)?,
            length: 56,
        },
    )?;
    if !large.starts_with(b"PK\x06\x06") {
        return Err(broken());
    }
    Ok(Span {
        length: u64_at(&large, 40)?,
        start: u64_at(&large, 48)?,
    })
}

/// Reads a span that is known to lie in the file, or finds out that it does not.
pub(crate) fn read_at(file: &mut (impl Read + Seek), span: Span) -> Result<Vec<u8>, String> {
    file.seek(SeekFrom::Start(span.start))
        .map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    let read = file.by_ref().take(span.length).read_to_end(&mut bytes);
    match read {
        Ok(n) if n as u64 == span.length => Ok(bytes),
        Ok(_) => Err("it ends too early".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn broken() -> String {
    "its list of entries is damaged".to_owned()
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().ok_or_else(broken)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, String> {
    Ok(u16::from_le_bytes(bytes_at(bytes, at)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    Ok(u32::from_le_bytes(bytes_at(bytes, at)?))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, String> {
    Ok(u64::from_le_bytes(bytes_at(bytes, at)?))
}

/// An archive of stored entries, for tests.
#[cfg(test)]
pub(crate) fn stored(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut list) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let (at, size) = (out.len() as u32, (bytes.len() as u32).to_le_bytes());
        let name_length = (name.len() as u16).to_le_bytes();
        out.extend(b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0");
        out.extend([size, size].concat());
        out.extend(name_length);
        out.extend([0, 0]);
        out.extend(name.as_bytes());
        out.extend(*bytes);
        list.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0");
        list.extend([size, size].concat());
        list.extend(name_length);
        list.extend([0; 12]);
        list.extend(at.to_le_bytes());
        list.extend(name.as_bytes());
    }
    let (at, length) = (out.len() as u32, list.len() as u32);
    out.extend(list);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([(files.len() as u16).to_le_bytes(); 2].concat());
    out.extend(length.to_le_bytes());
    out.extend(at.to_le_bytes());
    out.extend([0, 0]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn read(bytes: &[u8]) -> Result<HashMap<String, Span>, String> {
        entries(&mut Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn entries_are_found_and_read() {
        let archive = stored(&[("a/data.pkl", b"hello"), ("a/data/0", b"numbers")]);
        let found = read(&archive).unwrap();
        assert_eq!(found.len(), 2);
        let mut file = Cursor::new(&archive);
        assert_eq!(read_at(&mut file, found["a/data.pkl"]).unwrap(), b"hello");
        assert_eq!(read_at(&mut file, found["a/data/0"]).unwrap(), b"numbers");
    }

    #[test]
    fn a_cut_archive_and_entries_outside_it_are_refused() {
        let archive = stored(&[("data.pkl", b"hello")]);
        for length in 0..archive.len() {
            assert!(read(&archive[..length]).is_err(), "{length}");
        }
        // The entry's length, in the list: at its 24th byte.
        let list = archive.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        let mut long = archive.clone();
        long[list + 24..list + 28].copy_from_slice(&1_000_000u32.to_le_bytes());
        assert!(read(&long).unwrap_err().contains("outside the file"));
        let mut packed = archive.clone();
        packed[list + 10] = 8;
        assert!(read(&packed).unwrap_err().contains("compressed"));
    }
}
