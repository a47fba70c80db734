//! What can be tested once in a process: its memory, and parts of libtorch that are loaded while it runs.

use liseg_nn::runtime;
use liseg_nn::tch::{self, Device, Kind, Tensor};

const MIB: u64 = 1 << 20;

fn tensor(mib: i64) -> Tensor {
    Tensor::ones([mib << 18], (Kind::Float, Device::Cpu))
}

/// One test: the figures are those of the whole process.
#[test]
#[cfg(target_os = "linux")]
fn tensors_reuse_memory_and_cuda_is_loaded_on_request() {
    // Made before: freed by whom it came from.
    let early = tensor(8);
    runtime::reuse_tensor_memory();
    drop(early);
    let held = || runtime::resident_memory_bytes().unwrap();
    let before = held();
    // Sixty maps, three alive at a time, of sizes that change and fill no page: what is returned to the
    // system is never part of one that lives.
    let mut alive = Vec::new();
    for round in 0..60 {
        let numbers = ([20, 40, 30][round % 3] << 18) - 1000 * round as i64;
        let map = Tensor::ones([numbers], (Kind::Float, Device::Cpu)) * 2.0;
        alive.push(map);
        if alive.len() > 3 {
            let first: Tensor = alive.remove(0);
            let ends = [first.min(), first.max()].map(|value| value.double_value(&[]));
            assert!(ends.iter().all(|end| (end - 2.0).abs() < 1e-6), "{ends:?}");
        }
    }
    let memory = runtime::tensor_memory();
    // Three and the two of the product that is being made.
    assert!(
        memory.now >= 85 * MIB && memory.peak <= 180 * MIB,
        "{memory:?}"
    );
    assert!(
        memory.now + memory.kept <= memory.peak + memory.peak / 16 + MIB,
        "{memory:?}"
    );
    assert!(held() - before <= memory.peak + memory.peak / 16 + 4 * MIB);
    // Small ones are the C library's.
    let small: Vec<_> = (0..100)
        .map(|_| Tensor::ones([100], (Kind::Float, Device::Cpu)))
        .collect();
    assert_eq!(runtime::tensor_memory().now, memory.now);
    drop(small);
    drop(alive);
    runtime::release_free_memory();
    assert_eq!(runtime::tensor_memory(), runtime::TensorMemory::default());
    assert!(
        held() - before.min(held()) <= 8 * MIB,
        "{} MiB stay",
        (held() - before) / MIB
    );

    // Loading needs no device; libtorch then has its functions, whatever they find.
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps().contains("libtorch_cuda"), "loaded from the start");
    let there = runtime::load_cuda();
    assert_eq!(maps().contains("libtorch_cuda"), there);
    assert_eq!(tch::utils::has_cudart(), there);
}
