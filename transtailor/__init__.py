"""The base of all four rooms; it imports none of them and no heavy library."""

DISTRIBUTION = "transtailor-sweeps"


def __getattr__(name: str) -> str:
    """Return `__version__`, read from the installed metadata only on access: importing that takes milliseconds."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # a copy of the sources that was never installed
        return "unknown"
