"""Makes the files beside this one: nnU-Net's plain U-Net on random numbers.

    python make.py    # PyTorch and dynamic_network_architectures
"""

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from dynamic_network_architectures.initialization.weight_init import InitWeights_He

torch.manual_seed(3)
net = PlainConvUNet(
    input_channels=2, n_stages=3, features_per_stage=[4, 6, 8], conv_op=torch.nn.Conv3d,
    kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]], strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    n_conv_per_stage=2, num_classes=3, n_conv_per_stage_decoder=2, conv_bias=True,
    norm_op=torch.nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True},
    nonlin=torch.nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=True)
net.apply(InitWeights_He(1e-2))
with torch.no_grad():
    for name, p in net.named_parameters():
        if name.endswith("bias") or "norm" in name:
            p.add_(0.1 * torch.randn_like(p))
x = torch.randn(2, 2, 4, 8, 12)
scales = net(x)
sum((s * torch.linspace(0, 1, s.numel()).view(s.shape)).mean() for s in scales).backward()
torch.save({"network_weights": net.state_dict(), "trainer_name": "nnUNetTrainer"}, "plain_unet.pth")
names = {"encoder.stages.0.0.convs.0.conv.weight", "encoder.stages.2.0.convs.1.norm.bias",
         "decoder.transpconvs.1.weight", "decoder.stages.0.convs.0.conv.weight"}
outputs = {f"logits_{i}": s.detach() for i, s in enumerate(scales)}
gradients = {f"gradient:{n}": p.grad for n, p in net.named_parameters() if n in names}
torch.save({"input": x, **outputs, **gradients}, "plain_unet_io.pth")
