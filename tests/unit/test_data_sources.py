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
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision.datasets
from PIL import Image

from sgdline.data import sources
from sgdline.data.sources import SOURCES, load_source
from sgdline.errors import SgdlineError

RNG_SEED = 7
RANDOM = {"images": 50, "classes": 4, "channels": 2, "size": 5, "seed": 3}


def block(source, **entries):
    return {"source": source, "path": None, "image_size": None, "random": RANDOM, **entries}


def load(source, data_dir, *, download=False, **entries):
    return load_source(block(source, **entries), data_dir=data_dir, download=download)


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
    raw, again = load("random", tmp_path), load("random", tmp_path)
    other = load("random", tmp_path, random={**RANDOM, "seed": 4})
    assert raw.train_images.shape == (50, 2, 5, 5)
    np.testing.assert_array_equal(raw.train_images, again.train_images)
    assert (raw.train_images != other.train_images).mean() > 0.9
    assert np.bincount(raw.train_labels).tolist() == [13, 13, 12, 12]
    assert abs(raw.train_images.mean() - 127.5) < 5


def test_random_keeps_its_values(tmp_path):
    assert load("random", tmp_path).train_images[0, 0, 0].tolist() == [239, 192, 14, 149, 223]


def test_an_unknown_source_names_the_nearest(tmp_path):
    with pytest.raises(SgdlineError, match=r"source must be one of digits, .*got 'cifar1O'. Did you mean 'cifar10'\?"):
        load("cifar1O", tmp_path)


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
    assert sources._IDX_CLASSES["fashion_mnist"] == tuple(fashion)


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


# --- folders of images ------------------------------------------------------------------------------------------------


def write_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_folder(root, *, test_name="test"):
    """Two classes with two and one training images, one test image of the second class; lossless files."""
    pixels = draw_images(4, 5, 7, 3)
    write_image(root / "train" / "cat" / "b.png", pixels[1])
    write_image(root / "train" / "cat" / "a.PNG", pixels[0])
    write_image(root / "train" / "dog" / "images" / "c.bmp", pixels[2])
    (root / "train" / "dog" / "boxes.txt").write_text("not an image")
    (root / "train" / "cat" / ".hidden.png").write_text("not an image")
    write_image(root / test_name / "dog" / "d.ppm", pixels[3])
    return pixels.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_image_folder(tmp_path, test_name):
    pixels = write_folder(tmp_path, test_name=test_name)
    raw = load("image_folder", "nowhere", path=str(tmp_path))
    np.testing.assert_array_equal(raw.train_images, pixels[:3])
    np.testing.assert_array_equal(raw.test_images, pixels[3:])
    assert (raw.train_labels.tolist(), raw.test_labels.tolist()) == ([0, 0, 1], [1])
    assert raw.class_names == ("cat", "dog")


def test_image_folder_without_test_images_and_with_grey_ones(tmp_path):
    grey = draw_images(2, 4, 4)
    write_image(tmp_path / "train" / "x" / "0.png", grey[0])
    write_image(tmp_path / "train" / "y" / "0.png", grey[1])
    raw = load("image_folder", "nowhere", path=str(tmp_path))
    np.testing.assert_array_equal(raw.train_images, np.repeat(grey[:, None], 3, axis=1))
    assert raw.test_images.shape == (0, 3, 4, 4)


def test_tiny_imagenets_own_layout(tmp_path):
    pixels = draw_images(5, 8, 8, 3)
    for number, name in enumerate(("n01", "n02")):
        write_image(tmp_path / "train" / name / "images" / f"{name}_0.png", pixels[number])
        (tmp_path / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.png\t0\t0\t8\t8\n")
    for number in range(2):
        write_image(tmp_path / "val" / "images" / f"val_{number}.png", pixels[2 + number])
    write_image(tmp_path / "test" / "images" / "test_0.png", pixels[4])  # has no label
    annotations = tmp_path / "val" / "val_annotations.txt"
    annotations.write_text("val_1.png\tn01\t0\t0\t8\t8\nval_0.png\tn02\t0\t0\t8\t8\n\n")
    raw = load("image_folder", "nowhere", path=str(tmp_path))
    assert raw.class_names == ("n01", "n02")
    np.testing.assert_array_equal(raw.train_images, pixels[:2].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(raw.test_images, pixels[[3, 2]].transpose(0, 3, 1, 2))
    assert raw.test_labels.tolist() == [0, 1]
    annotations.write_text("val_1.png\tn01\nval_0.png\tn77\n")
    with pytest.raises(SgdlineError, match=r"Line 2 of .* must be a file and a class of the training folder"):
        load("image_folder", "nowhere", path=str(tmp_path))
    annotations.write_text("val_9.png\tn01\n")
    with pytest.raises(SgdlineError, match=r"val_9.png must be a whole image file"):
        load("image_folder", "nowhere", path=str(tmp_path))


def test_images_of_several_sizes_need_image_size(tmp_path):
    write_folder(tmp_path)
    odd = draw_images(9, 6, 3)
    write_image(tmp_path / "train" / "dog" / "z.png", odd)
    with pytest.raises(SgdlineError, match=r"z.png must be 7x5 pixels as .*a.PNG is, got 6x9. Set image_size"):
        load("image_folder", "nowhere", path=str(tmp_path))
    raw = load("image_folder", "nowhere", path=str(tmp_path), image_size=6)
    assert raw.train_images.shape == (4, 3, 6, 6)
    expected = np.asarray(Image.fromarray(odd).resize((6, 6), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(raw.train_images[3], expected.transpose(2, 0, 1))


def test_faults_of_image_folders(tmp_path):
    with pytest.raises(SgdlineError, match="path must be the folder with train/<class>"):
        load("image_folder", tmp_path)
    with pytest.raises(SgdlineError, match="path must be a folder with train/<class>"):
        load("image_folder", tmp_path, path=str(tmp_path / "absent"))
    root = tmp_path / "root"
    write_folder(root)
    path = root / "train" / "cat" / "b.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    with pytest.raises(SgdlineError, match=r"b.png must be a whole image file"):
        load("image_folder", tmp_path, path=str(root))
    write_image(path, np.full((5, 7), 40_000, dtype=np.uint16))
    with pytest.raises(SgdlineError, match=r"b.png must have 8 bits per channel, got Pillow's mode I"):
        load("image_folder", tmp_path, path=str(root))
    path.write_bytes(whole)
    write_image(root / "test" / "bird" / "e.png", draw_images(5, 7, 3))
    with pytest.raises(SgdlineError, match=r"must be among those of .*train, got bird"):
        load("image_folder", tmp_path, path=str(root))
    (root / "train" / "bird").mkdir()
    with pytest.raises(SgdlineError, match=r"Class folder .*bird must hold images, got none"):
        load("image_folder", tmp_path, path=str(root))


def test_every_source_is_in_the_schema():
    import yaml

    path = Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.yaml"
    schema = yaml.safe_load(path.read_text())
    assert schema["$defs"]["dataset"]["properties"]["source"]["enum"] == list(SOURCES)
