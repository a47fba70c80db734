//! Buffers that are used again, so that a worker in full swing allocates none.

use std::cell::RefCell;

/// How many buffers of a kind are kept.
const KEPT: usize = 12;

/// Buffers of one worker.
///
/// Transforms take what they need from here and give it back; [`Params::apply`](crate::Params::apply)
/// uses one of the calling thread. After the first few samples all buffers are there and large
/// enough. Memory is freed when the thread ends.
#[derive(Debug, Default)]
pub struct Scratch {
    floats: Vec<Vec<f32>>,
    labels: Vec<Vec<i8>>,
}

thread_local! {
    static OF_THREAD: RefCell<Scratch> = RefCell::new(Scratch::default());
}

impl Scratch {
    /// No buffers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work` with the buffers of this thread.
    pub fn with<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        OF_THREAD.with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => work(&mut scratch),
            Err(_) => work(&mut Self::default()),
        })
    }

    /// A buffer of the given length whose contents mean nothing.
    pub(crate) fn floats(&mut self, length: usize) -> Vec<f32> {
        take(&mut self.floats, length, 0.0)
    }

    /// A buffer of the given length whose contents mean nothing.
    pub(crate) fn labels(&mut self, length: usize) -> Vec<i8> {
        take(&mut self.labels, length, 0)
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, buffer: Vec<f32>) {
        give(&mut self.floats, buffer);
    }

    /// Takes a buffer back.
    pub(crate) fn give_labels(&mut self, buffer: Vec<i8>) {
        give(&mut self.labels, buffer);
    }

    /// Takes a sample's arrays back: for those who are done with it and will make more.
    pub fn recycle(&mut self, sample: crate::Sample) {
        self.give(sample.image.into_raw_vec_and_offset().0);
        self.give_labels(sample.label.into_raw_vec_and_offset().0);
        for map in sample.maps {
            self.give(map.values.into_raw_vec_and_offset().0);
        }
    }
}

/// The smallest kept buffer that is large enough, or the largest, grown.
fn take<T: Copy>(kept: &mut Vec<Vec<T>>, length: usize, value: T) -> Vec<T> {
    let fitting = (0..kept.len())
        .filter(|&k| kept[k].capacity() >= length)
        .min_by_key(|&k| kept[k].capacity());
    let largest = || (0..kept.len()).max_by_key(|&k| kept[k].capacity());
    let mut buffer = match fitting.or_else(largest) {
        Some(k) => kept.swap_remove(k),
        None => Vec::new(),
    };
    if buffer.capacity() < length {
        // Not `resize`: the old contents would be copied.
        buffer = Vec::with_capacity(length);
    }
    buffer.resize(length, value);
    buffer
}

fn give<T>(kept: &mut Vec<Vec<T>>, buffer: Vec<T>) {
    kept.push(buffer);
    if kept.len() > KEPT {
        let smallest = (0..kept.len()).min_by_key(|&k| kept[k].capacity());
        if let Some(k) = smallest {
            kept.swap_remove(k);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_the_smallest_that_fits_is_taken() {
        let mut scratch = Scratch::new();
        let (small, large) = (scratch.floats(10), scratch.floats(1000));
        let (small_at, large_at) = (small.as_ptr(), large.as_ptr());
        scratch.give(large);
        scratch.give(small);
        let (first, second) = (scratch.floats(8), scratch.floats(900));
        assert_eq!((first.as_ptr(), first.len()), (small_at, 8));
        assert_eq!((second.as_ptr(), second.len()), (large_at, 900));
    }

    #[test]
    fn only_so_many_buffers_are_kept() {
        let mut scratch = Scratch::new();
        for length in 1..40 {
            scratch.give(vec![0.0; length]);
        }
        assert_eq!(scratch.floats.len(), KEPT);
        assert!(scratch.floats.iter().all(|b| b.len() >= 40 - KEPT));
    }
}
