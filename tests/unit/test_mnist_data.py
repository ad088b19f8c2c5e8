"""Where the images come from: strict files, mirrors that lie, and a fallback that says so."""

import gzip
import hashlib
import os
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from projects.mnist import data
from projects.mnist.config import DataError


def idx_images(count, *, magic=2051, side=28):
    """An IDX3 file whose pixels count up."""
    pixels = np.arange(count * side * side, dtype=np.uint8)
    return struct.pack(">4i", magic, count, side, side) + pixels.tobytes()


def idx_labels(count, *, magic=2049, largest=9):
    """An IDX1 file whose labels count up to the largest one."""
    return (
        struct.pack(">2i", magic, count)
        + bytes(i % (largest + 1) for i in range(count - 1))
        + bytes([largest])
    )


def published(folder, contents=None):
    """Four small packed files in a folder, and their digests as if they were the published ones."""
    contents = contents or [idx_images(6), idx_labels(6), idx_images(4), idx_labels(4)]
    files = []
    for file, content in zip(data.FILES, contents, strict=True):
        packed = (
            content
            if isinstance(content, bytes) and content[:2] == b"\x1f\x8b"
            else gzip.compress(content, mtime=0)
        )
        (folder / file.name).write_bytes(packed)
        digests = hashlib.md5(packed).hexdigest(), hashlib.sha256(packed).hexdigest()  # noqa: S324 - as published
        files.append(data.File(file.name, *digests))
    return files


@pytest.fixture
def serve():
    """Serve folders over loopback; gives their addresses and what was asked of them."""
    servers = []

    def start(folder):
        asked = []

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                asked.append(self.path.lstrip("/"))
                super().do_GET()

        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def folder(tmp_path, name):
    """A new folder."""
    made = tmp_path / name
    made.mkdir()
    return made


def test_a_given_folder_is_read_whole(tmp_path):
    """Images as bytes, labels as int64, and the name of the data set."""
    found = data.load(str(tmp_path), files=published(tmp_path))
    assert found.name == "mnist"
    assert found.train_images.shape == (6, 28, 28)
    assert found.test_images.shape == (4, 28, 28)
    assert found.train_labels.tolist() == [0, 1, 2, 3, 4, 9]
    assert found.test_labels.dtype == np.int64
    assert found.train_images[0, 0, :3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", [file.name for file in data.FILES])
def test_one_flipped_bit_in_a_given_folder_is_an_error(name, tmp_path):
    """A wrong checksum is never replaced by another source."""
    files = published(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: expected sha256 .* got .* damaged; delete it"):
        data.load(str(tmp_path), files=files)


def test_a_missing_file_in_a_given_folder_is_an_error(tmp_path):
    """The message names the file and what to do."""
    files = published(tmp_path)
    (tmp_path / files[2].name).unlink()
    with pytest.raises(
        DataError, match=r"t10k-images.*expected the file .* No such file .* leave data_dir out"
    ):
        data.load(str(tmp_path), files=files)


def test_both_digests_must_hold(tmp_path):
    """A file with the right SHA-256 and another MD5 is refused."""
    files = published(tmp_path)
    files[0] = data.File(files[0].name, "0" * 32, files[0].sha256)
    with pytest.raises(DataError, match="expected md5 0000"):
        data.load(str(tmp_path), files=files)


@pytest.mark.parametrize(
    ("place", "content", "says"),
    [
        (0, idx_images(6, magic=2049), "expected IDX magic 2051"),
        (0, idx_images(6, side=27), r"got the header \(2051, 6, 27, 27\)"),
        (0, idx_images(6)[:-1], "expected 4,720 bytes, got 4,719"),
        (0, idx_images(6) + b"x", "got 4,721"),
        (0, idx_images(5), "got 5 images and 6 labels"),
        (0, b"\x00" * 7, "got 7 bytes"),
        (1, idx_labels(6, magic=2051), "expected IDX magic 2049"),
        (1, idx_labels(6)[:-2], "expected 14 bytes, got 12"),
        (1, idx_labels(6, largest=10), "labels up to 10"),
        (2, b"", "got 0 bytes"),
        (3, gzip.compress(idx_labels(4))[:-3], "expected a whole gzip file"),
    ],
)
def test_a_file_that_is_not_exactly_idx_is_refused(place, content, says, tmp_path):
    """Magic, shape, length, counts and labels are all checked, even where the digest agrees."""
    contents = [idx_images(6), idx_labels(6), idx_images(4), idx_labels(4)]
    contents[place] = content
    with pytest.raises(DataError, match=says):
        data.load(str(tmp_path), files=published(tmp_path, contents))


def test_the_shared_folder_comes_before_the_cache(tmp_path):
    """`$MLFLOW_CARBON_DATA/mnist` is used as it is; nothing is asked of a mirror."""
    shared = folder(tmp_path, "mnist")
    files = published(shared)
    found = data.load(
        None, env={"MLFLOW_CARBON_DATA": str(tmp_path)}, cache=tmp_path / "c", mirrors=(), files=files
    )
    assert found.name == "mnist"
    assert not (tmp_path / "c").exists()


def test_a_damaged_shared_copy_is_named_and_passed_over(tmp_path, capsys):
    """The next source is used, and standard error says why."""
    files = published(folder(tmp_path, "mnist"))
    cache = folder(tmp_path, "cache")
    published(cache)
    (tmp_path / "mnist" / files[1].name).write_bytes(b"no")
    found = data.load(None, env={"MLFLOW_CARBON_DATA": str(tmp_path)}, cache=cache, mirrors=(), files=files)
    assert found.name == "mnist"
    assert "train-labels-idx1-ubyte.gz: expected sha256" in capsys.readouterr().err


def test_a_shared_folder_without_the_files_is_named(tmp_path, capsys):
    """A variable that points beside the data is said, not passed over in silence."""
    cache = folder(tmp_path, "cache")
    files = published(cache)
    data.load(None, env={"MLFLOW_CARBON_DATA": str(tmp_path / "no")}, cache=cache, mirrors=(), files=files)
    assert "MLFLOW_CARBON_DATA: expected the four MNIST files" in capsys.readouterr().err


def test_a_mirror_with_a_wrong_file_gives_way_to_the_next(tmp_path, serve, capsys):
    """Only the wrong file is asked of the second mirror, and the cache ends whole."""
    good, bad = folder(tmp_path, "good"), folder(tmp_path, "bad")
    files = published(good)
    published(bad)
    (bad / files[0].name).write_bytes(b"not the file")
    (first, _), (second, asked) = serve(bad), serve(good)
    found = data.load(None, env={}, cache=tmp_path / "cache", mirrors=(first, second), files=files)
    assert found.name == "mnist"
    assert asked == [files[0].name]
    assert "expected sha256" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == sorted(file.name for file in files)


def test_a_mirror_that_is_gone_gives_way_to_the_next(tmp_path, serve, capsys):
    """A 404 and a refused connection are one line each."""
    good = folder(tmp_path, "good")
    files = published(good)
    (empty, _), (whole, _) = serve(folder(tmp_path, "empty")), serve(good)
    mirrors = (empty, "http://127.0.0.1:9/", whole)
    assert data.load(None, env={}, cache=tmp_path / "cache", mirrors=mirrors, files=files).name == "mnist"
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[-5] for line in said] == ["HTTPError;", "ConnectionError;"]


def test_a_damaged_cache_is_named_and_fetched_anew(tmp_path, serve, capsys):
    """A cut-off file in the cache is replaced by the whole one."""
    good, cache = folder(tmp_path, "good"), folder(tmp_path, "cache")
    files = published(good)
    published(cache)
    whole = (good / files[0].name).read_bytes()
    (cache / files[0].name).write_bytes(whole[:-5])
    (mirror, asked) = serve(good)
    assert data.load(None, env={}, cache=cache, mirrors=(mirror,), files=files).name == "mnist"
    assert asked == [files[0].name]
    assert (cache / files[0].name).read_bytes() == whole
    assert "damaged" in capsys.readouterr().err


def test_without_any_source_the_digits_are_used_loudly(tmp_path, serve, capsys):
    """Wrong files everywhere: one warning, the fallback's own name, and nothing wrong in the cache."""
    bad = folder(tmp_path, "bad")
    for file in data.FILES:
        (bad / file.name).write_bytes(b"wrong")
    mirrors = [serve(bad)[0] for _ in range(2)]
    found = data.load(None, env={}, cache=tmp_path / "cache", mirrors=mirrors)
    assert found.name == "digits-fallback"
    assert capsys.readouterr().err.count("WARNING") == 1
    assert not list((tmp_path / "cache").glob("*"))


def test_a_cache_that_cannot_be_written_is_named(tmp_path, serve, capsys):
    """Without a cache there is no download; the fallback still runs."""
    good = folder(tmp_path, "good")
    files = published(good)
    (tmp_path / "file").touch()
    found = data.load(None, env={}, cache=tmp_path / "file" / "c", mirrors=(serve(good)[0],), files=files)
    assert found.name == "digits-fallback"
    assert "expected a folder that can be written" in capsys.readouterr().err


def test_the_digits_look_like_mnist():
    """1,797 images of 28 x 28 bytes with an empty border, split 1,437 to 360, always the same way."""
    one, two = data.digits(), data.digits()
    assert one.train_images.shape == (1437, 28, 28)
    assert one.test_images.shape == (360, 28, 28)
    assert one.train_images.dtype == np.uint8
    assert one.train_images.max() == 255
    assert one.train_images[:, :2].max() == one.train_images[:, :, -2:].max() == 0
    assert set(one.test_labels.tolist()) == set(range(10))
    assert np.array_equal(one.train_images, two.train_images)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    """No half file and no leftover beside it."""
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def write():
        with data.atomically(target) as part:
            part.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(
    "MLFLOW_CARBON_DATA" not in os.environ, reason="needs the MNIST files: set MLFLOW_CARBON_DATA"
)
def test_the_real_files_have_the_published_digests():
    """60,000 and 10,000 images whose first labels are known."""
    found = data.load(str(Path(os.environ["MLFLOW_CARBON_DATA"]) / "mnist"))
    assert len(found.train_images) == 60_000
    assert len(found.test_images) == 10_000
    assert found.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert found.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
