//! Named weights.

use crate::{Error, Result, TensorMap, shim};
use std::collections::HashMap;
use tch::{Device, Tensor};

/// A network's weights: f32 leaves that record gradients, in the order they were made, each under
/// the dotted name it has in published checkpoints.
///
/// Layers keep shallow clones; loading writes into the shared storage, so they always agree.
#[derive(Debug)]
pub struct Parameters {
    device: Device,
    entries: Vec<Parameter>,
    index: HashMap<String, usize>,
}

/// A named leaf.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
    /// Factor of the learning rate.
    pub(crate) rate: f64,
}

/// What became of the tensors of a file when they were loaded into a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Names that were loaded.
    pub matched: Vec<String>,
    /// Names the network has and the file lacks.
    pub missing: Vec<String>,
    /// Names the file has and the network lacks.
    pub unexpected: Vec<String>,
    /// Names in both whose shapes differ: (name, network, file).
    pub mismatched: Vec<(String, Vec<i64>, Vec<i64>)>,
}

impl LoadReport {
    /// Whether every parameter was filled and nothing was left over.
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }
}

impl std::fmt::Display for LoadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} matched, {} missing, {} unexpected, {} of another shape",
            self.matched.len(),
            self.missing.len(),
            self.unexpected.len(),
            self.mismatched.len()
        )?;
        let examples = [
            self.missing.first().map(|n| format!("missing `{n}`")),
            self.unexpected.first().map(|n| format!("unexpected `{n}`")),
            self.mismatched.first().map(|(n, ours, theirs)| {
                format!("`{n}` is {ours:?} here and {theirs:?} in the file")
            }),
        ];
        for example in examples.into_iter().flatten() {
            write!(f, "; {example}")?;
        }
        Ok(())
    }
}

impl Parameters {
    /// No parameters yet; the ones to come will live on `device`.
    pub fn new(device: Device) -> Self {
        Self {
            device,
            entries: Vec::new(),
            index: HashMap::new(),
        }
    }

    /// Where the parameters live.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Adds a parameter with its first values and returns the leaf that layers compute with.
    ///
    /// # Errors
    /// [`Error::DuplicateParameter`] when the name is taken.
    pub fn add(&mut self, name: &str, values: Tensor) -> Result<Tensor> {
        if self.index.contains_key(name) {
            return Err(Error::DuplicateParameter(name.to_owned()));
        }
        let leaf = values
            .f_to_kind(tch::Kind::Float)?
            .f_to_device(self.device)?
            .f_detach()?
            .f_contiguous()?
            .f_set_requires_grad(true)?;
        self.index.insert(name.to_owned(), self.entries.len());
        self.entries.push(Parameter {
            name: name.to_owned(),
            tensor: leaf.shallow_clone(),
            rate: 1.0,
        });
        Ok(leaf)
    }

    /// The parameters in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|p| (p.name.as_str(), &p.tensor))
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Parameter> {
        self.entries.iter()
    }

    /// Gives every parameter the factor of the longest of these name prefixes that it begins with;
    /// the others keep 1. A factor of 0 keeps parameters where they are but still computes their
    /// gradients; [`Parameters::freeze`] spares those.
    ///
    /// # Errors
    /// [`Error::Setting`] for a factor that is negative or not finite, or a prefix that no name has.
    pub fn set_rates(&mut self, rates: &[(String, f64)]) -> Result<()> {
        let refuse = |reason| {
            Err(Error::Setting {
                field: "training.layer_rates",
                reason,
            })
        };
        for (prefix, factor) in rates {
            if !(factor.is_finite() && *factor >= 0.0) {
                return refuse(format!(
                    "`{prefix}` has factor {factor}; expected 0 or more"
                ));
            }
            if !self.entries.iter().any(|p| p.name.starts_with(prefix)) {
                return refuse(self.no_such_prefix(prefix));
            }
        }
        for entry in &mut self.entries {
            let longest = rates
                .iter()
                .filter(|(prefix, _)| entry.name.starts_with(prefix))
                .max_by_key(|(prefix, _)| prefix.len());
            entry.rate = longest.map_or(1.0, |(_, factor)| *factor);
        }
        Ok(())
    }

    /// Takes the parameters whose names begin with one of these prefixes out of training: no gradient
    /// is computed for them, no optimiser moves them. Returns how many tensors that are.
    ///
    /// # Errors
    /// [`Error::Setting`] for a prefix that no name has, or when nothing would be left to train.
    pub fn freeze(&mut self, prefixes: &[String]) -> Result<usize> {
        let refuse = |reason| {
            Err(Error::Setting {
                field: "network.freeze",
                reason,
            })
        };
        for prefix in prefixes {
            if !self.entries.iter().any(|p| p.name.starts_with(prefix)) {
                return refuse(self.no_such_prefix(prefix));
            }
        }
        let is_frozen = |p: &Parameter| prefixes.iter().any(|prefix| p.name.starts_with(prefix));
        let frozen: Vec<&Parameter> = self.entries.iter().filter(|p| is_frozen(p)).collect();
        if frozen.len() == self.entries.len() {
            return refuse(format!(
                "{prefixes:?} is every parameter; nothing would be trained"
            ));
        }
        for entry in &frozen {
            // The same leaf, changed in place.
            let _ = entry.tensor.f_set_requires_grad(false)?;
        }
        Ok(frozen.len())
    }

    fn no_such_prefix(&self, prefix: &str) -> String {
        let mut known: Vec<&str> = Vec::new();
        for entry in &self.entries {
            let first = entry.name.split('.').next().unwrap_or_default();
            if !known.contains(&first) {
                known.push(first);
            }
        }
        format!(
            "no parameter's name begins with `{prefix}`; names begin with {}",
            known.join(", ")
        )
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&i| &self.entries[i].tensor)
    }

    /// Number of named tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of trainable numbers in all tensors together.
    pub fn count(&self) -> usize {
        self.entries.iter().map(|p| p.tensor.numel()).sum()
    }

    /// Forgets all gradients and frees their memory, which maps need more in the next step's forward pass; its backward
    /// pass then keeps new gradients as they come instead of adding them to zeros.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn zero_grad(&self) -> Result<()> {
        let all: Vec<_> = self.entries.iter().map(|p| &p.tensor).collect();
        shim::forget_gradients(&all)
    }

    /// The gradients that there are.
    pub(crate) fn gradients(&self) -> Result<Vec<Tensor>> {
        let mut gradients = Vec::with_capacity(self.entries.len());
        for Parameter { tensor, .. } in &self.entries {
            let gradient = tensor.f_grad()?;
            if gradient.defined() {
                gradients.push(gradient);
            }
        }
        Ok(gradients)
    }

    /// Moves these values towards those of `leader`, paired by name: θ̄ ← decay·θ̄ + (1 − decay)·θ. A decay of 0 copies
    /// them.
    ///
    /// # Errors
    /// [`Error::Weights`] for a parameter that has no equal there, before anything moves; when libtorch fails.
    pub fn follow(&self, leader: &Self, decay: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for Parameter { name, tensor, .. } in &self.entries {
            let equal = leader.get(name).filter(|t| t.size() == tensor.size());
            let Some(value) = equal else {
                let reason = format!("`{name}` of the follower has no equal in the leader");
                return Err(Error::Weights(reason));
            };
            ours.push(tensor.shallow_clone());
            theirs.push(value.shallow_clone());
        }
        if decay == 0.0 {
            // Whatever was there, also what is no number.
            for (our, their) in ours.iter_mut().zip(&theirs) {
                our.f_copy_(their)?;
            }
            return Ok(());
        }
        shim::average(&ours, &theirs, decay)
    }

    /// Copies of all values under `prefix` + name, on the CPU, into `map`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn save_into(&self, prefix: &str, map: &mut TensorMap) -> Result<()> {
        for Parameter { name, tensor, .. } in &self.entries {
            let copy = tensor
                .f_detach()?
                .f_to_device(Device::Cpu)?
                .f_detach_copy()?;
            map.insert(format!("{prefix}{name}"), copy);
        }
        Ok(())
    }

    /// Fills the parameters from the tensors of `map` whose names begin with `prefix`. Shapes must
    /// be equal; a tensor whose shape would merely broadcast is reported, never loaded.
    ///
    /// Nothing is changed unless `accept` agrees to the report.
    ///
    /// # Errors
    /// [`Error::Weights`] with the report when `accept` refuses it.
    pub fn load_where(
        &mut self,
        prefix: &str,
        map: &TensorMap,
        accept: impl Fn(&LoadReport) -> bool,
    ) -> Result<LoadReport> {
        let report = self.compare(prefix, map);
        if !accept(&report) {
            return Err(Error::Weights(report.to_string()));
        }
        let _guard = tch::no_grad_guard();
        for name in &report.matched {
            if let (Some(&i), Some(source)) =
                (self.index.get(name), map.get(&format!("{prefix}{name}")))
            {
                self.entries[i]
                    .tensor
                    .f_copy_(&source.f_to_device(self.device)?)?;
            }
        }
        Ok(report)
    }

    /// Fills every parameter exactly: all names present, none left over, shapes equal.
    ///
    /// # Errors
    /// [`Error::Weights`] otherwise; nothing is changed then.
    pub fn load(&mut self, prefix: &str, map: &TensorMap) -> Result<LoadReport> {
        self.load_where(prefix, map, LoadReport::is_exact)
    }

    fn compare(&self, prefix: &str, map: &TensorMap) -> LoadReport {
        let mut report = LoadReport::default();
        for Parameter { name, tensor, .. } in &self.entries {
            match map.get(&format!("{prefix}{name}")) {
                None => report.missing.push(name.clone()),
                Some(source) if source.size() == tensor.size() => report.matched.push(name.clone()),
                Some(source) => {
                    report
                        .mismatched
                        .push((name.clone(), tensor.size(), source.size()));
                }
            }
        }
        let known = |name: &str| self.index.contains_key(name);
        report.unexpected = map
            .keys()
            .filter_map(|key| key.strip_prefix(prefix))
            .filter(|name| !known(name))
            .map(str::to_owned)
            .collect();
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    fn two() -> Parameters {
        let mut p = Parameters::new(Device::Cpu);
        let _ = p
            .add(
                "a.weight",
                Tensor::zeros([4, 4, 3], (Kind::Float, Device::Cpu)),
            )
            .unwrap();
        let _ = p
            .add("a.bias", Tensor::ones([4], (Kind::Float, Device::Cpu)))
            .unwrap();
        p
    }

    #[test]
    fn values_round_trip() {
        let source = two();
        let mut map = TensorMap::new();
        source.save_into("net.", &mut map).unwrap();
        let mut target = two();
        let layer_view = target.get("a.bias").unwrap().shallow_clone();
        map.insert(
            "net.a.bias".into(),
            Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]),
        );
        assert!(target.load("net.", &map).unwrap().is_exact());
        assert_eq!(
            Vec::<f32>::try_from(layer_view).unwrap(),
            [1.0, 2.0, 3.0, 4.0]
        );
    }

    #[test]
    fn a_shape_that_broadcasts_is_refused_and_nothing_changes() {
        let mut map = TensorMap::new();
        map.insert(
            "a.weight".into(),
            Tensor::ones([4, 1, 3], (Kind::Float, Device::Cpu)),
        );
        map.insert(
            "a.bias".into(),
            Tensor::zeros([4], (Kind::Float, Device::Cpu)),
        );
        map.insert("b".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
        let mut target = two();
        let message = target.load("", &map).unwrap_err().to_string();
        assert!(
            message.contains("a.weight") && message.contains("unexpected `b`"),
            "{message}"
        );
        assert_eq!(target.get("a.bias").unwrap().double_value(&[0]), 1.0);
        let report = target.load_where("", &map, |_| true).unwrap();
        assert_eq!(report.matched, ["a.bias"]);
    }

    #[test]
    fn half_precision_files_do_not_turn_the_network_into_half() {
        let mut map = TensorMap::new();
        two().save_into("", &mut map).unwrap();
        let half = map
            .into_iter()
            .map(|(k, v)| (k, v.to_kind(Kind::Half)))
            .collect();
        let mut target = two();
        target.load("", &half).unwrap();
        assert_eq!(target.get("a.bias").unwrap().kind(), Kind::Float);
    }

    #[test]
    fn frozen_parameters_get_no_gradient() {
        let mut p = two();
        assert_eq!(p.freeze(&["a.w".to_owned()]).unwrap(), 1);
        let sum =
            p.get("a.weight").unwrap().sum(Kind::Float) + p.get("a.bias").unwrap().sum(Kind::Float);
        sum.backward();
        assert!(!p.get("a.weight").unwrap().grad().defined());
        assert!(p.get("a.bias").unwrap().grad().defined());
        let message = p.freeze(&["b.".to_owned()]).unwrap_err().to_string();
        assert!(message.contains("`b.`; names begin with a"), "{message}");
        assert!(p.freeze(&["a".to_owned()]).is_err());
        let message = p
            .set_rates(&[("a.".to_owned(), -1.0)])
            .unwrap_err()
            .to_string();
        assert!(message.contains("-1"), "{message}");
    }

    #[test]
    fn names_are_unique() {
        assert!(matches!(
            two().add("a.bias", Tensor::from_slice(&[0.0f32])),
            Err(Error::DuplicateParameter(_))
        ));
    }

    #[test]
    fn gradients_are_forgotten_and_do_not_add_up_over_steps() {
        let p = two();
        let weight = p.get("a.bias").unwrap();
        let backward = || weight.f_square()?.f_sum(Kind::Float)?.f_backward();
        backward().unwrap();
        let once = weight.grad().copy();
        assert!(once.defined());
        backward().unwrap();
        assert_eq!(weight.grad(), &once * 2.0);
        p.zero_grad().unwrap();
        assert!(p.gradients().unwrap().is_empty());
        backward().unwrap();
        assert_eq!(weight.grad(), once);
    }

    #[test]
    fn values_follow_those_of_the_same_name_or_none_moves() {
        let of = |values: &[(&str, f64)]| {
            let mut p = Parameters::new(Device::Cpu);
            for (name, value) in values {
                let tensor = Tensor::full([2], *value, (Kind::Float, Device::Cpu));
                let _ = p.add(name, tensor).unwrap();
            }
            p
        };
        let values =
            |p: &Parameters| -> Vec<f64> { p.iter().map(|(_, t)| t.double_value(&[1])).collect() };
        let follower = of(&[("a", 1.0), ("b", 2.0)]);
        // Paired by name, whatever the order.
        follower
            .follow(&of(&[("b", 4.0), ("a", 5.0)]), 0.75)
            .unwrap();
        assert_eq!(values(&follower), [2.0, 2.5]);
        let error = follower.follow(&of(&[("a", 9.0)]), 0.5).unwrap_err();
        assert!(error.to_string().contains("`b`"), "{error}");
        assert_eq!(values(&follower), [2.0, 2.5]);
        // A copy forgets even what is no number.
        let broken = of(&[("a", f64::NAN), ("b", 1.0)]);
        broken.follow(&follower, 0.0).unwrap();
        assert_eq!(values(&broken), [2.0, 2.5]);
        let none = Parameters::new(Device::Cpu);
        none.follow(&follower, 0.5).unwrap();
        none.zero_grad().unwrap();
    }
}
