"""A sub-model in 8-bit integers: ONNX Runtime's static quantisation, with its accuracy and its time beside the floats'.

Weights have a scale for each output channel, activations one for each tensor, from their extremes on training images.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from tailor.common.errors import ConfigError
from tailor.config.data import DataConfig
from tailor.data.objective import Quality, quality
from tailor.data.task_data import Samples, Splits, generator, ordered_batches, splits
from tailor.facts.metrics import Metric
from tailor.methods.recipe import task_of
from tailor.model.circumstance import circumstance_here
from tailor.model.passes import as_deployed, onnx_pass
from tailor.model.programs import images_for
from tailor.model.state import DESCRIPTION_FILE, ModelState
from tailor.model.timing import UNSTEADY, time_in_turns
from transtailor.documents import read_json
from transtailor.plural import times_as_fast
from transtailor.validation import list_faults

CALIBRATION_IMAGES = 256  # training images, or all if there are fewer (C)
ROUNDS = 12  # each file's turns
FLOATS = "float32"
INTEGERS = "int8"


def splits_of(folder: Path, root: Path | None) -> Splits:
    """Return the splits of the data set that a saved model was made for.

    Args:
        folder: of the saved model, with its card.
        root: the folder of prepared data sets; None for those of the catalogue.

    Raises:
        ConfigError: the model has no card, or its data set is not there, or has changed.
    """
    facts = read_json(folder / DESCRIPTION_FILE).get("facts")
    if facts is None:
        raise ConfigError(
            f"--int8 calibrates on the training images of the model's data set, and {folder} does not say which; it is "
            "for sub-models of trials: transtailor trial run TRIAL --save FOLDER"
        )
    settings = facts["settings"]
    try:
        data = DataConfig.model_validate(settings["data"] | {"layout": None} | ({"root": str(root)} if root else {}))
    except ValidationError as error:
        reason = "" if root is None else f": {list_faults(error)[0].expected}"
        raise ConfigError(
            f"the data set {facts['data']!r} of the model was not found{reason}; give the folder that has it: "
            "--data-root FOLDER"
        ) from error
    if data.samples_sha256 != facts["data_sha256"]:
        raise ConfigError(
            f"the data set {facts['data']!r} has SHA-256 {data.samples_sha256}, and the model was made with "
            f"{facts['data_sha256']}; give the folder with that one: --data-root FOLDER"
        )
    return splits(task_of(data, settings["seed"]), data.root)


def quantise(content: bytes, samples: Samples) -> bytes:
    """Return a program of ONNX in 8-bit integers (quantise and dequantise around each operation).

    Args:
        content: the program in float32, for any number of images.
        samples: training images; CALIBRATION_IMAGES of them are drawn.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    chosen = torch.randperm(len(samples), generator=generator(0, "calibration"))[:CALIBRATION_IMAGES].sort().values
    batches = [images.cpu().numpy() for images, _ in ordered_batches(samples.take(chosen.to(samples.labels.device)))]
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "float.onnx").write_bytes(content)
        quant_pre_process(folder / "float.onnx", folder / "prepared.onnx")  # folds norms into convolutions
        quantize_static(
            folder / "prepared.onnx",
            folder / "int8.onnx",
            _Images(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return (folder / "int8.onnx").read_bytes()


class _Images:
    """Gives the calibration its batches, as ONNX Runtime's CalibrationDataReader does."""

    def __init__(self, batches: list["np.ndarray[Any, Any]"]) -> None:
        self._feeds = iter([{"images": batch} for batch in batches])

    def get_next(self) -> dict[str, "np.ndarray[Any, Any]"] | None:
        """Return the next batch; None at the end."""
        return next(self._feeds, None)


def quantised(
    content: bytes, state: ModelState, data: Splits, threads: int | None, metric: Metric
) -> tuple[bytes, list[str]]:
    """Return a program in 8-bit integers, and in words its validation score and its time beside the floats'.

    Args:
        content: the program in float32, for any number of images.
        state: its model.
        threads: of the CPU; None: as many as torch takes.
        metric: of the score.
    """
    integers = quantise(content, data.train)
    of_floats = score(content, data.validation, metric)
    of_integers = score(integers, data.validation, metric)
    circumstance = circumstance_here(torch.device("cpu"), runtime="onnxruntime", threads=threads, precision="float32")
    images = images_for(state, circumstance.batch, seed=0)
    with as_deployed(circumstance):
        passes = {FLOATS: onnx_pass(content, images, circumstance.threads)}
        passes[INTEGERS] = onnx_pass(integers, images, circumstance.threads)
        times = time_in_turns(passes, rounds=ROUNDS)
    speed = times[INTEGERS].speed
    metric_name = metric.replace("_", " ")
    lines = [
        f"int8: validation {metric_name} {of_integers.score:.4f}, in float32 {of_floats.score:.4f}, on "
        f"{len(data.validation)} images",
        f"int8: {times_as_fast(speed, 'in float32')} ({times[INTEGERS].median_ms:.4g} ms instead of "
        f"{times[INTEGERS].first_ms:.4g} ms)",
    ]
    if not times[INTEGERS].is_steady:
        lines.append(UNSTEADY)
    return integers, lines


def score(content: bytes, samples: Samples, metric: Metric | None = None) -> Quality:
    """Return the quality of a program of ONNX on samples; without a metric by the task's usual one."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs = []
    for images, _ in ordered_batches(samples):
        (of_batch,) = session.run(None, {"images": images.cpu().numpy()})
        outputs.append(torch.from_numpy(of_batch))
    return quality(torch.cat(outputs), samples.labels.cpu(), metric)
