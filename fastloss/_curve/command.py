"""``python -m fastloss curve LOG``: the findings of a log, as sentences or JSON, and its picture."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

__all__ = ["add_to", "run"]


def add_to(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = commands.add_parser("curve", help="say what the losses of a log show, and draw them")
    parser.add_argument("log", metavar="LOG", help="CSV with a header, JSON lines, or a trainer_state.json")
    parser.add_argument("--unigram", type=float, metavar="LOSS", help="the loss of a baseline")
    parser.add_argument(
        "--output", type=Path, metavar="PNG", help="the picture; by default LOG's name with .png, here"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON; draw with --output")


def run(read: Callable[..., Any], arguments: argparse.Namespace) -> int:
    """Print and draw what `read` finds in the log; return the exit status."""
    curve = read(arguments.log, unigram=arguments.unigram)
    findings = curve.diagnose()
    if arguments.json:
        print(json.dumps([asdict(f) | {"severity": f.severity} for f in findings], indent=2))
    else:
        for finding in findings:
            print(f"{finding.severity:5}{finding}\n     {finding.advice}")
        if not findings:
            print("Nothing found: too few losses to see a trend.")
    if arguments.output is not None:
        curve.plot().figure.savefig(arguments.output, dpi=150)
    elif not arguments.json:
        _draw(curve, Path(arguments.log).with_suffix(".png").name)
    return 0


def _draw(curve: Any, name: str) -> None:
    """Draw to the current folder, if matplotlib is installed."""
    try:
        ax = curve.plot()
    except ImportError as error:
        print(f"No picture: {error}")
        return
    ax.figure.savefig(name, dpi=150)
    print(f"Picture written to {name}.")
