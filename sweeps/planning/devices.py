"""Which devices trials get on a site, and why: decided here, and said in the plan and by `status`."""

from hpc.sites.site import ONE_MACHINE_SITES, Site, find_site
from sweeps.spec.resources import Resources
from sweeps.spec.spec import Spec


def spec_on_site(spec: Spec, site: Site | None) -> Spec:
    """Return the spec with the GPUs that its trials get on a SLURM site; None: on this machine.

    Raises:
        SpecError: a search is limited by hours of GPUs, and its trials use none.
    """
    gpus_per_node = 0 if site is None else site.gpus_per_node
    placed = spec.model_copy(update={"resources": spec.resources.on_nodes_with(gpus_per_node)})
    placed.check_gpu_hours()
    return placed


def slurm_site(name: str) -> Site | None:
    """Return the SLURM site of that name or file; None: the name is one of this machine. Raises SiteError."""
    return None if name in ONE_MACHINE_SITES else find_site(name)


def devices_text(resources: Resources, site: Site | None, idle_gpus: int = 0) -> str:
    """Say which devices trials get, and why.

        >>> devices_text(Resources(gpus_per_rank=0.5), None)
        '0.5 GPUs for each rank, as gpus_per_rank = 0.5 in [resources] says'

    Args:
        resources: those of a spec on the site.
        site: None is this machine.
        idle_gpus: GPUs of this machine that trials could use.
    """
    gpus = resources.gpus_per_rank
    if resources.says_gpus:
        text = f"{_count_text(gpus)} for each rank, as gpus_per_rank = {gpus:g} in [resources] says"
    elif site is not None:
        text = (
            f"{'1 GPU' if site.gpus_per_node else 'CPUs'} for each rank, as the site has gpus_per_node = "
            f"{site.gpus_per_node}, and [resources] has no gpus_per_rank"
        )
    else:
        text = "CPUs for each rank, as [resources] has no gpus_per_rank"
    available_gpus = idle_gpus if site is None else site.gpus_per_node
    if gpus or not available_gpus:
        return text
    where = "of this machine" if site is None else "of each node"
    advice = "type --set resources.gpus_per_rank=1"
    if available_gpus == 1:
        return f"{text}; the GPU {where} stays idle: to use it, {advice}"
    return f"{text}; {available_gpus} GPUs {where} stay idle: to use them, {advice}"


def _count_text(gpus: float) -> str:
    if not gpus:
        return "CPUs"
    return "1 GPU" if gpus == 1 else f"{gpus:g} GPUs"
