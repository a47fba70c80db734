//! Files of weights: what is read has the numbers that its shape says, and reading takes memory in
//! proportion to the file.

use crate::memory::most_during;
use liseg_weights::{Checkpoint, Numbers, Safetensors};
use std::io::Cursor;

/// Inputs beyond this find nothing that smaller ones do not.
const LARGEST: usize = 64 << 10;

/// Bytes of memory that a byte of a file may cost, and what any file may.
const PER_BYTE: usize = 512;
const ALWAYS: usize = 1 << 20;

/// A checkpoint of `torch.save`, zip or legacy.
pub fn pytorch(data: &[u8]) -> bool {
    bounded(data, read_checkpoint)
}

/// A safetensors file.
pub fn safetensors(data: &[u8]) -> bool {
    bounded(data, read_safetensors)
}

fn bounded(data: &[u8], read: fn(&[u8]) -> bool) -> bool {
    if data.len() > LARGEST {
        return false;
    }
    let (accepted, most) = most_during(|| read(data));
    let allowed = ALWAYS + PER_BYTE * data.len();
    assert!(most <= allowed, "{most} bytes held for {}", data.len());
    accepted
}

fn read_checkpoint(data: &[u8]) -> bool {
    let Ok(mut file) = Checkpoint::open(Cursor::new(data)) else {
        return false;
    };
    for path in [
        &["init_args", "plans"][..],
        &["network_weights"],
        &["epoch"],
        &[],
    ] {
        let _ = (file.is_dict(path), file.settings(path));
    }
    let Ok(entries) = file.tensors() else {
        return false;
    };
    let mut sound = !entries.is_empty();
    for entry in &entries {
        match file.read(entry) {
            Ok(numbers) => check(&numbers, data.len()),
            Err(refusal) => {
                assert!(!refusal.0.is_empty());
                sound = false;
            }
        }
    }
    sound
}

fn read_safetensors(data: &[u8]) -> bool {
    let Ok(mut file) = Safetensors::open(Cursor::new(data)) else {
        return false;
    };
    let _ = file.facts();
    loop {
        match file.next() {
            Ok(Some((_, numbers))) => {
                assert!(numbers.is_contiguous() || numbers.size.contains(&0));
                check(&numbers, data.len());
            }
            Ok(None) => return true,
            Err(refusal) => {
                assert!(!refusal.0.is_empty());
                return false;
            }
        }
    }
}

/// The strides reach every number that is there and none beyond.
fn check(numbers: &Numbers, file: usize) {
    let Numbers { size, stride, .. } = numbers;
    assert_eq!(size.len(), stride.len());
    assert!(numbers.bytes.len() <= file);
    if size.contains(&0) {
        assert!(numbers.bytes.is_empty());
        return;
    }
    let steps = size.iter().zip(stride).map(|(&n, &step)| (n - 1) * step);
    let reached = 1 + steps.sum::<i64>() as u64;
    assert_eq!(numbers.bytes.len() as u64, reached * numbers.format.bytes());
}
