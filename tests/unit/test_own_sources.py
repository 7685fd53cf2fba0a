"""Sources of one's own, by entry: checked with the configuration, read into a table, refused where they do not fit."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sgdline.config import ConfigError, resolve_config
from sgdline.data import reading
from sgdline.data.prepare import prepare_dataset
from sgdline.data.raw_images import RawImages
from sgdline.data.reading import read_source
from sgdline.data.sources.base import Source, SourceFacts
from sgdline.data.sources.mnist import Mnist
from sgdline.declare import registry
from sgdline.declare.build import build_thing
from sgdline.digests import _source, code_digest
from sgdline.errors import SgdlineError
from sgdline.tables import provenance, read_table
from sgdline.workflow.jobs import Jobs
from sgdline.workflow.slices import dataset_slice

ROOT = Path(__file__).parents[2]
STRIPES = """
from dataclasses import dataclass
from typing import Annotated

from sgdline.data.sources.base import Source, SourceFacts
from sgdline.declare.vocabulary import Ge


@dataclass(frozen=True, kw_only=True)
class Stripes(Source):
    'Horizontal or vertical stripes.'

    images: Annotated[int, Ge(2)] = 100
    'Images to make.'

    def facts(self):
        return SourceFacts(train=self.images, test=0, channels=1, side=8)

    def read(self, *, data_dir, download):
        import numpy as np
        from sgdline.data.raw_images import RawImages

        rows = np.zeros((self.images, 1, 8, 8), dtype=np.uint8)
        rows[:, :, ::2] = 255
        labels = np.arange(self.images) % 2
        rows[labels == 1] = rows[labels == 1].swapaxes(2, 3)
        return RawImages.without_test_set(rows, labels, class_names=("horizontal", "vertical"))
"""
FAULTY = """
class Odd(Stripes):
    def faults(self):
        from sgdline.declare.run_facts import Fault
        if self.images % 2:
            yield Fault(("images",), f"must be even, got {self.images}. Add one.")
        yield from super().faults()

class Broken(Stripes):
    def faults(self):
        return [1 / 0]

class Empty(Stripes):
    def facts(self):
        return {}

@dataclass(frozen=True, kw_only=True)
class Unread(Source):
    pass

class Strange:
    pass

class Undecorated(Stripes):
    sides: int = 4
"""
RUNS = {"dataset": "own", "models": ["m"], "lr": [0.1], "batch_size": ["all"], "seed": [0], "steps": 5}


@pytest.fixture(autouse=True)
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mine.py").write_text(STRIPES + FAULTY)
    monkeypatch.chdir(tmp_path)
    registry.declaration.cache_clear()
    return "mine.py:Stripes"


def resolved(block: dict[str, Any]) -> dict[str, Any]:
    models = {"m": {"entry": "sgdline.models:mlp"}}
    return resolve_config({"datasets": {"own": block}, "models": models, "experiments": {"e": RUNS}})


def test_a_source_of_ones_own_becomes_a_table(entry: str, tmp_path: Path) -> None:
    config = resolved({"source": entry, "train": "all", "test": 20, "images": 50})
    assert config["experiments"]["e"]["batch_size"] == [30], "what facts says is known before the images are read"
    source = build_thing("source", dataset_slice(config, "own"), tag="source")
    prepare_dataset(source, tmp_path / "own.arrow", data_dir=tmp_path, download=False, provenance={})
    table = read_table(tmp_path / "own.arrow", "dataset")
    facts = provenance(table)
    assert (facts["source"], facts["image_shape"], facts["scale"]) == ("Stripes", [1, 8, 8], 1 / 255)
    assert (facts["sizes"], facts["class_names"]) == (
        {"train": 30, "validation": 0, "test": 20},
        ["horizontal", "vertical"],
    )
    rows = np.zeros((8, 8), dtype=np.uint8)
    rows[::2] = 255
    for label, pixels in zip(table["label"].to_pylist(), table["pixels"].to_pylist(), strict=True):
        np.testing.assert_array_equal(np.reshape(pixels, (8, 8)), rows.T if label else rows)
    assert table["label"].to_pylist() == [index % 2 for index in table["source_index"].to_pylist()]


@pytest.mark.parametrize(
    ("block", "key", "words"),
    [
        ({"images": 1}, "images", "must be a whole number of at least 2, got 1."),
        ({"imags": 10}, "imags", "is not a known key. Did you mean 'images'?"),
        ({"train": 81, "images": 100}, "test", "must be at most 19, got 20. train, validation, test share the 100"),
        ({"mean": [0.1, 0.2]}, "mean", "must have one number per channel (1 here), got 2."),
        ({"mean": [0.1], "std": [-1.0]}, "std[0]", "must be a number above 0, got -1.0."),
        ({"image_size": 8192, "images": 10_000, "train": 9_000}, "image_size", "must leave at most 2147483647 pixel"),
        ({"source": "mine.py:Odd", "images": 101}, "images", "must be even, got 101. Add one."),
        ({"source": "mine.py:Odd", "train": 0}, "train", "Training needs images."),
        ({"source": "mine.py:Broken"}, "source", "must check its options without an error, got ZeroDivisionError: "),
        ({"source": "mine.py:Empty"}, "source", "without an error, got AttributeError: 'dict' object"),
        ({"source": "mine.py:Unread", "train": 5, "test": 1}, "source", "with a method read(self, *, data_dir, down"),
        ({"source": "mine.py:Strange"}, "source", "derives from sgdline.data.sources.base.Source, got Strange."),
        (
            {"source": "mine.py:Undecorated", "sides": 5},
            "source",
            "got Undecorated with options and no decorator. Write",
        ),
        ({"source": "mine.py:Stripe"}, "source", "got no 'Stripe' there. Did you mean 'Stripes'?"),
        ({"source": "ours.py:Stripes"}, "source", "must name a file that exists, got none at "),
    ],
)
def test_what_is_wrong_with_options_is_said_before_any_job(
    entry: str, block: dict[str, Any], key: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved({"source": entry, "train": 80, "test": 20, **block})
    faults = [fault for fault in caught.value.faults if not fault.startswith("experiments.e.batch_size[0] must be a n")]
    assert len(faults) == 1
    assert faults[0].startswith(f"datasets.own.{key} ")
    assert words in faults[0]


def test_constants_fit_each_other_where_the_channels_are_not_known() -> None:
    block = {"source": "mine.py:Unread", "train": 5, "mean": [0.5], "std": [0.5, 0.5]}
    with pytest.raises(ConfigError, match=r"datasets.own.std must have as many entries as mean \(1\), got 2"):
        resolved(block)


NOTHING_KNOWN = SourceFacts()


@dataclass(frozen=True, kw_only=True)
class Own(Source):
    """What a test gives it; `declared` are its facts."""

    returned: Any = None
    declared: SourceFacts = NOTHING_KNOWN

    def facts(self) -> SourceFacts:
        return self.declared

    def read(self, *, data_dir: Path, download: bool) -> RawImages:
        result: RawImages = self.returned() if callable(self.returned) else self.returned
        return result


def raw(**changes: Any) -> RawImages:
    arrays: dict[str, Any] = {
        "train_images": np.arange(6 * 3 * 5 * 5, dtype=np.uint8).reshape(6, 3, 5, 5),
        "train_labels": np.array([0, 1, 0, 1, 0, 1], dtype=np.uint8),
        "test_images": np.zeros((2, 3, 5, 5), dtype=np.uint8),
        "test_labels": np.array([1, 0], dtype=np.int32),
        "class_names": ["cat", "dog"],
    }
    return RawImages(**{**arrays, **changes})


def test_labels_of_any_whole_type_are_taken() -> None:
    found = read_source(Own(train=4, returned=raw()), data_dir=".", download=False)
    assert (found.train_labels.dtype, found.test_labels.tolist()) == (np.int64, [1, 0])
    assert found.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "must return a RawImages, got NoneType. Import it from sgdline.data.raw_images."),
        ((np.zeros(3), np.zeros(3)), "must return a RawImages, got tuple."),
        (raw(train_images=[[1]]), "train_images of source Own must be a numpy array, got list."),
        (raw(test_images=torch.zeros(2, 3, 5, 5)), "test_images of source Own must be a numpy array, got Tensor."),
        (raw(train_images=np.zeros((6, 3, 5, 5))), "of type uint8, got float64. Scale the pixels to whole numbers"),
        (raw(train_images=np.zeros((6, 5, 5), np.uint8)), "got (6, 5, 5). Grey images are images[:, None]."),
        (
            raw(train_images=np.zeros((6, 5, 5, 3), np.uint8)),
            "got (6, 5, 5, 3), whose channels are last. Write images.",
        ),
        (
            raw(train_images=np.zeros((0, 3, 5, 5), np.uint8), train_labels=np.zeros(0, int)),
            "must have training images",
        ),
        (raw(train_images=np.zeros((6, 3, 0, 5), np.uint8)), "got 6 of 3x0x5 pixels"),
        (
            raw(test_images=np.zeros((2, 3, 5, 4), np.uint8)),
            "must be 3x5x5 pixels as its training images are, got 3x5x4",
        ),
        (raw(train_labels=np.zeros(5, int)), "one label per image, got 6 images and 5 labels. Change read of Own."),
        (
            raw(train_labels=np.full(6, np.nan)),
            "train_labels of source Own must be a numpy array of whole numbers, got",
        ),
        (raw(train_labels=np.eye(6, dtype=int)), "of shape (N,), got (6, 6). Give one number per image."),
        (raw(test_labels=np.array([0, 2])), "Labels of source Own must be from 0 to 1, got 0 to 2."),
        (raw(train_labels=-np.ones(6, int)), "must be from 0 to 1, got -1 to -1."),
        (raw(class_names=()), "class_names of source Own must be texts, got ()."),
        (raw(class_names=[0, 1]), "class_names of source Own must be texts, got [0, 1]."),
        (raw(scale=float("nan")), "scale of source Own must be above 0 and at most 1, got nan. Use 1 / 255."),
        (raw(scale=1 / 16), "Pixels of source Own times its scale must be at most 1, got 15.9375. Use"),
        (raw(train_files=("a.png",)), "one label per image, got 6 images and 1 files."),
        (lambda: {}["labels"], "must return its images, got KeyError: 'labels' (line "),
        (lambda: sys.exit(2), "must return its images, got sys.exit(2)"),
    ],
)
def test_what_does_not_fit_is_one_sentence(returned: Any, words: str) -> None:
    with pytest.raises(SgdlineError) as caught:
        read_source(Own(train=4, returned=returned), data_dir=".", download=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (
            SourceFacts(train=7),
            "must have the 7 training images that it declares, got 6. Correct facts or read of Own.",
        ),
        (SourceFacts(train=6, test=0), "must have the 0 test images that it declares, got 2."),
        (SourceFacts(channels=1), "must have the 1 channels that it declares, got 3."),
        (SourceFacts(side=28), "must have the 28 pixels a side that it declares, got 5."),
    ],
)
def test_what_a_source_declares_has_to_be_true(declared: SourceFacts, words: str) -> None:
    with pytest.raises(SgdlineError, match=re.escape(words)):
        read_source(Own(train=4, returned=raw(), declared=declared), data_dir=".", download=False)


def test_files_of_another_data_set_under_a_known_name_are_refused() -> None:
    with pytest.raises(SgdlineError, match=r"mnist must have the 60000 training images .*, got 6. Fetch its files"):
        reading._check_facts(raw(), Mnist(train=1), "mnist", own=False)


def test_an_edit_of_a_source_is_seen_by_its_data_sets_only(entry: str, tmp_path: Path) -> None:
    config = resolved({"source": entry, "train": 30, "test": 20})
    names = {"own": entry, "digits": "digits", "mnist": "mnist"}
    config["datasets"] = {name: {"source": source} for name, source in names.items()}
    digest = Jobs(config, folder=ROOT / "workflow").preparing_code("prepare_dataset.py")

    class Wildcards:
        def __init__(self, dataset: str) -> None:
            self.dataset = dataset

    def digests() -> dict[str, str]:
        return {name: digest(Wildcards(name)) for name in names}  # type: ignore[arg-type]

    before = digests()
    assert len(set(before.values())) == 3
    (tmp_path / "mine.py").write_text(STRIPES.replace("255", "254") + FAULTY)
    code_digest.cache_clear()
    _source.cache_clear()
    changed = {name for name, value in digests().items() if value != before[name]}
    assert changed == {"own"}
