"""How a program is cut into blocks, which widths are measured, and a small table that is really measured."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from tailor.common.errors import ConfigError
from tailor.config.latency_table import LatencyTable, read_table
from tailor.deploy.block_profile import Kernel, ProfiledLayer, cut, kind_of, profiled
from tailor.deploy.block_table import MOST_WIDTHS, grid_of, line_through, measure_table, rank_correlation
from tailor.deploy.resized_program import ResizedProgram
from tailor.model.circumstance import EXAMPLE
from tailor.model.passes import onnx_program
from tailor.model.programs import images_for
from tailor.stage_execution.preparing import initial_state
from tailor.stages import GroupRule
from tests.commands import transtailor_command
from transtailor.__main__ import main


def kernel(op: str, weight: tuple[int, ...], ms: float = 1.0, side: int = 7) -> Kernel:
    shape = (1, 16, side, side)
    return Kernel(op=op, input_shape=shape, weight_shape=weight, output_shape=shape, ms=ms)


def layer(*shape: int, positions: int = 49) -> ProfiledLayer:
    return ProfiledLayer(shape=shape, positions=positions)


def test_a_block_is_a_layer_and_what_runs_up_to_the_next() -> None:
    kernels = [
        kernel("ReorderInput", ()),
        kernel("Conv", (32, 3, 3, 3)),
        kernel("Conv", (32, 1, 3, 3)),
        kernel("Sigmoid", ()),
        kernel("Mul", (1, 32, 7, 7)),
        kernel("MatMul", (32, 10)),
        Kernel(op="Gemm", input_shape=(1, 10), weight_shape=(6,), output_shape=(1, 6), ms=1.0),
    ]
    layers = {"a.weight": layer(24, 3, 3, 3), "b.weight": layer(24, 1, 3, 3)}  # padded
    layers |= {"c.weight": layer(10, 32), "d.weight": layer(6, 10)}  # transposed, and packed: only its bias is seen
    blocks = cut(kernels, layers, "net")
    assert [(block.weight, block.kernels) for block in blocks] == [
        ("a.weight", (1,)),
        ("b.weight", (2, 3, 4)),
        ("c.weight", (5,)),
        ("d.weight", (6,)),
    ]
    assert kind_of(kernels, blocks[1]) == "Conv+Sigmoid+Mul 3x3, 7x7 to 7x7"


def test_of_equal_layers_the_first_comes_first_and_a_layer_without_kernel_is_refused() -> None:
    kernels = [kernel("Conv", (16, 16, 1, 1)), kernel("Conv", (16, 16, 1, 1))]
    layers = {"a.weight": layer(16, 16, 1, 1), "b.weight": layer(16, 16, 1, 1)}
    assert [block.weight for block in cut(kernels, layers, "net")] == ["a.weight", "b.weight"]
    with pytest.raises(ConfigError, match="has no kernel for c.weight alone"):
        cut(kernels, layers | {"c.weight": layer(8, 16)}, "net")


def test_equal_weights_are_told_apart_by_their_maps() -> None:
    kernels = [kernel("Conv", (16, 16, 1, 1), side=4), kernel("Conv", (16, 16, 1, 1), side=7)]
    layers = {"a.weight": layer(16, 16, 1, 1), "down.weight": layer(16, 16, 1, 1, positions=16)}
    assert [block.weight for block in cut(kernels, layers, "net")] == ["down.weight", "a.weight"]


@pytest.mark.parametrize("filters", [8, 16, 24, 64, 96, 960, 2048])
@pytest.mark.parametrize("step", [1, 8, 16])
def test_a_grid_has_ends_of_steps_and_the_whole(filters: int, step: int) -> None:
    grid = grid_of(filters, step)
    assert grid == sorted(set(grid)) and grid[-1] == filters and len(grid) <= MOST_WIDTHS
    assert all(width % step == 0 for width in grid[:-1])


def test_a_line_never_falls() -> None:
    assert line_through([1.0, 2.0, 4.0], [3.0, 2.0, 1.0]) == (1.0, 0.0)


@pytest.mark.check
@pytest.mark.parametrize(
    ("network", "shape"),
    [("digits_resnet", (1, 8, 8)), ("mobilenet_v2", (3, 33, 33)), ("efficientnet_b0", (3, 33, 33))],
)
def test_what_is_measured_has_the_kernels_of_what_is_exported(network: str, shape: tuple[int, ...]) -> None:
    """Norms and activations are fused into the convolutions in both."""
    state = initial_state(network, 6, shape, seed=0)
    images = images_for(state, 1, seed=0).numpy()
    kernels = [
        [(kernel.op, kernel.weight_shape, kernel.output_shape) for kernel in profiled(content, images, 1, 1)]
        for content in (ResizedProgram(state, 1).at(state), onnx_program(state, 1))
    ]
    assert kernels[0] == kernels[1]
    assert "BatchNormalization" not in {op for op, _, _ in kernels[0]}


def test_ranks_are_compared() -> None:
    first = np.array([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(first, first**3) == pytest.approx(1.0)
    assert rank_correlation(first, -first) == pytest.approx(-1.0)


def test_another_runtime_is_refused() -> None:
    from dataclasses import replace

    eager = replace(EXAMPLE, runtime="eager")
    with pytest.raises(ConfigError, match="tables are measured in onnxruntime"):
        next(measure_table(initial_state("digits_resnet", 5, (1, 8, 8), seed=0), GroupRule(), eager))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("net.py:Net", "error: net.py:Net is no name of a network; for your own, type --module net.py:Net"),
        ("", "error: give one: the name of a NETWORK, or --module FILE:NAME of your own"),
        ("--module net.py:Net --classes 3", "error: --classes is for NETWORK; what --module makes has the outputs"),
        ("--module absent.py:Net", "error: --module absent.py:Net cannot be made: no such file"),
    ],
)
def test_one_network_is_named(typed: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "table", *typed.split(), "--image-px", "8", "--out", str(tmp_path / "table.json")]) == 2
    assert capsys.readouterr().err.startswith(said)


def test_the_table_of_a_users_network_says_how_it_is_made_again() -> None:
    table = LatencyTable.model_construct(
        network="my net.py:Net", classes=5, input_shape=(3, 32, 32), rule=GroupRule(linear=True).identity(),
        circumstance={"threads": 1},
    )  # fmt: skip
    again = "model table --module 'my net.py:Net' --image-px 32 --residual inside --threads 1 --out Net.table.json"
    assert table.how_to_make().endswith(again) and table.how_to_make(6) == table.how_to_make()


@pytest.mark.check
def test_a_small_network_is_measured(tmp_path: Path) -> None:
    """Whatever the machine does meanwhile, each cell is there, and the file is whole."""
    file = tmp_path / "table.json"
    words = ("digits_resnet", "--image-px", "8", "--classes", "5", "--threads", "1", "--out", str(file))
    done = transtailor_command("model", "table", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "median error" in done.stdout
    try:
        table = read_table(file)
    except ConfigError as error:  # this machine is busy, and the table says so
        assert "median error" in str(error) and "table_sha256 = " not in done.stdout
        return
    assert "table_sha256 = " in done.stdout
    advice = done.stdout.partition("to prune by it, ")[2]
    pasted = "".join(line.partition("]: ")[2] for line in advice.splitlines(keepends=True))
    spec = tomllib.loads(pasted)
    assert spec["pruning"] == {"residual": "coupled", "linear": True} and spec["allocation"]["table"] == str(file)
    assert table.network == "digits_resnet" and table.whole_ms > table.least_ms >= 0
