"""``python -m fastloss info`` prints the configuration, ``... demo`` trains a small language model."""

from __future__ import annotations

import argparse
import importlib
import sys

import fastloss


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fastloss", description=fastloss.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="print version, compiler, instruction sets and threads")
    # Its options are its own.
    commands.add_parser("demo", help="train a small language model on English text", add_help=False)
    arguments, rest = parser.parse_known_args(argv)
    if arguments.command == "demo":
        # The folder examples/ of the repository, under this name in an installed package.
        example = importlib.import_module("fastloss._examples.train_language_model")
        return int(example.main(rest))
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    fastloss.show_config()
    return 0


if __name__ == "__main__":
    sys.exit(main())
