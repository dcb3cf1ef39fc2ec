"""The tables of a run: every column with its type, unit and meaning, and the natural key that tells rows apart.

A row of `operating_points`, shortened::

    {"trial_id": "9f2c...", "point": 2, "label": "transtailor", "seed": 0, "asked_removed_macs_fraction": 0.2,
     "removed_macs_fraction": 0.2031, "metric": "accuracy", "validation_score": 0.912, ...}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pyarrow as pa

from transtailor.names import did_you_mean

SCHEMA_VERSION = 4
"""Raised by one with every change of a table below; it stands in each file. A reader refuses newer ones, and reads
older ones by way of `results.store.older`."""

STRING = pa.string()
INTEGER = pa.int64()
FLOAT = pa.float64()
BOOLEAN = pa.bool_()
STRINGS = pa.list_(pa.string())
INTEGERS = pa.list_(pa.int32())
MOMENT = pa.timestamp("us", tz="UTC")

METRICS = ("accuracy", "r_squared")
"""What a score can be: accuracy, a fraction of images; or R squared, 1 at best and without a lower end."""
EVENT_KINDS = (
    "controller_started",
    "worker_submitted",
    "worker_joined",
    "worker_draining",
    "worker_lost",
    "worker_ended",
    "worker_refused",
    "handed_over",
    "paused",
    "resumed",
    "waiting",
    "stopping",
    "stopped",
)
"""What a cluster can do."""
_SCORE = "fraction, or R squared"
_LOSS = "nats, or squared units of the target"


@dataclass(frozen=True)
class Column:
    """One column: its unit is "" where there is none; `one_of` lists the only values allowed, () means any."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    nullable: bool = False
    one_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """One table: rows with the same values in the columns of `key` are the same row, and the last written counts.

    Nulls in a key are equal to one another.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"table {self.name}: a column is there twice: {names}")
        if missing := [name for name in self.key if name not in names]:
            raise ValueError(f"table {self.name}: key columns {missing} are not among the columns {names}")


_TRIAL = Column("trial_id", STRING, "", "hash of the trial's configuration and of the versions of what it uses")
_POINT = Column("point", INTEGER, "", "number of the operating point on the trial's path, counted from 0")
_STAGE = Column("stage_key", STRING, "sha256", "key of the stage in the cache")
_TRAIN_IMAGES = "training images that the trial may use; fewer are there if a class has too few; null: not known"
_ARM = (
    Column("label", STRING, "", "name of the arm in comparisons"),
    Column("method", STRING, "", "name of the method"),
    Column("network", STRING, "", "name of the network's architecture"),
    Column("dataset", STRING, "", "name of the target data set"),
    Column("train_images", INTEGER, "images", _TRAIN_IMAGES, nullable=True),
    Column("seed", INTEGER, "", "seed of the trial"),
)
_SWEEP = Column("sweep", STRING, "", "name of the sweep")
_SPAN = (
    Column("started_at", MOMENT, "UTC", "when it began"),
    Column("ended_at", MOMENT, "UTC", "when it ended"),
)
_EVERY_TABLE = (
    Column("code_digest", STRING, "sha256", "digest of the code that wrote the row"),
    Column("written_at", MOMENT, "UTC", "when the row was written; set by the writer, the last row of a key counts"),
)

_ALL = (
    Table(
        "planned",
        ("trial_id",),
        (
            _SWEEP,
            _TRIAL,
            *_ARM,
            Column("ranks", INTEGER, "processes", "ranks that the trial asks for"),
            Column("points_planned", INTEGER, "operating points", "length of the trial's path as planned"),
            Column(
                "config_json", STRING, "JSON", "the trial's whole configuration, each `auto` of its method resolved"
            ),
            Column("stage_keys", STRINGS, "sha256", "keys of the trial's stages in the order of execution"),
            Column(
                "tuning_json",
                STRING,
                "JSON",
                "the trial's values of the spec's [tuning]; null without it",
                nullable=True,
            ),
            Column(
                "tuning_order",
                INTEGER,
                "",
                "place of these values among the settings of [tuning], counted from 0; null without it",
                nullable=True,
            ),
        ),
    ),
    Table(
        "trials",
        ("trial_id",),
        (
            _TRIAL,
            Column("status", STRING, "", "how the trial ended", one_of=("finished", "failed")),
            Column("attempts", INTEGER, "attempts", "tries made in all"),
            *_SPAN,
            Column("seconds", FLOAT, "s", "time from the start to the end of the trial"),
            Column("error", STRING, "", "why the trial failed; null unless it failed", nullable=True),
        ),
    ),
    Table(
        "attempts",
        ("trial_id", "attempt"),
        (
            _TRIAL,
            Column("attempt", INTEGER, "", "number of the try"),
            Column("driver", STRING, "", "unique id of the process that launched the try"),
            Column(
                "status",
                STRING,
                "",
                "where the try stands or how it ended",
                one_of=("running", "finished", "failed", "died", "interrupted"),
            ),
            Column("cause", STRING, "", "why it ended that way; null where there is nothing to say", nullable=True),
            Column("log_tail", STRING, "", "last lines of the try's log; null where there are none", nullable=True),
            Column("host", STRING, "", "name of the machine that launched the try"),
            Column(
                "nodes",
                STRINGS,
                "",
                "names of the machines of its ranks, by rank; null where they are not known",
                nullable=True,
            ),
            Column("started_at", MOMENT, "UTC", "when it began"),
            Column("ended_at", MOMENT, "UTC", "when it ended; null while it runs", nullable=True),
        ),
    ),
    Table(
        "stages",
        ("trial_id", "stage_key"),
        (
            _TRIAL,
            _STAGE,
            Column("kind", STRING, "", "kind of the stage"),
            Column("kind_version", INTEGER, "", "version of the kind"),
            Column("order", INTEGER, "", "place of the stage in the trial's order of execution, counted from 0"),
            Column("parents", STRINGS, "sha256", "keys of the stages it is made from"),
            Column("cached", BOOLEAN, "", "true where this trial found it computed"),
            Column("compute_s", FLOAT, "s", "time it took, as measured by whoever computed it"),
            Column("device", STRING, "", "device of whoever computed it"),
            Column("ranks", INTEGER, "processes", "ranks of whoever computed it"),
            Column("torch_version", STRING, "", "torch of whoever computed it"),
            Column("stored_bytes", INTEGER, "bytes", "size of the stage in the cache"),
        ),
    ),
    Table(
        "epochs",
        ("trial_id", "stage_key", "epoch"),
        (
            _TRIAL,
            _STAGE,
            Column("epoch", INTEGER, "", "number of the epoch"),
            Column("kind", STRING, "", "kind of the stage"),
            Column("train_loss", FLOAT, _LOSS, "mean loss over the epoch's training images"),
            Column(
                "train_accuracy_fraction",
                FLOAT,
                "fraction",
                "share of the epoch's training images named rightly; null where there are no classes",
                nullable=True,
            ),
            Column("learning_rate", FLOAT, "", "learning rate of the epoch"),
            Column("images", INTEGER, "images", "images seen in the epoch"),
            Column("seconds", FLOAT, "s", "time the epoch took"),
        ),
    ),
    Table(
        "layers",
        ("trial_id", "point", "layer"),
        (
            _TRIAL,
            _POINT,
            Column("layer", STRING, "", "name of the layer in the network"),
            Column("order", INTEGER, "", "place of the layer in the network, counted from 0"),
            Column("width", INTEGER, "filters", "filters that are left"),
            Column("original_width", INTEGER, "filters", "filters before pruning"),
            Column("macs", INTEGER, "MACs", "multiply-accumulates of the layer for one image"),
        ),
    ),
    Table(
        "kept_filters",
        ("trial_id", "point", "layer"),
        (
            _TRIAL,
            _POINT,
            Column(
                "layer",
                STRING,
                "",
                "name of a layer that lost filters, as in layers; no row where all are left, where they go with another"
                " layer's (depthwise convolutions), where they are none of the original's (a narrower network, weights"
                " made anew), and where the stage was cached before this table was there",
            ),
            Column("filters", INTEGERS, "", "places, in the unpruned network, of the filters left, from 0, ascending"),
        ),
    ),
    Table(
        "operating_points",
        ("trial_id", "point"),
        (
            _SWEEP,
            _TRIAL,
            _POINT,
            *_ARM,
            Column("stage_key", STRING, "sha256", "key of this operating point's own stage"),
            Column("model_key", STRING, "sha256", "key of the stage that made the model measured here"),
            Column(
                "protocol",
                STRING,
                "",
                "which split decides inside the trial: validation, or paper for the training images",
            ),
            Column(
                "asked_removed_macs_fraction",
                FLOAT,
                "fraction",
                "share of the MACs that was to be removed; null where a rule of the method decided that",
                nullable=True,
            ),
            Column("removed_macs_fraction", FLOAT, "fraction", "share of the original MACs that is gone"),
            Column("macs", INTEGER, "MACs", "multiply-accumulates for one image"),
            Column("original_macs", INTEGER, "MACs", "the same of the unpruned network with the target's head"),
            Column("params", INTEGER, "parameters", "weights and biases"),
            Column("trained_epochs", INTEGER, "epochs", "epochs of training on the target behind this model"),
            Column(
                "trained_macs",
                FLOAT,
                "MACs",
                "work of all training on the target behind this model; null where it was not written down (version 1)",
                nullable=True,
            ),
            Column("metric", STRING, "", "what the scores are, the larger the better", one_of=METRICS),
            Column("validation_score", FLOAT, _SCORE, "the model's score on the validation split"),
            Column("deciding_score", FLOAT, _SCORE, "what the trial decided by; `protocol` says on which split"),
            Column("validation_loss", FLOAT, _LOSS, "mean loss on the validation split"),
            Column("validation_images", INTEGER, "images", "images in the validation split"),
        ),
    ),
    Table(
        "predictions",
        ("trial_id", "point", "split", "image_id"),
        (
            _TRIAL,
            _POINT,
            Column("split", STRING, "", "split the image belongs to", one_of=("validation", "test")),
            Column("image_id", INTEGER, "", "number of the image in its data set"),
            Column("label", INTEGER, "", "class of the image"),
            Column("prediction", INTEGER, "", "class that the model names"),
            Column("probability", FLOAT, "fraction", "probability that the model gives to the class it names"),
        ),
    ),
    Table(
        "estimates",
        ("trial_id", "point", "split", "sample_id"),
        (
            _TRIAL,
            _POINT,
            Column("split", STRING, "", "split the sample belongs to", one_of=("validation", "test")),
            Column("sample_id", INTEGER, "", "number of the sample in its data set"),
            Column("target", FLOAT, "the data set's", "true value of the sample"),
            Column("estimate", FLOAT, "the data set's", "value that the model gives"),
        ),
    ),
    Table(
        "timings",
        ("model_key", "device_name", "threads", "precision", "batch"),
        (
            Column("model_key", STRING, "sha256", "key of the stage that made the model, as in operating_points"),
            Column("device_name", STRING, "", "model of the processor or GPU that it was timed on"),
            Column("threads", INTEGER, "threads", "threads of the processor"),
            Column("precision", STRING, "", "type of the weights' and images' numbers"),
            Column("batch", INTEGER, "images", "images of one forward pass"),
            Column("repeats", INTEGER, "forward passes", "passes that were timed, each alone"),
            Column("latency_ms", FLOAT, "ms", "median time of a forward pass"),
            Column("latency_lower_quartile_ms", FLOAT, "ms", "lower quartile of the same"),
            Column("latency_upper_quartile_ms", FLOAT, "ms", "upper quartile of the same"),
            Column(
                "peak_memory_bytes",
                INTEGER,
                "bytes",
                "most memory that the passes held, weights included; null where the system does not tell",
                nullable=True,
            ),
            Column("torch_version", STRING, "", "torch that timed it"),
        ),
    ),
    Table(
        "events",
        ("driver", "number"),
        (
            Column("driver", STRING, "", "unique id of the process that saw the event"),
            Column("number", INTEGER, "", "number of the event among those of its driver, counted from 0"),
            Column("happened_at", MOMENT, "UTC", "when it happened"),
            Column("kind", STRING, "", "what the cluster did", one_of=EVENT_KINDS),
            Column("job", STRING, "", "id of the job in SLURM; null without one", nullable=True),
            Column("node", STRING, "", "name of the machine; null where it concerns none", nullable=True),
            Column(
                "slots",
                INTEGER,
                "trials",
                "trials that can run at once after the event; null where that is not known",
                nullable=True,
            ),
            Column("detail", STRING, "", "more about it, in words; null where there is nothing to say", nullable=True),
        ),
    ),
    Table(
        "printed",
        ("paper", "place", "label", "network", "dataset", "asked_removed_macs_fraction"),
        (
            Column("paper", STRING, "", "short name of the paper, such as TransTailor (AAAI 2021)"),
            Column("place", STRING, "", "where the paper prints it, such as Table 1"),
            Column("label", STRING, "", "name of the arm that the number stands beside"),
            Column("method", STRING, "", "the method's name here; null where there is none", nullable=True),
            Column("network", STRING, "", "name of the network's architecture"),
            Column("dataset", STRING, "", "name of the target data set"),
            Column(
                "asked_removed_macs_fraction",
                FLOAT,
                "fraction",
                "share of the MACs that was to be removed; null where the paper does not say",
                nullable=True,
            ),
            Column("metric", STRING, "", "what the value is", one_of=METRICS),
            Column("value", FLOAT, _SCORE, "the number that is printed"),
            Column("note", STRING, "", "what is to be known of it; null where there is nothing to say", nullable=True),
        ),
    ),
)

TABLES: Mapping[str, Table] = MappingProxyType(
    {table.name: Table(table.name, table.key, (*table.columns, *_EVERY_TABLE)) for table in _ALL}
)
"""All tables by name; read only."""


def table_named(name: str) -> Table:
    """The table of that name.

    Raises:
        ValueError: there is none; the text names the nearest and all others.
    """
    if name in TABLES:
        return TABLES[name]
    raise ValueError(f"there is no table {name!r}: {did_you_mean(name, TABLES)}Tables: {', '.join(TABLES)}")


def arrow_schema(table: Table) -> pa.Schema:
    """The Arrow schema of a table's files: unit and meaning in each field, table and schema version in the whole."""
    fields = [
        pa.field(column.name, column.type, column.nullable, {"unit": column.unit, "meaning": column.meaning})
        for column in table.columns
    ]
    return pa.schema(fields, {"table": table.name, "schema_version": str(SCHEMA_VERSION)})
