"""Readers on small files of the published formats, which the tests write themselves, and on real images."""

import functools
import gzip
import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import warnings
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision.datasets

from sgdline.data import cifar_batches, reading
from sgdline.data.reading import read_source
from sgdline.data.sources import fashion_mnist
from sgdline.declare.build import build_thing
from sgdline.errors import SgdlineError

RNG_SEED = 7
RANDOM = {"images": 50, "classes": 4, "channels": 2, "size": 5, "seed": 3}


def load(source, data_dir, *, download=False, **options):
    declared = build_thing("source", {"source": source, "train": "all", **options}, tag="source")
    return read_source(declared, data_dir=data_dir, download=download)


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Let files pass that hold fewer images than the published ones."""
    monkeypatch.setattr(reading, "_check_facts", lambda *arguments, **options: None)


def draw_images(*shape):
    return np.random.default_rng(RNG_SEED).integers(0, 256, shape, dtype=np.uint8)


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture(autouse=True)
def no_share_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "no_share"))


# --- sources without files --------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns(tmp_path):
    from sklearn.datasets import load_digits

    raw = load("digits", tmp_path)
    assert raw.train_images.shape == (1797, 1, 8, 8)
    np.testing.assert_array_equal(raw.train_images[:, 0], load_digits().images)
    np.testing.assert_array_equal(raw.train_labels, load_digits().target)
    assert (raw.train_images.max() * raw.scale, raw.train_images.dtype) == (1.0, np.uint8)
    assert raw.test_images.shape == (0, 1, 8, 8)
    assert raw.class_names == tuple("0123456789")
    assert not list(tmp_path.iterdir())


def test_random_is_seeded_noise_of_the_wanted_shape(tmp_path):
    raw, again = load("random", tmp_path, **RANDOM), load("random", tmp_path, **RANDOM)
    other = load("random", tmp_path, **{**RANDOM, "seed": 4})
    assert raw.train_images.shape == (50, 2, 5, 5)
    np.testing.assert_array_equal(raw.train_images, again.train_images)
    assert (raw.train_images != other.train_images).mean() > 0.9
    assert np.bincount(raw.train_labels).tolist() == [13, 13, 12, 12]
    assert abs(raw.train_images.mean() - 127.5) < 5


def test_random_keeps_its_values(tmp_path):
    assert load("random", tmp_path, **RANDOM).train_images[0, 0, 0].tolist() == [239, 192, 14, 149, 223]


def test_rooms_without_torch_stay_without_it():
    code = "import sys, sgdline.data.prepare; assert not {'torch', 'torchvision', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- idx files --------------------------------------------------------------------------------------------------------

IDX_SETS = {"train": 11, "t10k": 5}


def idx_bytes(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def idx_contents():
    contents = {}
    for number, (prefix, count) in enumerate(IDX_SETS.items()):
        contents[f"{prefix}-images-idx3-ubyte"] = draw_images(count, 6, 4) + np.uint8(number)
        contents[f"{prefix}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8) % 10
    return contents


def write_idx(folder, *, packed):
    folder.mkdir(parents=True)
    for name, array in idx_contents().items():
        content = idx_bytes(array)
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content, mtime=0) if packed else content)


def check_idx(raw):
    contents = idx_contents()
    np.testing.assert_array_equal(raw.train_images[:, 0], contents["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(raw.test_images[:, 0], contents["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(raw.train_labels, contents["train-labels-idx1-ubyte"])
    np.testing.assert_array_equal(raw.test_labels, contents["t10k-labels-idx1-ubyte"])
    assert raw.train_labels.dtype == np.int64
    assert raw.scale == 1 / 255
    assert len(raw.class_names) == 10


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("source", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files_in_torchvisions_layout(tmp_path, source, folder, packed):
    write_idx(tmp_path / folder / "raw", packed=packed)
    check_idx(load(source, tmp_path))


def test_unpacked_idx_files_read_as_torchvision_reads_them(tmp_path):
    write_idx(tmp_path / "MNIST" / "raw", packed=False)
    raw = load("mnist", tmp_path)
    theirs = torchvision.datasets.MNIST(tmp_path, train=True)
    np.testing.assert_array_equal(raw.train_images[:, 0], theirs.data.numpy())
    np.testing.assert_array_equal(raw.train_labels, theirs.targets.numpy())
    fashion = torchvision.datasets.FashionMNIST.classes
    assert tuple(fashion) == fashion_mnist.CLASS_NAMES


def test_fashion_mnist_in_a_share_folder(tmp_path, monkeypatch):
    write_idx(tmp_path / "share" / "datasets" / "fashion-mnist", packed=True)
    monkeypatch.setenv("XDG_DATA_DIRS", f"relative:{tmp_path / 'empty'}:{tmp_path / 'share'}")
    # Found files need no download, even where one is allowed.
    check_idx(load("fashion_mnist", tmp_path / "data", download=True))
    with pytest.raises(SgdlineError, match="Source mnist must have the files"):
        load("mnist", tmp_path / "data")


def test_fashion_mnist_incomplete_in_data_dir_falls_back_to_the_share_folder(tmp_path, monkeypatch):
    write_idx(tmp_path / "data" / "FashionMNIST" / "raw", packed=True)
    (tmp_path / "data" / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(SgdlineError, match=r"must have the files t10k-labels-idx1-ubyte\[.gz\] in"):
        load("fashion_mnist", tmp_path / "data")
    write_idx(tmp_path / "share" / "datasets" / "fashion-mnist", packed=True)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    check_idx(load("fashion_mnist", tmp_path / "data"))


def test_missing_fashion_mnist_says_where_to_get_it(tmp_path):
    with pytest.raises(SgdlineError) as caught:
        load("fashion_mnist", tmp_path)
    assert str(caught.value) == (
        "Source fashion_mnist must have the files train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz], "
        f"t10k-images-idx3-ubyte[.gz], t10k-labels-idx1-ubyte[.gz] in {tmp_path / 'FashionMNIST' / 'raw'}, "
        "got none of these. Put them there, or set download: true, "
        "or install the Debian package dataset-fashion-mnist."
    )
    assert not list(tmp_path.iterdir())


def _cut(content):
    return content[:-5]


def _lengthen(content):
    return content + b"\0"


def _flip_a_bit(content):
    position = len(content) // 2
    return content[:position] + bytes((content[position] ^ 1,)) + content[position + 1 :]


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("train-images-idx3-ubyte", _cut, "must be 280 bytes long, got 275"),
        ("train-images-idx3-ubyte", _lengthen, "must be 280 bytes long, got 281"),
        ("t10k-labels-idx1-ubyte", lambda content: b"", "must be an idx file of bytes with 1"),
        ("t10k-labels-idx1-ubyte", lambda content: b"<!DOCTYPE html>", "got one that begins 3c21444f"),
        ("train-images-idx3-ubyte.gz", _cut, "must be a whole gzip file"),
        ("train-images-idx3-ubyte.gz", _flip_a_bit, "must be a whole gzip file"),
        ("train-images-idx3-ubyte.gz", lambda content: b"<html>", "must be a whole gzip file"),
    ],
)
def test_damaged_idx_files(tmp_path, name, spoil, message):
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, packed=name.endswith(".gz"))
    (folder / name).write_bytes(spoil((folder / name).read_bytes()))
    with pytest.raises(SgdlineError, match=message) as caught:
        load("mnist", tmp_path)
    assert str(folder / name) in str(caught.value)
    assert "Delete the file and fetch it again." in str(caught.value)


def test_labels_must_fit_images_and_classes(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, packed=False)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(11, 10, dtype=np.uint8)))
    with pytest.raises(SgdlineError, match="Labels of source mnist must be from 0 to 9, got 10 to 10"):
        load("mnist", tmp_path)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(10, dtype=np.uint8)))
    with pytest.raises(SgdlineError, match="one label per image, got 11 images and 10 labels"):
        load("mnist", tmp_path)


def test_a_small_packed_file_cannot_fill_the_memory(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, packed=True)
    path = folder / "train-images-idx3-ubyte.gz"
    bomb = gzip.compress(idx_bytes(draw_images(2, 6, 4)) + bytes(200_000_000), mtime=0)
    assert len(bomb) < 300_000
    path.write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(SgdlineError, match=r"must be 64 bytes long, got more\. Delete the file"):
            load("mnist", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    path.write_bytes(gzip.compress(bytes((0, 0, 8, 3)) + b"\xff" * 12, mtime=0))
    with pytest.raises(SgdlineError, match="must hold at most 2147483647 numbers, got one that says"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("t10k-images-idx3-ubyte", np.zeros((5, 5, 4)), "must be 1x6x4 pixels .*, got 1x5x4"),
        ("train-images-idx3-ubyte", np.zeros((11, 0, 4)), "must have training images, got 11 of 1x0x4 pixels"),
        ("train-images-idx3-ubyte", np.zeros((0, 6, 4)), "one label per image, got 0 images and 11 labels"),
        ("train-labels-idx1-ubyte", np.full(11, 255), "must be from 0 to 9, got 255 to 255"),
    ],
)
def test_idx_files_that_do_not_fit_each_other(tmp_path, name, array, message):
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, packed=False)
    (folder / name).write_bytes(idx_bytes(array.astype(np.uint8)))
    with pytest.raises(SgdlineError, match=message):
        load("mnist", tmp_path)


def test_no_images_at_all(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, packed=False)
    (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((0, 6, 4), dtype=np.uint8)))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(0, dtype=np.uint8)))
    with pytest.raises(SgdlineError, match="Source mnist must have training images, got 0 of 1x6x4 pixels"):
        load("mnist", tmp_path)


def test_real_fashion_mnist(monkeypatch):
    monkeypatch.delenv("XDG_DATA_DIRS")
    try:
        raw = load("fashion_mnist", "data")
    except SgdlineError as error:
        pytest.skip(f"Fashion-MNIST is not on this machine: {error}")
    assert raw.train_images.shape == (60_000, 1, 28, 28)
    assert raw.test_images.shape == (10_000, 1, 28, 28)
    assert np.bincount(raw.train_labels).tolist() == [6000] * 10
    assert np.bincount(raw.test_labels).tolist() == [1000] * 10
    # The constants that everybody uses for Fashion-MNIST.
    assert raw.train_images.mean() * raw.scale == pytest.approx(0.2860, abs=5e-5)
    assert raw.train_images.std() * raw.scale == pytest.approx(0.3530, abs=5e-5)


# --- CIFAR ------------------------------------------------------------------------------------------------------------


class _OldNumpyPickler(pickle.Pickler):
    """Writes dtypes as the published files have them, with integers for flags: numpy 2.4.0 to 2.4.4 warns."""

    def reducer_override(self, value):
        if isinstance(value, np.dtype):
            _, arguments, state = value.__reduce__()
            return np.dtype, (arguments[0], 0, 1), state
        return NotImplemented


def to_pickle(value):
    buffer = io.BytesIO()
    _OldNumpyPickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


CIFAR = {
    "cifar10": ("CIFAR10", [f"data_batch_{number}" for number in range(1, 6)], "test_batch", "labels"),
    "cifar100": ("CIFAR100", ["train"], "test", "fine_labels"),
}


def write_cifar(data_dir, source, monkeypatch):
    """Write small batches and put their checksums in the place of the published ones."""
    reader_name, train_names, test_name, label_key = CIFAR[source]
    reader = getattr(torchvision.datasets, reader_name)
    folder = data_dir / reader.base_folder
    folder.mkdir(parents=True)
    classes = len(train_names) * 2
    rows = draw_images(4 * (len(train_names) + 1), 3072)
    for number, name in enumerate([*train_names, test_name]):
        chunk = rows[4 * number : 4 * number + 4]
        labels = [(number + offset) % classes for offset in range(4)]
        (folder / name).write_bytes(to_pickle({"data": chunk, label_key: labels}))
    names = [f"class {label}" for label in range(classes)]
    (folder / reader.meta["filename"]).write_bytes(to_pickle({reader.meta["key"]: names}))

    def checksum(name):
        return md5((folder / name).read_bytes())

    monkeypatch.setattr(reader, "train_list", [[name, checksum(name)] for name in train_names])
    monkeypatch.setattr(reader, "test_list", [[test_name, checksum(test_name)]])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": checksum(reader.meta["filename"])})
    return folder, rows.reshape(-1, 3, 32, 32)


@pytest.mark.parametrize("source", CIFAR)
def test_cifar_batches(tmp_path, monkeypatch, source):
    _, images = write_cifar(tmp_path, source, monkeypatch)
    raw = load(source, tmp_path)
    count = 4 * len(CIFAR[source][1])
    np.testing.assert_array_equal(raw.train_images, images[:count])
    np.testing.assert_array_equal(raw.test_images, images[count:])
    expected = [(number + offset) % len(raw.class_names) for number in range(len(images) // 4) for offset in range(4)]
    assert [*raw.train_labels, *raw.test_labels] == expected
    assert raw.class_names[:2] == ("class 0", "class 1")
    assert raw.train_images.flags.c_contiguous
    assert raw.scale == 1 / 255


@pytest.mark.parametrize("source", CIFAR)
def test_missing_cifar_names_files_and_folder(tmp_path, source):
    folder = getattr(torchvision.datasets, CIFAR[source][0]).base_folder
    with pytest.raises(SgdlineError) as caught:
        load(source, tmp_path)
    assert str(caught.value).startswith(f"Source {source} must have the files {', '.join(CIFAR[source][1])}, ")
    assert f"in {tmp_path / folder}, got none of these. Put them there, or set download: true." in str(caught.value)


class _Trap:
    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_pickle_with_a_wrong_checksum_is_never_opened(tmp_path, monkeypatch, name):
    folder, _ = write_cifar(tmp_path, "cifar10", monkeypatch)
    monkeypatch.chdir(tmp_path)
    (folder / name).write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(SgdlineError, match=f"{name} must have the md5 sum .* got another. Delete the file"):
        load("cifar10", tmp_path)
    assert not (tmp_path / "sprung").exists()


def python_2_text(words):
    return b"U" + bytes([len(words)]) + words


def python_2_batch(rows, labels):
    """Return a batch as Python 2.7 and numpy 1.6 wrote the published ones: protocol 2, texts that are bytes."""
    content = rows.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04" + python_2_text(b"b")
    array += b"\x87q\x05Rq\x06(K\x01M" + len(rows).to_bytes(2, "little") + b"M\x00\x0c\x86q\x07"
    array += b"cnumpy\ndtype\nq\x08" + python_2_text(b"u1") + b"K\x00K\x01\x87q\tRq\n(K\x03" + python_2_text(b"|")
    array += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + len(content).to_bytes(4, "little") + content + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    names = b"](" + python_2_text(b"leptodactylus_pentadactylus_s_000004.png") + b"e"
    entries = python_2_text(b"data") + array + python_2_text(b"labels") + listed
    entries += python_2_text(b"batch_label") + python_2_text(b"training batch 1 of 5")
    return b"\x80\x02}q\x01(" + entries + python_2_text(b"filenames") + names + b"u."


def test_batches_of_python_2_read_as_an_open_unpickler_reads_them(tmp_path):
    rows = draw_images(3, 3072)
    content = python_2_batch(rows, [4, 0, 9])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)  # of the integers for flags
        theirs = pickle.loads(content, encoding="latin1")
    (tmp_path / "data_batch_1").write_bytes(content)
    images, labels = cifar_batches._read_batch(tmp_path / "data_batch_1")
    np.testing.assert_array_equal(images.reshape(3, 3072), theirs["data"])
    np.testing.assert_array_equal(images.reshape(3, 3072), rows)
    assert labels.tolist() == theirs["labels"] == [4, 0, 9]
    names = (
        b"\x80\x02}" + python_2_text(b"label_names") + b"](" + python_2_text(b"cat") + python_2_text(b"dog") + b"es."
    )
    (tmp_path / "batches.meta").write_bytes(names)
    assert cifar_batches._read_class_names(tmp_path / "batches.meta", "label_names") == ("cat", "dog")


def with_right_checksums(reader, folder, monkeypatch):
    """Let the files of a folder pass for the published ones."""

    def checksum(name):
        return md5((folder / name).read_bytes())

    monkeypatch.setattr(reader, "train_list", [[name, checksum(name)] for name, _ in reader.train_list])
    monkeypatch.setattr(reader, "test_list", [[name, checksum(name)] for name, _ in reader.test_list])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": checksum(reader.meta["filename"])})


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(_Trap()), "nothing of it was run"),
        (pickle.dumps({"data": _Trap(), "labels": [0]}, protocol=2), "nothing of it was run"),
        (pickle.dumps({"data": np.array([_Trap()], dtype=object), "labels": [0]}, protocol=2), "nothing of it was run"),
        (pickle.dumps([1, 2], protocol=2), "something else"),
        (to_pickle({"data": np.zeros((2, 7), dtype=np.uint8), "labels": [0, 1], "label_names": "cat"}), "got"),
        (to_pickle({"data": np.full((2, 3072), np.nan), "labels": [0, 1], "label_names": [1]}), "got"),
        (to_pickle({"data": np.zeros((2, 3072), dtype=np.uint8), "labels": ["a", "b"]}), "got"),
        (b"\x80\x02}", "got"),
    ],
)
def test_a_foreign_pickle_with_the_right_checksum_runs_nothing(tmp_path, monkeypatch, name, content, words):
    folder, _ = write_cifar(tmp_path, "cifar10", monkeypatch)
    monkeypatch.chdir(tmp_path)
    (folder / name).write_bytes(content)
    with_right_checksums(torchvision.datasets.CIFAR10, folder, monkeypatch)
    with pytest.raises(SgdlineError, match=f"{name} must be a batch of CIFAR's python version, .*{words}") as caught:
        load("cifar10", tmp_path)
    assert str(caught.value).endswith("Delete the file and fetch it again.")
    assert not (tmp_path / "sprung").exists()


def test_labels_beyond_the_classes_of_cifar(tmp_path, monkeypatch):
    folder, _ = write_cifar(tmp_path, "cifar10", monkeypatch)
    (folder / "batches.meta").write_bytes(to_pickle({"label_names": ["cat", "dog"]}))
    with_right_checksums(torchvision.datasets.CIFAR10, folder, monkeypatch)
    with pytest.raises(SgdlineError, match="Labels of source cifar10 must be from 0 to 1, got 0 to 7"):
        load("cifar10", tmp_path)


# --- SVHN -------------------------------------------------------------------------------------------------------------


def write_svhn(folder, monkeypatch):
    folder.mkdir(parents=True, exist_ok=True)
    images = {"train": draw_images(12, 3, 32, 32), "test": draw_images(5, 3, 32, 32)}
    split_list = dict(torchvision.datasets.SVHN.split_list)
    for split, pixels in images.items():
        path = folder / f"{split}_32x32.mat"
        labels = np.arange(len(pixels), dtype=np.uint8)[:, None] % 10 + 1  # 1 ... 10, where 10 is the digit 0
        scipy.io.savemat(path, {"X": pixels.transpose(2, 3, 1, 0), "y": labels})
        split_list[split] = [split_list[split][0], path.name, md5(path.read_bytes())]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", split_list)
    return images


def test_svhn_files(tmp_path, monkeypatch):
    images = write_svhn(tmp_path, monkeypatch)
    raw = load("svhn", tmp_path)
    np.testing.assert_array_equal(raw.train_images, images["train"])
    np.testing.assert_array_equal(raw.test_images, images["test"])
    assert raw.train_labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    assert raw.test_labels.tolist() == [1, 2, 3, 4, 5]


def test_missing_and_damaged_svhn(tmp_path, monkeypatch):
    with pytest.raises(SgdlineError, match=r"Source svhn must have the files train_32x32.mat, test_32x32.mat in"):
        load("svhn", tmp_path)
    write_svhn(tmp_path, monkeypatch)
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(_cut(path.read_bytes()))
    with pytest.raises(SgdlineError, match=r"test_32x32.mat must have the md5 sum"):
        load("svhn", tmp_path)


# --- downloads, from a server of our own ------------------------------------------------------------------------------


class _SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(_SilentHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_idx_files_are_fetched_from_the_next_mirror(tmp_path, monkeypatch, site):
    folder, address = site
    write_idx(folder / "files", packed=True)
    names = [f"{name}.gz" for name in idx_contents()]
    resources = [(name, md5((folder / "files" / name).read_bytes())) for name in names]
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"{address}gone/", f"{address}files/"])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    check_idx(load("mnist", tmp_path / "data", download=True))
    kept = tmp_path / "data" / "MNIST" / "raw"
    assert sorted(path.name for path in kept.iterdir()) == [".download.lock", *sorted(names)]
    check_idx(load("mnist", tmp_path / "data"))


def test_a_download_with_a_wrong_checksum_leaves_nothing(tmp_path, monkeypatch, site):
    folder, address = site
    write_idx(folder / "files", packed=True)
    resources = [(f"{name}.gz", md5(b"another file")) for name in idx_contents()]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [f"{address}files/"])
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", resources)
    with pytest.raises(SgdlineError, match="Download of fashion_mnist must reach its official site and pass"):
        load("fashion_mnist", tmp_path / "data", download=True)
    kept = tmp_path / "data" / "FashionMNIST" / "raw"
    assert [path.name for path in kept.iterdir()] == [".download.lock"]


def test_cifar_is_fetched_and_a_damaged_batch_is_replaced(tmp_path, monkeypatch, site):
    folder, address = site
    written, images = write_cifar(tmp_path / "written", "cifar10", monkeypatch)
    reader = torchvision.datasets.CIFAR10
    with tarfile.open(folder / reader.filename, "w:gz") as archive:
        archive.add(written, arcname=reader.base_folder)
    monkeypatch.setattr(reader, "url", f"{address}{reader.filename}")
    monkeypatch.setattr(reader, "tgz_md5", md5((folder / reader.filename).read_bytes()))
    data_dir = tmp_path / "data"
    np.testing.assert_array_equal(load("cifar10", data_dir, download=True).train_images, images[:20])
    (data_dir / reader.base_folder / "data_batch_2").write_bytes(b"torn")
    with pytest.raises(SgdlineError, match="data_batch_2 must have the md5 sum"):
        load("cifar10", data_dir)
    np.testing.assert_array_equal(load("cifar10", data_dir, download=True).train_images, images[:20])


def add(archive, name, *, content=b"", kind=tarfile.REGTYPE, link="", size=None):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, len(content) if size is None else size
    archive.addfile(member, io.BytesIO(content))


def serve_archive(site, monkeypatch, fill):
    """Serve an archive that passes for the published one."""
    folder, address = site
    reader = torchvision.datasets.CIFAR10
    with tarfile.open(folder / reader.filename, "w:gz") as archive:
        fill(archive)
    monkeypatch.setattr(reader, "url", f"{address}{reader.filename}")
    monkeypatch.setattr(reader, "tgz_md5", md5((folder / reader.filename).read_bytes()))
    return reader


def everything_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_an_archive_cannot_write_outside_its_folder(tmp_path, monkeypatch, site):
    written, images = write_cifar(tmp_path / "written", "cifar10", monkeypatch)
    base = torchvision.datasets.CIFAR10.base_folder

    def fill(archive):
        add(archive, "../escaped", content=b"x")
        add(archive, f"{base}/../../escaped", content=b"x")
        add(archive, f"{tmp_path}/escaped", content=b"x")
        add(archive, f"{base}/../../../{base}/data_batch_1", content=b"x")
        add(archive, f"{base}/folder", kind=tarfile.DIRTYPE)
        add(archive, f"{base}/out", kind=tarfile.SYMTYPE, link=str(tmp_path))
        add(archive, f"{base}/out/escaped", content=b"x")
        add(archive, f"{base}/data_batch_2", kind=tarfile.SYMTYPE, link=str(tmp_path / "escaped"))
        add(archive, f"{base}/data_batch_3", kind=tarfile.LNKTYPE, link="../../escaped")
        add(archive, f"{base}/data_batch_4", kind=tarfile.FIFOTYPE)
        add(archive, f"{base}/data_batch_5", kind=tarfile.CHRTYPE)
        archive.add(written, arcname=base)

    reader = serve_archive(site, monkeypatch, fill)
    before = everything_below(tmp_path)
    data_dir = tmp_path / "data"
    np.testing.assert_array_equal(load("cifar10", data_dir, download=True).train_images, images[:20])
    names = [name for name, _ in [*reader.train_list, *reader.test_list]] + [reader.meta["filename"], ".download.lock"]
    kept = {path for path in data_dir.rglob("*") if not path.is_dir()}
    assert kept == {data_dir / reader.filename, *(data_dir / base / name for name in names)}
    assert all(path.is_file() and not path.is_symlink() for path in kept)
    assert [name for name in everything_below(tmp_path) if not name.startswith("data")] == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_links_and_devices_are_not_files_of_a_data_set(tmp_path, monkeypatch, site, kind):
    write_cifar(tmp_path / "written", "cifar10", monkeypatch)
    secret = tmp_path / "secret"
    secret.write_text("mine")
    base = torchvision.datasets.CIFAR10.base_folder
    serve_archive(site, monkeypatch, lambda archive: add(archive, f"{base}/data_batch_1", kind=kind, link=str(secret)))
    with pytest.raises(SgdlineError, match="Source cifar10 must have the files data_batch_1, "):
        load("cifar10", tmp_path / "data", download=True)
    assert everything_below(tmp_path / "data" / base) == [".download.lock"]
    assert secret.read_text() == "mine"


def test_an_archive_that_says_it_is_huge_is_not_unpacked(tmp_path, monkeypatch, site):
    write_cifar(tmp_path / "written", "cifar10", monkeypatch)
    base = torchvision.datasets.CIFAR10.base_folder

    def fill(archive):
        member = tarfile.TarInfo(f"{base}/data_batch_1")
        member.size = 2**40
        archive.fileobj.write(member.tobuf(archive.format, archive.encoding, archive.errors))

    serve_archive(site, monkeypatch, fill)
    with pytest.raises(SgdlineError, match=r"data_batch_1 says that it has 1099511627776 bytes\. Try again"):
        load("cifar10", tmp_path / "data", download=True)
    assert everything_below(tmp_path / "data" / base) == [".download.lock"]


def test_a_damaged_archive_is_one_sentence(tmp_path, monkeypatch, site):
    write_cifar(tmp_path / "written", "cifar10", monkeypatch)
    reader = torchvision.datasets.CIFAR10
    serve_archive(
        site, monkeypatch, lambda archive: add(archive, f"{reader.base_folder}/data_batch_1", content=b"x" * 999)
    )
    path = site[0] / reader.filename
    for spoil in (lambda content: content[:40], lambda content: b"not an archive", _flip_a_bit):
        served = path.read_bytes()
        path.write_bytes(spoil(served))
        monkeypatch.setattr(reader, "tgz_md5", md5(path.read_bytes()))
        with pytest.raises(SgdlineError) as caught:
            load("cifar10", tmp_path / "data", download=True)
        assert "\n" not in str(caught.value)
        path.write_bytes(served)


def test_complete_files_are_only_read(tmp_path, monkeypatch):
    write_svhn(tmp_path, monkeypatch)
    before = sorted(tmp_path.iterdir())
    load("svhn", tmp_path, download=True)
    assert sorted(tmp_path.iterdir()) == before


def test_an_unreachable_site_is_one_sentence(tmp_path, monkeypatch, site):
    _, address = site
    split_list = {
        split: [f"{address}gone.mat", name, checksum]
        for split, (_, name, checksum) in torchvision.datasets.SVHN.split_list.items()
    }
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", split_list)
    with pytest.raises(SgdlineError, match=r"Download of svhn must reach .* got: HTTP Error 404.* by hand\.$"):
        load("svhn", tmp_path / "data", download=True)


def test_a_data_dir_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(SgdlineError, match="data_dir must be a folder that can be written to"):
        load("mnist", tmp_path / "data", download=True)
