//! Where to compute.

use crate::{Error, Result, runtime};
use serde::{Deserialize, Serialize};
use tch::Device;

/// Where to compute, as a user writes it: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "String"))]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first CUDA device when there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with that number.
    Cuda(usize),
}

impl DeviceChoice {
    /// The device to compute on.
    ///
    /// # Errors
    /// [`Error::Device`] when a CUDA device is asked for that cannot be used, saying why.
    pub fn resolve(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(if runtime::cuda_devices().is_ok_and(|n| n > 0) {
                Device::Cuda(0)
            } else {
                Device::Cpu
            }),
            Self::Cuda(index) => {
                let unavailable = |reason| Error::Device {
                    asked: self.to_string(),
                    reason,
                };
                // Asked for by name: tried even where no driver is seen.
                runtime::load_cuda();
                let count = runtime::cuda_devices().map_err(unavailable)?;
                if index < count {
                    Ok(Device::Cuda(index))
                } else {
                    Err(unavailable(format!(
                        "this machine has {count} CUDA device(s), counted from 0"
                    )))
                }
            }
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| Error::DeviceName(text.to_owned())),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for bad in ["gpu", "cuda:", "cuda:-1", ""] {
            assert!(bad.parse::<DeviceChoice>().is_err());
        }
    }

    #[test]
    fn a_missing_device_is_an_error_that_says_what_to_do() {
        let message = DeviceChoice::Cuda(99).resolve().unwrap_err().to_string();
        assert!(
            message.contains("cuda:99") && message.contains("--device cpu"),
            "{message}"
        );
    }
}
