"""Draw the pictures of reading-a-loss.md: logs of real runs, with what `fastloss.LossCurve` finds in them.

    python docs/plot_curves.py [--out FOLDER]

The logs are those that examples/training_logs.py has made, in tests/logs. It needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import fastloss

DOCS = Path(__file__).parent
LOGS = DOCS.parent / "tests" / "logs"
# The finding, and a log that shows it.
PICTURES = {
    "falling": "rate_too_small",
    "plateau": "rate_zero",
    "overfitting": "too_little_text",
    "divergence": "rate_too_large",
    "non_finite": "broken_example",
    "spike": "spoiled_batches",
    "noise": "small_batches",
    "leak": "leak",
    "underfitting": "rate_far_too_small",
}
SETTINGS = {"font.family": "DejaVu Sans", "font.size": 9, "axes.spines.top": False, "figure.dpi": 100}


def curve_of(finding: str) -> fastloss.LossCurve:
    """Return the log that shows a finding."""
    baselines = json.loads((LOGS / "baselines.json").read_text(encoding="utf-8"))
    name = PICTURES[finding]
    return fastloss.LossCurve.read(LOGS / f"{name}.csv", unigram=baselines[name])


def draw(finding: str, folder: Path) -> Path:
    """Draw the log of a finding, and return the file."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    path = folder / f"curve_{finding}.png"
    with rc_context(SETTINGS):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        axes = curve_of(finding).plot(figure.subplots())
        axes.set_title(f"tests/logs/{PICTURES[finding]}.csv", loc="left", fontsize=9)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    # Few colours take a third of the bytes.
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(64).save(path, optimize=True)
    return path


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description="Draw the pictures of reading-a-loss.md.")
    parser.add_argument("--out", type=Path, default=DOCS / "images", help="folder of the pictures")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for finding in PICTURES:
        print(draw(finding, folder))


if __name__ == "__main__":
    main()
