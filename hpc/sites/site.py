"""Sites: what differs between clusters, read from TOML by name or path. Needs: what one job asks for at a site."""

import os
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hpc.errors import SiteError
from hpc.slurm_grammar import is_gres_kind
from transtailor.documents import DocumentError, describe_fault, read_toml
from transtailor.names import nearest
from transtailor.shell import command
from transtailor.validation import explained, keys_of

SHIPPED = Path(__file__).parent
ONE_MACHINE_SITES = ("local", "serial")
"""What `--site` of a launch calls this machine; they have no file."""
REFUSED_FLAGS = {
    "account", "array", "chdir", "cluster-constraint", "clusters", "constraint", "cpu-bind", "cpus-per-gpu",
    "cpus-per-task", "dependency", "error", "exclusive", "gid", "gpu-bind", "gpus", "gpus-per-node",
    "gpus-per-socket", "gpus-per-task", "gres", "help", "het-group", "job-name", "mem", "mem-per-cpu",
    "mem-per-gpu", "mincpus", "no-requeue", "nodes", "ntasks", "ntasks-per-board", "ntasks-per-core",
    "ntasks-per-gpu", "ntasks-per-node", "ntasks-per-socket", "ntasks-per-tres", "open-mode", "output",
    "overcommit", "oversubscribe", "pack-group", "parsable", "partition", "qos", "quiet", "requeue", "share",
    "signal", "tasks-per-node", "test-only", "time", "time-min", "tres-bind", "tres-per-task", "uid", "usage",
    "verbose", "version", "wait", "workdir", "wrap",
}  # fmt: skip
"""Flags of sbatch (20.02 to 25.11) that `[sbatch]` cannot have; nor one that sbatch would take for their beginning."""
GONE = {"limits.array_size": "leave it out: no sweep submits a job array"}
"""Keys that sites had -> what to do instead."""


def one_line(text: str) -> str:
    """Return `text` if it is safe in an `#SBATCH` line; after a line break it would be run as a command.

        >>> one_line("gpu:a100")
        'gpu:a100'

    Raises:
        ValueError: it is empty, or has control characters or a backslash (which SLURM and bash read differently).
    """
    if not text.strip() or not text.isprintable() or "\\" in text:
        raise ValueError("write one line of text, not empty, without line breaks, tabs, control characters and \\")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("write an absolute path, beginning with /")
    return text


def _absolute_or_variable(text: str) -> str:
    if not re.match(r"/|\$[A-Z]", text):
        raise ValueError("write an absolute path, beginning with / or with a variable of the job such as $TMPDIR")
    return text


def _cluster_name(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", text) or text.lower() == "all":
        raise ValueError(
            'write the name of one cluster, such as "wice"; sacctmgr show clusters format=cluster lists them'
        )
    return text


def _a_megabyte_or_more(memory_gb: float) -> float:
    if memory_gb * 1024 < 1:
        raise ValueError("write at least 0.001, which is 1 MB: --mem=0 would ask for all memory of a node")
    if memory_gb > 1e6:  # a petabyte, more than any machine has
        raise ValueError("write at most 1000000, in units of a GB")
    return memory_gb


def _command_line(text: str) -> str:
    if not text.replace("\t", " ").isprintable():
        raise ValueError("write one line of bash per entry of the list")
    if text.lstrip().startswith("#SBATCH"):
        raise ValueError("flags of sbatch belong into the table [sbatch], as key = value")
    return text


def _gres_name(gres: str | None) -> str | None:
    if gres is not None and not is_gres_kind(gres):
        raise ValueError('write only the name, such as "gpu:a100" or "gpu:3090", and the number as gpus_per_node')
    return gres


def _with_gpus(record: Any) -> Any:
    if record.gres is not None and record.gpus_per_node == 0:
        raise ValueError(f"gres = {record.gres!r} needs gpus_per_node, the number of GPUs of a node")
    return record


OneLine = Annotated[str, AfterValidator(one_line)]
AbsoluteFolder = Annotated[OneLine, AfterValidator(_absolute)]
ScratchFolder = Annotated[OneLine, AfterValidator(_absolute_or_variable)]
MemoryGb = Annotated[float, Field(gt=0, allow_inf_nan=False), AfterValidator(_a_megabyte_or_more)]
ClusterName = Annotated[OneLine, AfterValidator(_cluster_name)]
CommandLine = Annotated[str, AfterValidator(_command_line)]
Count = Annotated[int, Field(ge=1)]


class SiteRecord(BaseModel):
    """A frozen record that refuses unknown keys and does not convert types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SubmissionLimits(SiteRecord):
    """What one sweep may use of a site; None sets no limit."""

    max_jobs: Count | None = None
    """Jobs of one sweep at a time."""
    gpu_hours_per_sweep: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """GPUs times hours of walltime that the workers of one sweep may ask for."""


CONTROLLER_GB = 4.0


class Controller(SiteRecord):
    """The job that drives a sweep and trains nothing; None is the value for all jobs of the site."""

    partition: OneLine | None = None
    qos: OneLine | None = None
    constraint: OneLine | None = None
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    """GPUs that it asks for and does not use, as partitions want whose jobs all have to ask for some."""
    gres: OneLine | None = None
    cpus: Count = 1
    memory_gb: MemoryGb | None = None
    """None: CONTROLLER_GB, or what a worker's node has where that is less."""
    walltime_min: Count | None = None
    container: Annotated[tuple[OneLine, ...], Field(strict=False)] = ()
    """Words before its command. Not the site's: it submits jobs, and few containers have an sbatch."""

    _gres_is_a_name = field_validator("gres")(_gres_name)
    _gres_counts_something = model_validator(mode="after")(_with_gpus)


class Site(SiteRecord):
    """How to ask for jobs at one cluster, and the resources of a node there."""

    description: OneLine | None = None
    """A line for the list of sites."""
    cluster: ClusterName | None = None
    """One of several clusters behind a login node (`-M` of SLURM's commands); None is the login node's own."""
    partition: OneLine | None = None
    """None leaves the choice to SLURM, here and in the next keys."""
    account: OneLine | None = None
    qos: OneLine | None = None
    constraint: OneLine | None = None
    """Features that a node must have, in SLURM's syntax, such as "a100|h100"."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    gres: OneLine | None = None
    """The name of GPUs, such as "gpu:a100": jobs ask for `--gres=gpu:a100:N`; with None for `--gpus-per-node=N`."""
    cpus_per_node: Count
    memory_gb: MemoryGb | None = None
    """Memory of a node that jobs may use (SLURM's GB, 2**30 bytes); None leaves memory to SLURM's default."""
    memory: Literal["per_node", "per_cpu", "per_gpu", "none"] = "per_node"
    """By which flag jobs ask for their memory; with "per_gpu", those without GPUs ask for it per CPU."""
    walltime_min: Count
    """The longest walltime of a job, and the default."""
    exclusive: bool = False
    """Whether a job shares its nodes with no other job."""
    setup: Annotated[tuple[CommandLine, ...], Field(strict=False)] = ()
    """Lines of bash before the command, such as `module load cuda`; they are not quoted or changed."""
    container: Annotated[tuple[OneLine, ...], Field(strict=False)] = ()
    """Words before the command, such as ["apptainer", "exec", "--nv", "/shared/image.sif"]."""
    network_interface: OneLine | None = None
    """The interface between nodes, such as "ib0", for gloo and NCCL."""
    tls: bool = False
    """Whether Ray's calls between nodes, and the token in them, are encrypted (Ray's own TLS)."""
    shared_folder: AbsoluteFolder | None = None
    """A folder that all nodes see: jobs start there, and their logs must be below it."""
    scratch_folder: ScratchFolder | None = None
    """A folder of the node for temporary files; `$NAME` is a variable of the job's environment."""
    drain_before_s: Count = 120
    """How long before its walltime a worker gets no more work, and its running trials move."""
    idle_s: Annotated[float, Field(ge=0)] = 60.0
    """How long a worker without work is kept."""
    on_end: Annotated[tuple[OneLine, ...], Field(strict=False)] = ()
    """A command for the end of a sweep; called with finished, failed or interrupted, and the run's folder."""
    controller: Controller = Controller()
    limits: SubmissionLimits = SubmissionLimits()
    sbatch: dict[str, OneLine | int | bool] = {}
    """Any further flag of sbatch: `reservation = "spring"` is `--reservation=spring`, `flag = true` is `--flag`."""

    _gres_is_a_name = field_validator("gres")(_gres_name)
    _gres_counts_something = model_validator(mode="after")(_with_gpus)

    @field_validator("sbatch")
    @classmethod
    def _flags_are_free(cls, flags: dict[str, Any]) -> dict[str, Any]:
        for flag, value in flags.items():
            word = flag.lstrip("-")
            if word.startswith("container") or (word and any(refused.startswith(word) for refused in REFUSED_FLAGS)):
                raise ValueError(
                    f"{flag!r} cannot be set here, as a sweep's jobs set it or depend on it: leave it out, or set "
                    "a key above [sbatch]"
                )
            if not re.fullmatch(r"[a-z][a-z0-9-]*", flag):
                raise ValueError(f"{flag!r} is not a flag of sbatch: write its long name without --")
            if value is False:
                raise ValueError(f"{flag} = false has no effect; leave it out")
        return flags

    def controller_site(self) -> "Site":
        """Return this site for the controller's job: with its own partition, qos, constraint, CPUs, memory and GPUs."""
        controller = self.controller
        changes: dict[str, Any] = {
            "cpus_per_node": controller.cpus,  # its partition may have other nodes than the workers'
            "memory_gb": controller.memory_gb or min(CONTROLLER_GB, self.memory_gb or CONTROLLER_GB),
            "gpus_per_node": controller.gpus_per_node,
            "gres": self.gres if controller.gpus_per_node else None,
            "limits": self.limits.model_copy(update={"gpu_hours_per_sweep": None}),  # of workers
            "exclusive": False,
            "container": controller.container,
            "walltime_min": controller.walltime_min or self.walltime_min,
        }
        if controller.partition:
            # The site's qos, features and gres are those of another partition, and would be refused there.
            changes |= {"partition": controller.partition, "qos": None, "constraint": None, "gres": None}
        if controller.qos:
            changes["qos"] = controller.qos
        if controller.constraint:
            changes["constraint"] = controller.constraint
        if controller.gres:
            changes["gres"] = controller.gres
        return self.model_copy(update=changes)


def _log_folder(folder: Path) -> Path:
    text = str(folder)
    if not folder.is_absolute() or "%" in text or "\\" in text or not text.isprintable():
        raise ValueError("give an absolute path of one line, without \\ and without %, which SLURM would replace")
    return folder


class Need(SiteRecord):
    """What one job asks for, per node; None asks for all of the site's node."""

    log_folder: Annotated[Path, AfterValidator(_log_folder)]
    """The folder of the job's output and its submitted text."""
    job_name: OneLine = "transtailor"
    cpus: Count | None = None
    memory_gb: MemoryGb | None = None
    gpus: Annotated[int, Field(ge=0)] | None = None
    walltime_min: Count | None = None
    signal_before_s: Count = 90
    """How long before its walltime the job gets USR2."""
    requeue: bool = True
    """Whether SLURM may start the job again after a lost node or a pre-emption."""
    again_if_killed: bool = False
    """Whether the job queues itself again when its step, or srun, is killed."""

    @field_validator("job_name")
    @classmethod
    def _job_name_is_one_name(cls, name: str) -> str:
        if "," in name:
            raise ValueError("write a name without commas: squeue --name, which finds the job, takes several names")
        return name


def read_site(path: Path) -> Site:
    """Read a site from a TOML file; raises SiteError, which names all wrong keys and values."""
    try:
        return Site.model_validate(read_toml(path))
    except OSError as error:
        raise SiteError(f"site file {path} cannot be read: {error}") from error
    except DocumentError as error:
        raise SiteError(f"site file {path}: {describe_fault(path, error)}") from error
    except ValidationError as error:
        where = f"site file {path}"
        text = explained(error, lambda fault: (where, fault.key), partial(keys_of, Site), gone=GONE)
        raise SiteError(text) from error


def users_folder() -> Path:
    """Return the folder of the user's sites: `transtailor/sites` below $XDG_CONFIG_HOME, or below ~/.config."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "transtailor" / "sites"


def site_files() -> dict[str, Path]:
    """Return the files of all sites that have a name, sorted by name; a user's file hides a shipped one."""
    shipped = {path.stem: path for path in SHIPPED.glob("*.toml")}
    own = {path.stem: path for path in users_folder().glob("*.toml")}
    return dict(sorted((shipped | own).items()))


def find_site(name_or_path: str) -> Site:
    """Read the site of that name, or in that file (a path ends in .toml or has a /).

        >>> find_site("example").cpus_per_node
        64

    Raises:
        SiteError: there is none, or its file is broken.
    """
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        return read_site(Path(name_or_path).expanduser())
    files = site_files()
    if name_or_path in ONE_MACHINE_SITES and name_or_path not in files:
        raise SiteError(
            f"{name_or_path!r} is this machine, on which trials need no site file; give a cluster's site, which "
            f"{command('init')} writes on its login node"
        )
    if name_or_path not in files:
        file_here = Path(f"{name_or_path}.toml")
        hint = f"; there is a file {file_here}, which is meant by ./{file_here}" if file_here.is_file() else ""
        raise SiteError(
            f"no site {name_or_path!r}{hint}{nearest(name_or_path, files)}; give a path that ends in .toml, "
            f"or write a site of your cluster on its login node: {command('init')}"
        )
    return read_site(files[name_or_path])


def path_as_site(path: Path) -> str:
    """Return the path of a site's file in a form that `find_site` takes for a path, and not for a name.

    >>> path_as_site(Path("mine"))
    './mine'
    """
    text = str(path)
    is_taken_for_path = text.endswith(".toml") or "/" in text
    return text if is_taken_for_path else f"./{text}"
