"""Run tests of a wheel for 64-bit Arm on another machine, under emulation.

``python tools/emulated.py dist/*aarch64.whl tests/test_values.py`` unpacks a Debian for Arm in
build/emulated, installs the wheel beside it with what its tests need, and runs these outside of the
sources. Arguments behind the wheel are those of pytest. It needs mmdebstrap and qemu-user-static of Debian,
and no rights.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build/emulated"
SYSTEM, ENVIRONMENT = FOLDER / "root", FOLDER / "environment"
LAUNCHER = ENVIRONMENT / "bin/python"
SUITE, PYTHON = "bookworm", "3.11"
NEEDS = ["hypothesis", "ml_dtypes", "mpmath", "numpy", "pytest"]
# The kernel of this machine cannot start a program of the other, but a script that starts the emulator.
SCRIPT = """#!/bin/sh
exec qemu-aarch64-static -L '{system}' -0 "$0" '{system}/usr/bin/python{python}' "$@"
"""


def make() -> None:
    """Unpack Debian, and make a virtual environment in it whose Python is the launcher."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    options = ["--variant=extract", "--architectures=arm64", "--include=python3,libgomp1,libstdc++6"]
    subprocess.run(["mmdebstrap", *options, SUITE, str(SYSTEM)], check=True)
    install(*NEEDS)
    (ENVIRONMENT / "pyvenv.cfg").write_text(f"home = {SYSTEM}/usr/bin\n", encoding="utf-8")
    LAUNCHER.parent.mkdir()
    LAUNCHER.write_text(SCRIPT.format(system=SYSTEM, python=PYTHON), encoding="utf-8")
    LAUNCHER.chmod(0o755)


def install(*packages: str) -> None:
    """Install wheels for the other machine, with this machine's pip."""
    options = [f"--platform=manylinux_2_{version}_aarch64" for version in (17, 27, 28)]
    options += [f"--python-version={PYTHON}", "--only-binary=:all:", "--upgrade", "--quiet"]
    folder = ENVIRONMENT / f"lib/python{PYTHON}/site-packages"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, f"--target={folder}", *packages], check=True
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Run tests of a wheel for 64-bit Arm under emulation.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("tests", nargs=argparse.REMAINDER, help="arguments of pytest")
    arguments = parser.parse_args()
    if not LAUNCHER.exists():
        make()
    install("--no-deps", str(arguments.wheel))
    shutil.copytree(ROOT / "tests", FOLDER / "tests", dirs_exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", FOLDER)
    command = [str(LAUNCHER), "-m", "pytest", "-p", "no:cacheprovider", *arguments.tests]
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, cwd=FOLDER, env=settings).returncode


if __name__ == "__main__":
    sys.exit(main())
