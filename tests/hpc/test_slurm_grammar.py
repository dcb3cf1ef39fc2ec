"""What SLURM 20 to 25 print, read by one grammar. Each value has the form that its comment names; numbers are ours."""

import pytest

from hpc.slurm_grammar import Gres, gres_of, is_gres_kind, job_state


@pytest.mark.parametrize(
    ("text", "resources"),
    [
        ("(null)", []),
        ("", []),
        ("gpu:2", [Gres("gpu", None, 2)]),  # 20.11, github.com/vpenso/prometheus-slurm-exporter: "gpu:2"
        ("gpu:(null):3(IDX:0-7)", [Gres("gpu", None, 3)]),  # 21.08, the same: GresUsed where no type is set
        ("gpu:A30:4(IDX:0-3),gpu:Q6K:4(IDX:0-3)", [Gres("gpu", "A30", 4), Gres("gpu", "Q6K", 4)]),  # 21.08, the same
        # 2021, github.com/Bartzi/LabShare/issues/114
        ("gpu:1080ti:1(IDX:0),gpu:980gtx:1(IDX:1)", [Gres("gpu", "1080ti", 1), Gres("gpu", "980gtx", 1)]),
        ("gpu:3090:3(IDX:0-2)", [Gres("gpu", "3090", 3)]),
        ("gpu:titanx:0(IDX:N/A)", [Gres("gpu", "titanx", 0)]),
        ("gpu:3090:8(S:0-1)", [Gres("gpu", "3090", 8)]),  # sinfo -o "%n %G" of clusters with RTX 3090
        ("gpu:a40:1(S:0,2,4,6,8,10)", [Gres("gpu", "a40", 1)]),  # 25.05.2, SlinkyProject/slurm-operator/issues/45
        ("gpu:a100:4(S:0,1),shard:8", [Gres("gpu", "a100", 4), Gres("shard", None, 8)]),
        (
            "gpu:nvidia_h100_80gb_hbm3_1g.12gb:7(S:0)",
            [Gres("gpu", "nvidia_h100_80gb_hbm3_1g.12gb", 7)],
        ),  # MIG, 21.08 on
        ("gpu:a100:no_consume:4", [Gres("gpu", "a100", 4, is_consumed=False)]),  # gres.conf(5): no_consume
        ("gpu:no_consume:4", [Gres("gpu", None, 4, is_consumed=False)]),
        ("craynetwork:4,gpu:2", [Gres("craynetwork", None, 4), Gres("gpu", None, 2)]),
        ("bandwidth:lustre:4K", [Gres("bandwidth", "lustre", 4096)]),  # slurm.conf(5): a count may have K, M or G
        ("gpu", []),
    ],
)
def test_generic_resources(text: str, resources: list[Gres]) -> None:
    assert gres_of(text) == resources
    assert all(is_gres_kind(resource.kind) for resource in resources)


@pytest.mark.parametrize("text", ["gpu:4", "gpu:16", "gpu:a100:4", "gpu:", "gpu a100", "gpu:a100,shard", ""])
def test_a_number_of_gpus_is_no_name(text: str) -> None:
    assert not is_gres_kind(text)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("CANCELLED by 1000", "CANCELLED"),  # sacct
        ("CANCELLED+", "CANCELLED"),  # sacct in a narrow column
        ("OUT_OF_MEMORY", "OUT_OF_MEMORY"),
        ("", ""),
    ],
)
def test_states_of_jobs(text: str, state: str) -> None:
    assert job_state(text) == state
