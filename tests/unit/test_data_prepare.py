"""From sources to the table, and from the table to tensors."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from sgdline.data.augmentation import augment
from sgdline.data.images import load_images
from sgdline.data.prepare import prepare_dataset
from sgdline.data.raw_images import RawImages
from sgdline.data.shares import share_out
from sgdline.data.sources.base import Source
from sgdline.declare import registry
from sgdline.declare.build import build, build_thing
from sgdline.errors import SgdlineError
from sgdline.seeds import generator
from sgdline.tables import kind_of, provenance, read_table, write_table

DIGITS = {
    "source": "digits",
    "train": 1024,
    "validation": 256,
    "test": 517,
    "split": "random",
    "split_seed": 42,
    "image_size": None,
    "channels": None,
    "mean": "auto",
    "std": "auto",
}
NOISE = {"source": "random", "images": 60, "classes": 3, "size": 6, "train": 40, "validation": 10, "test": 10}
SPLITS = ("train", "validation", "test")


def prepare(path, block, **entries):
    options = {**block, **entries}
    source = options.pop("source")
    declaration = registry.declaration("source", source) if isinstance(source, str) else source
    prepare_dataset(build(declaration, options), path, data_dir=path.parent, download=False, provenance={"seed": 1})
    return read_table(path, "dataset")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "dataset.arrow"


def own_source(train_images, *, test_images=None, train_labels=None, classes=2, scale=1 / 255):
    """Return a block whose source holds arrays of the test."""
    test_images = train_images[:0] if test_images is None else test_images
    train_labels = np.arange(len(train_images)) % classes if train_labels is None else train_labels

    @dataclass(frozen=True, kw_only=True)
    class Own(Source):
        def read(self, *, data_dir, download):
            return RawImages(
                train_images=train_images,
                train_labels=train_labels,
                test_images=test_images,
                test_labels=np.arange(len(test_images)) % classes,
                class_names=tuple(f"class {label}" for label in range(classes)),
                scale=scale,
            )

    return {**DIGITS, "source": Own, "train": "all", "validation": 0, "test": 0}


def colour_noise():
    """Return the images of NOISE, and a block whose source holds them: one of random images converts nothing."""
    colour = build_thing("source", NOISE, tag="source").read(data_dir=Path(), download=False).train_images
    return colour, own_source(colour) | {"test": 10}


def rows_of(table, split):
    chosen = np.array(table["split"].to_pylist()) == split
    return table["source_index"].to_numpy()[chosen]


# --- splits -----------------------------------------------------------------------------------------------------------


def test_digits_are_split_disjointly_and_whole(target):
    table = prepare(target, DIGITS)
    assert table["split"].to_pylist() == ["train"] * 1024 + ["validation"] * 256 + ["test"] * 517
    rows = table["source_index"].to_numpy()
    assert sorted(rows) == list(range(1797))
    digits = load_digits()
    np.testing.assert_array_equal(table["label"].to_numpy(), digits.target[rows])
    np.testing.assert_array_equal(np.stack(table["pixels"].to_pylist()), digits.images.reshape(1797, 64)[rows])
    facts = provenance(table)
    assert facts["sizes"] == {"train": 1024, "validation": 256, "test": 517}
    assert facts["image_shape"] == [1, 8, 8]
    assert facts["scale"] == 1 / 16
    assert (facts["source"], facts["seed"], facts["kind"]) == ("digits", 1, "dataset")
    assert facts["class_names"] == list("0123456789")
    # A random draw takes each class about as often as it occurs.
    counts = np.bincount(table["label"].to_numpy()[:1024])
    np.testing.assert_allclose(counts, np.bincount(digits.target) * 1024 / 1797, atol=25)


def test_the_same_settings_give_the_same_bytes(tmp_path):
    first, second, other = tmp_path / "1.arrow", tmp_path / "2.arrow", tmp_path / "3.arrow"
    table = prepare(first, DIGITS)
    prepare(second, DIGITS)
    assert first.read_bytes() == second.read_bytes()
    reseeded = prepare(other, DIGITS, split_seed=43)
    assert set(rows_of(reseeded, "train")) != set(rows_of(table, "train"))


def test_the_draw_keeps_its_values(target):
    assert rows_of(prepare(target, DIGITS), "train")[:5].tolist() == [1262, 710, 1242, 903, 303]


def test_a_smaller_training_split_is_part_of_a_larger_one(tmp_path):
    large = prepare(tmp_path / "large.arrow", DIGITS)
    small = prepare(tmp_path / "small.arrow", DIGITS, train=100)
    np.testing.assert_array_equal(rows_of(small, "train"), rows_of(large, "train")[:100])
    for split in ("validation", "test"):
        np.testing.assert_array_equal(rows_of(small, split), rows_of(large, split))


SIZE = st.integers(0, 70)


@given(SIZE, SIZE, SIZE, st.sampled_from(["random", "sequential", "stratified"]), st.sampled_from([None, *SPLITS]))
@settings(max_examples=60, deadline=None)
def test_any_sizes_are_exact_and_disjoint_or_refused(tmp_path_factory, train, validation, test, split, unbounded):
    target = tmp_path_factory.mktemp("sizes") / "dataset.arrow"
    sizes = {"train": train, "validation": validation, "test": test}
    if unbounded:
        sizes[unbounded] = 60 - sum(size for key, size in sizes.items() if key != unbounded)
    entries = {**sizes, "split": split} | ({unbounded: "all"} if unbounded else {})
    if min(sizes.values()) < 0 or sum(sizes.values()) > 60 or sizes["train"] == 0:
        with pytest.raises(SgdlineError, match="must be at"):
            prepare(target, NOISE, **entries)
        assert not target.exists()
        return
    table = prepare(target, NOISE, **entries)
    assert provenance(table)["sizes"] == sizes
    rows = table["source_index"].to_numpy()
    assert len(set(rows)) == len(rows) == sum(sizes.values())
    if split == "stratified":
        for name, size in sizes.items():
            counts = np.bincount(table["label"].to_numpy()[np.array(table["split"].to_pylist()) == name], minlength=3)
            assert np.abs(counts - size / 3).max() < 1


COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)


@given(COUNTS, st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_shares_are_rounded_for_all_splits_at_once(counts, cuts):
    counts, total = np.array(counts), sum(counts)
    sizes = np.diff(np.rint(np.sort([0, *cuts]) * total)).astype(int).tolist()
    shares = share_out(counts, sizes)
    assert shares.sum(axis=1).tolist() == sizes
    assert (shares.sum(axis=0) <= counts).all()
    exact = np.outer(sizes, counts) / total
    # Closed form: each number is the exact share rounded up or down.
    assert ((shares == np.floor(exact + 1e-9)) | (shares == np.ceil(exact - 1e-9))).all()
    if len(sizes) == 1:
        # Largest remainders: no class that is rounded up has a smaller remainder than one that is rounded down.
        remainders = exact - np.floor(exact + 1e-9)
        up = shares[0] > exact[0] + 1e-9
        assert remainders[0][up].min(initial=1) >= remainders[0][~up & (remainders[0] > 1e-9)].max(initial=0) - 1e-9


def test_three_splits_of_one_image_do_not_all_take_the_same_class():
    """Each by itself would take the third image of a class that has two."""
    shares = share_out(np.array([2, 2]), [1, 1, 1])
    assert sorted(shares.sum(axis=0).tolist()) == [1, 2]


def test_a_stratified_split_has_the_shares_of_the_classes(tmp_path):
    labels = np.repeat([0, 1, 2], [50, 30, 21])
    tests = np.ones((9, 1, 2, 2), np.uint8)
    block = own_source(np.zeros((101, 1, 2, 2), np.uint8), test_images=tests, train_labels=labels, classes=3)
    block |= {"split": "stratified", "train": 41, "validation": 20, "test": 6}
    first, second = tmp_path / "1.arrow", tmp_path / "2.arrow"
    table = prepare(first, block)
    counts = table.group_by(["split", "label"]).aggregate([([], "count_all")]).to_pandas()
    counts = counts.pivot(index="split", columns="label", values="count_all")
    # 41 and 20 of 101 images in classes of 50, 30 and 21; 6 of 9 in three classes of 3.
    assert counts.loc["train"].tolist() == [20, 12, 9]  # 20.30, 12.18, 8.52
    assert counts.loc["validation"].tolist() == [10, 6, 4]  # 9.90, 5.94, 4.16
    assert counts.loc["test"].tolist() == [2, 2, 2]
    train, validation = set(rows_of(table, "train")), set(rows_of(table, "validation"))
    assert not train & validation
    prepare(second, block)
    assert first.read_bytes() == second.read_bytes()
    assert set(rows_of(prepare(second, block, split_seed=43), "train")) != train
    # In random order: a chunk of a sorted source would have one class.
    assert all(len(set(part)) > 1 for part in np.split(table["label"].to_numpy()[:40], 4))


def test_sequential_takes_the_first_and_the_last(target):
    """walk 5.1: of 60,000 images the first 45,000 train and the last 10,000 validate; here a thousandth."""
    block = own_source(np.zeros((60, 1, 2, 2), np.uint8), test_images=np.ones((10, 1, 2, 2), np.uint8))
    table = prepare(target, block, split="sequential", train=45, validation=10, test=4)
    # Which images is sequential; their order is mixed, see the test of a sorted source.
    assert sorted(rows_of(table, "train").tolist()) == list(range(45))
    assert sorted(rows_of(table, "validation").tolist()) == list(range(50, 60))
    assert rows_of(table, "test").tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(np.stack(table["pixels"].to_pylist())[-4:], 1)


def test_sequential_without_a_test_set_ends_with_the_test_split(target):
    table = prepare(target, NOISE, split="sequential", train=30)
    assert [sorted(rows_of(table, split).tolist()) for split in SPLITS] == [
        list(range(30)),
        list(range(40, 50)),
        list(range(50, 60)),
    ]


def test_a_test_set_of_its_own_is_not_mixed_in(target):
    block = own_source(np.zeros((30, 1, 2, 2), np.uint8), test_images=np.ones((20, 1, 2, 2), np.uint8))
    table = prepare(target, block, train="all", validation=10, test="all")
    pixels = np.stack(table["pixels"].to_pylist())
    assert pixels[:, 0].tolist() == [0] * 30 + [1] * 20
    assert sorted(rows_of(table, "test")) == list(range(20))
    assert sorted([*rows_of(table, "train"), *rows_of(table, "validation")]) == list(range(30))


def test_sizes_that_do_not_fit_name_key_and_limit(target):
    with pytest.raises(SgdlineError) as caught:
        prepare(target, DIGITS, validation=800)
    assert str(caught.value) == (
        "validation must be at most 773 of the 1797 images in the one set of digits (taken by train: 1024), got 800. "
        "Lower it."
    )
    with pytest.raises(SgdlineError, match=r"got all for train and test\. Give a number for test\."):
        prepare(target, DIGITS, train="all", test="all")
    block = own_source(np.zeros((30, 1, 2, 2), np.uint8), test_images=np.ones((20, 1, 2, 2), np.uint8))
    with pytest.raises(SgdlineError, match="test must be at most 20 of the 20 images in the test set of Own, got 21"):
        prepare(target, block, test=21)
    with pytest.raises(SgdlineError, match="train must be at least one image, got 0"):
        prepare(target, block, train="all", validation=30)
    assert not target.exists()


def test_a_missing_class_is_allowed_and_reported(target, caplog):
    block = own_source(np.eye(4, dtype=np.uint8).reshape(4, 1, 2, 2), train_labels=np.array([0, 0, 2, 2]), classes=4)
    with caplog.at_level(logging.WARNING):
        prepare(target, block)
    assert "The training split has no image of 2 of 4 classes: class 1, class 3." in caplog.text
    assert load_images(target, device="cpu").num_classes == 4


# --- conversion -------------------------------------------------------------------------------------------------------


def pixels_of(table):
    facts = provenance(table)
    return np.stack(table["pixels"].to_pylist()).astype(np.uint8).reshape(-1, *facts["image_shape"])


def test_grey_is_pillows_luma(target):
    colour, block = colour_noise()
    table = prepare(target, block, channels=1)
    grey = pixels_of(table)
    assert grey.shape == (60, 1, 6, 6)
    for image, row in zip(grey, table["source_index"].to_pylist(), strict=True):
        expected = Image.fromarray(np.ascontiguousarray(colour[row].transpose(1, 2, 0))).convert("L")
        np.testing.assert_array_equal(image[0], np.asarray(expected))


def test_colour_repeats_grey(tmp_path):
    grey = pixels_of(prepare(tmp_path / "1.arrow", DIGITS))
    table = prepare(tmp_path / "3.arrow", DIGITS, channels=3)
    np.testing.assert_array_equal(pixels_of(table), np.repeat(grey, 3, axis=1))
    facts = provenance(table)
    assert len(facts["mean"]) == len(facts["std"]) == 3


def test_other_channels_cannot_be_converted(target):
    with pytest.raises(SgdlineError, match="channels must be null for a source with 2 channels, got 3"):
        prepare(target, own_source(np.zeros((4, 2, 3, 3), np.uint8)), channels=3)


@pytest.mark.parametrize("image_size", [3, 6, 13])
def test_resizing_is_pillows_bilinear(target, image_size):
    colour, block = colour_noise()
    table = prepare(target, block, image_size=image_size)
    assert provenance(table)["image_shape"] == [3, image_size, image_size]
    for image, row in zip(pixels_of(table), table["source_index"].to_pylist(), strict=True):
        picture = Image.fromarray(np.ascontiguousarray(colour[row].transpose(1, 2, 0)))
        expected = np.asarray(picture.resize((image_size, image_size), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(image, expected.transpose(2, 0, 1))


def test_resized_digits_keep_more_than_their_17_levels(target):
    table = prepare(target, DIGITS, image_size=16)
    facts = provenance(table)
    assert facts["scale"] == 1 / 255
    images = load_digits().images[table["source_index"].to_numpy()[:50]]
    for image, digit in zip(pixels_of(table), images, strict=False):
        exact = Image.fromarray((digit / 16).astype(np.float32)).resize((16, 16), Image.Resampling.BILINEAR)
        # Spread and interpolated values are rounded to whole levels, each direction of the filter for itself.
        np.testing.assert_allclose(image[0] / 255, np.asarray(exact), atol=2 / 255)


# --- normalisation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [DIGITS, NOISE])
def test_constants_are_numpys_over_the_training_split(target, block):
    table = prepare(target, block)
    facts = provenance(table)
    training = pixels_of(table)[: facts["sizes"]["train"]].astype(np.float64) * facts["scale"]
    np.testing.assert_allclose(facts["mean"], training.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(facts["std"], training.std(axis=(0, 2, 3)), rtol=1e-12)


def test_given_constants_and_none(tmp_path):
    """linesearch 2.1's constants of CIFAR-10; sparse 4.4 normalises nothing."""
    mean, std = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
    facts = provenance(prepare(tmp_path / "given.arrow", NOISE, mean=mean, std=std))
    assert (facts["mean"], facts["std"]) == (mean, std)
    table = prepare(tmp_path / "none.arrow", NOISE, mean="none", std="none")
    assert (provenance(table)["mean"], provenance(table)["std"]) == ([0.0] * 3, [1.0] * 3)
    loaded = load_images(tmp_path / "none.arrow", device="cpu")
    np.testing.assert_array_equal(loaded.train.inputs.numpy(), (pixels_of(table)[:40] / 255).astype(np.float32))
    facts = provenance(prepare(tmp_path / "mixed.arrow", NOISE, mean="auto", std=[1, 1, 1]))
    assert facts["mean"] != [0.0] * 3
    assert facts["std"] == [1.0] * 3


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"mean": [0.5]}, "mean must be auto, none or a list of 3 finite"),
        ({"std": [1, 1, float("nan")]}, "std must be auto, none or a list of 3 finite"),
        ({"std": [1, 0, 1]}, "std must be above 0 in every channel"),
        ({"std": [1, -2, 1]}, "std must be above 0 in every channel"),
    ],
)
def test_constants_that_do_not_fit(target, entries, message):
    with pytest.raises(SgdlineError, match=message):
        prepare(target, NOISE, **entries)
    assert not target.exists()


def test_a_constant_channel_stays_finite(target, caplog):
    images = np.zeros((20, 2, 3, 3), dtype=np.uint8)
    images[:, 0] = np.arange(20)[:, None, None]
    images[:, 1] = 200
    with caplog.at_level(logging.WARNING):
        table = prepare(target, own_source(images))
    assert provenance(table)["std"][1] == 1 / 255
    assert "Channel 1 hardly varies" in caplog.text
    inputs = load_images(target, device="cpu").train.inputs
    assert inputs.isfinite().all()
    assert (inputs[:, 1] == 0).all()


# --- tensors ----------------------------------------------------------------------------------------------------------


def test_images_are_the_normalised_pixels(target):
    table = prepare(target, NOISE)
    facts = provenance(table)
    images = load_images(target, device=torch.device("cpu"))
    mean, std = (np.array(facts[key])[:, None, None] for key in ("mean", "std"))
    expected = ((pixels_of(table) * facts["scale"] - mean) / std).astype(np.float32)
    start = 0
    for split in SPLITS:
        part = getattr(images, split)
        stop = start + facts["sizes"][split]
        assert (part.inputs.dtype, part.targets.dtype) == (torch.float32, torch.int64)
        np.testing.assert_array_equal(part.inputs.numpy(), expected[start:stop])
        np.testing.assert_array_equal(part.targets.numpy(), table["label"].to_numpy()[start:stop])
        assert len(part) == stop - start
        start = stop
    assert images.image_shape == (3, 6, 6)
    assert (images.num_classes, images.source) == (3, "random")
    assert (list(images.mean), list(images.std)) == (facts["mean"], facts["std"])
    np.testing.assert_array_equal(images.black.numpy(), (-mean / std).astype(np.float32).ravel())


def test_training_images_have_mean_0_and_std_1(target):
    prepare(target, DIGITS)
    inputs = load_images(target, device="cpu").train.inputs.double()
    assert inputs.mean().item() == pytest.approx(0, abs=1e-6)
    assert inputs.std(correction=0).item() == pytest.approx(1, abs=1e-6)


def test_empty_splits_are_empty_tensors(target):
    prepare(target, NOISE, validation=0, test=0)
    images = load_images(target, device="cpu")
    for part in (images.validation, images.test):
        assert (part.inputs.shape, part.targets.shape) == ((0, 3, 6, 6), (0,))


def test_black_padding_equals_cropping_the_raw_images(tmp_path):
    """Crop the raw pixels with zeros and normalise them by the table's own way: the same bits."""
    table = prepare(tmp_path / "raw.arrow", NOISE, mean="none", std="none")
    prepare(tmp_path / "dataset.arrow", NOISE)
    images = load_images(tmp_path / "dataset.arrow", device="cpu")
    options = {"crop_padding": 3, "flip": True}
    result = augment(images.train.inputs, **options, fill=images.black, generator=generator(0, "augmentation", 5))
    raw = torch.from_numpy(pixels_of(table)[:40])
    black = torch.zeros(3, dtype=torch.uint8)
    cropped = augment(raw, **options, fill=black, generator=generator(0, "augmentation", 5)).numpy()
    mean, std = (np.array(values)[:, None, None] for values in (images.mean, images.std))
    np.testing.assert_array_equal(result.numpy(), ((cropped * (1 / 255) - mean) / std).astype(np.float32))


def test_a_table_that_contradicts_itself_is_refused(target):
    columns = {"split": ["train"], "source_index": [0], "label": [0], "pixels": [[1, 2, 3]]}
    facts = {"image_shape": [1, 2, 2], "scale": 1.0, "mean": [0.0], "std": [1.0], "class_names": ["a"], "source": "own"}
    write_table(target, "dataset", columns, provenance=facts)
    with pytest.raises(SgdlineError, match=r"must hold 1x2x2 pixels per row, got 3 in 1 rows. Run the rule prepare_"):
        load_images(target, device="cpu")
    del facts["mean"], facts["std"]
    write_table(target, "dataset", columns, provenance=facts)
    with pytest.raises(SgdlineError, match="must have the metadata mean, std, got none"):
        load_images(target, device="cpu")
    target.unlink()
    with pytest.raises(SgdlineError, match="must exist, found nothing"):
        load_images(target, device="cpu")


def test_the_table_has_the_schema_that_others_read(target):
    table = prepare(target, NOISE)
    assert table.schema.remove_metadata().equals(kind_of("dataset").schema)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_sees_the_same_images(target):
    prepare(target, NOISE)
    here, there = load_images(target, device="cpu"), load_images(target, device="cuda")
    assert there.train.inputs.is_cuda
    assert there.black.is_cuda
    assert torch.equal(here.train.inputs, there.train.inputs.cpu())
    augmented = [
        augment(part.train.inputs, crop_padding=2, flip=True, fill=part.black, generator=generator(0, "augmentation"))
        for part in (here, there)
    ]
    assert torch.equal(augmented[0], augmented[1].cpu())


def test_a_sequential_split_of_a_sorted_source_mixes_its_classes(tmp_path):
    for label in range(4):
        folder = tmp_path / "images" / "train" / f"class{label}"
        folder.mkdir(parents=True)
        for index in range(12):
            Image.fromarray(np.full((4, 4, 3), 20 * label + index, dtype=np.uint8)).save(folder / f"{index:02d}.png")
    block = {"source": "image_folder", "path": str(tmp_path / "images"), "split": "sequential", "split_seed": 1}
    rows = prepare(tmp_path / "d.arrow", block, train=36, validation=12, test=0).to_pandas()
    train = rows[rows["split"] == "train"]
    assert sorted(train["source_index"]) == list(range(36)), "still the first images"
    assert all(len(set(train["label"][first : first + 9])) > 1 for first in range(0, 36, 9))
