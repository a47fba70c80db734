//! TensorBoard event files.
//!
//! A file is a row of records, each framed as TFRecord: length (u64), masked CRC-32C of the length,
//! bytes, masked CRC-32C of the bytes, all little endian. The bytes are an `Event` message of
//! TensorFlow's `event.proto`; the few fields used here are encoded by hand, which spares a
//! protobuf compiler.

use crate::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes scalars and pictures where `tensorboard --logdir` finds them.
///
/// Every session of a run writes a file of its own; TensorBoard joins them, and drops what an
/// interrupted session had recorded beyond the step at which the next one begins.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// A new event file in `folder`, for a session that begins at `first_step`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written.
    pub fn create(folder: &Path, first_step: u64) -> Result<Self> {
        let now = since_epoch();
        let name = format!(
            "events.out.tfevents.{}.{}.{}",
            now.as_secs(),
            now.subsec_nanos(),
            std::process::id()
        );
        let path = folder.join(name);
        let file = File::create_new(&path).map_err(Error::io(&path))?;
        let mut writer = Self { file, path };
        writer.append(&event(0, &Field::text(3, "brain.Event:2")))?;
        // SessionLog { status: START }: what lies beyond this step is to be forgotten.
        writer.append(&event(
            first_step,
            &Field::message(7, &Field::integer(1, 1)),
        ))?;
        Ok(writer)
    }

    /// Records the value of each tag at `step`, and flushes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scalars<'a>(
        &mut self,
        step: u64,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut item = Field::text(1, tag);
            item.extend(Field::float(2, value as f32));
            summary.extend(Field::message(1, &item));
        }
        if summary.is_empty() {
            return Ok(());
        }
        self.append(&event(step, &Field::message(5, &summary)))
    }

    /// Records a picture in colour, encoded as PNG, under a tag at `step`, and flushes. TensorBoard shows
    /// it among its images, with a slider over steps.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn image(
        &mut self,
        step: u64,
        tag: &str,
        (width, height): (usize, usize),
        png: &[u8],
    ) -> Result<()> {
        /// Red, green, blue.
        const COLOURS: u64 = 3;
        let mut image = Field::integer(1, height as u64);
        image.extend(Field::integer(2, width as u64));
        image.extend(Field::integer(3, COLOURS));
        image.extend(Field::message(4, png));
        let mut item = Field::text(1, tag);
        item.extend(Field::message(4, &image));
        self.append(&event(step, &Field::message(5, &Field::message(1, &item))))
    }

    /// The event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn append(&mut self, event: &[u8]) -> Result<()> {
        // One write per record: a kill leaves at most the last one cut short, which readers skip.
        self.file
            .write_all(&record(event))
            .map_err(Error::io(&self.path))
    }
}

fn since_epoch() -> std::time::Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// An `Event` of now.
fn event(step: u64, what: &[u8]) -> Vec<u8> {
    let mut bytes = Field::double(1, since_epoch().as_secs_f64());
    bytes.extend(Field::integer(2, step));
    bytes.extend(what);
    bytes
}

/// A TFRecord around `bytes`.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(bytes.len() + 16);
    out.extend(length);
    out.extend(masked_checksum(&length).to_le_bytes());
    out.extend(bytes);
    out.extend(masked_checksum(bytes).to_le_bytes());
    out
}

/// The CRC-32C, turned and shifted so that the checksum of data that hold checksums stays good.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// Fields of a protobuf message.
struct Field;

impl Field {
    fn key(number: u64, wire_type: u64) -> Vec<u8> {
        varint(number << 3 | wire_type)
    }

    fn integer(number: u64, value: u64) -> Vec<u8> {
        let mut bytes = Self::key(number, 0);
        bytes.extend(varint(value));
        bytes
    }

    fn double(number: u64, value: f64) -> Vec<u8> {
        let mut bytes = Self::key(number, 1);
        bytes.extend(value.to_le_bytes());
        bytes
    }

    fn float(number: u64, value: f32) -> Vec<u8> {
        let mut bytes = Self::key(number, 5);
        bytes.extend(value.to_le_bytes());
        bytes
    }

    fn message(number: u64, content: &[u8]) -> Vec<u8> {
        let mut bytes = Self::key(number, 2);
        bytes.extend(varint(content.len() as u64));
        bytes.extend(content);
        bytes
    }

    fn text(number: u64, value: &str) -> Vec<u8> {
        Self::message(number, value.as_bytes())
    }
}

/// Seven bits a byte, the lowest first; the high bit says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_as_protobuf_documents_them() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(1), [1]);
        assert_eq!(varint(150), [0x96, 0x01]);
        assert_eq!(varint(300), [0xac, 0x02]);
        assert_eq!(Field::integer(1, 150), [0x08, 0x96, 0x01]);
        assert_eq!(Field::text(2, "testing")[..2], [0x12, 0x07]);
    }

    #[test]
    fn a_record_is_framed_by_its_length_and_two_checksums() {
        // The CRC-32C of "123456789" is the check value of its definition.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let framed = record(b"123456789");
        assert_eq!(framed.len(), 8 + 4 + 9 + 4);
        assert_eq!(framed[..8], 9u64.to_le_bytes());
        let unmasked = u32::from_le_bytes(framed[21..].try_into().unwrap())
            .wrapping_sub(0xa282_ead8)
            .rotate_left(15);
        assert_eq!(unmasked, 0xe306_9283);
    }

    #[derive(Debug, PartialEq)]
    enum Value {
        Scalar(f32),
        Image {
            height: u64,
            width: u64,
            colours: u64,
            png: Vec<u8>,
        },
    }

    fn decoded(wire: &Wire<'_>) -> Value {
        match wire {
            Wire::Float(value) => Value::Scalar(*value),
            Wire::Bytes(image) => match fields(image).as_slice() {
                [
                    (1, Wire::Integer(height)),
                    (2, Wire::Integer(width)),
                    (3, Wire::Integer(colours)),
                    (4, Wire::Bytes(png)),
                ] => Value::Image {
                    height: *height,
                    width: *width,
                    colours: *colours,
                    png: png.to_vec(),
                },
                _ => panic!("no image"),
            },
            _ => panic!("neither scalar nor image"),
        }
    }

    /// Reads back (step, tag, value) as TensorBoard would, checking every frame.
    fn read(path: &Path) -> Vec<(u64, String, Value)> {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut found = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[..12 + length + 4], record(&rest[12..12 + length]));
            let mut step = 0;
            for (number, value) in fields(&rest[12..12 + length]) {
                match (number, value) {
                    (2, Wire::Integer(n)) => step = n,
                    (5, Wire::Bytes(summary)) => {
                        for (_, value) in fields(summary) {
                            let Wire::Bytes(item) = value else { panic!() };
                            let mut parts = fields(item).into_iter();
                            let Some((1, Wire::Bytes(tag))) = parts.next() else {
                                panic!()
                            };
                            let Some((number @ (2 | 4), wire)) = parts.next() else {
                                panic!()
                            };
                            let value = decoded(&wire);
                            assert_eq!(number == 2, matches!(value, Value::Scalar(_)));
                            found.push((step, String::from_utf8(tag.to_vec()).unwrap(), value));
                        }
                    }
                    _ => {}
                }
            }
            rest = &rest[12 + length + 4..];
        }
        found
    }

    enum Wire<'a> {
        Integer(u64),
        Float(f32),
        Double,
        Bytes(&'a [u8]),
    }

    fn fields(mut bytes: &[u8]) -> Vec<(u64, Wire<'_>)> {
        fn take(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = take(&mut bytes);
            let value = match key & 7 {
                0 => Wire::Integer(take(&mut bytes)),
                1 => {
                    bytes = &bytes[8..];
                    Wire::Double
                }
                5 => {
                    let value = f32::from_le_bytes(bytes[..4].try_into().unwrap());
                    bytes = &bytes[4..];
                    Wire::Float(value)
                }
                2 => {
                    let length = take(&mut bytes) as usize;
                    let (content, rest) = bytes.split_at(length);
                    bytes = rest;
                    Wire::Bytes(content)
                }
                other => panic!("wire type {other}"),
            };
            found.push((key >> 3, value));
        }
        found
    }

    #[test]
    fn what_is_written_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 0).unwrap();
        writer
            .scalars(25, [("loss/supervised", -0.5), ("seconds_per_step", 1.25)])
            .unwrap();
        writer.scalars(300, [("loss/supervised", -0.9)]).unwrap();
        writer.scalars(301, []).unwrap();
        let png = vec![7u8; 300];
        writer.image(302, "overlay/best", (640, 480), &png).unwrap();
        let scalar = |step, tag: &str, value| (step, tag.to_owned(), Value::Scalar(value));
        let image = Value::Image {
            height: 480,
            width: 640,
            colours: 3,
            png,
        };
        assert_eq!(
            read(writer.path()),
            [
                scalar(25, "loss/supervised", -0.5),
                scalar(25, "seconds_per_step", 1.25),
                scalar(300, "loss/supervised", -0.9),
                (302, "overlay/best".to_owned(), image),
            ]
        );
    }
}
