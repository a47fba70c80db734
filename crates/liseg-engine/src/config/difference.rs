//! What makes two configs train two different networks.

use super::RunConfig;
use std::path::Path;
use toml::Value;

impl RunConfig {
    /// The first setting by which `other` would train another network than this config did, with both values. Only
    /// the loader's threads, the device and where the data and a run that it starts from lie may differ.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let mut other = Self {
            loader: self.loader.clone(),
            device: self.device,
            data: self.data.clone(),
            ..other.clone()
        };
        if let (Some(own), Some(others)) = (&self.network.weights, &mut other.network.weights)
            && same_checkpoint(own, others)
        {
            own.clone_into(others);
        }
        if *self == other {
            return None;
        }
        let named = Value::try_from(self).ok().zip(Value::try_from(&other).ok());
        let named = named.and_then(|(own, others)| first(Some(&own), Some(&others), String::new()));
        Some(named.unwrap_or_else(|| "a setting that has no form in TOML".into()))
    }
}

/// Whether two paths end in the same run's checkpoint, `<run>/checkpoints/<file>`: its folder may have moved.
fn same_checkpoint(a: &Path, b: &Path) -> bool {
    let folder = a.iter().rev().nth(1);
    let in_a_run = folder.is_some_and(|folder| folder == "checkpoints");
    in_a_run && a.iter().rev().take(3).eq(b.iter().rev().take(3))
}

/// The first value that differs, by its dotted name.
fn first(own: Option<&Value>, others: Option<&Value>, name: String) -> Option<String> {
    match (own, others) {
        (Some(Value::Table(a)), Some(Value::Table(b))) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            let longer = |key: &String| match name.is_empty() {
                true => key.clone(),
                false => format!("{name}.{key}"),
            };
            keys.into_iter()
                .find_map(|key| first(a.get(key), b.get(key), longer(key)))
        }
        (a, b) if a == b => None,
        (a, b) => {
            let shown = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
            Some(format!("{name} was {} and is now {}", shown(a), shown(b)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_stays_the_same_when_the_folder_of_its_first_weights_moves() {
        let from = |weights: &str| {
            let mut config = RunConfig::new("d");
            config.network.weights = Some(weights.into());
            config
        };
        let first = from("a/runs/first/checkpoints/last.safetensors");
        let moved = from("/b/runs/first/checkpoints/last.safetensors");
        assert_eq!(first.difference(&moved), None);
        let second = from("a/runs/second/checkpoints/last.safetensors");
        for other in [second, RunConfig::new("d")] {
            let difference = first.difference(&other).unwrap();
            assert!(
                difference.starts_with("network.weights was"),
                "{difference}"
            );
        }
        let own = from("a/b/c/small.model");
        assert!(own.difference(&from("x/b/c/small.model")).is_some());
    }

    #[test]
    fn the_setting_that_differs_is_named_with_both_values() {
        let config = RunConfig::new("d");
        let mut other = RunConfig::new("elsewhere");
        other.loader.workers += 1;
        assert_eq!(config.difference(&other), None);
        other.training.epochs = 7;
        let expected = format!(
            "training.epochs was {} and is now 7",
            config.training.epochs
        );
        assert_eq!(config.difference(&other).unwrap(), expected);
    }
}
