"""Facts of the data sets whose official layouts are known: publisher's page, counts, and published checksums.

Sizes and checksums are copied from programs that are kept up to date; `published_in` names the file and the repository.
What nobody publishes has none. Without torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ALGORITHMS = {"sha256": "SHA-256", "sha1": "SHA-1", "md5": "MD5"}


@dataclass(frozen=True, kw_only=True)
class OfficialFile:
    """A file that the publisher of a data set offers."""

    name: str
    size_bytes: int | None = None  # None: not published
    algorithm: str | None = None  # of `digest`, a name of hashlib; None: no checksum is published
    digest: str = ""
    published_in: str = ""  # file and repository of the program that has the checksum

    @property
    def text(self) -> str:
        """What is known of the file, for readers."""
        size = "" if self.size_bytes is None else f", {self.size_bytes:,} bytes"
        if self.algorithm is None:
            return f"{self.name}{size}, unverified: no checksum is published"
        return f"{self.name}{size}, {ALGORITHMS[self.algorithm]} {self.digest} from {self.published_in}"


@dataclass(frozen=True, kw_only=True)
class OfficialSet:
    """A complete data set as its publisher offers it."""

    title: str
    page: str  # where a person downloads the files
    files: tuple[OfficialFile, ...]
    classes: int
    images: int  # that its lists name, or without lists all of its classes
    test_images: int
    training_images_per_class: int | None = None  # without an official split: all others are test images

    @property
    def file_names(self) -> tuple[str, ...]:
        """The files to give in --from."""
        return tuple(file.name for file in self.files)


def _official_set(facts: dict[str, object]) -> OfficialSet:
    files = facts.pop("files")
    assert isinstance(files, list)
    per_class = facts.get("training_images_per_class")
    if isinstance(per_class, int):
        facts["test_images"] = int(str(facts["images"])) - per_class * int(str(facts["classes"]))
    return OfficialSet(**facts, files=tuple(OfficialFile(**file) for file in files))  # type: ignore[arg-type]


OFFICIAL: Mapping[str, OfficialSet] = {
    layout: _official_set(facts)
    for layout, facts in json.loads((Path(__file__).parent / "official_sets.json").read_bytes()).items()
}
"""Layout -> the data set that has it."""
