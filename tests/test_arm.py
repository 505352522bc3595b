"""The kernels on 64-bit Arm, under emulation: the results of tests/driver.c are within the bounds.

Needs a cross compiler and qemu (on Debian gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user-static).
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import driver_cases
import numpy as np
import pytest
import vectorised

COMPILER = shutil.which("aarch64-linux-gnu-gcc")
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
OF_KERNELS = ("calls", "dispatch", "losses", "kernels_baseline", "samples_baseline")
SOURCES = ("tests/driver.c", *(f"src/{name}.c" for name in OF_KERNELS))

# Two minutes of a processor, for the compiler and the emulator.
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(COMPILER is None, reason="needs aarch64-linux-gnu-gcc"),
    pytest.mark.skipif(EMULATOR is None, reason="needs qemu-aarch64"),
]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver and the baseline kernels, linked statically."""
    program = tmp_path_factory.mktemp("arm") / "driver"
    sources = (str(vectorised.ROOT / source) for source in SOURCES)
    flags = [*vectorised.flags()[0], "-Werror", f"-I{vectorised.ROOT / 'src'}", "-static"]
    subprocess.run([str(COMPILER), *flags, "-o", str(program), *sources, "-lm"], check=True)
    return program


def run(driver: Path, cases: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(EMULATOR), str(driver), str(cases)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_the_kernels_keep_their_bounds(driver: Path, tmp_path: Path) -> None:
    jobs, losses, kinds = driver_cases.write(tmp_path / "cases")
    assert losses == set(driver_cases._kernels.ELEMENTWISE)
    assert kinds == set(range(driver_cases.KINDS))
    result = run(driver, tmp_path / "cases")
    print(result.stdout)
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout.startswith(f"{jobs} jobs") and result.stdout.endswith(" 0 out of bounds\n")


def test_the_driver_runs_all_samples() -> None:
    """Every work of the table of samples.h is named; that each kind of job occurs is asserted above."""
    source = (vectorised.ROOT / "tests/driver.c").read_text()
    header = (vectorised.ROOT / "src/samples.h").read_text()
    names = re.findall(r"\w+", " ".join(re.findall(r"^    fl_work ([^;]+);", header, re.MULTILINE)))
    assert len(names) > 15
    assert [name for name in names if not re.search(rf"(samples->(\w+\.)?|table->){name}\b", source)] == []


def bad_files(folder: Path) -> Iterator[Path]:
    title, job = next(driver_cases.function_jobs())
    with (folder / "short").open("wb") as file:
        job.write(file, title)
        file.truncate(file.tell() - 8)
    yield folder / "short"
    assert job.bounds[0] is not None
    low, high = job.bounds[0]
    for change in (1.0, np.nan):  # at one value of all
        one = np.where(np.arange(low.size) == low.size // 2, change, 0.0)
        job.bounds[0] = low + one, high + one
        with (folder / "wrong").open("wb") as file:
            job.write(file, title)
        yield folder / "wrong"


def test_the_driver_fails(driver: Path, tmp_path: Path) -> None:
    """Where the file ends early, where one value is out of bounds, where NaN is expected."""
    messages = [run(driver, path) for path in bad_files(tmp_path)]
    assert [message.returncode for message in messages] == [2, 1, 1]
    assert "ends early" in messages[0].stderr
    assert all("is not in" in m.stderr and "1 out of bounds" in m.stdout for m in messages[1:])


def test_every_loop_of_the_losses_is_vectorised() -> None:
    assert vectorised.scalar_loops(str(COMPILER), "baseline") == []
