"""What SLURM 20 to 25 print, read by one grammar. Each value has the form that its comment names; numbers are ours."""

import pytest

from hpc.slurm_grammar import (
    Gres,
    count_of,
    gres_of,
    is_gres_kind,
    is_node_usable,
    job_state,
    memory_mb,
    minutes_of,
    tres_of,
)


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
    ("limit", "minutes"),
    [
        *(("2-01:30:00", 2970), ("1:00:00", 60), ("30:00", 30), ("00:30", 0), ("365-00:00:00", 525600)),  # sinfo %l
        *((limit, None) for limit in ("infinite", "n/a")),  # sinfo %l
        *(("UNLIMITED", None), ("NONE", None)),  # scontrol: MaxTime, DefaultTime
        ("", None),  # sacctmgr: MaxWall
        *(("90", 90), ("1-12", 2160), ("1-12:30", 2190)),  # sbatch(1): as people write them
    ],
)
def test_limits_of_time(limit: str, minutes: int | None) -> None:
    assert minutes_of(limit) == minutes


@pytest.mark.parametrize("limit", ["soon", "1:2:3:4", "-5", "1-", "1-2:3:4:5"])
def test_what_is_no_limit_of_time_is_not_taken_for_none(limit: str) -> None:
    with pytest.raises(ValueError, match="is no limit of time"):
        minutes_of(limit)


@pytest.mark.parametrize(
    ("state", "is_usable"),
    [
        # by sinfo, as its column STATE
        *((state, True) for state in ("idle", "allocated", "mixed", "completing", "planned", "reserved", "maint")),
        *((state, True) for state in ("idle~", "idle#", "mixed-", "allocated-", "idle%", "mixed@", "idle^", "idle!")),
        *((state, False) for state in ("down", "down*", "down~", "drained", "draining*", "fail", "inval", "unknown*")),
        # scontrol of 20.11 and of 21.08, github.com/aws/aws-parallelcluster-node/pull/350
        *(("IDLE+CLOUD+POWER", True), ("MIXED#+CLOUD", True), ("DOWN*+CLOUD+POWER", False)),
        *(("IDLE+CLOUD+POWERED_DOWN", True), ("DOWN+CLOUD+NOT_RESPONDING", False)),
        ("MIXED+CLOUD+NOT_RESPONDING+POWERING_UP", True),
        # github.com/rackslab/Slurm-web/issues/153 and 154
        *(("DOWN*+DRAIN", False), ("IDLE+DRAIN", False)),
        # 25.05 and 25.11, SlinkyProject/slurm-operator/issues/45; SckyzO/slurm_exporter/issues/243
        *(("IDLE+DYNAMIC_NORM", True), ("DOWN+DYNAMIC_NORM+NOT_RESPONDING", False), ("IDLE+PLANNED", True)),
        ("n/a", True),  # a partition without nodes
    ],
)
def test_states_of_nodes(state: str, is_usable: bool) -> None:
    assert is_node_usable(state) == is_usable


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


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [("256000", 256000), ("256000+", 256000), ("750G", 768000), ("1.5T", 1572864), ("UNLIMITED", None), ("", None)],
)
def test_amounts_of_memory(text: str, megabytes: int | None) -> None:
    assert memory_mb(text) == megabytes


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        # scontrol of 25.05; sacctmgr's MaxTRESPU, github.com/aws/aws-parallelcluster/issues/6621 (24.05)
        ("cpu=62,mem=750G,node=1,gres/gpu:nvidia_h100_nvl=1", [62, 768000, 1, 1]),
        ("cpu=8,mem=500G", [8, 512000]),
        ("cpu=24,mem=15674M,node=2,billing=24", [24, 15674, 2, 24]),
        ("gres/gpu:3090=8", [8]),
        ("", []),
    ],
)
def test_trackable_resources(text: str, amounts: list[int]) -> None:
    assert [*tres_of(text).values()] == amounts
    assert [*tres_of(text)] == [entry.partition("=")[0] for entry in text.split(",") if entry]


@pytest.mark.parametrize(("text", "number"), [("64", 64), ("64+", 64), ("UNLIMITED", None), ("n/a", None), ("0", 0)])
def test_numbers(text: str, number: int | None) -> None:
    assert count_of(text) == number
