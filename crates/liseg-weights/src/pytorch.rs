//! Reading what `torch.save` wrote, executing nothing.
//!
//! Both containers are read: the zip archive of PyTorch 1.6 and later, and the legacy stream before
//! it. The pickle inside is parsed as data; numbers are read from the file one tensor at
//! a time, and no length is believed before the file was seen to have it.

use crate::archive::{self, Span, read_at};
use crate::pickle::{Described, Id, Pickle, Value};
use crate::{NumberFormat, Numbers, Refusal};
use serde_json::json;
use std::collections::HashMap;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// The deepest nesting of names and settings that is followed.
const DEEPEST: usize = 12;

/// Most tensors and settings that are looked at.
const MOST_ENTRIES: usize = 200_000;

/// The longest name, and all names together, in bytes: a key can be long and occur often.
const LONGEST_NAME: usize = 4096;
const LONGEST_NAMES: usize = 32 << 20;

/// By how much tensors may exceed their file: views share storages, but an honest state dict
/// repeats little. More than that is an expanded view made to exhaust memory.
const LARGEST_EXPANSION: u64 = 4;

/// First bytes of a legacy file: the pickle of PyTorch's magic number, protocol 2.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;

/// An opened checkpoint of `torch.save`.
#[derive(Debug)]
pub struct Checkpoint<F> {
    file: F,
    length: u64,
    pickle: Pickle,
    /// Where each storage lies.
    storages: HashMap<String, Span>,
}

/// A tensor of a checkpoint, not read yet.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its keys, joined by dots.
    pub name: String,
    described: Described,
}

impl<F: Read + Seek> Checkpoint<F> {
    /// Opens a checkpoint: parses its pickle and finds its storages.
    ///
    /// # Errors
    /// [`Refusal`] says what is wrong with the file.
    pub fn open(mut file: F) -> Result<Self, Refusal> {
        let length = file.seek(SeekFrom::End(0)).map_err(|e| e.to_string())?;
        file.rewind().map_err(|e| e.to_string())?;
        let mut start = [0; 2];
        file.read_exact(&mut start).map_err(|_| "it is empty")?;
        if &start == b"PK" {
            Ok(Self::open_archive(file, length)?)
        } else {
            Ok(Self::open_legacy(file, length)?)
        }
    }

    fn open_archive(mut file: F, length: u64) -> Result<Self, String> {
        let entries = archive::entries(&mut file, length)?;
        let main = entries
            .keys()
            .filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
            .min_by_key(|name| name.len())
            .ok_or("it is a zip archive without data.pkl, so none of torch.save's")?;
        let folder = &main[..main.len() - "data.pkl".len()];
        if let Some(&order) = entries.get(&format!("{folder}byteorder"))
            && read_at(
                &mut file,
                Span {
                    length: order.length.min(6),
                    ..order
                },
            )? != b"little"
        {
            return Err("its numbers are big-endian; save it again on a usual machine".into());
        }
        let span = entries[main];
        file.seek(SeekFrom::Start(span.start))
            .map_err(|e| e.to_string())?;
        let pickle = Pickle::read(&mut BufReader::new(file.by_ref().take(span.length)))?;
        let prefix = format!("{folder}data/");
        let storages = entries
            .iter()
            .filter_map(|(name, &span)| Some((name.strip_prefix(&prefix)?.to_owned(), span)))
            .collect();
        Ok(Self {
            file,
            length,
            pickle,
            storages,
        })
    }

    /// A magic number, a version, facts about the machine, the object, the keys of the storages, each a
    /// pickle; then for each storage its number of elements and the elements.
    fn open_legacy(mut file: F, length: u64) -> Result<Self, String> {
        file.rewind().map_err(|e| e.to_string())?;
        let mut source = BufReader::new(file);
        read_magic(&mut source)?;
        let version = Pickle::read(&mut source)?;
        if !matches!(version.get(version.root()), Value::Int(1001)) {
            return Err("its version of PyTorch's format is unknown; expected 1001".into());
        }
        let machine = Pickle::read(&mut source)?;
        for (name, value) in machine.entries(machine.root()) {
            if name == "little_endian" && matches!(machine.get(value), Value::Bool(false)) {
                return Err("its numbers are big-endian; save it again on a usual machine".into());
            }
        }
        let pickle = Pickle::read(&mut source)?;
        let keys = Pickle::read(&mut source)?;
        let Value::List(keys_in_order) = keys.get(keys.root()) else {
            return Err("its list of storages is missing".into());
        };
        let widths = pickle.element_sizes();
        let mut at = source.stream_position().map_err(|e| e.to_string())?;
        let mut storages = HashMap::new();
        let mut file = source.into_inner();
        for &key in keys_in_order {
            let key = match keys.get(key) {
                Value::Text(text) => text.clone(),
                Value::Int(number) => number.to_string(),
                _ => return Err("its list of storages is damaged".into()),
            };
            let head = read_at(
                &mut file,
                Span {
                    start: at,
                    length: 8,
                },
            )?;
            let elements = head.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
            let bytes = widths
                .get(&key)
                .and_then(|width| elements.checked_mul(*width));
            let end = bytes.and_then(|bytes| bytes.checked_add(at + 8));
            let (Some(bytes), Some(end)) = (bytes, end.filter(|&end| end <= length)) else {
                return Err(format!("its storage {key} is cut short"));
            };
            storages.insert(
                key,
                Span {
                    start: at + 8,
                    length: bytes,
                },
            );
            at = end;
        }
        Ok(Self {
            file,
            length,
            pickle,
            storages,
        })
    }

    /// All tensors in the nested dicts of the file, in name order.
    ///
    /// # Errors
    /// [`Refusal`] when there are too many, or together they claim many times the file's size, or so much of it would
    /// have to be read for them: a view of two numbers may begin and end a storage.
    pub fn tensors(&self) -> Result<Vec<Entry>, Refusal> {
        let mut found: Vec<Entry> = Vec::new();
        let (mut seen, mut names) = (0, 0);
        self.collect(
            self.pickle.root(),
            String::new(),
            0,
            (&mut seen, &mut names),
            &mut found,
        )?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let claimed = found.iter().try_fold(0u64, |sum, entry| {
            let d = &entry.described;
            let elements = d
                .size
                .iter()
                .try_fold(1u64, |n, &s| n.checked_mul(s as u64))?;
            sum.checked_add(elements.checked_mul(d.kind.bytes())?)
        });
        // One whose window is wrong is refused when it is read.
        let windows = found.iter().filter_map(|e| self.window(&e.described).ok());
        let read = windows.fold(0u64, |sum, window| sum.saturating_add(window.length));
        let most = LARGEST_EXPANSION.saturating_mul(self.length);
        if read > most {
            return Err(Refusal(format!(
                "its tensors are strided views for which the {} bytes of the file would be read many times; it is damaged \
                 or hostile",
                self.length
            )));
        }
        match claimed {
            Some(bytes) if bytes <= most => Ok(found),
            _ => Err(Refusal(format!(
                "its tensors claim far more than the {} bytes of the file; it is damaged or hostile",
                self.length
            ))),
        }
    }

    fn collect(
        &self,
        id: Id,
        name: String,
        depth: usize,
        (seen, names): (&mut usize, &mut usize),
        found: &mut Vec<Entry>,
    ) -> Result<(), String> {
        *seen += 1;
        if *seen > MOST_ENTRIES {
            return Err(format!("it holds more than {MOST_ENTRIES} entries"));
        }
        *names += name.len();
        if *names > LONGEST_NAMES {
            return Err("its names are longer than any network's".into());
        }
        match self.pickle.get(id) {
            Value::Tensor(described) => found.push(Entry {
                name,
                described: (**described).clone(),
            }),
            Value::Dict(pairs) if depth < DEEPEST => {
                // Keys that name nothing cost time as well.
                *seen += pairs.len();
                for (key, value) in self.pickle.entries(id) {
                    if name.len() + key.len() > LONGEST_NAME {
                        return Err(format!("it has names of more than {LONGEST_NAME} bytes"));
                    }
                    let name = if name.is_empty() {
                        key.into_owned()
                    } else {
                        format!("{name}.{key}")
                    };
                    self.collect(value, name, depth + 1, (seen, names), found)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads the numbers of a tensor, strided as in the file.
    ///
    /// # Errors
    /// [`Refusal`] when its storage is missing or too short for it.
    pub fn read(&mut self, entry: &Entry) -> Result<Numbers, Refusal> {
        let d = &entry.described;
        if d.size.len() != d.stride.len() {
            return Err("its size and strides differ in length".into());
        }
        let numbers = |bytes| Numbers {
            format: d.kind,
            size: d.size.clone(),
            stride: d.stride.clone(),
            bytes,
        };
        if d.size.contains(&0) {
            return Ok(numbers(Vec::new()));
        }
        let window = self.window(d).map_err(Refusal)?;
        Ok(numbers(read_at(&mut self.file, window)?))
    }

    /// Where the numbers of a tensor that has some lie.
    fn window(&self, d: &Described) -> Result<Span, String> {
        let broken = || "it reaches beyond its storage".to_owned();
        let span = *self
            .storages
            .get(&d.storage.key)
            .ok_or("its storage is missing")?;
        let width = d.kind.bytes();
        // One element beyond the last one that the strides reach.
        let last = d
            .size
            .iter()
            .zip(&d.stride)
            .try_fold(0i64, |sum, (&size, &stride)| {
                sum.checked_add((size - 1).checked_mul(stride)?)
            });
        let elements = last
            .and_then(|last| last.checked_add(1))
            .ok_or_else(broken)?;
        let bytes = (elements as u64).checked_mul(width).ok_or_else(broken)?;
        let offset = u64::try_from(d.offset)
            .ok()
            .and_then(|o| o.checked_mul(width));
        let start = offset
            .and_then(|o| o.checked_add(d.storage.start))
            .ok_or_else(broken)?;
        let end = start.checked_add(bytes).ok_or_else(broken)?;
        if end > span.length || end > d.storage.start.saturating_add(d.storage.bytes) {
            return Err(broken());
        }
        Ok(Span {
            start: span.start + start,
            length: bytes,
        })
    }

    /// Whether a dict lies under a path of keys.
    pub fn is_dict(&self, path: &[&str]) -> bool {
        let found = self.find(path);
        found.is_some_and(|id| matches!(self.pickle.get(id), Value::Dict(_)))
    }

    /// The settings under a path of keys, as JSON; nothing when there are none. Tensors and unknown
    /// objects become null, and very large settings are cut off.
    pub fn settings(&self, path: &[&str]) -> Option<serde_json::Value> {
        let mut left = 100_000;
        Some(self.as_json(self.find(path)?, 0, &mut left)).filter(|value| !value.is_null())
    }

    fn find(&self, path: &[&str]) -> Option<Id> {
        path.iter().try_fold(self.pickle.root(), |id, key| {
            let mut entries = self.pickle.entries(id);
            Some(entries.find(|(name, _)| name == key)?.1)
        })
    }

    fn as_json(&self, id: Id, depth: usize, left: &mut usize) -> serde_json::Value {
        if *left == 0 || depth > DEEPEST {
            return serde_json::Value::Null;
        }
        *left -= 1;
        if let Value::Text(text) = self.pickle.get(id) {
            *left = left.saturating_sub(text.len() / 16);
        }
        match self.pickle.get(id) {
            Value::Bool(value) => json!(value),
            Value::Int(value) => json!(value),
            Value::Float(value) => json!(value),
            Value::Text(value) => json!(value),
            Value::List(items) | Value::Tuple(items) => items
                .iter()
                .map(|&item| self.as_json(item, depth + 1, left))
                .collect(),
            Value::Dict(_) => {
                let mut object = serde_json::Map::new();
                for (key, value) in self.pickle.entries(id) {
                    *left = left.saturating_sub(key.len() / 16);
                    if *left == 0 {
                        break;
                    }
                    object.insert(key.into_owned(), self.as_json(value, depth + 1, left));
                }
                object.into()
            }
            _ => serde_json::Value::Null,
        }
    }
}

impl Pickle {
    /// Bytes of an element of each storage that a tensor refers to.
    fn element_sizes(&self) -> HashMap<String, u64> {
        let width = |kind: NumberFormat| kind.bytes();
        self.iter()
            .filter_map(|value| match value {
                Value::Storage(s) => Some((s.key.clone(), width(s.kind))),
                _ => None,
            })
            .collect()
    }
}

/// The number that legacy files begin with, pickled as a long.
fn read_magic(source: &mut impl Read) -> Result<(), String> {
    let mut bytes = [0; 15];
    let whole = source.read_exact(&mut bytes).is_ok();
    // Protocol 2, a long of ten bytes, stop.
    let mut number = [0; 16];
    number[..10].copy_from_slice(&bytes[4..14]);
    let is_magic = bytes.starts_with(b"\x80\x02\x8a\x0a") && i128::from_le_bytes(number) == MAGIC;
    if whole && is_magic && bytes[14] == b'.' {
        return Ok(());
    }
    Err("it does not begin as torch.save's files do".into())
}
