//! Foretold memory of a forward pass against what tensors hold.

use liseg_nn::tch::{Device, Kind, Tensor, no_grad_guard};
use liseg_nn::{Precision, runtime};
use liseg_stunet::{Architecture, StuNetConfig, UnetConfig};
use liseg_volume::{Seed, Spacing};

/// The number formats that this processor computes in. Where it has no bf16 libtorch has no kernels for it either, but
/// an emulation that takes many times the memory, and minutes.
fn kinds() -> Vec<(Precision, Kind)> {
    let narrow = Precision::Auto.kind(Device::Cpu) == Kind::BFloat16;
    let narrow = narrow.then_some((Precision::Bf16, Kind::BFloat16));
    [(Precision::F32, Kind::Float)]
        .into_iter()
        .chain(narrow)
        .collect()
}

/// One test: the figures are those of the whole process.
#[test]
#[cfg(target_os = "linux")]
fn a_forward_pass_takes_what_was_foretold() {
    runtime::reuse_tensor_memory();
    let stu_net = |classes| {
        Architecture::StuNet(StuNetConfig {
            strides: [[1, 2, 2], [2; 3], [2; 3], [2; 3], [1, 2, 2]],
            ..StuNetConfig::small(classes)
        })
    };
    let spacing = Spacing::try_from([3.0, 1.2, 1.2]).unwrap();
    let strides = [[1, 2, 2], [2; 3], [2; 3]];
    let unet = Architecture::Unet(UnetConfig::for_grid(spacing, &strides, 2));
    let (mut found, mut all_right) = (Vec::new(), true);
    for (shape, patch, batch) in [
        (stu_net(2), [16, 96, 128], 1),
        (stu_net(2), [16, 64, 64], 2),
        (stu_net(24), [16, 96, 96], 1),
        (unet, [16, 64, 96], 1),
    ] {
        for (precision, kind) in kinds() {
            let shape = shape.clone().with_precision(precision);
            let mut rng = Seed(1).stream("weights", 0, 0);
            let network = shape.build(Device::Cpu, &mut rng).unwrap();
            let _guard = no_grad_guard();
            let [z, y, x] = patch.map(|n| n as i64);
            runtime::release_free_memory();
            let before = runtime::tensor_memory().now;
            let input = Tensor::ones([batch as i64, 1, z, y, x], (Kind::Float, Device::Cpu));
            let logits = network.forward(&input).unwrap();
            let took = (runtime::tensor_memory().peak - before) as f64;
            drop((input, logits));
            let foretold = shape.inference_bytes(patch, batch, kind) as f64;
            let ratio = took / foretold;
            let what = format!("{} {patch:?} × {batch} in {kind:?}", shape.name());
            found.push(format!(
                "{what}: {took} bytes, foretold {foretold}, {ratio:.3}"
            ));
            all_right &= (0.78..1.15).contains(&ratio);
        }
    }
    assert!(all_right, "{found:#?}");
}
