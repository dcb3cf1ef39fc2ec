"""The tables of a run: every column with its type, unit and meaning, and the natural key of the rows.

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
"""Increased by one with every change of a table below, and written to each file. A reader refuses newer versions, and
reads older ones through `results.store.schema_migrations`."""

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
    "controller_started", "worker_submitted", "worker_joined", "worker_draining", "worker_lost", "worker_ended",
    "worker_refused", "handed_over", "paused", "resumed", "waiting", "stopping", "stopped",
)  # fmt: skip
"""The kinds of events of a cluster."""
_SCORE = "fraction, or R squared"
_LOSS = "nats, or squared units of the target"


@dataclass(frozen=True)
class ColumnSchema:
    """One column: its unit is "" if it has none; `one_of` lists the only values allowed, () means any."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    nullable: bool = False
    one_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableSchema:
    """One table: of rows with the same values in the columns of `key`, only the one written last counts.

    Nulls in a key are equal to each other.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[ColumnSchema, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"table {self.name}: a column is there twice: {names}")
        if missing := [name for name in self.key if name not in names]:
            raise ValueError(f"table {self.name}: key columns {missing} are not among the columns {names}")


_TRIAL = ColumnSchema("trial_id", STRING, "", "hash of the trial's configuration and of the versions of what it uses")
_POINT = ColumnSchema("point", INTEGER, "", "number of the operating point on the trial's path, counted from 0")
_STAGE = ColumnSchema("stage_key", STRING, "sha256", "key of the stage in the cache")
_TRAIN_IMAGES = "training images that the trial may use; fewer if a class has too few; null: not known"
_ARM = (
    ColumnSchema("label", STRING, "", "name of the arm in comparisons"),
    ColumnSchema("method", STRING, "", "name of the method"),
    ColumnSchema("network", STRING, "", "name of the network's architecture"),
    ColumnSchema("dataset", STRING, "", "name of the target data set"),
    ColumnSchema("train_images", INTEGER, "images", _TRAIN_IMAGES, nullable=True),
    ColumnSchema("seed", INTEGER, "", "seed of the trial"),
)
_SWEEP = ColumnSchema("sweep", STRING, "", "name of the sweep")
_SPAN = (
    ColumnSchema("started_at", MOMENT, "UTC", "when it began"),
    ColumnSchema("ended_at", MOMENT, "UTC", "when it ended"),
)
_EVERY_TABLE = (
    ColumnSchema("code_digest", STRING, "sha256", "digest of the code that wrote the row"),
    ColumnSchema(
        "written_at", MOMENT, "UTC", "when the row was written; set by the writer, the last row of a key counts"
    ),
)

_ALL = (
    TableSchema(
        "planned",
        ("trial_id",),
        (
            _SWEEP,
            _TRIAL,
            *_ARM,
            ColumnSchema("ranks", INTEGER, "processes", "ranks that the trial asks for"),
            ColumnSchema("points_planned", INTEGER, "operating points", "length of the trial's path as planned"),
            ColumnSchema(
                "config_json", STRING, "JSON", "the trial's whole configuration, each `auto` of its method resolved"
            ),
            ColumnSchema("stage_keys", STRINGS, "sha256", "keys of the trial's stages in the order of execution"),
            ColumnSchema(
                "tuning_json",
                STRING,
                "JSON",
                "the trial's values of the spec's [tuning]; null without it",
                nullable=True,
            ),
            ColumnSchema(
                "tuning_order",
                INTEGER,
                "",
                "place of these values among the settings of [tuning], counted from 0; null without it",
                nullable=True,
            ),
        ),
    ),
    TableSchema(
        "trials",
        ("trial_id",),
        (
            _TRIAL,
            ColumnSchema("status", STRING, "", "how the trial ended", one_of=("finished", "failed")),
            ColumnSchema("attempts", INTEGER, "attempts", "number of attempts"),
            *_SPAN,
            ColumnSchema("seconds", FLOAT, "s", "time from the start to the end of the trial"),
            ColumnSchema("error", STRING, "", "why the trial failed; null unless it failed", nullable=True),
        ),
    ),
    TableSchema(
        "attempts",
        ("trial_id", "attempt"),
        (
            _TRIAL,
            ColumnSchema("attempt", INTEGER, "", "number of the attempt"),
            ColumnSchema("driver", STRING, "", "unique id of the process that launched the attempt"),
            ColumnSchema(
                "status",
                STRING,
                "",
                "state of the attempt, or how it ended",
                one_of=("running", "finished", "failed", "died", "interrupted"),
            ),
            ColumnSchema("cause", STRING, "", "why it ended that way; null if not known", nullable=True),
            ColumnSchema(
                "log_tail", STRING, "", "last lines of the attempt's log; null if there are none", nullable=True
            ),
            ColumnSchema("host", STRING, "", "name of the machine that launched the attempt"),
            ColumnSchema(
                "nodes", STRINGS, "", "names of the machines of its ranks, by rank; null if not known", nullable=True
            ),
            ColumnSchema("started_at", MOMENT, "UTC", "when it began"),
            ColumnSchema("ended_at", MOMENT, "UTC", "when it ended; null while it runs", nullable=True),
        ),
    ),
    TableSchema(
        "stages",
        ("trial_id", "stage_key"),
        (
            _TRIAL,
            _STAGE,
            ColumnSchema("kind", STRING, "", "kind of the stage"),
            ColumnSchema("kind_version", INTEGER, "", "version of the kind"),
            ColumnSchema("order", INTEGER, "", "place of the stage in the trial's order of execution, counted from 0"),
            ColumnSchema("parents", STRINGS, "sha256", "keys of the stages it is made from"),
            ColumnSchema("cached", BOOLEAN, "", "true if this trial found it in the cache"),
            ColumnSchema("compute_s", FLOAT, "s", "time it took, as measured by the trial that computed it"),
            ColumnSchema("device", STRING, "", "device of the trial that computed it"),
            ColumnSchema("ranks", INTEGER, "processes", "ranks of the trial that computed it"),
            ColumnSchema("torch_version", STRING, "", "torch version of the trial that computed it"),
            ColumnSchema("stored_bytes", INTEGER, "bytes", "size of the stage in the cache"),
        ),
    ),
    TableSchema(
        "epochs",
        ("trial_id", "stage_key", "epoch"),
        (
            _TRIAL,
            _STAGE,
            ColumnSchema("epoch", INTEGER, "", "number of the epoch"),
            ColumnSchema("kind", STRING, "", "kind of the stage"),
            ColumnSchema("train_loss", FLOAT, _LOSS, "mean loss over the epoch's training images"),
            ColumnSchema(
                "train_accuracy_fraction",
                FLOAT,
                "fraction",
                "share of the epoch's training images predicted correctly; null without classes",
                nullable=True,
            ),
            ColumnSchema("learning_rate", FLOAT, "", "learning rate of the epoch"),
            ColumnSchema("images", INTEGER, "images", "images seen in the epoch"),
            ColumnSchema("seconds", FLOAT, "s", "time the epoch took"),
        ),
    ),
    TableSchema(
        "layers",
        ("trial_id", "point", "layer"),
        (
            _TRIAL,
            _POINT,
            ColumnSchema("layer", STRING, "", "name of the layer in the network"),
            ColumnSchema("order", INTEGER, "", "place of the layer in the network, counted from 0"),
            ColumnSchema("width", INTEGER, "filters", "filters that are left"),
            ColumnSchema("original_width", INTEGER, "filters", "filters before pruning"),
            ColumnSchema("macs", INTEGER, "MACs", "multiply-accumulates of the layer for one image"),
        ),
    ),
    TableSchema(
        "kept_filters",
        ("trial_id", "point", "layer"),
        (
            _TRIAL,
            _POINT,
            ColumnSchema(
                "layer",
                STRING,
                "",
                "name of a layer that lost filters, as in layers; no row if all are left, if they are removed together"
                " with another layer's (depthwise convolutions), if they are none of the original's (a narrower"
                " network, new weights), or if the stage was cached before this table existed",
            ),
            ColumnSchema(
                "filters", INTEGERS, "", "places, in the unpruned network, of the filters left, from 0, ascending"
            ),
        ),
    ),
    TableSchema(
        "operating_points",
        ("trial_id", "point"),
        (
            _SWEEP,
            _TRIAL,
            _POINT,
            *_ARM,
            ColumnSchema("stage_key", STRING, "sha256", "key of this operating point's own stage"),
            ColumnSchema("model_key", STRING, "sha256", "key of the stage that made the model measured here"),
            ColumnSchema(
                "protocol",
                STRING,
                "",
                "which split decides inside the trial: validation, or paper for the training images",
            ),
            ColumnSchema(
                "asked_removed_macs_fraction",
                FLOAT,
                "fraction",
                "share of the MACs that was to be removed; null if a rule of the method decided that",
                nullable=True,
            ),
            ColumnSchema("removed_macs_fraction", FLOAT, "fraction", "share of the original MACs that is removed"),
            ColumnSchema("macs", INTEGER, "MACs", "multiply-accumulates for one image"),
            ColumnSchema("original_macs", INTEGER, "MACs", "the same for the unpruned network with the target's head"),
            ColumnSchema("params", INTEGER, "parameters", "weights and biases"),
            ColumnSchema("trained_epochs", INTEGER, "epochs", "epochs of training on the target behind this model"),
            ColumnSchema(
                "trained_macs",
                FLOAT,
                "MACs",
                "work of all training on the target behind this model; null in rows of version 1",
                nullable=True,
            ),
            ColumnSchema("metric", STRING, "", "what the scores are, the larger the better", one_of=METRICS),
            ColumnSchema("validation_score", FLOAT, _SCORE, "the model's score on the validation split"),
            ColumnSchema(
                "deciding_score", FLOAT, _SCORE, "score that the trial decided by; `protocol` says on which split"
            ),
            ColumnSchema("validation_loss", FLOAT, _LOSS, "mean loss on the validation split"),
            ColumnSchema("validation_images", INTEGER, "images", "images in the validation split"),
        ),
    ),
    TableSchema(
        "predictions",
        ("trial_id", "point", "split", "image_id"),
        (
            _TRIAL,
            _POINT,
            ColumnSchema("split", STRING, "", "split the image belongs to", one_of=("validation", "test")),
            ColumnSchema("image_id", INTEGER, "", "number of the image in its data set"),
            ColumnSchema("label", INTEGER, "", "class of the image"),
            ColumnSchema("prediction", INTEGER, "", "class that the model predicts"),
            ColumnSchema("probability", FLOAT, "fraction", "probability that the model gives to this class"),
        ),
    ),
    TableSchema(
        "estimates",
        ("trial_id", "point", "split", "sample_id"),
        (
            _TRIAL,
            _POINT,
            ColumnSchema("split", STRING, "", "split the sample belongs to", one_of=("validation", "test")),
            ColumnSchema("sample_id", INTEGER, "", "number of the sample in its data set"),
            ColumnSchema("target", FLOAT, "the data set's", "true value of the sample"),
            ColumnSchema("estimate", FLOAT, "the data set's", "value that the model predicts"),
        ),
    ),
    TableSchema(
        "timings",
        ("model_key", "device_name", "threads", "precision", "batch"),
        (
            ColumnSchema("model_key", STRING, "sha256", "key of the stage that made the model, as in operating_points"),
            ColumnSchema("device_name", STRING, "", "model of the processor or GPU that it was timed on"),
            ColumnSchema("threads", INTEGER, "threads", "threads of the processor"),
            ColumnSchema("precision", STRING, "", "type of the weights' and images' numbers"),
            ColumnSchema("batch", INTEGER, "images", "images of one forward pass"),
            ColumnSchema("repeats", INTEGER, "forward passes", "passes that were timed, one by one"),
            ColumnSchema("latency_ms", FLOAT, "ms", "median time of a forward pass"),
            ColumnSchema("latency_lower_quartile_ms", FLOAT, "ms", "lower quartile of the same"),
            ColumnSchema("latency_upper_quartile_ms", FLOAT, "ms", "upper quartile of the same"),
            ColumnSchema(
                "peak_memory_bytes",
                INTEGER,
                "bytes",
                "most memory that the passes held, weights included; null if the system does not report it",
                nullable=True,
            ),
            ColumnSchema("torch_version", STRING, "", "torch that timed it"),
        ),
    ),
    TableSchema(
        "events",
        ("driver", "number"),
        (
            ColumnSchema("driver", STRING, "", "unique id of the process that saw the event"),
            ColumnSchema("number", INTEGER, "", "number of the event among those of its driver, counted from 0"),
            ColumnSchema("happened_at", MOMENT, "UTC", "when it happened"),
            ColumnSchema("kind", STRING, "", "what the cluster did", one_of=EVENT_KINDS),
            ColumnSchema("job", STRING, "", "id of the job in SLURM; null without one", nullable=True),
            ColumnSchema("node", STRING, "", "name of the machine; null if it concerns none", nullable=True),
            ColumnSchema(
                "slots",
                INTEGER,
                "trials",
                "trials that can run at once after the event; null if not known",
                nullable=True,
            ),
            ColumnSchema("detail", STRING, "", "details as text; null if there are none", nullable=True),
        ),
    ),
    TableSchema(
        "printed",
        ("paper", "place", "label", "network", "dataset", "asked_removed_macs_fraction"),
        (
            ColumnSchema("paper", STRING, "", "short name of the paper, such as TransTailor (AAAI 2021)"),
            ColumnSchema("place", STRING, "", "where the paper prints it, such as Table 1"),
            ColumnSchema("label", STRING, "", "name of the arm that the number is compared with"),
            ColumnSchema("method", STRING, "", "the method's name here; null if there is none", nullable=True),
            ColumnSchema("network", STRING, "", "name of the network's architecture"),
            ColumnSchema("dataset", STRING, "", "name of the target data set"),
            ColumnSchema(
                "asked_removed_macs_fraction",
                FLOAT,
                "fraction",
                "share of the MACs that was to be removed; null if the paper does not say",
                nullable=True,
            ),
            ColumnSchema("metric", STRING, "", "what the value is", one_of=METRICS),
            ColumnSchema("value", FLOAT, _SCORE, "the number that is printed"),
            ColumnSchema("note", STRING, "", "a remark; null if there is none", nullable=True),
        ),
    ),
)

TABLES: Mapping[str, TableSchema] = MappingProxyType(
    {table.name: TableSchema(table.name, table.key, (*table.columns, *_EVERY_TABLE)) for table in _ALL}
)
"""All tables by name; read only."""


def table_named(name: str) -> TableSchema:
    """Return the table of that name.

    Raises:
        ValueError: no such table; the text names the nearest one and all tables.
    """
    if name in TABLES:
        return TABLES[name]
    raise ValueError(f"no table {name!r}: {did_you_mean(name, TABLES)}Tables: {', '.join(TABLES)}")


def arrow_schema(table: TableSchema) -> pa.Schema:
    """Build the Arrow schema of a table's files: with unit and meaning of each field, table name and schema version."""
    fields = [
        pa.field(column.name, column.type, column.nullable, {"unit": column.unit, "meaning": column.meaning})
        for column in table.columns
    ]
    return pa.schema(fields, {"table": table.name, "schema_version": str(SCHEMA_VERSION)})
