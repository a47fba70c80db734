//! safetensors: eight bytes of length, a header in JSON, then the numbers without gaps.

use crate::{NumberFormat, Numbers, Refusal, contiguous};
use safetensors::tensor::{Dtype, Metadata};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

/// Longest header that is read, in bytes: the limit of the safetensors format itself.
const LONGEST_HEADER: u64 = 100_000_000;

/// An opened safetensors file; [`Safetensors::next`] reads its tensors one by one.
#[derive(Debug)]
pub struct Safetensors<F> {
    file: F,
    header: Metadata,
    header_length: u64,
    /// Names in the order of the file, the last one first.
    names: Vec<String>,
    /// Bytes of numbers in all.
    length: u64,
    /// Bytes of numbers that were read.
    at: u64,
}

impl<F: Read + Seek> Safetensors<F> {
    /// Reads the header. Of a damaged one no more is read than the file has.
    ///
    /// # Errors
    /// [`Refusal`] when there is no complete header, or one that is no safetensors.
    pub fn open(mut file: F) -> Result<Self, Refusal> {
        let length = file.seek(SeekFrom::End(0)).map_err(|e| e.to_string())?;
        file.rewind().map_err(|e| e.to_string())?;
        let mut start = [0; 9];
        let whole = file.read_exact(&mut start).is_ok();
        // The header is a JSON object: other kinds of files show at once.
        let (true, [size @ .., b'{']) = (whole, start) else {
            return Err(foreign());
        };
        let header_length = u64::from_le_bytes(size);
        file.seek(SeekFrom::Start(8)).map_err(|e| e.to_string())?;
        let length = length
            .checked_sub(8)
            .and_then(|n| n.checked_sub(header_length))
            .filter(|_| header_length <= LONGEST_HEADER)
            .ok_or_else(|| incomplete("its header is longer than the file"))?;
        let header = read(&mut file, header_length, "its header breaks off")?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| incomplete(&e.to_string()))?;
        let mut names = header.offset_keys();
        names.reverse();
        Ok(Self {
            file,
            header,
            header_length,
            names,
            length,
            at: 0,
        })
    }

    /// The text facts of the header.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let facts = self.header.metadata().clone().unwrap_or_default();
        facts.into_iter().collect()
    }

    /// The next tensor with its name, in the order of the file; nothing after the last.
    ///
    /// # Errors
    /// [`Refusal`] when its place, length or number format cannot be right, or bytes are left over.
    #[expect(
        clippy::should_implement_trait,
        reason = "an error ends the file, which an iterator does not say"
    )]
    pub fn next(&mut self) -> Result<Option<(String, Numbers)>, Refusal> {
        self.next_of(|_| true)
    }

    /// [`Safetensors::next`] among the tensors with a wanted name; others are checked and not read.
    ///
    /// # Errors
    /// As [`Safetensors::next`].
    pub fn next_of(
        &mut self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Option<(String, Numbers)>, Refusal> {
        while let Some(name) = self.names.pop() {
            let (mut numbers, bytes) = self.described(&name)?;
            self.at += bytes;
            if wanted(&name) {
                numbers.bytes = read(&mut self.file, bytes, "it breaks off")?;
                return Ok(Some((name, numbers)));
            }
            let place = 8 + self.header_length + self.at;
            self.file
                .seek(SeekFrom::Start(place))
                .map_err(|e| e.to_string())?;
        }
        match self.at == self.length {
            true => Ok(None),
            false => Err(incomplete("bytes are left over")),
        }
    }

    /// A tensor of the header without its bytes, and how many there are, next in the file.
    fn described(&self, name: &str) -> Result<(Numbers, u64), Refusal> {
        let info = self
            .header
            .info(name)
            .ok_or_else(|| incomplete(&format!("`{name}` is nowhere")))?;
        let format = format(info.dtype)
            .ok_or_else(|| format!("`{name}` is stored as {:?}, unknown here", info.dtype))?;
        let (begin, end) = info.data_offsets;
        let bytes = end
            .checked_sub(begin)
            .map(|n| n as u64)
            .filter(|&n| begin as u64 == self.at && n <= self.length - self.at)
            .ok_or_else(|| incomplete(&format!("`{name}` lies beyond its end")))?;
        let wrong = || incomplete(&format!("`{name}` has {bytes} bytes for {:?}", info.shape));
        let size = info.shape.iter().map(|&n| i64::try_from(n).ok());
        let size = size.collect::<Option<Vec<i64>>>().ok_or_else(wrong)?;
        let expected = info
            .shape
            .iter()
            .try_fold(1u64, |n, &s| n.checked_mul(s as u64))
            .and_then(|n| n.checked_mul(format.bytes()));
        let stride = contiguous(&size).ok_or_else(wrong)?;
        if expected != Some(bytes) {
            return Err(wrong());
        }
        let numbers = Numbers {
            format,
            size,
            stride,
            bytes: Vec::new(),
        };
        Ok((numbers, bytes))
    }
}

fn foreign() -> Refusal {
    Refusal("this is no safetensors file or bundle".to_owned())
}

fn incomplete(what: &str) -> Refusal {
    Refusal(format!(
        "not a complete safetensors file ({what}); get it again, or take another checkpoint"
    ))
}

/// So many bytes, allocated only as they arrive.
fn read(file: &mut impl Read, length: u64, otherwise: &str) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let found = file.by_ref().take(length).read_to_end(&mut bytes);
    match found.map_err(|e| e.to_string())? as u64 == length {
        true => Ok(bytes),
        false => Err(incomplete(otherwise)),
    }
}

fn format(dtype: Dtype) -> Option<NumberFormat> {
    Some(match dtype {
        Dtype::F32 => NumberFormat::F32,
        Dtype::F64 => NumberFormat::F64,
        Dtype::F16 => NumberFormat::F16,
        Dtype::BF16 => NumberFormat::BF16,
        Dtype::I64 => NumberFormat::I64,
        Dtype::I32 => NumberFormat::I32,
        Dtype::I16 => NumberFormat::I16,
        Dtype::I8 => NumberFormat::I8,
        Dtype::U8 => NumberFormat::U8,
        Dtype::BOOL => NumberFormat::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn file(header: &str, numbers: &[u8]) -> Vec<u8> {
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], header.as_bytes(), numbers].concat()
    }

    fn all(bytes: &[u8]) -> Result<Vec<(String, Numbers)>, Refusal> {
        let mut file = Safetensors::open(Cursor::new(bytes))?;
        let mut found = Vec::new();
        while let Some(one) = file.next()? {
            found.push(one);
        }
        Ok(found)
    }

    const TWO: &str = r#"{"__metadata__": {"a": "b"},
        "second": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [3, 7]},
        "first": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}}"#;

    #[test]
    fn tensors_come_in_the_order_of_the_file() {
        let bytes = file(TWO, b"abcdefg");
        let found = all(&bytes).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["first", "second"]);
        let second = &found[1].1;
        assert_eq!(
            (second.size.as_slice(), second.stride.as_slice()),
            (&[1, 2][..], &[2, 1][..])
        );
        assert_eq!(
            (second.format, second.bytes.as_slice()),
            (NumberFormat::BF16, &b"defg"[..])
        );
        let mut file = Safetensors::open(Cursor::new(&bytes)).unwrap();
        let one = file.next_of(|name| name == "second").unwrap();
        assert_eq!(one.as_ref(), Some(&found[1]));
        assert_eq!(file.next(), Ok(None));
        let facts = file.facts();
        assert_eq!(facts["a"], "b");
    }

    #[test]
    fn lengths_that_cannot_be_right_are_refused() {
        let whole = file(TWO, b"abcdefg");
        for length in 0..whole.len() {
            assert!(all(&whole[..length]).is_err(), "{length}");
        }
        let other = all(b"a text of some length").unwrap_err();
        assert!(other.0.contains("no safetensors file"), "{other}");
        assert!(
            all(&file(TWO, b"abcdefgh"))
                .unwrap_err()
                .0
                .contains("left over")
        );
        for (from, to) in [
            ("[3, 7]", "[4, 7]"),
            ("[1, 2]", "[1, 3]"),
            ("BF16", "F8_E4M3"),
            ("[3]", "[9223372036854775808]"),
        ] {
            assert!(
                all(&file(&TWO.replace(from, to), b"abcdefg")).is_err(),
                "{to}"
            );
        }
    }
}
