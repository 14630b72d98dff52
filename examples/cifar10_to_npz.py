"""CIFAR-10 to one .npz file for ``neurocompile deff``, ``budget`` and training, from your own copy of
the data.

    uv run --no-dev --extra plot python examples/cifar10_to_npz.py ARCHIVE -o cifar10.npz
    neurocompile deff cifar10.npz --dataset cifar10 --plot spectrum.png

ARCHIVE is the binary version (cifar-10-binary.tar.gz), or a tar of JPEG files
``train/<class>/NNNN.jpg`` (.tar, .tar.gz or .tar.xz; needs pillow, which the extra plot brings).
The python version holds pickles, which are refused. The data are not part of neurocompile: cite
Krizhevsky 2009, and say "JPEG copy" beside numbers that come from one.

Writes 'x', uint8 (samples, 3, 32, 32), uncompressed, so that ``deff`` maps it and never holds it,
and 'y', int64: what models/zoo/cifar10/train.py reads too. For ``budget``, ``sweep`` and as calibration
data add ``--scale``: 'x' is then float32 in 0..1. Calibrate on a draw (``--draw 512``): a copy may hold
its images class by class, and statistics of one class are not those of the data.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

_RECORD = 1 + 3 * 32 * 32


def read(archive: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (samples, 3, 32, 32) and labels int64 of the part ``train`` or ``test``."""
    binary = "test_batch" if part == "test" else "data_batch"
    records, pictures = [], []
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not member.isfile():
                continue
            if path.suffix == ".bin" and path.name.startswith(binary):
                records.append((path.name, tar.extractfile(member).read()))
            elif path.suffix == ".jpg" and len(path.parts) >= 3 and path.parts[-3] == part:
                pictures.append((path.parts[-2], path.name, tar.extractfile(member).read()))
    if records:
        rows = np.frombuffer(b"".join(data for _, data in sorted(records)), np.uint8).reshape(
            -1, _RECORD
        )
        return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)
    if not pictures:
        sys.exit(f"'{archive}' holds neither {binary}*.bin nor {part}/<class>/*.jpg")
    from PIL import Image

    pictures.sort()
    classes = sorted({name for name, _, _ in pictures})
    x = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)
            for _, _, data in pictures
        ]
    )
    return x, np.array([classes.index(name) for name, _, _ in pictures], np.int64)


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("cifar10.npz"))
    parser.add_argument("--part", choices=("train", "test"), default="train")
    parser.add_argument("--scale", action="store_true", help="float32 in 0..1")
    parser.add_argument("--draw", type=int, metavar="N", help="only N images, drawn with seed 0")
    options = parser.parse_args()
    x, y = read(options.archive, options.part)
    if options.draw is not None:
        drawn = np.random.default_rng(0).permutation(len(x))[: options.draw]
        x, y = x[drawn], y[drawn]
    np.savez(options.output, x=(x / 255.0).astype(np.float32) if options.scale else x, y=y)
    print(
        f"{options.output}: {len(x):,} images of {' x '.join(map(str, x.shape[1:]))}, {len(np.unique(y))} classes"
    )


if __name__ == "__main__":
    main()
