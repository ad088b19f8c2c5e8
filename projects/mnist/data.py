"""MNIST as four verified files, or scikit-learn's digits where nothing else can be had.

Looked for in this order: `data_dir`, `$MLFLOW_CARBON_DATA/mnist`, the per-user cache, the public mirrors
(into the cache), the fallback. A `data_dir` is never replaced by another source: a bad one is an error.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import tempfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import requests

from projects.mnist.config import DataError, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

    from numpy.typing import NDArray

__all__ = [
    "FALLBACK",
    "FILES",
    "MIRRORS",
    "Dataset",
    "File",
    "atomically",
    "digits",
    "load",
    "read_idx",
]

# PyTorch's own copy, the CVDF's, and fgnt's. The original page is gone.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
)
FALLBACK = "digits-fallback"
_IMAGES_MAGIC, _LABELS_MAGIC = 2051, 2049
_TIMEOUT_S = (10.0, 30.0)  # connect, read


@dataclass(frozen=True, slots=True)
class File:
    """A published file and its published digests."""

    name: str
    md5: str
    sha256: str


FILES = (
    File(
        "train-images-idx3-ubyte.gz",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    File(
        "train-labels-idx1-ubyte.gz",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    File(
        "t10k-images-idx3-ubyte.gz",
        "9fb629c4189551a2d022fa330f9573f3",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    File(
        "t10k-labels-idx1-ubyte.gz",
        "ec29112dd5afa0611ce80d1b7f02629c",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Images as bytes (n, 28, 28), labels 0 to 9 as int64 (n,), and where they come from.

    Attributes:
        name: `mnist` or `digits-fallback`; the tag `carbon.dataset`.
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


def load(
    data_dir: str | None,
    *,
    env: Mapping[str, str] | None = None,
    cache: Path | None = None,
    mirrors: Sequence[str] = MIRRORS,
    files: Sequence[File] = FILES,
) -> Dataset:
    """The data set, from the first source that has it whole.

    Raises:
        DataError: If `data_dir` is given and its files are missing or damaged, or nothing at all can be had.
    """
    if data_dir is not None:
        return _from_directory(Path(data_dir).expanduser(), files)
    shared = (os.environ if env is None else env).get("MLFLOW_CARBON_DATA", "")
    where = cache or _user_cache()
    for directory in ([Path(shared).expanduser() / "mnist"] if shared else []) + [where]:
        if (directory / files[0].name).exists():
            try:
                return _from_directory(directory, files)
            except DataError as error:
                say(f"{error}; looking elsewhere")
        elif directory != where:
            missing = f"MLFLOW_CARBON_DATA: expected the four MNIST files in {directory}, got none"
            say(f"{missing}; looking elsewhere")
    return _from_directory(where, files) if _download(files, where, mirrors) else digits()


def read_idx(raw: bytes, name: str, *, magic: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The (count, *shape) bytes of an IDX file: magic, count and shape as big-endian int32, then the bytes.

    Raises:
        DataError: If the file is not exactly that.
    """
    start = 4 * (2 + len(shape))
    head = struct.unpack(f">{2 + len(shape)}i", raw[:start]) if len(raw) >= start else ()
    if head[:1] + head[2:] != (magic, *shape):
        got = f"the header {head}" if head else f"{len(raw)} bytes"
        raise DataError(
            f"{name}: expected IDX magic {magic}, shape {shape}, got {got}; get the original file"
        )
    size = start + head[1] * math.prod(shape)
    if len(raw) != size:
        raise DataError(f"{name}: expected {size:,} bytes, got {len(raw):,}: damaged; get the original file")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(-1, *shape)


def digits() -> Dataset:
    """scikit-learn's 1,797 digits, 8 x 8 scaled to 24 x 24, padded to 28 x 28; a fixed fifth is the test.

    Raises:
        DataError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "expected MNIST or, without a network, scikit-learn's digits; got neither; "
            "give data_dir=<folder with the four .gz files> or install scikit-learn"
        ) from error
    say(
        "WARNING: MNIST could not be had, training on scikit-learn's 1,797 bundled digits instead; "
        "the run is tagged carbon.dataset=digits-fallback and compares with no MNIST run"
    )
    small, labels = load_digits(return_X_y=True)
    large = small.reshape(-1, 8, 8).repeat(3, axis=1).repeat(3, axis=2) * (255 / 16)
    images = np.pad(large.round().astype(np.uint8), ((0, 0), (2, 2), (2, 2)))
    order = np.random.default_rng(0).permutation(len(images))
    train, test = np.split(order, [len(order) * 4 // 5])
    return Dataset(
        name=FALLBACK,
        train_images=images[train],
        train_labels=labels[train].astype(np.int64),
        test_images=images[test],
        test_labels=labels[test].astype(np.int64),
    )


@contextmanager
def atomically(target: Path) -> Iterator[IO[bytes]]:
    """A file beside the target that takes its place at the end; a crash leaves the old one or the new one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as part:
        try:
            yield part
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).replace(target)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # so that the rename survives a power cut
    finally:
        os.close(directory)


def _from_directory(directory: Path, files: Sequence[File]) -> Dataset:
    raw = [_verified(directory / file.name, file) for file in files]
    names = [str(directory / file.name) for file in files]
    images = [read_idx(raw[i], names[i], magic=_IMAGES_MAGIC, shape=(28, 28)) for i in (0, 2)]
    labels = [read_idx(raw[i], names[i], magic=_LABELS_MAGIC, shape=()) for i in (1, 3)]
    for some, theirs in zip(images, labels, strict=True):
        if len(some) != len(theirs) or not len(some) or theirs.max() > 9:  # noqa: PLR2004 - ten digits
            raise DataError(
                f"{directory}: expected a label 0 to 9 for each image, got {len(some):,} images and "
                f"{len(theirs):,} labels up to {theirs.max(initial=0)}; get the original files"
            )
    train_labels, test_labels = (theirs.astype(np.int64) for theirs in labels)
    return Dataset(
        name="mnist",
        train_images=images[0],
        train_labels=train_labels,
        test_images=images[1],
        test_labels=test_labels,
    )


def _verified(path: Path, file: File) -> bytes:
    """The unpacked content of a file whose digests are the published ones."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: expected the file {file.name}, got {error.strerror or error}; "
            "put the four MNIST .gz files there or leave data_dir out to download them"
        ) from error
    problem = _wrong_digest(packed, file)
    if problem:
        raise DataError(f"{path}: {problem}; delete it and get the original file")
    try:
        return gzip.decompress(packed)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: expected a whole gzip file, got {error}; get the original file") from error


def _wrong_digest(packed: bytes, file: File) -> str:
    """What is wrong with the bytes of a file, or nothing."""
    got = hashlib.sha256(packed).hexdigest()
    if got != file.sha256:
        return f"expected sha256 {file.sha256[:16]}..., got {got[:16]}... in {len(packed):,} bytes: damaged"
    got = hashlib.md5(packed, usedforsecurity=False).hexdigest()
    return "" if got == file.md5 else f"expected md5 {file.md5}, got {got}: damaged"


def _download(files: Sequence[File], cache: Path, mirrors: Sequence[str]) -> bool:
    """Whether the cache has all files in the end. A mirror without the right files gives way to the next."""
    try:
        for mirror in mirrors:
            try:
                for file in _missing(files, cache):
                    _fetch_into(cache, file, mirror)
            except requests.RequestException as error:
                say(f"{mirror}: got {type(error).__name__}; trying the next mirror")
    except OSError as error:
        say(f"cache {cache}: expected a folder that can be written, got {error}")
    return not _missing(files, cache)


def _missing(files: Sequence[File], cache: Path) -> list[File]:
    paths = [(file, cache / file.name) for file in files]
    return [file for file, path in paths if not path.exists() or _wrong_digest(path.read_bytes(), file)]


def _fetch_into(cache: Path, file: File, mirror: str) -> None:
    url = mirror + file.name
    try:
        packed = _fetch(url)
    except (requests.ReadTimeout, requests.exceptions.ChunkedEncodingError):
        packed = _fetch(url)  # a transfer that broke in the middle is worth a second try
    problem = _wrong_digest(packed, file)
    if problem:
        say(f"{url}: {problem}; trying the next mirror")
        return
    with atomically(cache / file.name) as part:
        part.write(packed)


def _fetch(url: str) -> bytes:
    from tqdm import tqdm

    with requests.get(url, stream=True, timeout=_TIMEOUT_S) as reply:
        reply.raise_for_status()
        size = int(reply.headers.get("Content-Length", 0)) or None
        body = bytearray()
        with tqdm(total=size, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1], disable=None) as bar:
            for block in reply.iter_content(1 << 16):
                body += block
                bar.update(len(block))
    return bytes(body)


def _user_cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("mlflow-carbon", appauthor=False)) / "mnist"
