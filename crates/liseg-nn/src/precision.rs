//! In which number format convolutions run.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

/// In which number format convolutions run.
///
/// Weights, normalisation statistics, softmax, losses and optimiser state are f32 in every case;
/// only activations and the operands of convolutions are narrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
}

impl Precision {
    /// The number format of activations on that device.
    pub fn kind(self, device: Device) -> Kind {
        let narrow = match self {
            Self::F32 => false,
            Self::Bf16 => true,
            Self::Auto => match device {
                Device::Cuda(_) => true,
                _ => cpu_multiplies_bf16(),
            },
        };
        if narrow { Kind::BFloat16 } else { Kind::Float }
    }
}

/// Whether this processor has bf16 dot products; emulated ones are slower than f32.
pub(crate) fn cpu_multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}
