//! How much memory reading takes: little more than the result, whatever the header says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    unsafe_code,
    reason = "an allocator cannot be counted without being one"
)]

use liseg_mri::nifti::{read_image, read_labels, write_image, write_labels};
use liseg_volume::{Affine, Spacing, Volume};
use ndarray::Array3;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts the bytes in use and the most that ever were.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes in use during `work`, beyond those in use before.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    work();
    PEAK.load(Relaxed) - before
}

/// One test: the counters are shared by all threads.
#[test]
fn reading_takes_a_fifth_more_than_the_result_and_hostile_headers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let affine = Affine::from_spacing(Spacing::new(2.0, 1.0, 1.0).unwrap());
    let shape = (48, 160, 160);
    let image = Array3::from_shape_fn(shape, |(z, y, x)| ((z * 31 + y * 17 + x * 7) % 251) as f32);
    let voxels = image.len();
    let labels = image.map(|&v| u8::from(v > 100.0));
    for name in ["volume.nii", "volume.nii.gz"] {
        let path = folder.path().join(name);
        write_image(&path, &Volume::new(image.clone(), affine).unwrap(), None).unwrap();
        let peak = peak_of(|| drop(read_image(&path).unwrap()));
        assert!(
            peak <= voxels * 4 * 6 / 5,
            "{name}: {peak} bytes for {voxels} voxels"
        );

        let path = folder.path().join(format!("labels-{name}"));
        write_labels(&path, &Volume::new(labels.clone(), affine).unwrap(), None).unwrap();
        let peak = peak_of(|| drop(read_labels(&path).unwrap()));
        // A megabyte on top: buffers do not shrink with the type.
        assert!(
            peak <= voxels * 6 / 5 + (1 << 20),
            "labels-{name}: {peak} bytes for {voxels}"
        );
    }
    // Stored as 16 bits, as scanners do.
    let mut bytes = std::fs::read(folder.path().join("volume.nii")).unwrap()[..352].to_vec();
    bytes[70..74].copy_from_slice(&[4, 0, 16, 0]);
    bytes.extend(image.iter().flat_map(|&v| (v as i16).to_le_bytes()));
    for name in ["short.nii", "short.nii.gz"] {
        let path = folder.path().join(name);
        if name == "short.nii" {
            std::fs::write(&path, &bytes).unwrap();
        } else {
            let file = std::fs::File::create(&path).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &bytes).unwrap();
            encoder.finish().unwrap();
        }
        let peak = peak_of(|| drop(read_image(&path).unwrap()));
        assert!(
            peak <= voxels * 4 * 6 / 5,
            "{name}: {peak} bytes for {voxels} voxels"
        );
    }
    for name in ["volume.nii", "volume.nii.gz"] {
        let peak = peak_of(|| hostile(&folder.path().join(name), folder.path()));
        assert!(peak < 8 << 20, "{name} with a hostile header: {peak} bytes");
    }
    corpus();
}

/// Reads every file of the corpus, sound or malformed: what it holds, decompressed, bounds the memory.
fn corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/nifti");
    let folders = [folder.join("valid"), folder.join("malformed")];
    let files = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    assert!(paths.len() > 200, "{} files", paths.len());
    for path in paths {
        let file = std::fs::File::open(&path).unwrap();
        let mut plain = flate2::read::MultiGzDecoder::new(&file);
        let mut sink = std::io::sink();
        let inside = std::io::copy(&mut plain, &mut sink).unwrap_or(0);
        let honest = inside.max(file.metadata().unwrap().len()) as usize;
        let image = peak_of(|| drop(read_image(&path)));
        // A byte becomes an f32; buffers of a megabyte do not shrink.
        let most = 5 * honest + (1 << 20);
        assert!(
            image <= most,
            "{}: {image} bytes for {honest}",
            path.display()
        );
        let labels = peak_of(|| drop(read_labels(&path)));
        assert!(
            labels <= most,
            "{}: {labels} bytes for {honest}",
            path.display()
        );
    }
}

/// Reads a small file whose header asks for 64 GiB.
fn hostile(source: &Path, folder: &Path) {
    let small = folder.join("hostile.nii");
    let mut bytes = vec![0u8; 400];
    let head = if source.extension().is_some_and(|e| e == "nii") {
        std::fs::read(source).unwrap()
    } else {
        let mut head = Vec::new();
        let file = std::fs::File::open(source).unwrap();
        let mut start = std::io::Read::take(flate2::read::GzDecoder::new(file), 400);
        std::io::Read::read_to_end(&mut start, &mut head).unwrap();
        head
    };
    bytes.copy_from_slice(&head[..400]);
    for at in [42, 44] {
        bytes[at..at + 2].copy_from_slice(&32767i16.to_le_bytes());
    }
    std::fs::write(&small, bytes).unwrap();
    assert!(read_image(&small).is_err());
}
