//! Damage: small changes of bytes, drawn from a stream.

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use rand::{Rng, RngExt};
use std::io::{Read, Write};

/// Numbers at which programs err.
const ODD: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0x7f80_0000,           // +∞ in f32
    0x7ff0_0000_0000_0000, // +∞ in f64
];

/// Words at which readers of text err.
const WORDS: [&str; 20] = [
    "null",
    "true",
    "nan",
    "inf",
    "-0",
    "1e308",
    "1e999",
    "-1",
    "0.1",
    "256",
    "4294967296",
    "18446744073709551616",
    "[]",
    "{}",
    "[[",
    "\"\"",
    "\\u0000",
    "\"background\"",
    ",",
    "=",
];

/// A damaged copy of an input. Compressed ones are mostly damaged inside, behind a sound checksum.
pub fn damaged(input: &[u8], other: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    if input.starts_with(&[0x1f, 0x8b]) && rng.random_bool(0.8) {
        let mut plain = Vec::new();
        let limit = 64 << 10;
        let sound = MultiGzDecoder::new(input)
            .take(limit)
            .read_to_end(&mut plain);
        if sound.is_ok() {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let written = encoder.write_all(&changed(plain, other, rng));
            if let (Ok(()), Ok(bytes)) = (written, encoder.finish()) {
                return bytes;
            }
        }
    }
    // Text with one value exchanged stays text: readers get beyond the grammar.
    if input.first().is_some_and(|&kind| kind < 16) && rng.random_bool(0.6) {
        return with_another_word(input, rng);
    }
    changed(input.to_vec(), other, rng)
}

/// Puts an odd word in the place of a number or a name.
fn with_another_word(text: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let in_word = |&byte: &u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    let at = rng.random_range(1..text.len().max(2)).min(text.len());
    let start = at + text[at..].iter().position(in_word).unwrap_or(0);
    let end = text[start..].iter().position(|byte| !in_word(byte));
    let end = end.map_or(text.len(), |length| start + length);
    let word = WORDS[rng.random_range(0..WORDS.len())];
    [&text[..start], word.as_bytes(), &text[end..]].concat()
}

fn changed(mut bytes: Vec<u8>, other: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    for _ in 0..rng.random_range(1..5) {
        change(&mut bytes, other, rng);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut impl Rng) {
    if bytes.is_empty() {
        bytes.push(0);
    }
    // Headers are at the start: half of the damage is done there.
    let reach = if rng.random_bool(0.5) {
        bytes.len().min(360)
    } else {
        bytes.len()
    };
    let at = rng.random_range(0..reach);
    let length = rng.random_range(1..=bytes.len().min(64));
    let end = bytes.len().min(at + length);
    match rng.random_range(0..9) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = rng.random(),
        2 | 3 => {
            let number = ODD[rng.random_range(0..ODD.len())];
            let number = if rng.random_bool(0.3) {
                number.wrapping_neg()
            } else {
                number
            };
            let width = 1 << rng.random_range(0..4);
            let little = number.to_le_bytes();
            let big = number.to_be_bytes();
            let written = if rng.random_bool(0.8) {
                &little[..width]
            } else {
                &big[8 - width..]
            };
            for (slot, byte) in bytes[at..].iter_mut().zip(written) {
                *slot = *byte;
            }
        }
        4 => drop(bytes.drain(at..end)),
        5 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        6 => bytes.truncate(at),
        7 => {
            let from = rng.random_range(0..=other.len());
            let piece = &other[from..other.len().min(from + length)];
            bytes.splice(at..end, piece.iter().copied());
        }
        _ => {
            let word = WORDS[rng.random_range(0..WORDS.len())];
            bytes.splice(at..bytes.len().min(at + length % 8), word.bytes());
        }
    }
}
