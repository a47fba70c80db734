//! The plain U-Net against nnU-Net's own (dynamic_network_architectures): names, logits, gradients.

use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{Precision, SegmentationNet, Transfer, Weights, transfer};
use liseg_stunet::{Unet, UnetConfig};
use liseg_volume::Seed;
use std::path::Path;

#[test]
fn logits_and_gradients_match_nnunet() {
    let file = |name| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/unet")
            .join(name)
    };
    let weights = Weights::read(&file("plain_unet.pth")).unwrap();
    let config = UnetConfig::of_weights(&weights.tensors).unwrap();
    assert_eq!(config.kernel_sizes, [[1, 3, 3], [3; 3], [3; 3]]);
    assert_eq!(config.strides, [[1, 2, 2], [2, 2, 2]]);
    assert_eq!(
        (config.convolutions, config.input_channels, config.classes),
        (2, 2, 3)
    );
    let config = UnetConfig {
        precision: Precision::F32,
        ..config
    };
    let mut rng = Seed(1).stream("weights", 0, 0);
    let mut net = Unet::new(&config, Device::Cpu, &mut rng).unwrap();
    let report = transfer(&mut net, weights.tensors, Transfer::default()).unwrap();
    assert!(report.load.is_exact(), "{report}");

    let io = Weights::read(&file("plain_unet_io.pth")).unwrap().tensors;
    let scales = net.forward_scales(&io["input"]).unwrap();
    assert_eq!(scales.len(), 2);
    let mut total = Tensor::zeros([], (Kind::Float, Device::Cpu));
    for (i, logits) in scales.iter().enumerate() {
        close(logits, &io[&format!("logits_{i}")], 1e-5);
        let ramp = Tensor::linspace(0, 1, logits.numel() as i64, (Kind::Float, Device::Cpu));
        total += (logits * ramp.view_as(logits)).mean(Kind::Float);
    }
    total.backward();
    let mut compared = 0;
    for (name, expected) in &io {
        if let Some(name) = name.strip_prefix("gradient:") {
            close(&net.parameters().get(name).unwrap().grad(), expected, 1e-6);
            compared += 1;
        }
    }
    assert_eq!(compared, 4);
}

fn close(found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.size(), expected.size());
    let worst = (found - expected).abs().max().double_value(&[]);
    assert!(worst <= tolerance, "off by {worst}");
}
