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

SCHEMA_VERSION = 7
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


def _column(name: str, type_: pa.DataType, unit: str, meaning: str, one_of: tuple[str, ...] = ()) -> ColumnSchema:
    return ColumnSchema(name, type_, unit, meaning, one_of=one_of)


def _nullable(name: str, type_: pa.DataType, unit: str, meaning: str) -> ColumnSchema:
    return ColumnSchema(name, type_, unit, meaning, nullable=True)


def _table(name: str, key: tuple[str, ...], *columns: ColumnSchema) -> TableSchema:
    return TableSchema(name, key, (*columns, *_EVERY_TABLE))


_TRIAL = _column("trial_id", STRING, "", "hash of the trial's configuration and of the versions of what it uses")
_POINT = _column("point", INTEGER, "", "number of the operating point on the trial's path, counted from 0")
_STAGE = _column("stage_key", STRING, "sha256", "key of the stage in the cache")
_TRAIN_IMAGES = "training images that the trial may use; fewer if a class has too few; null: not known"
_ARM = (
    _column("label", STRING, "", "name of the arm in comparisons"),
    _column("method", STRING, "", "name of the method"),
    _column("network", STRING, "", "name of the network's architecture"),
    _column("dataset", STRING, "", "name of the target data set"),
    _nullable("train_images", INTEGER, "images", _TRAIN_IMAGES),
    _column("seed", INTEGER, "", "seed of the trial"),
)
_SWEEP = _column("sweep", STRING, "", "name of the sweep")
_SPAN = (
    _column("started_at", MOMENT, "UTC", "when it began"),
    _column("ended_at", MOMENT, "UTC", "when it ended"),
)
_EVERY_TABLE = (
    _column("code_digest", STRING, "sha256", "digest of the code that wrote the row"),
    _column("written_at", MOMENT, "UTC", "when the row was written; set by the writer, the last row of a key counts"),
)

_ALL = (
    _table(
        "planned",
        ("trial_id",),
        _SWEEP,
        _TRIAL,
        *_ARM,
        _column("ranks", INTEGER, "processes", "ranks that the trial asks for"),
        _column("points_planned", INTEGER, "operating points", "length of the trial's path as planned"),
        _column("config_json", STRING, "JSON", "the trial's whole configuration, each `auto` of its method resolved"),
        _column("stage_keys", STRINGS, "sha256", "keys of the trial's stages in the order of execution"),
        _nullable("tuning_json", STRING, "JSON", "the trial's values of the spec's [tuning]; null without it"),
        _nullable(
            "tuning_order",
            INTEGER,
            "",
            "place of these values among the settings of [tuning], counted from 0; null without it",
        ),
    ),
    _table(
        "trials",
        ("trial_id",),
        _TRIAL,
        _column("status", STRING, "", "how the trial ended", one_of=("finished", "failed", "stopped")),
        _column("attempts", INTEGER, "attempts", "number of attempts"),
        *_SPAN,
        _column("seconds", FLOAT, "s", "time from the start to the end of the trial"),
        _nullable("error", STRING, "", "why the trial failed; null unless it failed"),
    ),
    _table(
        "attempts",
        ("trial_id", "attempt"),
        _TRIAL,
        _column("attempt", INTEGER, "", "number of the attempt"),
        _column("driver", STRING, "", "unique id of the process that launched the attempt"),
        _column(
            "status",
            STRING,
            "",
            "state of the attempt, or how it ended",
            one_of=("running", "finished", "rested", "failed", "died", "interrupted"),
        ),
        _nullable("cause", STRING, "", "why it ended that way; null if not known"),
        _nullable("log_tail", STRING, "", "last lines of the attempt's log; null if there are none"),
        _column("host", STRING, "", "name of the machine that launched the attempt"),
        _nullable("nodes", STRINGS, "", "names of the machines of its ranks, by rank; null if not known"),
        _column("started_at", MOMENT, "UTC", "when it began"),
        _nullable("ended_at", MOMENT, "UTC", "when it ended; null while it runs"),
    ),
    _table(
        "stages",
        ("trial_id", "stage_key"),
        _TRIAL,
        _STAGE,
        _column("kind", STRING, "", "kind of the stage"),
        _column("kind_version", INTEGER, "", "version of the kind"),
        _column("order", INTEGER, "", "place of the stage in the trial's order of execution, counted from 0"),
        _column("parents", STRINGS, "sha256", "keys of the stages it is made from"),
        _column("cached", BOOLEAN, "", "true if this trial found it in the cache"),
        _column("compute_s", FLOAT, "s", "time it took, as measured by the trial that computed it"),
        _column("device", STRING, "", "device of the trial that computed it"),
        _column("ranks", INTEGER, "processes", "ranks of the trial that computed it"),
        _column("torch_version", STRING, "", "torch version of the trial that computed it"),
        _column("stored_bytes", INTEGER, "bytes", "size of the stage in the cache"),
    ),
    _table(
        "epochs",
        ("trial_id", "stage_key", "epoch"),
        _TRIAL,
        _STAGE,
        _column("epoch", INTEGER, "", "number of the epoch"),
        _column("kind", STRING, "", "kind of the stage"),
        _column("train_loss", FLOAT, _LOSS, "mean loss over the epoch's training images"),
        _nullable(
            "train_accuracy_fraction",
            FLOAT,
            "fraction",
            "share of the epoch's training images predicted correctly; null without classes",
        ),
        _nullable(
            "validation_loss", FLOAT, _LOSS, "mean loss on the validation split after the epoch; null: not measured"
        ),
        _nullable(
            "validation_score", FLOAT, _SCORE, "score on the validation split after the epoch; null: not measured"
        ),
        _column("learning_rate", FLOAT, "", "learning rate of the epoch"),
        _column("images", INTEGER, "images", "images seen in the epoch"),
        _column("seconds", FLOAT, "s", "time the epoch took"),
    ),
    _table(
        "layers",
        ("trial_id", "point", "layer"),
        _TRIAL,
        _POINT,
        _column("layer", STRING, "", "name of the layer in the network"),
        _column("order", INTEGER, "", "place of the layer in the network, counted from 0"),
        _column("width", INTEGER, "filters", "filters that are left"),
        _column("original_width", INTEGER, "filters", "filters before pruning"),
        _column("macs", INTEGER, "MACs", "multiply-accumulates of the layer for one image"),
    ),
    _table(
        "kept_filters",
        ("trial_id", "point", "layer"),
        _TRIAL,
        _POINT,
        _column(
            "layer",
            STRING,
            "",
            "name of a layer that lost filters, as in layers; no row if all are left, if they are removed together"
            " with another layer's (depthwise convolutions), if they are none of the original's (a narrower"
            " network, new weights), or if the stage was cached before this table existed",
        ),
        _column("filters", INTEGERS, "", "places, in the unpruned network, of the filters left, from 0, ascending"),
    ),
    _table(
        "operating_points",
        ("trial_id", "point"),
        _SWEEP,
        _TRIAL,
        _POINT,
        *_ARM,
        _column("stage_key", STRING, "sha256", "key of this operating point's own stage"),
        _column("model_key", STRING, "sha256", "key of the stage that made the model measured here"),
        _column(
            "protocol", STRING, "", "which split decides inside the trial: validation, or paper for the training images"
        ),
        _nullable(
            "asked_removed_macs_fraction",
            FLOAT,
            "fraction",
            "share of the MACs that was to be removed; null if a rule of the method decided that",
        ),
        _column("removed_macs_fraction", FLOAT, "fraction", "share of the original MACs that is removed"),
        _column("macs", INTEGER, "MACs", "multiply-accumulates for one image"),
        _column("original_macs", INTEGER, "MACs", "the same for the unpruned network with the target's head"),
        _column("params", INTEGER, "parameters", "weights and biases"),
        _column("trained_epochs", INTEGER, "epochs", "epochs of training on the target behind this model"),
        _nullable(
            "trained_macs",
            FLOAT,
            "MACs",
            "work of all training on the target behind this model; null in rows of version 1",
        ),
        _column("metric", STRING, "", "what the scores are, the larger the better", one_of=METRICS),
        _column("validation_score", FLOAT, _SCORE, "the model's score on the validation split"),
        _column("deciding_score", FLOAT, _SCORE, "score that the trial decided by; `protocol` says on which split"),
        _column("validation_loss", FLOAT, _LOSS, "mean loss on the validation split"),
        _column("validation_images", INTEGER, "images", "images in the validation split"),
    ),
    _table(
        "predictions",
        ("trial_id", "point", "split", "image_id"),
        _TRIAL,
        _POINT,
        _column("split", STRING, "", "split the image belongs to", one_of=("validation", "test")),
        _column("image_id", INTEGER, "", "number of the image in its data set"),
        _column("label", INTEGER, "", "class of the image"),
        _column("prediction", INTEGER, "", "class that the model predicts"),
        _column("probability", FLOAT, "fraction", "probability that the model gives to this class"),
    ),
    _table(
        "estimates",
        ("trial_id", "point", "split", "sample_id"),
        _TRIAL,
        _POINT,
        _column("split", STRING, "", "split the sample belongs to", one_of=("validation", "test")),
        _column("sample_id", INTEGER, "", "number of the sample in its data set"),
        _column("target", FLOAT, "the data set's", "true value of the sample"),
        _column("estimate", FLOAT, "the data set's", "value that the model predicts"),
    ),
    _table(
        "timings",
        ("model_key", "device_name", "threads", "precision", "batch"),
        _column("model_key", STRING, "sha256", "key of the stage that made the model, as in operating_points"),
        _column("device_name", STRING, "", "model of the processor or GPU that it was timed on"),
        _column("threads", INTEGER, "threads", "threads of the processor"),
        _column("precision", STRING, "", "type of the weights' and images' numbers"),
        _column("batch", INTEGER, "images", "images of one forward pass"),
        _column("repeats", INTEGER, "forward passes", "passes that were timed, one by one"),
        _column("latency_ms", FLOAT, "ms", "median time of a forward pass"),
        _column("latency_lower_quartile_ms", FLOAT, "ms", "lower quartile of the same"),
        _column("latency_upper_quartile_ms", FLOAT, "ms", "upper quartile of the same"),
        _nullable(
            "peak_memory_bytes",
            INTEGER,
            "bytes",
            "most memory that the passes held, weights included; null if the system does not report it",
        ),
        _column("torch_version", STRING, "", "torch that timed it"),
    ),
    _table(
        "proposals",
        ("number",),
        _column("number", INTEGER, "", "number of the proposal in the search, counted from 0"),
        _column("batch", INTEGER, "", "number of its batch; it was made from the scores of all smaller ones"),
        _column("purpose", STRING, "", "why it was made", one_of=("search", "promote", "end", "confirm")),
        _column("variant", INTEGER, "", "number of the variant in the spec, counted from 0"),
        _column("values_json", STRING, "JSON", "its value of each axis, without the seed"),
        _column("seeds", INTEGERS, "", "seeds of its trials"),
        _column("trial_ids", STRINGS, "", "its trials, one for each seed; empty if it was refused"),
        _column(
            "drawn_by", STRING, "", "sampler that proposed it; random where the sampler proposed what had been tried"
        ),
        _nullable("rung", INTEGER, "", "number of the rung to which its trials run, from 0; null: to their end"),
        _nullable("promotes", INTEGER, "", "number of the proposal whose trials it continues; null if it has its own"),
        _nullable(
            "eta", INTEGER, "settings", "one of this many settings of the rung below continues; null: no promotion"
        ),
        _nullable("confirms", INTEGER, "", "number of the proposal that it runs again; null in a search"),
        _nullable("refusal", STRING, "", "why it has no trials, or why the search ended early; null otherwise"),
        _column(
            "unscored",
            STRINGS,
            "",
            "trials of smaller batches without a score when it was made: failed, or asynchronously still running",
        ),
    ),
    _table(
        "rungs",
        ("trial_id", "rung"),
        _TRIAL,
        _column("rung", INTEGER, "", "number of the rung on the search's ladder, counted from 0"),
        _nullable("epochs", INTEGER, "epochs", "epochs of the last fine-tuning that are done; null: it is at a point"),
        _nullable("point", INTEGER, "", "number of the operating point; null: it is in a fine-tuning"),
        _STAGE,
        _column("metric", STRING, "", "what the score is, the larger the better", one_of=METRICS),
        _column("validation_score", FLOAT, _SCORE, "the model's score on the validation split"),
        _column("macs", INTEGER, "MACs", "multiply-accumulates for one image"),
    ),
    _table(
        "events",
        ("driver", "number"),
        _column("driver", STRING, "", "unique id of the process that saw the event"),
        _column("number", INTEGER, "", "number of the event among those of its driver, counted from 0"),
        _column("happened_at", MOMENT, "UTC", "when it happened"),
        _column("kind", STRING, "", "what the cluster did", one_of=EVENT_KINDS),
        _nullable("job", STRING, "", "id of the job in SLURM; null without one"),
        _nullable("node", STRING, "", "name of the machine; null if it concerns none"),
        _nullable("slots", INTEGER, "trials", "trials that can run at once after the event; null if not known"),
        _nullable("detail", STRING, "", "details as text; null if there are none"),
    ),
    _table(
        "printed",
        ("paper", "place", "label", "network", "dataset", "asked_removed_macs_fraction"),
        _column("paper", STRING, "", "short name of the paper, such as TransTailor (AAAI 2021)"),
        _column("place", STRING, "", "where the paper prints it, such as Table 1"),
        _column("label", STRING, "", "name of the arm that the number is compared with"),
        _nullable("method", STRING, "", "the method's name here; null if there is none"),
        _column("network", STRING, "", "name of the network's architecture"),
        _column("dataset", STRING, "", "name of the target data set"),
        _nullable(
            "asked_removed_macs_fraction",
            FLOAT,
            "fraction",
            "share of the MACs that was to be removed; null if the paper does not say",
        ),
        _column("metric", STRING, "", "what the value is", one_of=METRICS),
        _column("value", FLOAT, _SCORE, "the number that is printed"),
        _nullable("note", STRING, "", "a remark; null if there is none"),
    ),
)

TABLES: Mapping[str, TableSchema] = MappingProxyType({table.name: table for table in _ALL})
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
