"""Whether the compiler vectorised every loop of src/losses.def.

``python tests/vectorised.py`` compiles the elementwise losses for each instruction set with gcc and the flags
of setup.py, and lists the loops that are not vectorised: value, first and second derivative, in both types. A
branch in a line of losses.def, or a call that is not inlined, makes a loop many times slower.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# As kernels.inc, without the other kernels, which take twice as long to compile.
UNIT = """
#include "kernels.h"
#include "storage.h"
#include "vecmath.h"
#include "compound.h"
#include "aft.h"
#define REAL float
#define FL_(name) name##_f32
#include "elements.h"
#include "elementwise.h"
#undef REAL
#undef FL_
#define REAL double
#define FL_(name) name##_f64
#include "elements.h"
#include "elementwise.h"
extern const struct fl_element_kernels f32, f64;
const struct fl_element_kernels f32 = {KERNELS_f32}, f64 = {KERNELS_f64};
"""
PARTS = ("value", "first", "second")
TYPES = ("f32", "f64")


def flags() -> tuple[list[str], dict[str, list[str]]]:
    """Return the flags of setup.py: common ones, and those of each instruction set.

    Those of the baseline are the ones of an extension without other instruction sets, as on 64-bit Arm.
    """
    names: dict[str, Any] = {}
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign | ast.AugAssign):
            exec(compile(ast.Module([node], []), "setup.py", "exec"), names)
    return names["UNIX_FLAGS"], {level: flags["unix"] for level, flags in names["LEVELS"].items()}


def gcc() -> str | None:
    """Return gcc, if it is gcc (clang answers to the name, too) and compiles for x86."""
    path = shutil.which("gcc")
    if path is None:
        return None
    about = subprocess.run([path, "-v"], capture_output=True, text=True).stderr
    return path if "\ngcc version" in about and "x86_64" in about else None


def unit() -> str:
    """Return the source, with the table of kernels.inc, without which the functions would be dropped."""
    inc = (ROOT / "src/kernels.inc").read_text().replace("\\\n", " ")
    table = re.search(r"#define FL_ELEMENT_KERNELS\(suffix\)\s*\{(.*)\}", inc)
    assert table is not None
    source = UNIT
    for kind in TYPES:
        source = source.replace(f"KERNELS_{kind}", re.sub(r"##suffix", kind, table[1]))
    return source


def losses(src: Path) -> list[str]:
    return re.findall(r"^FL_LOSS\((\w+),", (src / "losses.def").read_text(), re.MULTILINE)


def scalar_loops(compiler: str, level: str, src: Path = ROOT / "src") -> list[str]:
    """Return the loops of the losses.def in `src` that are not vectorised for an instruction set."""
    common, levels = flags()
    with tempfile.TemporaryDirectory() as folder:
        source, report = Path(folder, "unit.c"), Path(folder, "report")
        source.write_text(unit())
        subprocess.run(
            [compiler, *common, *levels[level], "-w", f"-I{src}", "-S", "-o", os.devnull,
             f"-fdump-tree-vect-optimized={report}", str(source)], check=True,
        )  # fmt: skip
        done, function = set(), ""
        for line in report.read_text().splitlines():
            if line.startswith(";; Function "):
                function = line.split()[2].partition(".")[0]
            elif "losses.def" in line and "optimized: loop vectorized" in line:
                done.add(function)
    names = ("_".join(parts) for parts in itertools.product(losses(src), PARTS, TYPES))
    return [name for name in names if name not in done]


def main() -> int:
    compiler = gcc()
    if compiler is None:
        print("skipped: no gcc for x86")
        return 0
    found = [f"{level}: {name}" for level in flags()[1] for name in scalar_loops(compiler, level)]
    print("\n".join(found) or "all loops of losses.def are vectorised")
    return len(found) > 0


if __name__ == "__main__":
    sys.exit(main())
