"""Times LiSeg's and nnU-Net's prediction of the same volumes with the same network and tiles.

    python benches/peers/predict.py --liseg target/release/liseg --out /tmp/peers-predict
    cargo xtask bench --peers --only predict

LiSeg makes the model (STU-Net-S after one step on phantoms, spacing and patch of its plan). nnU-Net's
predictor gets a PyTorch module with the same weights, and a plan with the same spacing, patch and
normalization. Both run on the CPU in 32-bit floats (LiSeg also in bf16 with --precision bf16), with 2
threads, without mirroring, on the same files, from start to finished masks. Processor time, unlike the
others, depends little on what else the machine does. Memory is the largest sum over the processes of the proportional
set size, sampled twenty times a second, less often where asking takes longer than a millisecond.
"Outside" is everything but the network's forward passes.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import struct
import subprocess
import sys
import threading
import time

THREADS = 2
PEER = "nnU-Net"
# Spacing and patch (z, y, x) of the models, and how far tiles move, as a share of the patch.
PLANS = {"fine": ((3.0, 1.2, 1.2), (32, 96, 96), 0.5), "coarse": ((3.0, 2.0, 2.0), (48, 160, 160), 1.0)}
# Voxels (x, y, z) and spacing in mm of the volumes to predict, and the plan.
VOLUMES = {"median": ((320, 256, 64), (1.0, 1.0, 2.5), "fine"), "large": ((512, 512, 96), (0.75, 0.75, 2.5), "fine"),
           "largest": ((1024, 1024, 131), (0.4, 0.4, 2.5), "coarse")}
# GiB that nnU-Net's predictor must find free for a volume, with some room.
NEEDED = {"largest": 15}


def children(pid):
    found, todo = [], [pid]
    while todo:
        process = todo.pop()
        found.append(process)
        try:
            for task in os.listdir(f"/proc/{process}/task"):
                text = pathlib.Path(f"/proc/{process}/task/{task}/children").read_text()
                todo += [int(child) for child in text.split()]
        except OSError:
            pass
    return found


def memory(pid):
    total = 0
    for process in children(pid):
        try:
            for line in pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total


def available():
    """GiB that programs can still get."""
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 2**20


def run(command, **more):
    """Seconds, seconds of processor time, peak memory in bytes and standard output of a command."""
    used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    before, start = used(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more)
    peak = [0]

    def watch():
        while process.poll() is None:
            start = time.perf_counter()
            peak[0] = max(peak[0], memory(process.pid))
            # Asking takes long where much is held, on a core that is the measured program's.
            time.sleep(max(0.05, 50 * (time.perf_counter() - start)))

    thread = threading.Thread(target=watch)
    thread.start()
    output = process.stdout.read()
    process.wait()
    seconds = time.perf_counter() - start
    thread.join()
    if process.returncode != 0:
        raise SystemExit(f"{command} failed")
    return seconds, used() - before, peak[0], output


def make_model(liseg, out, spacing, patch):
    """A LiSeg run of one step; returns its checkpoint."""
    data, run_folder = out / "data", out / "run"
    if not (run_folder / "checkpoints/last.safetensors").exists():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        quiet = ["--quiet", "--threads", str(THREADS)]
        subprocess.run([liseg, "phantom", "--out", out / "dataset", "--patients", "3", "--labelled", "2", *quiet], check=True)
        plan = out / "plan.json"
        subprocess.run([liseg, "plan", out / "dataset", "--out", plan, *quiet], check=True)
        text = json.loads(plan.read_text())
        text.update(spacing=spacing, patch_size=patch)
        plan.write_text(json.dumps(text))
        subprocess.run([liseg, "preprocess", out / "dataset", "--plans", plan, "--out", data, *quiet], check=True)
        config = out / "config.toml"
        config.write_text(f'data = "{data}"\n[strategy]\nname = "supervised"\n'
                          "[training]\nepochs = 1\niterations_per_epoch = 1\n")
        subprocess.run([liseg, "train", config, "--out", run_folder, *quiet], check=True)
    return run_folder / "checkpoints/last.safetensors"


def read_checkpoint(path):
    """The weights of the network `network` (or the first) and the model's description."""
    import numpy as np
    import torch

    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + length])
    description = json.loads(header.pop("__metadata__")["liseg_model"])
    prefix = description["predictors"][0] + "."
    weights = {}
    for name, entry in header.items():
        if name.startswith(prefix) and entry["dtype"] == "F32" and "/" not in name:
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            values = np.frombuffer(raw[begin:end], np.float32).reshape(entry["shape"])
            weights[name[len(prefix):]] = torch.from_numpy(values.copy())
    return weights, description


def stunet(description):
    """STU-Net with the published parameter names, for prediction."""
    import torch
    from torch import nn

    shape = description["network"]
    widths, strides, classes = shape["widths"], shape["strides"], shape["classes"]

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv3d(inputs, outputs, 3, stride, 1)
            self.norm1 = nn.InstanceNorm3d(outputs, affine=True)
            self.conv2 = nn.Conv3d(outputs, outputs, 3, 1, 1)
            self.norm2 = nn.InstanceNorm3d(outputs, affine=True)
            self.conv3 = nn.Conv3d(inputs, outputs, 1, stride)
            self.act = nn.LeakyReLU(inplace=True)

        def forward(self, x):
            y = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
            return self.act(y + self.conv3(x))

    class Upsample(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv, self.stride = nn.Conv3d(inputs, outputs, 1), stride

        def forward(self, x):
            return self.conv(nn.functional.interpolate(x, scale_factor=[float(s) for s in self.stride], mode="nearest"))

    class Net(nn.Module):
        seconds = 0.0
        calls = 0

        def __init__(self):
            super().__init__()
            inputs = [1, *widths[:5]]
            steps = [[1, 1, 1], *strides]
            self.conv_blocks_context = nn.ModuleList(
                nn.Sequential(Block(i, o, s)) for i, o, s in zip(inputs, widths, steps))
            coarse = list(zip(widths[:0:-1], widths[4::-1], strides[::-1]))
            self.upsample_layers = nn.ModuleList(Upsample(i, o, s) for i, o, s in coarse)
            self.conv_blocks_localization = nn.ModuleList(
                nn.Sequential(Block(2 * o, o, [1, 1, 1])) for _, o, _ in coarse)
            self.seg_outputs = nn.ModuleList(nn.Conv3d(o, classes, 1) for _, o, _ in coarse)

        def forward(self, x):
            start = time.perf_counter()
            skips = []
            for block in self.conv_blocks_context:
                x = block(x)
                skips.append(x)
            skips.pop()
            for up, block in zip(self.upsample_layers, self.conv_blocks_localization):
                x = block(torch.cat([up(x), skips.pop()], 1))
            x = self.seg_outputs[-1](x)
            Net.seconds += time.perf_counter() - start
            Net.calls += 1
            return x

    return Net()


def nnunet_plans(description):
    plan = description["plan"]
    resampling = dict(is_seg=False, order=3, order_z=0, force_separate_z=None)
    configuration = dict(
        data_identifier="x", preprocessor_name="DefaultPreprocessor", batch_size=2,
        patch_size=list(description["patch_size"]), median_image_size_in_voxels=plan["median_image_size_in_voxels"],
        spacing=list(plan["spacing"]), normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[False],
        resampling_fn_data="resample_data_or_seg_to_shape", resampling_fn_data_kwargs=resampling,
        resampling_fn_seg="resample_data_or_seg_to_shape",
        resampling_fn_seg_kwargs=dict(is_seg=True, order=1, order_z=0, force_separate_z=None),
        resampling_fn_probabilities="resample_data_or_seg_to_shape",
        resampling_fn_probabilities_kwargs=dict(is_seg=False, order=1, order_z=0, force_separate_z=None),
        architecture={}, batch_dice=False)
    return dict(
        dataset_name="Dataset001_Peers", plans_name="nnUNetPlans", image_reader_writer="SimpleITKIO",
        transpose_forward=[0, 1, 2], transpose_backward=[0, 1, 2], label_manager="LabelManager",
        experiment_planner_used="ExperimentPlanner",
        foreground_intensity_properties_per_channel={"0": dict.fromkeys(
            ("mean", "median", "std", "min", "max", "percentile_99_5", "percentile_00_5"), 0.0)},
        original_median_spacing_after_transp=list(plan["spacing"]), original_median_shape_after_transp=[64, 320, 320],
        configurations={"3d_fullres": configuration})


def predict_with_nnunet(checkpoint, images, output, step):
    """Runs in a process of its own; prints the seconds in the network and the number of tiles."""
    os.environ.update(nnUNet_raw="/nowhere", nnUNet_preprocessed="/nowhere", nnUNet_results="/nowhere")
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    torch.set_num_threads(THREADS)
    weights, description = read_checkpoint(checkpoint)
    network = stunet(description)
    network.load_state_dict(weights)
    network.eval()
    plans = PlansManager(nnunet_plans(description))
    dataset = dict(channel_names={"0": "MRI"}, labels=description["plan"]["labels"], numTraining=1, file_ending=".nii.gz")
    predictor = nnUNetPredictor(tile_step_size=float(step), use_gaussian=True, use_mirroring=False,
                                perform_everything_on_device=False, device=torch.device("cpu"),
                                allow_tqdm=False)
    predictor.manual_initialization(network, plans, plans.get_configuration("3d_fullres"), [weights], dataset,
                                    "nnUNetTrainer", None)
    files = sorted(images.glob("*_0000.nii.gz"))
    predictor.predict_from_files([[str(f)] for f in files], [str(output / f.name[:-12]) for f in files],
                                 save_probabilities=False, num_processes_preprocessing=1,
                                 num_processes_segmentation_export=1)
    print(json.dumps(dict(network=type(network).seconds, tiles=type(network).calls)))


def make_volume(path, size, spacing):
    import nibabel
    import numpy as np

    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in size), indexing="ij")
    noise = np.random.default_rng(1).normal(0, 20, size).astype(np.float32)
    body = 400 * (x * x + y * y < 0.8) + 200 * ((x - 0.2) ** 2 + y * y + z * z < 0.2) + 100
    image = nibabel.Nifti1Image((body + noise).astype(np.int16), np.diag([*spacing, 1]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def agreement(a, b):
    import nibabel
    import numpy as np

    pairs = [(np.asarray(nibabel.load(a / f.name).dataobj), np.asarray(nibabel.load(f).dataobj))
             for f in sorted(b.glob("*.nii.gz"))]
    return [float((p != q).mean()) for p, q in pairs]


def prepare(liseg, out, names):
    """The models by the names of their plans, and the volumes that are not there yet."""
    models = {}
    for name in names:
        size, spacing, plan = VOLUMES[name]
        models[plan] = make_model(liseg, out / plan, *PLANS[plan][:2])
        path = out / name / "images" / f"{name}_0000.nii.gz"
        if not path.exists():
            make_volume(path, size, spacing)
    return models


def compare(liseg, out, name, models, precision):
    """(what, ours, theirs) of one volume, and the number of tiles."""
    environment = {**os.environ, **{k: str(THREADS) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}}
    plan = VOLUMES[name][2]
    checkpoint, step = models[plan], str(PLANS[plan][2])
    images, ours, theirs = (out / name / part for part in ("images", "liseg", "nnunet"))
    for folder in (ours, theirs):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    command = [liseg, "predict", "--model", checkpoint, "--input", images, "--output", ours, "--precision", precision,
               "--device", "cpu", "--threads", str(THREADS), "--step", step, "--json", "--quiet", "--no-postprocessing"]
    seconds, processor, peak, output = run(command, env=environment)
    network = json.loads(output)["seconds"]["network"]
    command = [sys.executable, __file__, "--out", out, "--nnunet", checkpoint, images, theirs, step]
    peer_seconds, peer_processor, peer_peak, output = run(command, env=environment)
    peer = json.loads(output.strip().splitlines()[-1])
    share = max(agreement(ours, theirs))
    print(f"{name}: {share:.2e} of the voxels differ between the masks", file=sys.stderr)
    lines = [("in all, s", seconds, peer_seconds), ("in the network, s", network, peer["network"]),
             ("outside, s", seconds - network, peer_seconds - peer["network"]),
             ("processor time in all, s", processor, peer_processor),
             ("peak memory, GiB", peak / 2**30, peer_peak / 2**30)]
    return lines, peer["tiles"]


def rows():
    """Name and volume of each row of the common table, but for what each measures."""
    for name in ("median", "largest"):
        yield f"predict {'x'.join(str(n) for n in VOLUMES[name][0])}", name


def results(liseg, out, wanted):
    """Rows for the common table: a volume of LiQA's median size, and one of the largest that there are."""
    targets = {"in all, s": 1, "outside, s": 5, "peak memory, GiB": 3}
    for title, name in rows():
        if not wanted(title, PEER):
            continue
        free = available()
        if free < NEEDED.get(name, 0):
            print(f"{title} is left out: {PEER} needs {NEEDED[name]} GiB, {free:.1f} are free", file=sys.stderr)
            continue
        print(f"{title}, {PEER}, {THREADS} thread(s)", file=sys.stderr, flush=True)
        lines, _ = compare(liseg, out, name, prepare(liseg, out, [name]), "f32")
        for what, ours, theirs in lines:
            if what in targets:
                words, unit = what.rsplit(", ", 1)
                yield dict(name=f"{title}, {words}", peer=PEER, threads=THREADS, ours=ours, theirs=theirs,
                           ratio=theirs / ours, target=targets[what], unit=unit)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--liseg", type=os.path.abspath, help="the command")
    arguments.add_argument("--out", required=True, type=lambda p: pathlib.Path(p).absolute())
    arguments.add_argument("--volumes", default="median,large", help="which volumes, by name")
    arguments.add_argument("--prepare", action="store_true", help="make model and volumes only")
    arguments.add_argument("--precision", default="f32", help="number format of LiSeg's network")
    arguments.add_argument("--nnunet", nargs=4, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.nnunet:
        predict_with_nnunet(*map(pathlib.Path, chosen.nnunet[:3]), chosen.nnunet[3])
        return
    names = chosen.volumes.split(",")
    models = prepare(chosen.liseg, chosen.out, names)
    if chosen.prepare:
        return
    print("| volume (x, y, z) | tiles | | LiSeg | nnU-Net | LiSeg / nnU-Net |\n|---|---|---|---|---|---|")
    for name in names:
        lines, tiles = compare(chosen.liseg, chosen.out, name, models, chosen.precision)
        shape = " × ".join(str(n) for n in VOLUMES[name][0])
        for what, a, b in lines:
            print(f"| {shape} | {tiles} | {what} | {a:.2f} | {b:.2f} | {a / b:.2f} |")


if __name__ == "__main__":
    main()
