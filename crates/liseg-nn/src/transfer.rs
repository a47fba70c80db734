//! Starting a network from weights that were trained for another task.

use crate::{Error, LoadReport, Result, SegmentationNet, TensorMap};
use std::fmt;
use tch::Tensor;

/// What may differ between weights and network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transfer {
    /// Keep the network's own segmentation heads even where the weights have fitting ones.
    pub fresh_heads: bool,
    /// Take what fits and leave the rest as it is. Otherwise everything but the heads must fit.
    pub partial: bool,
}

/// What became of the weights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferReport {
    /// What was loaded, and what was not.
    pub load: LoadReport,
    /// Weights of the first convolutions that were repeated along the channels of the image: (name,
    /// channels in the file, channels of the network).
    pub repeated: Vec<(String, i64, i64)>,
}

impl fmt::Display for TransferReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.load)?;
        if let Some((_, from, to)) = self.repeated.first() {
            write!(
                f,
                "; the first convolutions go from {from} to {to} channels"
            )?;
        }
        Ok(())
    }
}

/// Fills a network from weights that may have heads of other classes and fewer image channels.
///
/// - Heads that do not fit keep the network's fresh draws (105 classes to 2, for instance).
/// - Where the first convolutions see c channels in the file and a multiple n · c in the network, their
///   weights are repeated n times along the channels without division, as in STU-Net's fine-tuning.
/// - Names that checkpoints list twice are passed over.
///
/// Nothing is changed when the rest does not fit.
///
/// # Errors
/// [`Error::Weights`] with the report.
pub fn transfer(
    network: &mut dyn SegmentationNet,
    mut tensors: TensorMap,
    how: Transfer,
) -> Result<TransferReport> {
    let heads = network.head_prefixes();
    let is_head = |name: &String| heads.iter().any(|head| name.starts_with(head.as_str()));
    tensors.retain(|name, _| !(network.is_second_name(name) || how.fresh_heads && is_head(name)));
    let mut repeated = Vec::new();
    for name in network.stem_weights() {
        let (Some(own), Some(theirs)) = (network.parameters().get(&name), tensors.get(&name))
        else {
            continue;
        };
        if let Some(wider) = widened(theirs, &own.size())? {
            repeated.push((name.clone(), theirs.size()[1], own.size()[1]));
            tensors.insert(name, wider);
        }
    }
    let load = network
        .parameters_mut()
        .load_where("", &tensors, |report| {
            !report.matched.is_empty()
                && (how.partial
                    || report.missing.iter().all(is_head)
                        && report.unexpected.iter().all(is_head)
                        && report.mismatched.iter().all(|(name, _, _)| is_head(name)))
        })?;
    Ok(TransferReport { load, repeated })
}

/// The weights of a convolution repeated along the input channels up to `size`, when that differs in
/// this axis alone and is a multiple.
fn widened(weight: &Tensor, size: &[i64]) -> Result<Option<Tensor>> {
    let found = weight.size();
    let ([o, c, rest @ ..], [wanted_o, wanted_c, wanted_rest @ ..]) = (found.as_slice(), size)
    else {
        return Ok(None);
    };
    let alike = o == wanted_o && rest == wanted_rest && *c > 0;
    if !alike || wanted_c == c || wanted_c % c != 0 {
        return Ok(None);
    }
    let mut times = vec![1; found.len()];
    times[1] = wanted_c / c;
    weight.f_repeat(&times).map(Some).map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Parameters;
    use tch::{Device, Kind};

    /// A stem, a body and a head, without a forward pass.
    struct Toy(Parameters);

    fn toy(channels: i64, classes: i64, value: f64) -> Toy {
        let mut p = Parameters::new(Device::Cpu);
        let full = |size: &[i64]| Tensor::full(size, value, (Kind::Float, Device::Cpu));
        for (name, size) in [
            ("stem.weight", vec![3, channels, 1, 1, 1]),
            ("body.weight", vec![3, 3]),
            ("head.weight", vec![classes, 3]),
        ] {
            let _ = p.add(name, full(&size)).unwrap();
        }
        Toy(p)
    }

    impl SegmentationNet for Toy {
        fn forward_scales(&self, images: &Tensor) -> Result<Vec<Tensor>> {
            Ok(vec![images.shallow_clone()])
        }
        fn forward(&self, images: &Tensor) -> Result<Tensor> {
            Ok(images.shallow_clone())
        }
        fn parameters(&self) -> &Parameters {
            &self.0
        }
        fn parameters_mut(&mut self) -> &mut Parameters {
            &mut self.0
        }
        fn classes(&self) -> i64 {
            2
        }
        fn stride_product(&self) -> [usize; 3] {
            [1; 3]
        }
        fn head_prefixes(&self) -> Vec<String> {
            vec!["head.".into()]
        }
        fn stem_weights(&self) -> Vec<String> {
            vec!["stem.weight".into()]
        }
        fn is_second_name(&self, name: &str) -> bool {
            name.starts_with("again.")
        }
    }

    fn weights(net: &Toy) -> TensorMap {
        let mut map = TensorMap::new();
        net.0.save_into("", &mut map).unwrap();
        map
    }

    fn sum(net: &Toy, name: &str) -> f64 {
        net.0.get(name).unwrap().sum(Kind::Double).double_value(&[])
    }

    #[test]
    fn heads_of_other_classes_stay_fresh_and_stems_are_repeated_without_division() {
        let mut source = weights(&toy(1, 105, 2.0));
        source.insert("again.body.weight".into(), Tensor::from_slice(&[1.0f32]));
        let mut net = toy(4, 2, 1.0);
        let report = transfer(&mut net, source, Transfer::default()).unwrap();
        assert_eq!(report.load.matched, ["stem.weight", "body.weight"]);
        assert_eq!(report.repeated, [("stem.weight".to_owned(), 1, 4)]);
        assert_eq!(
            (sum(&net, "stem.weight"), sum(&net, "head.weight")),
            (24.0, 6.0)
        );
        assert!(
            report.to_string().contains("from 1 to 4 channels"),
            "{report}"
        );
    }

    #[test]
    fn fitting_heads_are_taken_unless_fresh_ones_are_wanted() {
        let source = || weights(&toy(1, 2, 2.0));
        let mut net = toy(1, 2, 1.0);
        let fresh = Transfer {
            fresh_heads: true,
            ..Transfer::default()
        };
        transfer(&mut net, source(), fresh).unwrap();
        assert_eq!(
            (sum(&net, "body.weight"), sum(&net, "head.weight")),
            (18.0, 6.0)
        );
        transfer(&mut net, source(), Transfer::default()).unwrap();
        assert_eq!(sum(&net, "head.weight"), 12.0);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_partial_loading_takes_the_rest() {
        let mut source = weights(&toy(1, 2, 2.0));
        source.insert("body.weight".into(), Tensor::from_slice(&[1.0f32]));
        let mut net = toy(1, 2, 1.0);
        let message = transfer(&mut net, source, Transfer::default())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("`body.weight` is [3, 3] here and [1]"),
            "{message}"
        );
        assert_eq!(sum(&net, "stem.weight"), 3.0);
        let mut source = weights(&toy(1, 2, 2.0));
        source.remove("body.weight");
        let partial = Transfer {
            partial: true,
            ..Transfer::default()
        };
        let report = transfer(&mut net, source, partial).unwrap();
        assert_eq!(report.load.missing, ["body.weight"]);
        assert_eq!(
            (sum(&net, "stem.weight"), sum(&net, "body.weight")),
            (6.0, 9.0)
        );
        // Three channels are no multiple of two.
        let source = weights(&toy(2, 2, 2.0));
        assert!(transfer(&mut toy(3, 2, 1.0), source, Transfer::default()).is_err());
        assert!(transfer(&mut net, TensorMap::new(), partial).is_err());
    }
}
