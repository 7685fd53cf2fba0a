"""What a source of images declares, and what a source of one's own has to return."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from sgdline.declare.registry import Declared
from sgdline.declare.vocabulary import Ge, Le, MinLen, Words

if TYPE_CHECKING:
    from sgdline.data.raw_images import RawImages
    from sgdline.declare.run_facts import Fault

MOST_PIXELS = 2**31 - 1  # values in the one table of a data set

SplitSize = Annotated[Annotated[int, Ge(0)] | Literal["all"], Words("a number of images, or all")]
ChannelConstants = Annotated[
    Literal["auto", "none"] | Annotated[tuple[float, ...], MinLen(1)],
    Words("auto, none, or a list of one number per channel"),
]


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """What is known of a source's images before they are read; None where it is not known.

    What is said here is compared with what is read.

    Attributes:
        train: Number of training images.
        test: Number of test images; 0 where all splits share the training images.
        channels: Channels of an image.
        side: Height and width of an image, if they are equal.
    """

    train: int | None = None
    test: int | None = None
    channels: int | None = None
    side: int | None = None


@dataclass(frozen=True, kw_only=True)
class Source(Declared):
    """A named draw of images from a source; each source derives its own and adds its options."""

    train: SplitSize
    """Images to train on; they are the measuring set of the full-batch loss as well."""
    validation: SplitSize = 0
    """Images of the validation set, taken from the source's training images."""
    test: SplitSize = "all"
    """Images of the test set."""
    split: Literal["random", "sequential", "stratified"] = "random"
    """`random`: a seeded draw; `stratified`: a seeded draw with the classes' shares in each split; `sequential`: the
    source's order, the first images train, the last of the training images validate."""
    split_seed: Annotated[int, Ge(0)] = 42
    """Seed of that draw."""
    image_size: Annotated[int, Ge(1), Le(8192)] | None = None
    """Resize to that many pixels a side; `null`: as it comes."""
    channels: Literal[1, 3] | None = None
    """Convert to grey (1) or repeat grey (3); `null`: as it comes."""
    mean: ChannelConstants = "auto"
    """Subtracted per channel, pixels being in [0, 1]."""
    std: ChannelConstants = "auto"
    """Pixels are divided by it, per channel."""

    def read(self, *, data_dir: Path, download: bool) -> RawImages:
        """Return all images of the source, before any split, conversion or resizing.

        Args:
            data_dir: The configuration's `data_dir`, where downloaded data sets lie; it need not exist.
            download: Whether missing files may be fetched.

        Returns:
            RawImages, made of numpy arrays: images (N, C, H, W), uint8; labels (N,), whole numbers from 0 to the number
            of class names - 1; the class names; `scale`, so that pixel * scale lies in [0, 1]. Images of the test set
            have the shape of the training images. `RawImages.without_test_set` is for a source whose splits share its
            images. The same options must give the same images in the same order.

        Raises:
            SgdlineError: If files are missing or damaged; its text reaches the user as it is.

        numpy and torchvision are to be imported in here, not at the top of the module.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a method read(self, *, data_dir, download).")

    def facts(self) -> SourceFacts:
        """Return what is known of the images before they are read; the checks of a configuration use it."""
        return SourceFacts()

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options together, and no bound can say; call it from one that derives."""
        from sgdline.data.dataset_checks import dataset_faults

        yield from dataset_faults(self)
