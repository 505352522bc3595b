"""``python -m fastloss info`` prints the configuration, ``... demo`` trains a small language model.

``python -m fastloss curve LOG`` says what the losses of a log show, and ``... bench`` measures this machine.
Without a command it prints its help.
"""

from __future__ import annotations

import argparse
import importlib
import sys

import fastloss
from fastloss._curve import command

# Commands that parse their own options: their module and summary. An installed package contains the folders
# examples/ and benchmarks/ of the repository under these names.
_DEMO = "fastloss._examples.train_language_model"
_PROGRAMS = {
    "demo": (_DEMO, "train a small language model on English text"),
    "bench": ("fastloss._benchmarks.bench", "measure this machine, beside the peers that are installed"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit status; without a command, print the help."""
    parser = argparse.ArgumentParser(
        prog="python -m fastloss",
        description="Fast, exact loss functions with gradients for training on CPUs.",
        epilog="`python -m fastloss COMMAND --help` lists the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"fastloss {fastloss.__version__}")
    commands = parser.add_subparsers(dest="command", title="commands")
    commands.add_parser("info", help="print version, compiler, instruction sets and threads")
    for name, (_, summary) in _PROGRAMS.items():
        commands.add_parser(name, help=summary, add_help=False)
    command.add_to(commands)
    arguments, rest = parser.parse_known_args(argv)
    if arguments.command in _PROGRAMS:
        if argv is None:  # this process runs only this command
            importlib.import_module(_DEMO).restart_with_passive_threads()
        module, _ = _PROGRAMS[arguments.command]
        return int(importlib.import_module(module).main(rest))
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
