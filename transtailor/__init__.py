"""What all four rooms are built on; it imports none of them and no heavy library."""

DISTRIBUTION = "transtailor-sweeps"


def __getattr__(name: str) -> str:
    """`__version__`, read from the installed metadata when it is asked for: importing that takes milliseconds."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # a copy of the sources that nobody installed
        return "unknown"
