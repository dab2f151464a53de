"""Build the bundled subset of Fashion-MNIST from the original IDX files.

    python -m kdlab.data.make_fashion FOLDER_WITH_THE_FOUR_GZ_FILES

The first 1,400 images of each class of the training files and all 1,000 of each class of the test
files are kept, sorted by class (which packs best), with their row numbers in the original files. The last
200 training images of each class are the val split (``kdlab.data.load`` carves them).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import lzma
from pathlib import Path

import numpy as np

from kdlab.data.idx import FILES, PACK, read_idx

TRAIN_PER_CLASS, TEST_PER_CLASS = 1400, 1000
# Of the unpacked files, so that a re-gzipped copy is recognised too.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def verified(folder: Path, name: str) -> np.ndarray:
    """The array of one original file, refused when its content is not the published one."""
    path = folder / f"{name}.gz"
    if hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() != SHA256[name]:
        raise SystemExit(f"{path} is not the original file: its checksum differs.")
    return read_idx(path)


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Row numbers of the first ``count`` images of each class, class after class."""
    return np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(10)])


def pack(folder: Path) -> bytes:
    """The pack: an xz stream of images, labels and rows of train, then of test, each as ``.npy``."""
    images, labels, test_images, test_labels = (verified(folder, name) for name in FILES)
    stream = io.BytesIO()
    for pixels, targets, count in (
        (images, labels, TRAIN_PER_CLASS),
        (test_images, test_labels, TEST_PER_CLASS),
    ):
        rows = first_of_each_class(targets, count)
        for array in (pixels[rows][:, None], targets[rows], rows.astype(np.int32)):
            np.lib.format.write_array(stream, array)
    return lzma.compress(stream.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def main() -> None:
    """Write ``fashion.xz`` beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds the four original .gz files")
    PACK.write_bytes(pack(parser.parse_args().folder))
    print(f"{PACK.name}: {PACK.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
