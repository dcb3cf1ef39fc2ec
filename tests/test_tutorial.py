"""The tutorial's blocks run from top to bottom, as they are pasted, on small photographs and with few epochs."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pages import DOCS, blocks

SHORTER = {  # what the page has -> what runs here
    "train_images = 300": "train_images = 18",
    "crop_px = 160": "crop_px = 32",
    "center_crop(square, 160)": "center_crop(square, 32)",
    "epochs = 15, head_epochs = 15": "epochs = 1, head_epochs = 1, batch_size = 6",
    "[0, 1, 2, 3, 4, 5, 6]": "[0, 1]",
    "steps = 3, alpha_epochs = 5": "steps = 2, alpha_epochs = 1",
    "[0.1, 0.2, 0.3]": "[0.2]",
}
WEIGHTS = 'source.weights = "ResNet18_Weights.IMAGENET1K_V1"'


def photographs(folder: Path) -> None:
    """Twelve noisy images of each of three classes, which differ in their colour."""
    draw = np.random.default_rng(0)
    for number, name in enumerate(("heron", "kingfisher", "wren")):
        (folder / name).mkdir(parents=True)
        for image in range(12):
            pixels = draw.integers(0, 120, (60, 80, 3))
            pixels[..., number] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{image:04}.jpg")


def weights(file: Path) -> str:
    """The line of a spec for a file with random weights, in the place of those that would be downloaded."""
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    save_file(resnet18().state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f'source = {{ weights = "{file.name}", weights_sha256 = "{digest}" }}'


@pytest.mark.check
@pytest.mark.timeout(1200)
def test_the_tutorial_runs_as_it_is_pasted(tmp_path: Path) -> None:
    page = (DOCS / "tutorial.md").read_text()
    replaced = SHORTER | {WEIGHTS: weights(tmp_path / "resnet18.safetensors")}
    assert [text for text in replaced if page.count(text) != 1] == []
    photographs(tmp_path / "photographs")
    script = ["set -e"]
    for block in blocks(DOCS / "tutorial.md"):
        text = block.text
        for on_the_page, here in replaced.items():
            text = text.replace(on_the_page, here)
        if block.kind == "toml":
            (tmp_path / "birds.toml").write_text(text)
        elif block.kind == "python":
            script.append(f"python - <<'END'\n{text}END")
        elif block.kind == "bash" and block.not_run is None:
            script.append(text)
    variables = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    words = ["bash", "-c", "\n".join(script)]
    done = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.stdout.strip().splitlines()[-1].startswith("photographs/") and ".jpg is a " in done.stdout
    assert r"\begin{tabular" in (tmp_path / "table.tex").read_text()
    assert (tmp_path / "runs" / "birds" / "report.html").is_file()
