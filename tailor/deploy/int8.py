"""A sub-model in 8-bit integers: ONNX Runtime's static quantisation, calibrated on training images.

On CPUs without VNNI (AVX2 alone), ONNX Runtime adds two products of an unsigned and a signed byte in 16 bits, which
saturate. So weights have seven bits. A depthwise convolution is computed in 32 bits everywhere and keeps eight: on
MobileNetV2 its outputs are then as near to the floats' as with eight bits in all layers, and with seven twice as far.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import torch

from tailor.common.errors import ConfigError
from tailor.config.data import DataConfig
from tailor.data.task_data import Samples, Splits, generator, ordered_batches, splits
from tailor.methods.recipe import task_of
from tailor.model.state import DESCRIPTION_FILE
from transtailor.documents import read_json

CALIBRATION_IMAGES = 256  # training images, or all if there are fewer (C)
TYPES = "8-bit activations; 7-bit weights, 8-bit in depthwise convolutions"


def splits_of(folder: Path, root: Path | None) -> Splits:
    """Return the splits that a saved model was made for; ConfigError: it is of no trial, or has another data set."""
    facts = read_json(folder / DESCRIPTION_FILE).get("facts")
    if facts is None:
        raise ConfigError(f"--int8 is for sub-models of trials, and {folder} names no data set; leave it out")
    settings = facts["settings"]
    try:
        data = DataConfig.model_validate(settings["data"] | {"root": None if root is None else str(root)})
        is_same = data.samples_sha256 == facts["data_sha256"]
    except ValueError:  # the catalogue or the folder has no such data set
        is_same = False
    if not is_same:
        raise ConfigError(
            f"the data set {facts['data']!r} of the model, with SHA-256 {facts['data_sha256']}, is not in "
            f"{root or 'this program'}; give the folder that has it: --data-root FOLDER"
        )
    return splits(task_of(data, settings["seed"]), data.root)


def quantise(content: bytes, samples: Samples) -> bytes:
    """Return a program of ONNX for any number of images in 8-bit integers, calibrated on some of the samples."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    drawn = torch.randperm(len(samples), generator=generator(0, "calibration"))[:CALIBRATION_IMAGES].sort().values
    batches = ordered_batches(samples.take(drawn.to(samples.labels.device)))
    feeds = ({"images": images.cpu().numpy()} for images, _ in batches)
    with TemporaryDirectory() as folder:
        prepared, integers = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(onnx.load_from_string(content), prepared)  # folds norms into convolutions
        graph = onnx.load(prepared).graph
        shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        eight_bits = {}
        for node in graph.node:
            groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
            if node.op_type == "Conv" and shapes.get(node.input[1], ())[:2] == (groups, 1):  # a depthwise convolution
                eight_bits[node.input[1]] = [{"quant_type": QuantType.QInt8, "reduce_range": False, "axis": 0}]
        quantize_static(
            prepared, integers, SimpleNamespace(get_next=lambda: next(feeds, None)), per_channel=True,
            reduce_range=True, activation_type=QuantType.QUInt8, extra_options={"TensorQuantOverrides": eight_bits},
        )  # fmt: skip
        return integers.read_bytes()
