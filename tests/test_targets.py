"""The C code and the generated binding compile for macOS and Windows, with zig (the package ziglang).

The headers of Python and NumPy are those of this Python, with the macros of the other system.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import vectorised

ROOT = vectorised.ROOT
BINDING = ROOT / "fastloss/_kernels.c"
TARGETS = {
    "aarch64-macos": ("baseline",),
    "x86_64-macos": ("baseline",),
    "aarch64-windows-gnu": ("baseline",),
    "x86_64-windows-gnu": ("baseline", "avx2", "avx512"),
}
# What Python's pyconfig.h for Windows says, as far as its other headers and the binding ask.
WINDOWS = """
#define MS_WIN32 1
#define MS_WIN64 1
#define MS_WINDOWS 1
#define NT_THREADS 1
#define Py_ENABLE_SHARED 1
#define SIZEOF_SHORT 2
#define SIZEOF_INT 4
#define SIZEOF_LONG 4
#define SIZEOF_LONG_LONG 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_TIME_T 8
#define SIZEOF_VOID_P 8
#define SIZEOF_WCHAR_T 2
#define HAVE_ERRNO_H 1
#define HAVE_SYS_STAT_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_WCHAR_H 1
"""

has_zig = importlib.util.find_spec("ziglang") is not None
pytestmark = pytest.mark.skipif(not has_zig, reason="needs the package ziglang")


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    found = {}
    for system in ("macos", "windows"):
        folder = tmp_path_factory.mktemp(system)
        python = shutil.copytree(sysconfig.get_paths()["include"], folder / "python")
        numpy = shutil.copytree(np.get_include(), folder / "numpy")
        config = numpy / "numpy/_numpyconfig.h"
        text = re.sub(".*NPY_HAVE_ENDIAN_H.*", "", config.read_text())
        if system == "windows":
            (python / "pyconfig.h").write_text(WINDOWS)
            for name, size in {"LONG": 4, "LONGDOUBLE": 8, "COMPLEX_LONGDOUBLE": 16, "WCHAR_T": 2}.items():
                text = re.sub(rf"(NPY_SIZEOF_{name}) \d+", rf"\1 {size}", text)
        config.write_text(text)
        found[system] = [f"-I{python}", f"-I{numpy}"]
    return found


def compiled(target: str, source: Path, folder: Path, *options: str) -> None:
    # zig's sanitizer, which is on without optimisation, would take most of the time.
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-O0", "-g0", "-fno-sanitize=all"]
    zig += ["-Wno-unused-command-line-argument"]  # of zig itself
    command = [*zig, f"-I{ROOT / 'src'}", *options, "-c", "-o", str(folder / "object"), str(source)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0 and "warning" not in done.stdout, done.stdout[-4000:]


@pytest.mark.parametrize("target", TARGETS)
def test_the_kernels_compile(target: str, tmp_path: Path) -> None:
    common, levels = vectorised.flags()
    known = [flag for flag in common if re.match("-std|-ff|-fno-(math|trapping)|-fopenmp-simd|-W[ae]", flag)]
    known += [f"-DFASTLOSS_BUILT_{level.upper()}=1" for level in TARGETS[target]]
    # Warnings of clang: conditions such as `a | b ? c : d`, and uninitialised memory that is passed on.
    known += ["-Wno-bitwise-conditional-parentheses", "-Wno-uninitialized-const-pointer"]
    for name in ("dispatch", "caches", "losses", "openmp"):
        compiled(target, ROOT / f"src/{name}.c", tmp_path, *known)
    for level in TARGETS[target]:
        for part in ("kernels", "samples"):
            compiled(target, ROOT / f"src/{part}_{level}.c", tmp_path, *known, *levels[level])


@pytest.mark.skipif(not BINDING.exists(), reason="needs fastloss/_kernels.c, which Cython makes")
@pytest.mark.parametrize("target", TARGETS)
def test_the_binding_compiles(target: str, headers: dict[str, list[str]], tmp_path: Path) -> None:
    macro = "-DNPY_NO_DEPRECATED_API=NPY_2_0_API_VERSION"
    compiled(target, BINDING, tmp_path, *headers[target.split("-")[1]], macro)
