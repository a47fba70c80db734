//! The Python objects that weights are made of.

use crate::NumberFormat;

/// What a global name of a pickle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    /// `collections.OrderedDict` and other mappings.
    Mapping,
    /// A class of typed storages.
    Storage(NumberFormat),
    /// `torch.UntypedStorage`: bytes.
    Bytes,
    /// `torch.float32` and its like.
    Dtype(NumberFormat),
    /// `torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`.
    Tensor,
    /// `torch._utils._rebuild_tensor_v3`, which names the number format apart from the storage.
    TypedTensor,
    /// `torch._utils._rebuild_parameter` and `_rebuild_parameter_with_state`.
    Parameter,
    /// Something harmless beside the weights, whose content is not needed.
    Other,
}

/// Storage classes and dtypes by name.
const KINDS: [(&str, &str, NumberFormat); 10] = [
    ("FloatStorage", "float32", NumberFormat::F32),
    ("DoubleStorage", "float64", NumberFormat::F64),
    ("HalfStorage", "float16", NumberFormat::F16),
    ("BFloat16Storage", "bfloat16", NumberFormat::BF16),
    ("LongStorage", "int64", NumberFormat::I64),
    ("IntStorage", "int32", NumberFormat::I32),
    ("ShortStorage", "int16", NumberFormat::I16),
    ("CharStorage", "int8", NumberFormat::I8),
    ("ByteStorage", "uint8", NumberFormat::U8),
    ("BoolStorage", "bool", NumberFormat::Bool),
];

/// Harmless objects that training frameworks put beside weights: numbers and arrays of NumPy, paths,
/// dates, plain containers. None of them is built; they become [`Global::Other`].
const OTHERS: [&str; 43] = [
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.bytearray",
    "builtins.bytes",
    "builtins.complex",
    "builtins.float",
    "builtins.frozenset",
    "builtins.int",
    "builtins.list",
    "builtins.object",
    "builtins.range",
    "builtins.set",
    "builtins.slice",
    "builtins.str",
    "builtins.tuple",
    "collections.Counter",
    "collections.deque",
    "copyreg._reconstructor",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.dtypes.Float32DType",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Int64DType",
    "numpy.float32",
    "numpy.float64",
    "numpy.int64",
    "numpy.ndarray",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "pathlib.WindowsPath",
    "torch.Size",
    "torch.device",
    "torch.layout",
    "types.SimpleNamespace",
];

impl Global {
    /// What `module.name` stands for; nothing when weights are not made of it.
    pub(crate) fn find(module: &str, name: &str) -> Option<Self> {
        // Python 2's name for the module, which protocol 2 writes.
        let module = match module {
            "__builtin__" => "builtins",
            "copy_reg" => "copyreg",
            other => other,
        };
        if let "torch" | "torch.storage" | "torch.cuda" = module {
            if let "UntypedStorage" | "_UntypedStorage" = name {
                return Some(Self::Bytes);
            }
            if let Some((.., kind)) = KINDS.iter().find(|(class, ..)| *class == name) {
                return Some(Self::Storage(*kind));
            }
            if let Some((.., kind)) = KINDS.iter().find(|(_, dtype, _)| *dtype == name) {
                return Some(Self::Dtype(*kind));
            }
        }
        match (module, name) {
            ("collections", "OrderedDict" | "defaultdict") | ("builtins", "dict") => {
                Some(Self::Mapping)
            }
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Self::Tensor),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Self::TypedTensor),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Some(Self::Parameter)
            }
            _ => {
                let whole = format!("{module}.{name}");
                OTHERS.contains(&whole.as_str()).then_some(Self::Other)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_weights_are_made_of_is_known() {
        assert_eq!(
            Global::find("torch", "HalfStorage"),
            Some(Global::Storage(NumberFormat::F16))
        );
        assert_eq!(
            Global::find("torch", "bfloat16"),
            Some(Global::Dtype(NumberFormat::BF16))
        );
        assert_eq!(Global::find("__builtin__", "set"), Some(Global::Other));
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("torch", "load"),
            ("torch.storage", "_load_from_bytes"),
            ("numpy", "load"),
        ] {
            assert_eq!(Global::find(module, name), None, "{module}.{name}");
        }
    }
}
