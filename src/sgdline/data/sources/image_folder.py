"""A folder of image files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sgdline.data.sources.base import Source, SourceFacts
from sgdline.declare.vocabulary import MinLen, Words

if TYPE_CHECKING:
    from sgdline.data.raw_images import RawImages
    from sgdline.declare.run_facts import Fault


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Source):
    """Images of yours, read as colour."""

    path: Annotated[str, MinLen(1), Words("the folder with train/<class>/* or <class>/*")]
    """Folder of the images."""

    def facts(self) -> SourceFacts:
        return SourceFacts(channels=3)

    def read(self, *, data_dir: Path, download: bool) -> RawImages:
        from sgdline.data.image_folder import read_image_folder

        return read_image_folder(Path(self.path).expanduser(), image_size=self.image_size)

    def faults(self) -> Iterator[Fault]:
        import re

        from sgdline.declare.faults import value_words
        from sgdline.declare.paths import too_long
        from sgdline.declare.run_facts import Fault

        if re.search(r"[{}*?\[\]]", self.path):
            yield Fault(
                ("path",),
                "must be a folder path without the wildcard characters { } * ? [ ], got "
                f"{value_words(self.path)}. Rename the folder or link to it.",
            )
        length = too_long(self.path)
        if length:
            yield Fault(("path",), length)
        yield from super().faults()
