"""Times STU-Net in LiSeg and in plain PyTorch, in turn, on the same device with the same threads.

    python benches/peers/networks.py --program target/release/network_speed
    cargo xtask bench --peers --only network

Prints a table of ratios: 2 means that LiSeg takes half of PyTorch's time, or half of its memory.
Each side runs in a process of its own, so that peaks of memory are its own. PyTorch runs eagerly, with
the memory format and optimiser that it takes by default; `--channels-last` gives it the other format.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

PEER = "PyTorch"
WIDTHS = {"S": (16, 1), "B": (32, 1), "L": (64, 2), "H": (96, 3)}


def network(torch, size, classes):
    nn = torch.nn
    base, depth = WIDTHS[size]
    widths = [base * m for m in (1, 2, 4, 8, 16, 16)]

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride, change):
            super().__init__()
            self.conv1 = nn.Conv3d(inputs, outputs, 3, stride, 1)
            self.norm1 = nn.InstanceNorm3d(outputs, affine=True)
            self.act1 = nn.LeakyReLU(inplace=True)
            self.conv2 = nn.Conv3d(outputs, outputs, 3, 1, 1)
            self.norm2 = nn.InstanceNorm3d(outputs, affine=True)
            self.act2 = nn.LeakyReLU(inplace=True)
            self.conv3 = nn.Conv3d(inputs, outputs, 1, stride) if change else None

        def forward(self, x):
            y = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
            return self.act2(y + (x if self.conv3 is None else self.conv3(x)))

    def stage(inputs, outputs, stride):
        first = Block(inputs, outputs, stride, True)
        return nn.Sequential(first, *[Block(outputs, outputs, 1, False) for _ in range(depth - 1)])

    class Up(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.conv = nn.Conv3d(inputs, outputs, 1)

        def forward(self, x):
            return self.conv(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            inputs = [1, *widths[:-1]]
            self.down = nn.ModuleList(
                stage(i, o, 1 if s == 0 else 2) for s, (i, o) in enumerate(zip(inputs, widths)))
            pairs = list(zip(widths[:0:-1], widths[-2::-1]))
            self.ups = nn.ModuleList(Up(i, o) for i, o in pairs)
            self.join = nn.ModuleList(stage(2 * o, o, 1) for _, o in pairs)
            self.heads = nn.ModuleList(nn.Conv3d(o, classes, 1) for _, o in pairs)

        def forward(self, x, all_scales):
            skips = []
            for down in self.down:
                x = down(x)
                skips.append(x)
            skips.pop()
            scales = []
            for up, join, head in zip(self.ups, self.join, self.heads):
                x = join(torch.cat((up(x), skips.pop()), 1))
                if all_scales:
                    scales.append(head(x))
            return scales[::-1] if all_scales else self.heads[-1](x)

    return Net()


def loss_of(torch, scales, label):
    """Dice and cross-entropy at every scale, weighted 8, 4, 2, 1, 0 fifteenths."""
    total = 0
    for weight, logits in zip((8 / 15, 4 / 15, 2 / 15, 1 / 15), scales):
        step = [a // b for a, b in zip(label.shape[1:], logits.shape[2:])]
        target = label[:, step[0] // 2::step[0], step[1] // 2::step[1], step[2] // 2::step[2]]
        logits = logits.float()
        entropy = torch.nn.functional.cross_entropy(logits, target)
        p = logits.softmax(1)
        y = torch.zeros_like(p).scatter_(1, target[:, None], 1)
        axes = (2, 3, 4)
        dice = (2 * (p * y).sum(axes) + 1e-5) / ((p + y).sum(axes) + 1e-5).clip(1e-8)
        total = total + weight * (entropy - dice[:, 1:].mean())
    return total


def peer(o):
    import torch

    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    device = torch.device(o.device)
    layout = torch.channels_last_3d if o.channels_last else torch.contiguous_format
    net = network(torch, o.size, 2).to(device, memory_format=layout)
    images = torch.randn(o.batch, 1, *o.patch, device=device).to(memory_format=layout)
    label = (images[:, 0] > 0.5).long()
    kind = {"f32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[o.precision]
    half = torch.autocast(device.type, dtype=kind or torch.bfloat16, enabled=kind is not None)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=o.precision == "fp16")

    def predict():
        with torch.no_grad(), half:
            net(images, False).float().sum().item()

    def train():
        optimiser.zero_grad()
        with half:
            scales = net(images, True)
        scaler.scale(loss_of(torch, scales, label)).backward()
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
        scaler.step(optimiser)
        scaler.update()

    def synchronize():
        if device.type == "cuda":
            torch.cuda.synchronize()

    call = dict(predict=predict, train=train)[o.what]
    seconds = []
    for _ in range(o.repeat + 1):
        synchronize()
        start = time.perf_counter()
        call()
        synchronize()
        seconds.append(time.perf_counter() - start)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": min(seconds[1:]), "peak_gb": peak / 1e9}))


def run(command, threads):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(output.stdout.strip().splitlines()[-1])


def compare(o, what, precision):
    sides = ",".join(map(str, o.patch))
    common = ["--size", o.size, "--patch", sides, "--batch", str(o.batch), "--what", what,
              "--precision", precision, "--device", o.device, "--threads", str(o.threads),
              "--repeat", str(o.repeat)]
    theirs = [sys.executable, os.path.abspath(__file__), "--peer", *common]
    theirs += ["--channels-last"] if o.channels_last else []
    ours = run([o.program, *common], o.threads)
    peer = run(theirs, o.threads)
    seconds = ours[f"{what}_s"]
    return dict(what=what, precision=precision, ours=seconds, theirs=peer["seconds"],
                ratio=peer["seconds"] / seconds, ours_gb=ours["peak_gb"], theirs_gb=peer["peak_gb"],
                outside=ours.get("of_that_optimiser_s", 0) / seconds)


def rows():
    """Name, what and precision of each row of the common table, but for those about memory."""
    for precision in ("f32", "bf16"):
        for what, words in (("predict", "forward pass"), ("train", "training step")):
            yield f"network, {words}, {precision}, 2x1x64x96x96", what, precision


def results(program, wanted, threads=2):
    """Rows for the common table: STU-Net-S on patches of a usual size, on the CPU."""
    o = argparse.Namespace(program=program, size="S", patch=[64, 96, 96], batch=2, device="cpu",
                           threads=threads, repeat=3, channels_last=False)
    for name, what, precision in rows():
        if not wanted(name, PEER):
            continue
        print(f"{name}, {PEER}, {threads} thread(s)", file=sys.stderr, flush=True)
        r = compare(o, what, precision)
        common = dict(peer=PEER, threads=threads, target=1)
        yield dict(name=name, ours=r["ours"], theirs=r["theirs"], ratio=r["ratio"], **common)
        yield dict(name=f"{name}, memory", ours=r["ours_gb"], theirs=r["theirs_gb"],
                   ratio=r["theirs_gb"] / r["ours_gb"], unit="GB", **common)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", help="LiSeg's side, benches/networks/network_speed.rs")
    parser.add_argument("--size", default="S", choices=WIDTHS)
    parser.add_argument("--patch", default="64,128,128")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--what", default="predict,train")
    parser.add_argument("--precision", default="f32,bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    o = parser.parse_args()
    o.patch = [int(n) for n in o.patch.split(",")]
    if o.peer:
        return peer(o)
    if not o.program:
        parser.error("--program is missing")
    print(f"STU-Net-{o.size}, {o.batch} x 1 x {' x '.join(map(str, o.patch))}, {o.device}, "
          f"{o.threads} thread(s)\n")
    print("| what | precision | LiSeg | PyTorch | ratio | LiSeg's peak | PyTorch's peak | optimiser's share |")
    print("|---|---|---|---|---|---|---|---|")
    for precision in o.precision.split(","):
        for what in o.what.split(","):
            r = compare(o, what, precision)
            print(f"| {what} | {precision} | {r['ours']:.3g} s | {r['theirs']:.3g} s | {r['ratio']:.2f} "
                  f"| {r['ours_gb']:.2f} GB | {r['theirs_gb']:.2f} GB | {100 * r['outside']:.1f} % |",
                  flush=True)


if __name__ == "__main__":
    main()
