"""Rows about whole data sets: preprocessing beside nnU-Net, and drawing from what was preprocessed.

Memory is what the processes of a side hold at their fullest, shared pages counted once (proportional
set size of the whole process tree, sampled).
"""

import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import threading
import time

import numpy as np

CASES = 6
WORKERS = 2


def make(folder):
    """A data set of the size of LiQA's volumes, on grids that differ, so that all are resampled."""
    import inputs

    dataset = folder / "raw" / "Dataset950_Bench"
    if (dataset / "dataset.json").exists():
        return dataset
    for part in ("imagesTr", "labelsTr"):
        (dataset / part).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2)
    for case in range(CASES):
        shape = (320 + 16 * (case % 3), 288 + 16 * (case % 2), 60 + 4 * case)
        spacing = (1.0 + 0.1 * (case % 3), 1.0 + 0.1 * (case % 3), 2.2 + 0.2 * case)
        image = (300 + 200 * inputs.smooth(shape, rng) + 20 * rng.standard_normal(shape)).astype(np.int16)
        inputs.write(dataset / "imagesTr" / f"case_{case}_0000.nii.gz", image, spacing)
        inputs.write(dataset / "labelsTr" / f"case_{case}.nii.gz", inputs.organ(shape, rng), spacing)
    description = dict(name="Bench", channel_names={"0": "MRI"}, labels={"background": 0, "liver": 1},
                       numTraining=CASES, file_ending=".nii.gz")
    (dataset / "dataset.json").write_text(json.dumps(description))
    return dataset


def tree(pid):
    """A process and all below it."""
    found, waiting = [], [str(pid)]
    while waiting:
        one = waiting.pop()
        found.append(one)
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                waiting += pathlib.Path(f"/proc/{one}/task/{task}/children").read_text().split()
        except OSError:
            pass
    return found


def memory(pid):
    """Bytes that a process tree holds, shared pages counted once."""
    total = 0
    for one in set(tree(pid)):
        try:
            for line in pathlib.Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += 1024 * int(line.split()[1])
        except OSError:
            pass
    return total


def timed(command, environment):
    """Output, seconds, processor seconds and largest memory of a command and all it starts."""

    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    start, before = time.perf_counter(), used()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    most, over = 0, threading.Event()

    def watch():
        nonlocal most
        while not over.is_set():
            most = max(most, memory(process.pid))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, errors = process.communicate()
    seconds = time.perf_counter() - start
    over.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{command}: {errors[-2000:]}")
    return out, seconds, used() - before, most


def nnunet(folder):
    environment = {**os.environ, "nnUNet_raw": str(folder / "raw"), "nnUNet_results": str(folder / "results"),
                   "nnUNet_preprocessed": str(folder / "preprocessed")}
    bin = pathlib.Path(sys.executable).parent
    plans = folder / "preprocessed/Dataset950_Bench/nnUNetPlans.json"
    if not plans.exists():
        plan = [str(bin / "nnUNetv2_plan_and_preprocess"), "-d", "950", "--no_pp", "-npfp", "1"]
        subprocess.run(plan, env=environment, check=True, capture_output=True)
    command = [str(bin / "nnUNetv2_preprocess"), "-d", "950", "-c", "3d_fullres", "-np", str(WORKERS)]
    _, seconds, processor, most = timed(command, environment)
    plans = json.loads(plans.read_text())
    configuration = plans["configurations"]["3d_fullres"]
    inverse = np.argsort(plans["transpose_forward"])
    return seconds, processor, most, [configuration["spacing"][a] for a in inverse]


def row(name, peer, ours, theirs, target, unit="s", threads=WORKERS):
    return dict(name=name, peer=peer, threads=threads, ours=ours, theirs=theirs, ratio=theirs / ours,
                target=target, unit=unit)


def results(folder, program, wanted):
    """All rows, where one of them is wanted."""
    folder = folder / "dataset"
    names = ["preprocessing 6 volumes", "foreground draw", "load and crop 32×64×64"]
    if not any(wanted(name, "nnU-Net medrs") for name in names):
        return
    dataset, store = make(folder), folder / "store"
    print("preprocessing, nnU-Net and LiSeg", file=sys.stderr, flush=True)
    theirs, their_processor, their_memory, spacing = nnunet(folder)
    shutil.rmtree(store, ignore_errors=True)
    # As many cases at a time as nnU-Net has workers, each on one thread's worth of cores.
    environment = {**os.environ, "RAYON_NUM_THREADS": str(WORKERS)}
    command = [program, "preprocess", "1", str(dataset), str(store), str(WORKERS), ",".join(map(str, spacing))]
    out, wall, processor, our_memory = timed(command, environment)
    yield row("preprocessing 6 volumes, preprocessing alone", "nnU-Net", float(out), theirs, 5)
    yield row("preprocessing 6 volumes, with fingerprint and plan", "nnU-Net", wall, theirs, 5)
    yield row("preprocessing 6 volumes, with fingerprint and plan, processor time", "nnU-Net", processor, their_processor, 5)
    yield row("preprocessing 6 volumes, memory", "nnU-Net", our_memory / 1e9, their_memory / 1e9, 3, "GB")

    draw = float(subprocess.run([program, "foreground-draw", "1", str(store)], check=True,
                                capture_output=True, text=True).stdout)
    yield row("foreground draw, warm", "0.1 ms allowed", draw * 1e3, 0.1, 1, "ms", 1)
    yield from crops(folder, program, store)


def crops(folder, program, store):
    try:
        import medrs
    except ImportError:
        print("medrs is not installed: no row about it", file=sys.stderr)
        return
    import nibabel

    # The voxels of a stored case as the uncompressed f32 file that medrs crops from.
    from safetensors.numpy import load_file

    image = load_file(store / "case_0.safetensors")["image"][0]
    file = folder / "case_0.nii"
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(image.T), np.eye(4)), file)
    size = [64, 64, 32]
    corner = [(n - edge) // 2 for n, edge in zip(image.T.shape, size)]
    best = float("inf")
    for _ in range(50):
        start = time.perf_counter()
        medrs.load_cropped(str(file), corner, size).to_numpy()
        best = min(best, time.perf_counter() - start)
    ours = float(subprocess.run([program, "crop", "50", str(store / "case_0.safetensors")], check=True,
                                capture_output=True, text=True).stdout)
    yield row("load and crop 32×64×64, file opened each time", "medrs", ours * 1e3, best * 1e3, 1, "ms", 1)
