//! Numbers in JSON that JSON has no form for: `"NaN"`, `"Infinity"` and `"-Infinity"`, as JavaScript calls them.
//!
//! For `#[serde(with = "liseg_file::number")]` on numbers, optional ones, and maps of them by name. serde_json writes null
//! instead, which is no number when it is read again; such files of before are read, as NaN.
//!
//! ```
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Epoch {
//!     #[serde(with = "liseg_file::number")]
//!     loss: f64,
//! }
//! # fn main() -> serde_json::Result<()> {
//! let text = serde_json::to_string(&Epoch { loss: f64::INFINITY })?;
//! assert_eq!(text, r#"{"loss":"Infinity"}"#);
//! let back: Epoch = serde_json::from_str(&text)?;
//! assert!(back.loss.is_infinite());
//! # Ok(())
//! # }
//! ```

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

const NAMES: [(&str, f64); 3] = [
    ("NaN", f64::NAN),
    ("Infinity", f64::INFINITY),
    ("-Infinity", f64::NEG_INFINITY),
];

/// Writes numbers.
///
/// # Errors
/// Those of `serializer`.
pub fn serialize<T: Numbers, S: Serializer>(numbers: &T, serializer: S) -> Result<S::Ok, S::Error> {
    numbers.to_form().serialize(serializer)
}

/// Reads numbers.
///
/// # Errors
/// For what is neither a number, nor null, nor one of the three names.
pub fn deserialize<'de, T: Numbers, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::Form::deserialize(deserializer).map(T::of_form)
}

/// What holds numbers: one, maybe one, or one for each of some names.
pub trait Numbers: Sized {
    /// The same of [`Number`].
    type Form: Serialize + for<'de> Deserialize<'de>;

    /// As it is written.
    fn to_form(&self) -> Self::Form;

    /// As it was.
    fn of_form(form: Self::Form) -> Self;
}

impl Numbers for f64 {
    type Form = Number;

    fn to_form(&self) -> Number {
        Number(*self)
    }

    fn of_form(form: Number) -> Self {
        form.0
    }
}

impl<T: Numbers> Numbers for Option<T> {
    type Form = Option<T::Form>;

    fn to_form(&self) -> Self::Form {
        self.as_ref().map(T::to_form)
    }

    fn of_form(form: Self::Form) -> Self {
        form.map(T::of_form)
    }
}

impl<T: Numbers> Numbers for BTreeMap<String, T> {
    type Form = BTreeMap<String, T::Form>;

    fn to_form(&self) -> Self::Form {
        let written = self.iter().map(|(name, n)| (name.clone(), n.to_form()));
        written.collect()
    }

    fn of_form(form: Self::Form) -> Self {
        let read = form.into_iter().map(|(name, n)| (name, T::of_form(n)));
        read.collect()
    }
}

/// A number, finite or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = self.0;
        let name = match (number.is_nan(), number.is_sign_negative()) {
            _ if number.is_finite() => return serializer.serialize_f64(number),
            (true, _) => "NaN",
            (false, false) => "Infinity",
            (false, true) => "-Infinity",
        };
        serializer.serialize_str(name)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }

    fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
        Ok(Number(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
        Ok(Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
        Ok(Number(number as f64))
    }

    fn visit_unit<E>(self) -> Result<Number, E> {
        Ok(Number(f64::NAN))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Number, E> {
        let known = NAMES.into_iter().find(|(known, _)| *known == name);
        let (_, number) =
            known.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(name), &self))?;
        Ok(Number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Held {
        #[serde(with = "super")]
        one: f64,
        #[serde(with = "super")]
        maybe: Option<f64>,
        #[serde(with = "super")]
        many: Option<BTreeMap<String, f64>>,
    }

    #[test]
    fn every_number_comes_back() {
        for one in [
            0.1,
            -0.0,
            3.0,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ] {
            for maybe in [None, Some(one)] {
                let many = Some(BTreeMap::from([
                    ("a".to_owned(), one),
                    ("b".to_owned(), 1.5),
                ]));
                let held = Held { one, maybe, many };
                let text = serde_json::to_string(&held).unwrap();
                let back: Held = serde_json::from_str(&text).unwrap();
                assert_eq!(back.one.to_bits(), one.to_bits(), "{text}");
                assert_eq!(
                    back.maybe.map(f64::to_bits),
                    maybe.map(f64::to_bits),
                    "{text}"
                );
                let many = back.many.unwrap();
                assert_eq!(many["a"].to_bits(), one.to_bits(), "{text}");
            }
        }
    }

    #[test]
    fn null_is_a_nan_of_before_and_other_words_are_no_numbers() {
        let held = |one: &str| {
            let text = format!(r#"{{"one": {one}, "maybe": null, "many": null}}"#);
            serde_json::from_str::<Held>(&text)
        };
        assert!(held("null").unwrap().one.is_nan());
        assert_eq!(held("7").unwrap().one.to_bits(), 7f64.to_bits());
        let message = held(r#""nan""#).unwrap_err().to_string();
        assert!(message.contains("\"NaN\""), "{message}");
    }
}
