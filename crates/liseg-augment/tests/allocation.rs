//! A worker in full swing allocates nothing of a patch's size.
#![expect(
    unsafe_code,
    reason = "an allocator cannot be counted without being one"
)]

use liseg_augment::{AugmentConfig, Pipeline, Preset, Sample, Scratch};
use liseg_volume::Seed;
use ndarray::{Array3, Array4};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Remembers the largest block that was asked for.
struct Watching;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// One test: the counter is shared by all threads.
#[test]
fn buffers_are_reused_from_sample_to_sample() {
    let shape = [16, 48, 48];
    let voxel_bytes = 16 * 48 * 48 * 4;
    for preset in [Preset::Nnunet, Preset::NnunetV1, Preset::MidssFull] {
        let pipeline = AugmentConfig::preset(preset).build().unwrap();
        let [z, y, x] = pipeline.initial_shape(shape);
        let patch = Sample::new(
            Array4::from_shape_fn((1, z, y, x), |(_, z, y, x)| ((z * y + x) % 17) as f32),
            Array3::from_shape_fn((z, y, x), |(z, y, _)| i8::from(z > 3 && y > 9)),
        );
        let info = liseg_augment::PatchInfo {
            final_shape: shape,
            channels: 1,
        };
        let mut scratch = Scratch::new();
        let round = |index: u64, scratch: &mut Scratch| {
            let mut rng = Seed(1).stream("allocation", 0, index);
            let params = pipeline.draw(&info, &mut rng);
            // The patch itself is the loader's.
            let patch = patch.clone();
            LARGEST.store(0, Relaxed);
            let made = Pipeline::apply_with(&params, patch, scratch).unwrap();
            let largest = LARGEST.load(Relaxed);
            scratch.recycle(made);
            largest
        };
        for index in 0..60 {
            round(index, &mut scratch);
        }
        for index in 60..120 {
            let largest = round(index, &mut scratch);
            assert!(
                largest < voxel_bytes / 8,
                "{preset}: a block of {largest} bytes for sample {index}"
            );
        }
    }
}
