"""The tests under a sanitizer, on a build in a folder of its own: build/address, build/thread, ...

``python tests/sanitize.py address``: the suite under gcc's AddressSanitizer and UndefinedBehaviorSanitizer.
``python tests/sanitize.py thread``: the tests of threads under clang's ThreadSanitizer. It learns from LLVM's
OpenMP and its tool Archer what barriers order (on Debian clang-14, libomp-14-dev and libclang-rt-14-dev).
With gcc's OpenMP every parallel loop would be a report. It has to be in a program from the start, so Python
runs in a launcher of ours.
``python tests/sanitize.py valgrind``: some random calls of fuzz.py under Memcheck, which also knows what
memory nobody has written. Reports without a function of the package, such as those of Python, do not count.

Arguments behind ``--`` are those of pytest (of fuzz.py for valgrind). ``--build`` only builds. A build takes
some minutes, and is made again from the present files in each run; with ccache that takes seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDS = ["pytest", "pytest-xdist", "hypothesis", "mpmath", "ml_dtypes", "pytest-benchmark"]
LAUNCHER = """
#include <Python.h>
int main(int argc, char **argv) { return Py_BytesMain(argc, argv); }
"""


def run(command: list[str], **options: object) -> None:
    done = subprocess.run(command, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(done.returncode)


def answer(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Sanitizer:
    """A build with its flags, and a run of tests in it."""

    name = ""
    flags = ""
    compiler: str | None = None
    default: tuple[str, ...] = ("-n", "auto", "tests")

    def __init__(self) -> None:
        self.folder = ROOT / "build" / self.name
        self.source = ROOT / "build" / f"{self.name}-source"
        self.python = self.folder / "bin" / "python"

    def build(self) -> None:
        """Install the present files, as git knows them, with the flags."""
        if not self.python.exists():
            run([sys.executable, "-m", "venv", str(self.folder)])
            run([str(self.python), "-m", "pip", "install", "--quiet", *NEEDS])
        files = answer("git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard").splitlines()
        for file in files:
            if (ROOT / file).is_file():  # not one that has been deleted
                (self.source / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, self.source / file)
        for stale in self.source.glob("fastloss/*.so"):
            stale.unlink()  # of other flags
        compiler = {} if self.compiler is None else {"CC": f"{self.ccache()}{self.compiler}"}
        run(
            [str(self.python), "-m", "pip", "install", "--quiet", "-e", str(self.source)],
            env={**os.environ, **compiler, "FASTLOSS_CFLAGS": self.flags},
        )

    def ccache(self) -> str:
        return "ccache " if shutil.which("ccache") else ""

    def environment(self) -> dict[str, str]:
        return {}

    def run(self, arguments: list[str]) -> None:
        run(
            [str(self.python), "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *arguments],
            cwd=self.source,
            env={**os.environ, **self.environment()},
        )


class Address(Sanitizer):
    name = "address"
    flags = "-fsanitize=address,undefined -fno-sanitize-recover=all -g1 -O1"
    # Where memory is refused, the sanitizer's own allocator ends the process.
    default = (*Sanitizer.default, "--deselect", "tests/test_memory.py::test_refused_memory")

    def environment(self) -> dict[str, str]:
        # Python itself keeps memory until it ends, which is no leak.
        libraries = (answer("gcc", f"-print-file-name=lib{name}.so") for name in ("asan", "ubsan"))
        return {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0"}


class Thread(Sanitizer):
    name = "thread"
    flags = "-fsanitize=thread -g1 -O1"
    default = ("tests/test_threads.py", "tests/test_determinism.py")

    def __init__(self) -> None:
        super().__init__()
        names = ["clang", *(f"clang-{version}" for version in range(30, 12, -1))]
        self.compiler = next((name for name in names if shutil.which(name)), None)
        if self.compiler is None:
            sys.exit("needs clang, with its OpenMP and its sanitizers")
        self.launcher = self.folder / "bin" / "thread-python"

    def build(self) -> None:
        super().build()
        source = self.folder / "launcher.c"
        source.write_text(LAUNCHER, encoding="utf-8")
        paths = sysconfig.get_paths()
        static = Path(sysconfig.get_config_var("LIBPL")) / f"libpython{sysconfig.get_python_version()}.a"
        library = str(static) if static.exists() else f"-lpython{sysconfig.get_python_version()}"
        run([
            str(self.compiler), "-fsanitize=thread", "-rdynamic", f"-I{paths['include']}", str(source),
            library, "-o", str(self.launcher), "-lpthread", "-ldl", "-lutil", "-lm",
        ])  # fmt: skip

    def environment(self) -> dict[str, str]:
        # Clang does not search its own folder of libraries for it.
        archer = Path(answer(str(self.compiler), "-print-resource-dir")).parents[1] / "libarcher.so"
        if not archer.exists():
            sys.exit("needs libarcher.so beside clang's OpenMP: without it every parallel loop is a report")
        packages = sysconfig.get_path("purelib", vars={"base": str(self.folder)})
        return {
            "PYTHONHOME": sys.base_prefix,
            "PYTHONPATH": os.pathsep.join([str(self.source), str(self.source / "tests"), packages]),
            "OMP_TOOL_LIBRARIES": str(archer),
            "TSAN_OPTIONS": "ignore_noninstrumented_modules=1 die_after_fork=0 halt_on_error=1 exitcode=66",
            "OPENBLAS_NUM_THREADS": "1",
        }

    def run(self, arguments: list[str]) -> None:
        self.python = self.launcher
        super().run(arguments)


def reports(file: Path) -> Iterator[str]:
    """The errors of Memcheck in which a function of the package takes part, one line each."""
    for error in ElementTree.parse(file).getroot().iter("error"):
        frames = list(error.iter("frame"))
        if (error.findtext("kind") or "").startswith("Leak_"):
            continue  # modules and types stay until Python ends
        if any("_kernels" in (frame.findtext("obj") or "") for frame in frames):
            what = error.findtext("what") or error.findtext("xwhat/text") or error.findtext("kind") or ""
            names = [frame.findtext("fn") or "?" for frame in frames[:6]]
            yield f"{what}: {' < '.join(names)}"


class Valgrind(Sanitizer):
    name = "valgrind"
    flags = "-g1 -O1"
    default = ("--cases", "30")

    def run(self, arguments: list[str]) -> None:
        found = self.folder / "memcheck.xml"
        run(
            ["valgrind", "--quiet", "--xml=yes", f"--xml-file={found}", str(self.python),
             "tests/fuzz.py", *arguments],
            cwd=self.source,
            # It knows no AVX-512, and sees the blocks of malloc alone.
            env={**os.environ, "PYTHONMALLOC": "malloc", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        errors = list(reports(found))
        print(*errors, f"{len(errors)} reports", sep="\n")
        if errors:
            sys.exit(1)


SANITIZERS: dict[str, type[Sanitizer]] = {s.name: s for s in (Address, Thread, Valgrind)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the tests under a sanitizer.")
    parser.add_argument("sanitizer", choices=SANITIZERS)
    parser.add_argument("--build", action="store_true", help="only build")
    parser.add_argument("--built", action="store_true", help="use the last build")
    parser.epilog = "Behind -- are the arguments of pytest, or of fuzz.py."
    own, _, others = "\0".join(sys.argv[1:]).partition("\0--\0")
    arguments = parser.parse_args(own.split("\0"))
    sanitizer = SANITIZERS[arguments.sanitizer]()
    if not arguments.built:
        sanitizer.build()
    if not arguments.build:
        sanitizer.run(others.split("\0") if others else list(sanitizer.default))


if __name__ == "__main__":
    main()
