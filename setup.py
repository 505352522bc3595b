"""Build the extension: the binding, and the kernels once for each instruction set.

The kernels of each instruction set have their own flags, but setuptools supports only one set of flags for an
extension. So this file compiles them, all at the same time, and passes the objects to the linker. Features
that the compiler lacks are left out: OpenMP (then every call is serial), and instruction sets.

FASTLOSS_OPENMP says how the extension gets its OpenMP runtime: "linked" is the default; with "none" every
call is serial; with "dynamic" (gcc on Linux, for wheels) it looks for libgomp when it runs, see src/openmp.c.
FASTLOSS_CFLAGS adds flags (for example for sanitizers, or -g). tools/wheel.py builds the wheel for Linux.
"""

import os
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError, OptionError

# Strict arithmetic: no contraction into fused operations other than the written ones, and no reassociation.
# Only errno and floating-point traps are switched off: they are never read, and they prevent vectorisation.
# Never -ffast-math: at link time it would turn subnormals off for the whole process.
UNIX_FLAGS = [
    "-std=c11",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-fopenmp-simd",
    # Keeps selections that depend on each other: loops with branches are not vectorised.
    "-fno-thread-jumps",
    # Python's own flags ask for debug information, which takes a third of the compile time and 20 MB.
    "-g0",
]
# Threads may have small stacks, so the caller allocates the buffers.
UNIX_FLAGS += ["-Wall", "-Wextra", "-Wframe-larger-than=16384", "-fvisibility=hidden"]
MSVC_FLAGS = ["/O2", "/fp:precise"]
AVX2_FLAGS = ["-mavx2", "-mfma", "-mf16c"]
# Compilers avoid the widest registers by default; here they are a fifth faster in cache.
AVX512_FLAGS = [
    *AVX2_FLAGS,
    "-mavx512f",
    "-mavx512bw",
    "-mavx512dq",
    "-mavx512vl",
    "-mprefer-vector-width=512",
]
# An extension with several instruction sets is large, so what is seldom run is small: the baseline, which is
# for old machines then, and the kernels of samples.h, which lose no speed. The -O3 of gcc copies the rest
# of a loop for every element, and once more for narrower vectors.
SMALL_FLAGS = ["-Os"]
COMPACT_FLAGS = [
    "-O2",
    "-fvect-cost-model=dynamic",
    "-funswitch-loops",
    "-fipa-cp-clone",
    "-fpeel-loops",
    "--param=max-completely-peeled-insns=60",
    "--param=vect-epilogues-nomask=0",
]
# The hot kernels without copies of their loops that win nothing. (Measured with gcc 12: 7 % less code; over
# 168 calls 1.004 times the time, 1.02 at most. The flags above would take 1.06, and some calls three times.)
TRIMMED_FLAGS = [
    "--param=vect-epilogues-nomask=0",
    "-fno-version-loops-for-strides",
    "-fno-split-loops",
    "-fno-loop-unroll-and-jam",
    "-fno-split-paths",
]
LEVELS = {
    "baseline": {"unix": [], "msvc": []},
    "avx2": {"unix": AVX2_FLAGS, "msvc": ["/arch:AVX2"]},
    "avx512": {"unix": AVX512_FLAGS, "msvc": ["/arch:AVX512"]},
}
INTRINSICS_PROBE = """
#include <immintrin.h>
int main(int argc, char **argv)
{
    __m256 x = _mm256_set1_ps((float)argc);
    (void)argv;
    return _mm256_movemask_ps(_mm256_add_ps(x, x)) == 3;
}
"""
OPENMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
# The runtime of clang has other functions.
GNU_PROBE = """
#if !defined(__linux__) || !defined(__GNUC__) || defined(__clang__) || !defined(_OPENMP)
#error
#endif
int main(void) { return 0; }
"""
OPENMP = ("linked", "dynamic", "none")
FLAG_PROBE = "int main(void) { return 0; }\n"


class BuildKernels(build_ext):
    """build_ext with a separate compile step for each instruction set."""

    _objects: tuple[Future[list[str]], ...] = ()

    def build_extension(self, ext: Extension) -> None:
        family = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        extra = os.environ.get("FASTLOSS_CFLAGS", "").split()
        if family == "msvc":
            common = MSVC_FLAGS
        else:
            # Every compiler knows -Wextra and the other flags, but not -fopenmp-simd.
            common = [flag for flag in UNIX_FLAGS if self._works(FLAG_PROBE, ["-Werror", flag])]
        openmp = self._openmp_flags(family)
        ext.extra_compile_args += openmp["compile"] + extra
        ext.extra_link_args += openmp["link"] + extra
        ext.define_macros += openmp["macros"]
        parts = ("dispatch", "caches", "calls", "losses", "openmp")
        units = {f"src/{name}.c": [*common, *extra] for name in parts}
        levels = [
            level
            for level, flags in LEVELS.items()
            if level == "baseline" or self._works(INTRINSICS_PROBE, flags[family])
        ]
        is_small = len(levels) > 1 and family == "unix"
        is_compact = is_small and self._works(FLAG_PROBE, ["-Werror", *COMPACT_FLAGS, *TRIMMED_FLAGS])
        for level in levels:
            ext.define_macros.append((f"FASTLOSS_BUILT_{level.upper()}", "1"))
            flags = [*common, *LEVELS[level][family]]
            small = SMALL_FLAGS if is_small and level == "baseline" else []
            compact = COMPACT_FLAGS if is_compact and level != "baseline" else []
            trimmed = TRIMMED_FLAGS if is_compact and level != "baseline" else []
            units[f"src/kernels_{level}.c"] = [*flags, *small, *trimmed, *extra]
            units[f"src/samples_{level}.c"] = [*flags, *small, *compact, *extra]
        kernels = self.compiler.object_filenames(list(units), output_dir=self.build_temp)
        ext.extra_objects = [*(ext.extra_objects or []), *kernels]
        for path in kernels:
            Path(path).unlink(missing_ok=True)  # so that nothing can link what an earlier build has left
        # Each thread waits for a process. The probes above have initialized the compiler object, which
        # compile() only reads after that. Cython and the compile of the binding run meanwhile in this thread.
        with ThreadPoolExecutor(len(units)) as pool:
            self._objects = tuple(pool.submit(self._compile, *unit, ext) for unit in units.items())
            super().build_extension(ext)
            self._wait()

    def _wait(self) -> None:
        """Wait for the kernels; raise the error of the first that failed."""
        for objects in self._objects:
            objects.result()

    def get_libraries(self, ext: Extension) -> list[str]:
        """Wait for the kernels: build_ext asks for the libraries after it has compiled, before it links."""
        self._wait()
        libraries: list[str] = super().get_libraries(ext)
        return libraries

    def _compile(self, source: str, flags: list[str], ext: Extension) -> list[str]:
        objects: list[str] = self.compiler.compile(
            [source],
            output_dir=self.build_temp,
            include_dirs=["src"],
            macros=list(ext.define_macros),
            extra_postargs=flags,
            depends=ext.depends,
        )
        return objects

    def _openmp_flags(self, family: str) -> dict[str, Any]:
        """Return compile flags, link flags and macros."""
        how = os.environ.get("FASTLOSS_OPENMP") or "linked"
        if how not in OPENMP:
            raise OptionError(f"FASTLOSS_OPENMP must be one of {', '.join(OPENMP)}, got {how!r}")
        flags = ["/openmp"] if family == "msvc" else ["-fopenmp"]
        link = [] if family == "msvc" else flags
        if how == "dynamic" and self._works(GNU_PROBE, flags):
            return {"compile": flags, "link": ["-ldl"], "macros": [("FASTLOSS_OPENMP_DYNAMIC", "1")]}
        if how == "dynamic":
            raise OptionError("FASTLOSS_OPENMP=dynamic needs gcc, with OpenMP, for Linux")
        if how == "linked" and self._works(OPENMP_PROBE, flags, link):
            return {"compile": flags, "link": link, "macros": []}
        return {"compile": [], "link": [], "macros": []}

    def _works(self, program: str, flags: list[str], link: list[str] | None = None) -> bool:
        """Return whether a program compiles and links with these flags."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(program)
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=link)
            except (CompileError, LinkError):
                return False
        return True


setup(
    ext_modules=[
        Extension(
            "fastloss._kernels",
            ["fastloss/_kernels.pyx"],
            include_dirs=["src", numpy.get_include()],
            depends=[str(path) for path in Path("src").iterdir()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
            # Without OpenMP the C code of Cython has unused variables.
            extra_compile_args=[] if os.name == "nt" else ["-O2", "-g0", "-Wno-unused-but-set-variable"],
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
