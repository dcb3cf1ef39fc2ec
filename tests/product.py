"""Where the product's code is: the checkout, its rooms, their modules."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("transtailor", "hpc", "tailor", "results", "sweeps")
PRODUCT = (*ROOMS, "tools")


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name -> file of every module below the product's folders."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for room in PRODUCT
        for path in sorted((root / room).rglob("*.py"))
    }
