"""Folders of image files: real small files of many kinds, in trees as people have them."""

import io
import logging
import shutil
import unicodedata
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sgdline.data import image_folder
from sgdline.data.prepare import prepare_dataset
from sgdline.data.reading import read_source
from sgdline.data.sources.image_folder import ImageFolder
from sgdline.errors import SgdlineError
from sgdline.tables import read_table

RNG_SEED = 7


def load(root, *, image_size=None):
    folder = ImageFolder(path=str(root), train="all", image_size=image_size)
    return read_source(folder, data_dir="nowhere", download=False)


def prepare(root, target, **options):
    folder = ImageFolder(path=str(root), **{"train": "all", "test": 0, "split_seed": 1, **options})
    prepare_dataset(folder, target, data_dir="nowhere", download=False, provenance={})
    return read_table(target, "dataset").to_pandas()


def draw_images(*shape):
    return np.random.default_rng(RNG_SEED).integers(0, 256, shape, dtype=np.uint8)


def write_image(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)


def write_folder(root, *, test_name="test"):
    """Two classes with two and one training images, one test image of the second class; lossless files."""
    pixels = draw_images(4, 5, 7, 3)
    write_image(root / "train" / "cat" / "b.png", pixels[1])
    write_image(root / "train" / "cat" / "a.PNG", pixels[0])
    write_image(root / "train" / "dog" / "images" / "c.bmp", pixels[2])
    (root / "train" / "dog" / "boxes.txt").write_text("not an image")
    write_image(root / test_name / "dog" / "d.ppm", pixels[3])
    return pixels.transpose(0, 3, 1, 2)


def read_one(folder, image, name="a.png", **options):
    """Return the pixels (3, H, W) that one file of a training folder gives."""
    shutil.rmtree(folder / "train", ignore_errors=True)
    write_image(folder / "train" / "cat" / name, image, **options)
    return load(folder).train_images[0]


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return caplog


# --- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test_name", ["test", "val", "valid", "Validation", "TEST"])
def test_image_folder(tmp_path, log, test_name):
    pixels = write_folder(tmp_path, test_name=test_name)
    raw = load(tmp_path)
    np.testing.assert_array_equal(raw.train_images, pixels[:3])
    np.testing.assert_array_equal(raw.test_images, pixels[3:])
    assert (raw.train_labels.tolist(), raw.test_labels.tolist()) == ([0, 0, 1], [1])
    assert raw.class_names == ("cat", "dog")
    assert [file.name for file in raw.train_files] == [
        "train/cat/a.PNG",
        "train/cat/b.png",
        "train/dog/images/c.bmp",
    ]
    assert log.messages == [
        f"Read 4 images of 2 classes from {tmp_path} (train 3, {test_name} 1); resized: 0; "
        "skipped: not named as images 1 (.txt)."
    ]


def test_grey_images_without_a_test_set(tmp_path, log):
    grey = draw_images(2, 4, 4)
    write_image(tmp_path / "Train" / "x" / "0.png", grey[0])
    write_image(tmp_path / "Train" / "y" / "0.png", grey[1])
    raw = load(tmp_path)
    np.testing.assert_array_equal(raw.train_images, np.repeat(grey[:, None], 3, axis=1))
    assert raw.test_images.shape == (0, 3, 4, 4)
    assert "(Train 2); converted to RGB: 2 (L 2); resized: 0; skipped: nothing." in log.text


def test_class_folders_without_a_training_folder_are_one_set(tmp_path, log):
    for number, pixels in enumerate(draw_images(20, 4, 4, 3)):
        write_image(tmp_path / "images" / f"class{number % 2}" / f"{number}.png", pixels)
    (tmp_path / "images" / "README.md").write_text("not a class")
    rows = prepare(tmp_path / "images", tmp_path / "d.arrow", train=10, validation=4, test=6, split="stratified")
    assert rows.groupby(["split", "label"]).size().to_dict() == {
        ("train", 0): 5,
        ("train", 1): 5,
        ("validation", 0): 2,
        ("validation", 1): 2,
        ("test", 0): 3,
        ("test", 1): 3,
    }
    assert sorted(rows["source_index"]) == list(range(20))
    assert "Read 20 images of 2 classes from" in log.text
    assert "(one set for all splits); resized: 0; skipped: not named as images 1 (.md)." in log.text


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(SgdlineError, match=r"path must be a folder with train/<class>.*absent, which is no folder"):
        load(tmp_path / "absent")
    root = tmp_path / "root"
    write_folder(root)
    # One level too high: the data set alone, or beside another one.
    with pytest.raises(SgdlineError, match=r"where root holds train\. Write path: .*root\."):
        load(tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(SgdlineError, match=r"where root holds train\. Write path: .*root\."):
        load(tmp_path)
    write_image(tmp_path / "high" / "leaves" / "oak" / "0.png", draw_images(5, 7, 3))
    with pytest.raises(
        SgdlineError, match=r"which holds leaves alone\. If that holds the classes, write path: .*leaves"
    ):
        load(tmp_path / "high")
    write_image(root / "test" / "Dog" / "e.png", draw_images(5, 7, 3))
    with pytest.raises(SgdlineError, match=r"must be among those of .*train, got Dog\. .* upper and lower case count"):
        load(root)
    (root / "train" / "Dog").mkdir()
    (root / "train" / "owl").mkdir()
    (root / "train" / "owl" / "0.heic").touch()
    with pytest.raises(SgdlineError, match=r"must hold images \(.bmp, .*\), got none in Dog, owl\."):
        load(root)
    for first, second in (("valid", "Val"), ("Test", "test")):
        both = tmp_path / first
        for name in ("train", first, second):
            write_image(both / name / "cat" / "0.png", draw_images(5, 7, 3))
        with pytest.raises(SgdlineError, match=r"must be a folder with one folder of (validation|test) images, got "):
            load(both)
    shutil.rmtree(tmp_path / "Test" / "train")
    shutil.rmtree(tmp_path / "Test" / "Test")
    with pytest.raises(SgdlineError, match="must be a folder with train/ beside test"):
        load(tmp_path / "Test")


def test_validation_images_beside_a_test_set_are_reported(tmp_path, log):
    write_folder(tmp_path)
    write_image(tmp_path / "val" / "cat" / "0.png", draw_images(5, 7, 3))
    assert len(load(tmp_path).test_images) == 1
    assert "/val are not read: test is the test set, and validation images are drawn from train." in log.text
    assert "folders that are not read 1 (val)" in log.text


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
    raw = load(tmp_path)
    assert raw.class_names == ("n01", "n02")
    np.testing.assert_array_equal(raw.train_images, pixels[:2].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(raw.test_images, pixels[[3, 2]].transpose(0, 3, 1, 2))
    assert raw.test_labels.tolist() == [0, 1]
    annotations.write_text("val_1.png\tn01\nval_0.png\tn77\n")
    with pytest.raises(SgdlineError, match=r"Line 2 of .* must be a file and a class of the training folder"):
        load(tmp_path)
    annotations.write_text("val_9.png\tn01\n")
    with pytest.raises(SgdlineError, match=r"val/images/val_9.png cannot be read \(No such file or directory\)"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "a/b.png", "..", "", "a\0b"])
def test_annotations_name_files_of_their_folder(tmp_path, name):
    write_image(tmp_path / "train" / "n01" / "0.png", draw_images(8, 8, 3))
    (tmp_path / "val" / "images").mkdir(parents=True)
    (tmp_path / "val" / "val_annotations.txt").write_text(f"{name}\tn01\n")
    with pytest.raises(SgdlineError, match=r"Line 1 of .* must be a file and a class|got 1 of 2 that are not: val/"):
        load(tmp_path)
    (tmp_path / "val" / "val_annotations.txt").write_bytes(b"\xff\xfe\tn01\n")
    with pytest.raises(SgdlineError, match=r"got 1 of 2 that are not: val/"):
        load(tmp_path)


# --- what systems and people leave in a folder ------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [False, True])
def test_what_systems_leave_changes_nothing(tmp_path, log, pool):
    write_folder(tmp_path)
    root = tmp_path / "train" if pool else tmp_path
    clean = load(root)
    stray = draw_images(5, 7, 3)
    below = ("cat/.ipynb_checkpoints/x.png", "cat/@eaDir/a.PNG", "__MACOSX/cat/._a.png", ".git/0.png", "@eaDir/0.png")
    below += ("$RECYCLE.BIN/0.png", "dog/#recycle/0.png", "lost+found/0.png", "dog/.@__thumb/0.png", "cat/.hidden.png")
    for name in (*(f"train/{name}" for name in below), "test/dog/._d.ppm.png", "test/@eaDir/0.png", ".Trash/cat/0.png"):
        write_image(tmp_path / name, stray)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "dog/Thumbs.db"):
        (tmp_path / "train" / name).touch()
    (tmp_path / "train" / "cat" / "gone.png").symlink_to("nowhere")
    (tmp_path / "train" / "cat" / "round").symlink_to("../../train")
    (tmp_path / "train" / "round").symlink_to("..")
    (tmp_path / "train" / "dog" / "again").symlink_to("images")
    log.clear()
    dirty = load(root)
    assert dirty.class_names == clean.class_names
    np.testing.assert_array_equal(dirty.train_images, clean.train_images)
    np.testing.assert_array_equal(dirty.test_images, clean.test_images)
    assert dirty.train_labels.tolist() == clean.train_labels.tolist()
    assert "hidden or of the system 14 (" in log.text if pool else "hidden or of the system 17 (" in log.text
    assert "links to a folder above them 2 (" in log.text
    assert "links to a folder that is read 1 (" in log.text
    assert "links to nothing 1 (" in log.text


def test_links_to_folders_are_followed(tmp_path):
    pixels = write_folder(tmp_path / "root")
    store = tmp_path / "store"
    shutil.move(tmp_path / "root" / "train" / "cat", store / "cat")
    write_image(store / "more" / "e.png", draw_images(5, 7, 3))
    (tmp_path / "root" / "train" / "cat").symlink_to(store / "cat")
    (store / "cat" / "z").symlink_to(store / "more")
    (store / "more" / "back").symlink_to(store)  # a circle outside of the data set
    raw = load(tmp_path / "root")
    np.testing.assert_array_equal(raw.train_images[[0, 1, 3]], pixels[:3])
    assert [file.name for file in raw.train_files][2] == "train/cat/z/e.png"
    assert raw.train_labels.tolist() == [0, 0, 0, 1]


def test_names_in_composed_and_decomposed_form_are_one_class(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))
    pixels = draw_images(3, 4, 4, 3)
    write_image(tmp_path / "train" / decomposed / "0.png", pixels[0])
    write_image(tmp_path / "train" / "hiver" / "0.png", pixels[1])
    write_image(tmp_path / "test" / composed / "0.png", pixels[2])
    raw = load(tmp_path)
    assert raw.class_names == ("hiver", composed)
    assert (raw.train_labels.tolist(), raw.test_labels.tolist()) == ([0, 1], [1])
    write_image(tmp_path / "train" / composed / "0.png", pixels[0])
    with pytest.raises(SgdlineError, match=r"names that look different, got 'e\\u0301te\\u0301' and '\\xe9t\\xe9'"):
        load(tmp_path)


def test_copies_in_two_splits_and_missing_classes_are_reported(tmp_path, log):
    root = tmp_path / "root"
    write_folder(root)
    prepare(root, tmp_path / "d.arrow", test="all")
    assert [record.getMessage() for record in log.records if record.levelno > logging.INFO] == [
        "The test split has no image of 1 of 2 classes: cat."
    ]
    log.clear()
    shutil.copy(root / "train" / "cat" / "b.png", root / "test" / "dog" / "copy.png")
    prepare(root, tmp_path / "d.arrow", test="all")
    pair = "1 (train/cat/b.png in train, test/dog/copy.png in test)."
    for what in ("splits", "classes"):
        assert f"Pairs of files with the same bytes in two {what}: {pair}" in log.text
    log.clear()
    # The copy is in no split: nothing leaks.
    prepare(root, tmp_path / "d.arrow", train=2, test=0, split="sequential")
    assert "same bytes" not in log.text
    # Two copies in the training folder leak as soon as the split parts them.
    shutil.copy(root / "train" / "cat" / "a.PNG", root / "train" / "dog" / "a.PNG")
    prepare(root, tmp_path / "d.arrow", train=1, validation=3, test=0, split="sequential")
    assert "in two splits: 1 (train/cat/a.PNG in train, train/dog/a.PNG in validation)." in log.text


# --- images that cannot be read ---------------------------------------------------------------------------------------


def test_all_faulty_images_are_in_one_list(tmp_path, log):
    write_folder(tmp_path)
    folder = tmp_path / "train" / "cat"
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:60])
    (folder / "empty.jpg").touch()
    (folder / "pointer.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (tmp_path / "test" / "dog" / "page.gif").write_text("<html>404</html>")
    write_image(folder / "wide.tiff", np.full((5, 7), 40_000, dtype=np.int32))
    write_image(folder / "nan.tiff", np.full((5, 7), np.nan, dtype=np.float32))
    with pytest.raises(SgdlineError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert message.startswith(
        f"Images of {tmp_path} must be whole files, got 6 of 9 that are not: test/dog/page.gif is "
    )
    for words in (
        "test/dog/page.gif is no image of a known format; ",
        "train/cat/b.png cannot be read (",
        "train/cat/empty.jpg is empty; ",
        "train/cat/nan.tiff has floating-point numbers, which have no fixed white",
        "train/cat/pointer.jpg is a pointer of Git LFS (run git lfs pull)",
        "train/cat/wide.tiff has 32-bit or signed numbers, which have no fixed white",
    ):
        assert words in message
    assert message.endswith("Delete, convert or fetch again what cannot be read.")
    for number in range(9):
        (folder / f"{number}.png").touch()
    with pytest.raises(SgdlineError, match=r"got 15 of 18 that are not: .*; and 5 more, all of them in the log"):
        load(tmp_path)
    assert log.records[-1].getMessage().count("\n") == 15


def test_images_of_several_sizes_need_image_size(tmp_path, log):
    write_folder(tmp_path)
    odd = draw_images(9, 6, 3)
    write_image(tmp_path / "train" / "cat" / "_first.png", odd)
    with pytest.raises(SgdlineError) as caught:
        load(tmp_path)
    assert "of one size, got 1 of 5 that are not: train/cat/_first.png is 6x9 pixels, not 7x5. " in str(caught.value)
    assert "Set image_size to resize all images" in str(caught.value)
    write_image(tmp_path / "train" / "dog" / "z.png", draw_images(6, 6, 3))
    raw = load(tmp_path, image_size=6)
    assert raw.train_images.shape == (5, 3, 6, 6)
    expected = np.asarray(Image.fromarray(odd).resize((6, 6), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(raw.train_images[0], expected.transpose(2, 0, 1))
    assert "; resized: 5; " in log.text


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_image_is_one_sentence_or_read(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(["png", "jpg", "gif", "bmp", "tiff", "webp", "ppm"]))
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind in ("png", "jpg", "tiff", "webp") else {}
    Image.fromarray(draw_images(9, 9, 3)).save(buffer, format={"jpg": "jpeg"}.get(kind, kind), **options)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("images") / "train" / "cat" / f"a.{kind}"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            images = load(path.parents[2], image_size=8).train_images
        except SgdlineError as error:
            fault = error
        else:
            assert images.shape == (1, 3, 8, 8)
            return
    assert f"got 1 of 1 that are not: train/cat/a.{kind} " in str(fault)


def test_too_little_memory_is_no_fault_of_an_image(tmp_path, monkeypatch):
    write_folder(tmp_path)

    def fail(*operands):
        raise MemoryError

    monkeypatch.setattr(image_folder, "_to_rgb", fail)
    with pytest.raises(MemoryError):
        load(tmp_path)


# --- how images become RGB --------------------------------------------------------------------------------------------


def over_white(colour, alpha):
    return np.rint(colour * (alpha / 255) + 255 * (1 - alpha / 255))


def test_transparency_is_laid_over_white(tmp_path, log):
    pixels = draw_images(5, 7, 4)
    expected = over_white(pixels[..., :3].astype(float), pixels[..., 3:].astype(float)).transpose(2, 0, 1)
    for name, options in (("a.png", {}), ("a.webp", {"lossless": True, "exact": True}), ("a.tiff", {})):
        np.testing.assert_allclose(read_one(tmp_path, pixels, name, **options), expected, atol=1)
    grey = read_one(tmp_path, Image.fromarray(pixels[..., ::3].copy()))
    np.testing.assert_allclose(grey[0], over_white(pixels[..., 0].astype(float), pixels[..., 3].astype(float)), atol=1)
    # A colour that is declared to be clear, of a palette, of RGB and of 8 and 16 bit grey.
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    black = np.zeros((1, 2), dtype=np.uint8)
    black[0, 1] = 9
    for image, clear, opaque in (
        (palette, 0, [0, 0, 255]),
        (Image.fromarray(np.repeat(black[..., None], 3, axis=2)), (0, 0, 0), [9, 9, 9]),
        (Image.fromarray(black), 0, [9, 9, 9]),
        (Image.fromarray(black.astype(np.uint16) << 8), 0, [9, 9, 9]),
    ):
        log.clear()
        assert read_one(tmp_path, image, transparency=clear)[:, 0].T.tolist() == [[255, 255, 255], opaque]
        assert "; laid over white: 1; " in log.text
    log.clear()
    pixels[..., 3] = 255
    np.testing.assert_array_equal(read_one(tmp_path, pixels), pixels[..., :3].transpose(2, 0, 1))
    assert "converted to RGB: 1 (RGBA); resized" in log.text, "nothing was transparent"


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.pgm"])
def test_16_bit_grey_keeps_the_higher_byte(tmp_path, log, name):
    values = np.array([[0, 255, 256, 40_000, 65_535]], dtype=np.uint16)
    assert read_one(tmp_path, values, name).tolist() == [[[0, 0, 1, 156, 255]]] * 3
    assert "; reduced from 16 to 8 bit: 1 (largest value 65535 of 65535); " in log.text
    read_one(tmp_path, values // 16, name)
    assert "(largest value 4095 of 65535)" in log.text, "12 bits are dark, which the line shows"


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.webp", "a.jpg"])
def test_images_are_turned_as_exif_says(tmp_path, log, name):
    # Smooth in both directions, so that even JPEG keeps it to a few levels.
    upright = np.add.outer(np.arange(0, 192, 12), np.arange(0, 48, 6)).astype(np.uint8)
    upright = np.repeat(upright[..., None], 3, axis=2)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    options = {"a.jpg": {"quality": 100}, "a.webp": {"lossless": True}}.get(name, {})
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        log.clear()
        image = read_one(tmp_path, np.ascontiguousarray(pixels), name, exif=exif, **options)
        np.testing.assert_allclose(image, upright.transpose(2, 0, 1).astype(float), atol=3)
        assert ("turned as EXIF says: 1" in log.text) == (orientation != 1)
    exif[0x0112] = 77
    np.testing.assert_allclose(
        read_one(tmp_path, upright, name, exif=exif, **options), upright.transpose(2, 0, 1).astype(float), atol=3
    )


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tiff"])
def test_the_first_frame_of_an_animation_counts(tmp_path, log, name):
    first, second = (Image.new("RGB", (7, 5), colour) for colour in ("blue", "red"))
    options = {"lossless": True} if name == "a.webp" else {}
    image = read_one(tmp_path, first, name, save_all=True, append_images=[second, first], **options)
    assert image[:, 0, 0].tolist() == [0, 0, 255]
    assert "; only the first frame read: 1; " in log.text


def test_other_modes_become_rgb(tmp_path):
    cmyk = Image.fromarray(draw_images(5, 7, 3)).convert("CMYK")
    np.testing.assert_array_equal(
        read_one(tmp_path, cmyk, "a.tiff"), np.asarray(cmyk.convert("RGB")).transpose(2, 0, 1)
    )
    bits = Image.fromarray(draw_images(5, 7) > 100)
    np.testing.assert_array_equal(read_one(tmp_path, bits)[0], np.asarray(bits) * 255)
