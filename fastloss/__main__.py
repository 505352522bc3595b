"""``python -m fastloss info`` prints the configuration, ``... demo`` trains a small language model.

``python -m fastloss curve LOG`` says what the losses of a log show. Without a command it prints its help.
"""

from __future__ import annotations

import argparse
import importlib
import sys

import fastloss
from fastloss._curve import command


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit status; without a command, print the help."""
    parser = argparse.ArgumentParser(
        prog="python -m fastloss",
        description="Fast, exact loss functions with gradients for training on CPUs.",
        epilog="`python -m fastloss demo --help` lists the options of the demo.",
    )
    parser.add_argument("--version", action="version", version=f"fastloss {fastloss.__version__}")
    commands = parser.add_subparsers(dest="command", title="commands")
    commands.add_parser("info", help="print version, compiler, instruction sets and threads")
    # The demo parses its own options.
    commands.add_parser("demo", help="train a small language model on English text", add_help=False)
    command.add_to(commands)
    arguments, rest = parser.parse_known_args(argv)
    if arguments.command == "demo":
        # An installed package contains the repository's folder examples/ under this name.
        example = importlib.import_module("fastloss._examples.train_language_model")
        if argv is None:  # this process runs only this command
            example.restart_with_passive_threads()
        return int(example.main(rest))
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if arguments.command == "info":
        fastloss.show_config()
    elif arguments.command == "curve":
        try:
            return command.run(fastloss.LossCurve.read, arguments)
        except (OSError, ValueError, ImportError) as error:
            parser.error(str(error))
    else:
        parser.print_help()
    return 0


if __name__ == "__main__":
    sys.exit(main())
