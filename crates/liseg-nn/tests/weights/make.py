"""Makes the checkpoints beside this file: small, of every kind that the reader knows.

    python make.py    # PyTorch 2.x and NumPy
"""

import collections
import os

import numpy
import torch

torch.manual_seed(1)
weight = torch.arange(24, dtype=torch.float32).view(2, 3, 4)
flat = torch.arange(10, dtype=torch.float32)
state = collections.OrderedDict(
    {
        "plain.weight": weight,
        "transposed.weight": weight.transpose(0, 2),
        "expanded.bias": torch.tensor([1.5]).expand(3),
        "shared.first": flat[:4],
        "shared.second": flat[3:9:2],
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(7, dtype=torch.int64),
        "double": torch.tensor([0.1], dtype=torch.float64),
        "half": torch.tensor([0.5, -2.0]).half(),
        "brain": torch.tensor([0.5, -2.0]).bfloat16(),
        "flag": torch.tensor([True, False]),
    }
)
torch.save(state, "plain.pth")
torch.save(state, "legacy.pth", _use_new_zipfile_serialization=False)

# As nnU-Net v2 writes it, wrapped for several GPUs.
torch.save(
    {
        "network_weights": {f"module.{k}": v for k, v in state.items()},
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [numpy.float64(0.5)]},
        "current_epoch": 3,
        "init_args": {"plans": {"plans_name": "p", "spacing": [3.0, 1.0, 1.0]}, "configuration": "3d_fullres",
                      "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    },
    "nnunet_v2.pth",
)
# Parameters instead of tensors, one container in another.
torch.save({"model": {"state_dict": {k: torch.nn.Parameter(v, requires_grad=False) for k, v in state.items()}}},
           "nested.pt")


class Runs:
    def __reduce__(self):
        return os.system, ("touch it-ran",)


torch.save({"state_dict": state, "extra": Runs()}, "hostile.pth")
# A few bytes that claim a terabyte.
torch.save({"big": torch.zeros(1).expand(1 << 38)}, "expanded.pth")
# Views of two numbers, for each of which a whole storage would be read.
whole = torch.zeros(10_000)
torch.save({f"w{i}": whole[::9_999] for i in range(100)}, "strided.pth")
