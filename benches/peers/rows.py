"""What is compared: each row names our task, a peer, and the call of the peer's public function.

A peer's function gets the files of its row and the number of threads, loads what it needs, and
returns the call to be timed.
"""

import dataclasses
import typing

import numpy as np


@dataclasses.dataclass
class Row:
    name: str
    task: str
    peer: str
    load: typing.Callable
    target: float
    files: typing.Callable
    repeat: int = 3
    threads: tuple = (1, 2)


def mask(path):
    import nibabel

    # Axes (z, y, x), C order, as every peer likes best.
    return np.ascontiguousarray(np.asarray(nibabel.load(path).dataobj).T)


ZYX = (3.0, 1.2, 1.2)


def monai_surface(measures):
    def load(files, threads):
        import torch
        from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

        torch.set_num_threads(threads)
        p, r = (torch.from_numpy(mask(f).astype(bool))[None, None] for f in files)
        common = dict(include_background=True, spacing=ZYX)
        calls = {
            "hd": lambda: compute_hausdorff_distance(p, r, **common),
            "hd95": lambda: compute_hausdorff_distance(p, r, percentile=95, **common),
            "assd": lambda: compute_average_surface_distance(p, r, symmetric=True, **common),
        }
        return lambda: [calls[m]() for m in measures]

    return load


def medpy_surface(measures):
    def load(files, threads):
        from medpy.metric import binary

        p, r = (mask(f).astype(bool) for f in files)
        return lambda: [getattr(binary, m)(p, r, voxelspacing=ZYX) for m in measures]

    return load


def deepmind_surface(files, threads):
    import surface_distance

    p, r = (mask(f).astype(bool) for f in files)

    def call():
        distances = surface_distance.compute_surface_distances(r, p, ZYX)
        surface_distance.compute_robust_hausdorff(distances, 95)
        surface_distance.compute_average_surface_distance(distances)

    return call


def edt_edt(files, threads):
    import edt

    m = mask(files[0]) == 0
    return lambda: edt.edtsq(m, anisotropy=ZYX, black_border=False, parallel=threads)


def scipy_edt(files, threads):
    from scipy.ndimage import distance_transform_edt

    m = mask(files[0]) == 0
    return lambda: distance_transform_edt(m, sampling=ZYX)


def cc3d_components(files, threads):
    import cc3d

    m = mask(files[0]).astype(bool)
    return lambda: cc3d.connected_components(m, connectivity=26)


def scipy_components(files, threads):
    from scipy.ndimage import label

    m = mask(files[0]).astype(bool)
    return lambda: label(m, np.ones((3, 3, 3)))


def itk_read(files, threads):
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    return lambda: sitk.GetArrayFromImage(sitk.ReadImage(files[0], sitk.sitkFloat32))


def nibabel_read(files, threads):
    import nibabel

    return lambda: nibabel.load(files[0]).get_fdata(dtype=np.float32)


def nnunet_resample(isotropic):
    def load(files, threads):
        import torch
        from nnunetv2.preprocessing.resampling.default_resampling import (
            resample_data_or_seg_to_shape as resample,
        )

        torch.set_num_threads(threads)
        image = mask(files[0]).astype(np.float32)[None]
        old, new = ((2, 1, 1), (1.5, 1.25, 1.25)) if isotropic else ((5, 1, 1), (4, 1.25, 1.25))
        shape = [round(n * a / b) for n, a, b in zip(image.shape[1:], old, new)]
        return lambda: resample(image, shape, old, new, is_seg=False, order=3, order_z=0,
                                force_separate_z=None)

    return load


def initial_patch(patch):
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size

    angle = 30 / 360 * 2 * np.pi
    turns = ((-angle, angle),) * 3
    if max(patch) / patch[0] > 3:
        turns = ((-np.pi, np.pi), (0, 0), (0, 0))
    return tuple(int(n) for n in get_patch_size(patch, *turns, (0.7, 1.4)))


def batchgenerators_list(files, threads):
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.set_num_threads(threads)
    patch = tuple(int(n) for n in files[1].split(","))
    angle = 30 / 360 * 2 * np.pi
    transforms = nnUNetTrainer.get_training_transforms(
        patch, (-angle, angle), None, (0, 1, 2), False, use_mask_for_norm=[False],
        foreground_labels=[1],
    )
    image = torch.from_numpy(mask(files[0]).astype(np.float32))[None]
    label = (image > 0.5).to(torch.int16)
    return lambda: transforms(image=image.clone(), segmentation=label.clone())


def torchio_transform(name):
    def load(files, threads):
        import SimpleITK as sitk
        import torch
        import torchio

        torch.set_num_threads(threads)
        # TorchIO resamples with ITK, which has threads of its own.
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
        image = torch.from_numpy(mask(files[0]).astype(np.float32))[None]
        transform = {
            "affine": lambda: torchio.Affine(scales=1.1, degrees=(17, 11, 23), translation=0),
            "blur": lambda: torchio.Blur(std=1.0),
            # Seven control points along each side, as by default; files have no unit, so 1 mm.
            "elastic": lambda: torchio.RandomElasticDeformation(
                num_control_points=7, max_displacement=7.5),
            "noise": lambda: torchio.Noise(mean=0, std=0.1, seed=3),
            "gamma": lambda: torchio.Gamma(gamma=1.3),
        }[name]()
        return lambda: transform(image)

    return load


def monai_transform(name):
    def load(files, threads):
        import torch
        from monai import transforms

        torch.set_num_threads(threads)
        image = torch.from_numpy(mask(files[0]).astype(np.float32))[None]
        transform = {
            "affine": lambda: transforms.Affine(
                rotate_params=(0.3, 0.2, 0.4), scale_params=(1.1, 1.1, 1.1), padding_mode="zeros",
                image_only=True),
            "blur": lambda: transforms.GaussianSmooth(sigma=1.0),
            "elastic": lambda: transforms.Rand3DElastic(
                sigma_range=(5, 8), magnitude_range=(100, 200), prob=1.0, padding_mode="zeros"),
            "noise": lambda: transforms.RandGaussianNoise(prob=1.0, std=0.1),
            "gamma": lambda: transforms.AdjustContrast(gamma=1.3),
            "gamma-kept": lambda: transforms.AdjustContrast(gamma=1.3, retain_stats=True),
        }[name]()
        return lambda: transform(image)

    return load


def rows(folder, sizes, patches):
    at = lambda kind, name: str(folder / f"{kind}-{name}.nii.gz")
    for size in sizes:
        pair = [at("prediction", size), at("reference", size)]
        image = [at("image", size)]
        three = ("hd", "hd95", "assd")
        yield Row(f"HD95 {size}", "hd95", "MONAI", monai_surface(("hd95",)), 2, pair)
        yield Row(f"HD95 {size}", "hd95", "MedPy", medpy_surface(("hd95",)), 20, pair, 1, (1,))
        yield Row(f"HD, HD95, ASSD {size}", "distances", "MONAI", monai_surface(three), 2, pair)
        yield Row(f"HD, HD95, ASSD {size}", "distances", "MedPy", medpy_surface(three), 20, pair, 1, (1,))
        yield Row(f"HD95, average {size}", "distances", "surface-distance", deepmind_surface, 2, pair, 1, (1,))
        yield Row(f"distance transform {size}", "edt", "edt", edt_edt, 1.5, pair)
        yield Row(f"distance transform {size}", "edt", "SciPy", scipy_edt, 1.5, pair, 1, (1,))
        yield Row(f"components 26 {size}", "components", "cc3d", cc3d_components, 1.2, pair, 5)
        yield Row(f"components 26 {size}", "components", "SciPy", scipy_components, 1.2, pair)
        yield Row(f"read int16 .nii.gz {size}", "read", "SimpleITK", itk_read, 1.5, image)
        yield Row(f"read int16 .nii.gz {size}", "read", "nibabel", nibabel_read, 2, image)
    first = [at("image", sizes[0])]
    yield Row("cubic resampling, isotropic", "resample-isotropic", "nnU-Net", nnunet_resample(True), 5, first, 1)
    yield Row("cubic resampling, slices apart", "resample-anisotropic", "nnU-Net", nnunet_resample(False), 5, first, 1)
    for name, patch in patches.items():
        sides = ",".join(str(n) for n in patch)
        enlarged = [str(folder / f"initial-{name}.nii"), sides]
        file = [str(folder / f"patch-{name}.nii")]
        yield Row(f"nnU-Net's augmentation {name}", "nnunet", "batchgeneratorsv2", batchgenerators_list, 4, enlarged, 20, (1,))
        for transform in ("affine", "elastic", "blur", "gamma", "noise"):
            for peer, load in (("TorchIO", torchio_transform), ("MONAI", monai_transform)):
                repeat = 3 if transform == "elastic" else 10
                yield Row(f"{transform} {name}", transform, peer, load(transform), 5, file, repeat, (1,))
        # TorchIO's gamma cannot restore mean and standard deviation.
        yield Row(f"gamma, statistics kept {name}", "gamma-kept", "MONAI", monai_transform("gamma-kept"), 5, file, 10, (1,))
