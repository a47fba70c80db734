"""Compares LiSeg's preprocessing with nnU-Net's own, voxel by voxel.

    cargo build --release -p benches --bin peers
    python tests/parity/preprocess.py DATASET... --program target/release/peers [--table TABLE.md]

DATASET is in nnU-Net's raw layout, one channel. Needs nnunetv2, nibabel and safetensors. Every image
of the data set takes part; one without a label gets an empty one. Each data set is preprocessed on the
grid that nnU-Net plans for it and on others that make it resample, by nnU-Net's `DefaultPreprocessor`
with the planned configuration and by LiSeg's `preprocess_dataset` with the same spacing. LiSeg turns images to
RAS first, which nnU-Net does not: nnU-Net's arrays are turned for the comparison. Label -1 (outside of the
non-zero mask) is background in LiSeg.

Three copies of each data set are compared: as it is stored; turned to RAS beforehand, because a label exactly
between two voxels goes to the one behind, and which one that is depends on the direction of the axis; and turned
with outer rows and columns set to zero, so that nnU-Net plans masked z-scores.

Intensities are z-scores, so a difference is in standard deviations of the image. Exits 1 when one is
above 1e-3, when a shape differs, or, of images in RAS, more than one label in 100,000 voxels.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import nibabel
import numpy as np

TOLERANCE = 1e-3
LABELS = 1e-5


def changed(source, target, how):
    """Copies a file, in RAS and with an eighth of its rows and columns on every side at zero if asked."""
    if how == "as stored":
        shutil.copy(source, target)
        return
    image = nibabel.as_closest_canonical(nibabel.load(source))
    if how == "RAS, framed" and source.name.endswith("_0000.nii.gz"):
        voxels = np.asarray(image.dataobj)
        kept = np.zeros_like(voxels)
        x, y = (slice(n // 8, n - n // 8) for n in voxels.shape[:2])
        kept[x, y] = voxels[x, y]
        image = nibabel.Nifti1Image(kept, image.affine, image.header)
    nibabel.save(image, target / source.name)


def raw_copy(source, raw, number, how):
    """All images of a data set as labelled training cases of one that nnU-Net takes."""
    target = raw / f"Dataset{number:03d}_Parity"
    (target / "imagesTr").mkdir(parents=True)
    (target / "labelsTr").mkdir()
    cases = 0
    for images, labels in (("imagesTr", "labelsTr"), ("imagesUn", None), ("imagesTs", "labelsTs")):
        for image in sorted((source / images).glob("*_0000.nii.gz")):
            name = image.name.replace("_0000", "")
            changed(image, target / "imagesTr", how)
            label = source / labels / name if labels else None
            if label and label.exists():
                changed(label, target / "labelsTr", how)
            else:
                like = nibabel.load(target / "imagesTr" / image.name)
                empty = nibabel.Nifti1Image(np.zeros(like.shape, np.uint8), like.affine)
                nibabel.save(empty, target / "labelsTr" / name)
            cases += 1
    description = dict(name="Parity", channel_names={"0": "MRI"}, numTraining=cases,
                       labels={"background": 0, "liver": 1}, file_ending=".nii.gz")
    (target / "dataset.json").write_text(json.dumps(description))
    return target


def nnunet_plan(number):
    """nnU-Net's own plan of the data set: spacing (z, y, x) in its order of axes, and all else."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments
    from nnunetv2.paths import nnUNet_preprocessed

    with contextlib.redirect_stdout(io.StringIO()):
        extract_fingerprints([number], num_processes=1, check_dataset_integrity=False)
        plan_experiments([number])
    folder = pathlib.Path(nnUNet_preprocessed) / f"Dataset{number:03d}_Parity"
    return json.loads((folder / "nnUNetPlans.json").read_text())


def turned(array, file, forward):
    """An array (z, y, x, transposed by `forward`) of nnU-Net in the orientation RAS."""
    array = array.transpose(np.argsort(forward))
    codes = nibabel.orientations.io_orientation(nibabel.load(file).affine)
    array = array.T  # x, y, z, as in the file
    return nibabel.orientations.apply_orientation(array, codes).T


def theirs(dataset, plans, spacing, file):
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = json.loads(json.dumps(plans))
    forward = plans["transpose_forward"]
    plans["configurations"]["3d_fullres"]["spacing"] = [spacing[a] for a in forward]
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    label = str(file).replace("imagesTr", "labelsTr").replace("_0000", "")
    description = json.loads((dataset / "dataset.json").read_text())
    preprocessor = DefaultPreprocessor(verbose=False)
    data, segmentation, _ = preprocessor.run_case([str(file)], label, manager, configuration, description)
    return turned(data[0], file, forward), turned(segmentation[0], file, forward)


def same_plans(program, dataset, plans):
    """Whether LiSeg plans for nnU-Net what nnU-Net plans, to nine digits and without the sampled intensities."""
    file = dataset.parent / "plans.json"
    subprocess.run([program, "nnunet-plans", "1", str(dataset), str(file)], check=True, capture_output=True)
    found = json.loads(file.read_text())

    def differ(a, b, at):
        if isinstance(b, dict):
            if set(a) != set(b):
                return [f"{at}: {sorted(set(a) ^ set(b))}"]
            return [d for key in b for d in differ(a[key], b[key], f"{at}/{key}")]
        if isinstance(b, list):
            if len(a) != len(b):
                return [f"{at}: {a} {b}"]
            return [d for i, (x, y) in enumerate(zip(a, b)) for d in differ(x, y, f"{at}/{i}")]
        if isinstance(b, float) or isinstance(a, float):
            return [] if abs(a - b) <= 1e-9 * max(1, abs(b)) else [f"{at}: {a} {b}"]
        return [] if a == b else [f"{at}: {a} {b}"]

    for one in (found, plans):
        one.pop("foreground_intensity_properties_per_channel", None)
    different = differ(found, plans, "plans")
    for line in different:
        print(line, file=sys.stderr)
    return not different


def ours(program, dataset, spacing, store):
    command = [program, "preprocess", "1", str(dataset), str(store), "2", ",".join(map(str, spacing))]
    subprocess.run(command, check=True, capture_output=True)
    return json.loads((store / "plan.json").read_text())


def read(store, case):
    from safetensors.numpy import load_file

    tensors = load_file(store / f"{case}.safetensors")
    return tensors["image"][0], tensors["label"]


def compare(program, source, raw, number, how):
    dataset = raw_copy(source, raw, number, how)
    plans = nnunet_plan(number)
    planned_alike = same_plans(program, dataset, dict(plans))
    inverse = np.argsort(plans["transpose_forward"])
    planned = [plans["configurations"]["3d_fullres"]["spacing"][a] for a in inverse]
    grids = {"planned": planned, "finer slices": [planned[0] * 0.7, planned[1] * 1.3, planned[2] * 1.3],
             "isotropic": [min(planned) * 2] * 3}
    for grid, spacing in grids.items():
        store = raw / f"store-{number}-{grid.replace(' ', '-')}"
        plan = ours(program, dataset, spacing, store)
        worst, total, voxels, wrong, shapes, largest = 0.0, 0.0, 0, 0, 0, 0.0
        masked = plans["configurations"]["3d_fullres"]["use_mask_for_norm"][0]
        if plan["use_mask_for_norm"] != masked:
            sys.exit(f"{source}: use_mask_for_norm is {plan['use_mask_for_norm']}, nnU-Net has {masked}")
        files = sorted((dataset / "imagesTr").glob("*.nii.gz"))
        for file in files:
            image, label = read(store, file.name.replace("_0000.nii.gz", ""))
            data, segmentation = theirs(dataset, plans, spacing, file)
            if image.shape != data.shape:
                shapes += 1
                continue
            difference = np.abs(image.astype(np.float64) - data)
            worst = max(worst, difference.max())
            total += difference.sum()
            voxels += difference.size
            largest = max(largest, np.abs(data).max())
            wrong += int((label != np.maximum(segmentation, 0)).sum())
        yield dict(data=source.name, how=how, plans=planned_alike, grid=grid, spacing=[round(s, 3) for s in spacing], cases=len(files),
                   masked=masked, voxels=voxels, worst=worst, mean=total / max(voxels, 1),
                   largest=largest, labels=wrong, shapes=shapes)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("datasets", nargs="+", type=pathlib.Path)
    arguments.add_argument("--program", required=True, type=os.path.abspath)
    arguments.add_argument("--table", type=pathlib.Path)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        raw = folder / "raw"
        for variable, place in (("nnUNet_raw", raw), ("nnUNet_preprocessed", folder / "preprocessed"),
                                ("nnUNet_results", folder / "results")):
            place.mkdir()
            os.environ[variable] = str(place)
        lines = ["| data | orientation | grid | spacing z, y, x (mm) | images | masked | plans | voxels "
                 "| largest difference (sd) | mean | labels that differ |", "|---" * 11 + "|"]
        met = True
        copies = [(dataset, how) for dataset in chosen.datasets for how in ("as stored", "RAS", "RAS, framed")]
        for number, (dataset, how) in enumerate(copies, 900):
            for r in compare(chosen.program, dataset, raw, number, how):
                met &= r["worst"] <= TOLERANCE and r["shapes"] == 0 and r["plans"]
                met &= how == "as stored" or r["labels"] <= LABELS * r["voxels"]
                lines.append(f"| {r['data']} | {r['how']} | {r['grid']} | {r['spacing']} | {r['cases']} | {'yes' if r['masked'] else 'no'} | {'equal' if r['plans'] else 'DIFFER'} "
                             f"| {r['voxels']:,} | {r['worst']:.1e} | {r['mean']:.1e} | {r['labels']} |")
                print(lines[-1], file=sys.stderr, flush=True)
        text = "\n".join(lines) + "\n"
        if chosen.table:
            chosen.table.write_text(text)
        print(text)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
