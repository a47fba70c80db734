//! In which number format convolutions run.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

/// In which number format convolutions run.
///
/// Weights, normalisation statistics, softmax, losses and optimiser state are f32 in every case;
/// only activations and the operands of convolutions are narrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where the processor multiplies it natively (CUDA devices, CPUs with AVX-512 BF16 or
    /// AMX), else f32.
    #[default]
    Auto,
    /// 32-bit floats throughout.
    F32,
    /// bfloat16 activations and convolution operands.
    Bf16,
    /// Half-precision activations and convolution operands, on CUDA devices only. Training scales its
    /// loss ([`GradientScaler`](crate::GradientScaler)). For GPUs without bf16.
    Fp16,
}

impl Precision {
    /// The number format of activations on that device.
    pub fn kind(self, device: Device) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::Fp16 => Kind::Half,
            Self::Auto => match device {
                Device::Cuda(_) => Kind::BFloat16,
                _ if cpu_multiplies_bf16() => Kind::BFloat16,
                _ => Kind::Float,
            },
        }
    }

    /// Whether this means bf16 on a processor without it. libtorch then takes many times the time and the memory of
    /// f32 (STU-Net-S, a patch of 16×96×128: seven times the memory).
    pub fn is_emulated(self, device: Device) -> bool {
        self == Self::Bf16 && device == Device::Cpu && !cpu_multiplies_bf16()
    }

    /// Refuses half precision on devices that only emulate it.
    ///
    /// # Errors
    /// [`Error::Setting`] saying what to take in its place.
    pub fn check(self, device: Device) -> Result<()> {
        if self == Self::Fp16 && !device.is_cuda() {
            return Err(Error::Setting {
                field: "precision",
                reason: "\"fp16\" needs a CUDA device; take \"bf16\" or \"f32\" here".into(),
            });
        }
        Ok(())
    }
}

/// Whether this processor has bf16 dot products and oneDNN may use them; emulated ones are slower than f32.
pub(crate) fn cpu_multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let limit = ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"]
            .iter()
            .find_map(std::env::var_os);
        let allowed = limit.is_none_or(|limit| allows_bf16(&limit.to_string_lossy()));
        allowed && std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Whether oneDNN has bf16 dot products among the instructions up to those that `limit` names, a value of its variable
/// ONEDNN_MAX_CPU_ISA.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
fn allows_bf16(limit: &str) -> bool {
    let limit = limit.to_ascii_uppercase();
    let without = ["SSE", "AVX2", "AVX512_CORE_VNNI"];
    let without = without.iter().any(|name| limit.starts_with(name));
    !without && !["AVX", "AVX512_CORE"].contains(&limit.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_for_gpus() {
        let message = Precision::Fp16.check(Device::Cpu).unwrap_err().to_string();
        assert!(message.contains("bf16"), "{message}");
        assert!(Precision::Fp16.check(Device::Cuda(0)).is_ok());
        assert_eq!(Precision::Fp16.kind(Device::Cuda(0)), Kind::Half);
        assert_eq!(Precision::Auto.kind(Device::Cuda(0)), Kind::BFloat16);
        for precision in [Precision::Auto, Precision::F32, Precision::Bf16] {
            assert!(precision.check(Device::Cpu).is_ok());
        }
    }

    #[test]
    fn a_limit_of_instructions_takes_bf16_away() {
        for limit in [
            "sse41",
            "AVX",
            "AVX2",
            "AVX2_VNNI",
            "avx512_core",
            "AVX512_CORE_VNNI",
        ] {
            assert!(!allows_bf16(limit), "{limit}");
        }
        for limit in [
            "",
            "default",
            "ALL",
            "AVX512_CORE_BF16",
            "AVX512_CORE_AMX",
            "AVX10_1_512",
        ] {
            assert!(allows_bf16(limit), "{limit}");
        }
    }

    #[test]
    fn only_what_was_asked_for_is_emulated() {
        let native = Precision::Auto.kind(Device::Cpu) == Kind::BFloat16;
        assert_eq!(Precision::Bf16.is_emulated(Device::Cpu), !native);
        assert!(!Precision::Bf16.is_emulated(Device::Cuda(0)));
        assert!(!Precision::Auto.is_emulated(Device::Cpu));
        assert!(!Precision::F32.is_emulated(Device::Cpu));
    }
}
