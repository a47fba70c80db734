//! What a file says about itself, so that damage to it shows.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::Kind;

/// The fact that holds the digests of a file; who reads facts does not see it.
const FACT: &str = "liseg_blake3";

/// Hexadecimal digits of a digest.
const DIGITS: usize = 2 * blake3::OUT_LEN;

/// BLAKE3 of each tensor, so that reading some of a file checks these, and of everything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Digests {
    /// Of the other facts and of `tensors`.
    facts: String,
    /// Of the number format, shape and numbers of a tensor, by its name.
    tensors: BTreeMap<String, String>,
}

impl Digests {
    /// Digests that are not known yet, as long as they will be.
    pub(super) fn unknown<'a>(names: impl Iterator<Item = &'a String>) -> Self {
        let digest = "0".repeat(DIGITS);
        Self {
            tensors: names.map(|name| (name.clone(), digest.clone())).collect(),
            facts: digest,
        }
    }

    pub(super) fn set(&mut self, name: &str, digest: String) {
        self.tensors.insert(name.to_owned(), digest);
    }

    /// Puts the digests among the facts that they are about.
    pub(super) fn add_to(mut self, facts: &mut BTreeMap<String, String>) -> serde_json::Result<()> {
        facts.remove(FACT);
        self.facts = of_facts(facts, &self.tensors);
        facts.insert(FACT.to_owned(), serde_json::to_string(&self)?);
        Ok(())
    }

    /// Takes the digests out of the facts, which must be those that they were made of; nothing where there are none.
    ///
    /// # Errors
    /// What is damaged.
    pub(super) fn take_from(facts: &mut BTreeMap<String, String>) -> Result<Option<Self>, String> {
        let Some(text) = facts.remove(FACT) else {
            return Ok(None);
        };
        let found: Self = serde_json::from_str(&text).map_err(|_| changed("the digests"))?;
        match found.facts == of_facts(facts, &found.tensors) {
            true => Ok(Some(found)),
            false => Err(changed("what it says of its tensors")),
        }
    }

    /// Refuses a tensor that is not the one that was written.
    ///
    /// # Errors
    /// Which tensor it is.
    pub(super) fn check(&self, name: &str, digest: &str) -> Result<(), String> {
        match self.tensors.get(name).is_some_and(|own| own == digest) {
            true => Ok(()),
            false => Err(changed(&format!("`{name}`"))),
        }
    }

    /// Refuses to go on where one of the tensors that were wanted is gone.
    ///
    /// # Errors
    /// Which tensor it is.
    pub(super) fn check_complete<T>(
        &self,
        found: &BTreeMap<String, T>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        let mut names = self.tensors.keys().filter(|name| wanted(name));
        match names.find(|name| !found.contains_key(*name)) {
            None => Ok(()),
            Some(gone) => Err(format!("`{gone}` is gone; {WAY_OUT}")),
        }
    }
}

const WAY_OUT: &str = "get the file again, or take another checkpoint";

fn changed(what: &str) -> String {
    format!("{what} changed since the file was written: it is damaged; {WAY_OUT}")
}

/// The digest of a tensor, from its numbers in the order of a contiguous tensor.
pub(super) fn of_tensor(kind: Kind, shape: &[i64], bytes: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{kind:?}{shape:?}").as_bytes());
    hasher.update(bytes);
    hasher.finalize().to_hex().to_string()
}

fn of_facts(facts: &BTreeMap<String, String>, tensors: &BTreeMap<String, String>) -> String {
    let mut hasher = blake3::Hasher::new();
    for map in [facts, tensors] {
        hasher.update(&(map.len() as u64).to_le_bytes());
        for text in map.iter().flat_map(|(name, value)| [name, value]) {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}
