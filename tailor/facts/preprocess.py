"""How an image file becomes a network's input, as data: for cards, and for programs that do not have this package."""

Step = dict[str, str | int | float | bool]


def steps_from_file(image_px: int, crop_px: int | None) -> list[Step]:
    """The steps from an image file to a network's input, in their order; docs/export.md has code that reads them.

    >>> [step["step"] for step in steps_from_file(80, 65)]
    ['exif_transpose', 'over', 'convert', 'resize', 'center_crop', 'center_crop', 'scale']

    Args:
        image_px: side of the prepared images.
        crop_px: side of the square that the network sees of them; None: all.
    """
    steps: list[Step] = [
        {"step": "exif_transpose"},
        {"step": "over", "color": "black"},  # what is transparent
        {"step": "convert", "mode": "RGB"},
        {"step": "resize", "shorter_side_px": image_px, "interpolation": "bilinear", "antialias": True},
        {"step": "center_crop", "side_px": image_px},
    ]
    if crop_px is not None:  # of the square, not of the image: where half a pixel is rounded, that is another place
        steps.append({"step": "center_crop", "side_px": crop_px})
    return [*steps, {"step": "scale", "divide": 127.5, "subtract": 1.0}]
