"""Export each trial as a TensorBoard run: a folder of event files, each written atomically."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from results.export.series import POINT_COLUMNS, Trial, Value
from results.export.target import library
from transtailor.files import make_folder, name_file

HEADER, FOOTER = 12, 4
"""Bytes around a record of an event file: its length with a checksum, and a checksum of its content (TFRecord)."""


class TensorBoard:
    """A folder that `tensorboard --logdir` reads; its event files say which values it has."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; raise ResultsError if tensorboardX is not installed."""
        self._events = library("tensorboardX.proto.event_pb2", "tensorboard")
        self._summaries = library("tensorboardX.proto.summary_pb2", "tensorboard")
        self._records = library("tensorboardX.record_writer", "tensorboard")
        self._hparams = library("tensorboardX.summary", "tensorboard").hparams
        self._folder = folder
        self._exported: dict[str, set[tuple[str, int]]] = {}  # trial -> tag and step of each value in its files

    def add(self, trial: Trial, values: list[Value]) -> int:
        """Add a file with the missing values; return their number."""
        folder = self._folder / trial.name
        files = sorted(folder.glob("events.out.tfevents.*"))
        if trial.trial_id not in self._exported:
            self._exported[trial.trial_id] = set(self._read(files))
        exported = self._exported[trial.trial_id]
        new = [value for value in values if (value.tag, value.step) not in exported]
        if not new and files:
            return 0
        make_folder(folder)
        temporary = folder / ".being_made"  # "tfevents" in a name is a file to read
        # Existing files are complete, and TensorBoard reads files in the order of their names.
        events = [] if files else list(self._settings(trial))
        events += [self._scalar(value) for value in new]
        self._write(temporary, events)
        name_file(temporary, folder / f"events.out.tfevents.{len(files):06d}")
        exported |= {(value.tag, value.step) for value in new}
        return len(new)

    def _write(self, path: Path, events: list[Any]) -> None:
        path.unlink(missing_ok=True)  # of an export that was killed
        writer = self._records.RecordWriter(str(path))
        for event in [self._events.Event(file_version="brain.Event:2"), *events]:
            writer.write(event.SerializeToString())
        writer.close()

    def _settings(self, trial: Trial) -> Iterator[Any]:
        """Yield the events that fill the page of settings and scores."""
        shown = {f"point/{name}": 0.0 for name in POINT_COLUMNS}
        for summary in self._hparams(dict(trial.settings), shown):
            yield self._events.Event(wall_time=(trial.started_us or 0) / 1e6, summary=summary)

    def _scalar(self, value: Value) -> Any:
        number = self._summaries.Summary.Value(tag=value.tag, simple_value=value.number)
        summary = self._summaries.Summary(value=[number])
        return self._events.Event(wall_time=value.at_us / 1e6, step=value.step, summary=summary)

    def _read(self, files: list[Path]) -> Iterator[tuple[str, int]]:
        """Yield tag and step of each value in these files."""
        for file in files:
            content = file.read_bytes()
            offset = 0
            while offset < len(content):
                (length,) = struct.unpack_from("<Q", content, offset)
                event = self._events.Event.FromString(content[offset + HEADER : offset + HEADER + length])
                offset += HEADER + length + FOOTER
                for value in event.summary.value:
                    yield value.tag, event.step
