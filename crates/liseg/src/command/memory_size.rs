//! Sizes of memory as people write them.

/// Without a unit fewer bytes are a slip.
const LEAST_BARE: f64 = 1024.0 * 1024.0;

/// A number of bytes: `3GiB`, `800MB`, `1.5 G`, `2000000000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemorySize(pub(crate) u64);

impl std::str::FromStr for MemorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let scale = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1024.0 * 1024.0,
            "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            _ => return Err(format!("`{unit}` is no unit; write GiB, MiB, GB or MB")),
        };
        match number.parse::<f64>() {
            Ok(bytes) if unit.is_empty() && 0.0 < bytes && bytes < LEAST_BARE => {
                Err(format!("{number} bytes; did you mean {number}GiB?"))
            }
            Ok(number) if number > 0.0 => Ok(Self((number * scale) as u64)),
            _ => Err("expected a size such as 3GiB or 800MB".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("3GiB", 3 << 30),
            ("1.5 g", 3 << 29),
            ("800MB", 800_000_000),
            ("12000000", 12_000_000),
        ] {
            assert_eq!(text.parse(), Ok(MemorySize(bytes)), "{text}");
        }
        let bare = "3".parse::<MemorySize>().unwrap_err();
        assert!(bare.contains("3GiB"), "{bare}");
        for wrong in ["", "GiB", "3 bananas", "0", "-1G"] {
            assert!(wrong.parse::<MemorySize>().is_err(), "{wrong}");
        }
    }
}
