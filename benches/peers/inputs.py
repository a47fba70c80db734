"""The files that both sides read: masks of an organ, int16 volumes, patches for augmentation."""

import pathlib

import nibabel
import numpy as np

# (x, y, z), as in files.
SIZES = {"320x260x72": (320, 260, 72), "512x512x128": (512, 512, 128)}
# (z, y, x), as in plans.
PATCHES = {"64x160x160": (64, 160, 160), "128x128x128": (128, 128, 128)}
SPACING = (1.2, 1.2, 3.0)


def smooth(shape, rng, sigma=6.0):
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma)
    return field / np.abs(field).max()


def organ(shape, rng, shift=0.0):
    """A bumpy ellipsoid of a liver's share of the volume, with a few islands."""
    grid = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij")
    x, y, z = grid
    radius = ((x + 0.3 - shift) / 0.5) ** 2 + (y / 0.45) ** 2 + (z / 0.6) ** 2
    field = smooth(shape, rng)
    mask = radius + 0.5 * field < 1
    mask |= field > 0.75
    return mask.astype(np.uint8)


def write(path, data, spacing=SPACING):
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    nibabel.save(nibabel.Nifti1Image(data, affine), path)


def make(folder: pathlib.Path, initial_patch):
    """Writes what is not there yet; `initial_patch` enlarges a patch as nnU-Net does."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for name, shape in SIZES.items():
        if not (folder / f"image-{name}.nii.gz").exists():
            write(folder / f"reference-{name}.nii.gz", organ(shape, rng))
            write(folder / f"prediction-{name}.nii.gz", organ(shape, rng, 0.02))
            noise = 20 * rng.standard_normal(shape)
            image = (300 + 200 * smooth(shape, rng) + noise).astype(np.int16)
            write(folder / f"image-{name}.nii.gz", image)
    for name, patch in PATCHES.items():
        for kind, sides in (("patch", patch), ("initial", initial_patch(patch))):
            file = folder / f"{kind}-{name}.nii"
            if not file.exists():
                image = smooth(sides[::-1], rng, 2.0) + 0.1 * rng.standard_normal(sides[::-1])
                write(file, image.astype(np.float32))
