"""What is compared, by name, as people read it."""


def problem_text(network: str, dataset: str, train_images: int | None) -> str:
    """Name a problem: "vgg11 on dogs (200 training images)"; the images are left out where they are not known."""
    images = f" ({train_images} training images)" if train_images else ""
    return f"{network} on {dataset}{images}"


def at_budget(arm: str, asked: float | None) -> str:
    """Name an arm at a budget: "prune l1 at 20% fewer MACs"; only its name where nothing, or no share, was asked."""
    return f"{arm} at {100 * asked:g}% fewer MACs" if asked else arm
