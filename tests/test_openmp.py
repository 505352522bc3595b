"""The OpenMP runtime of the process: which one is used, and what happens where there is none.

Most of it concerns wheels for Linux, which look for a runtime when they run (compiled with
FASTLOSS_OPENMP=dynamic).
"""

import shutil
import sys
import textwrap
from pathlib import Path

import pytest
from processes import run_python

from fastloss import _kernels

needs_linux_and_openmp = pytest.mark.skipif(
    sys.platform != "linux" or not _kernels.OPENMP, reason="needs Linux and OpenMP"
)
needs_dynamic_runtime = pytest.mark.skipif(
    not _kernels.OPENMP_IS_DYNAMIC, reason="needs a build with FASTLOSS_OPENMP=dynamic"
)

SETUP = """
import ctypes, os, sys, warnings
import numpy as np
import fastloss
from fastloss import _kernels

x = np.random.default_rng(0).standard_normal((300, 700)).astype(np.float32)
wide = np.random.default_rng(1).standard_normal((1, 2_000_000)).astype(np.float32)
y = np.arange(300)

def compute(threads=2):
    with fastloss.num_threads(threads):
        results = [
            fastloss.cross_entropy(x, y, return_grad=True),
            fastloss.cross_entropy(wide, y[:1], return_grad=True),
            fastloss.kl_div_with_logits(wide, wide[:, ::-1].copy(), return_grad=True),
            fastloss.entropy(wide, return_grad=True),
            fastloss.mse_loss(x, -x, return_grad=True),
            fastloss.sparsemax_loss(x, y, return_grad=True),
            fastloss.token_statistics(wide, y[:1]),
            fastloss.cox_ph_loss(x.ravel(), abs(x.ravel()), x.ravel() > 0, return_grad=True),
            fastloss.list_net_loss(x.ravel(), abs(x.ravel()), np.full(300, 700), return_grad=True),
            fastloss.ctc_loss_with_logits(
                x.reshape(70, 30, 100), np.full((30, 9), 3), np.full(30, 70), np.full(30, 9), return_grad=True
            ),
        ]
    return [[None if part is None else np.asarray(part).tobytes() for part in result] for result in results]

def threads():
    return len(os.listdir("/proc/self/task"))

def runtimes():
    lines = open("/proc/self/maps").read().splitlines()
    return {line.split()[-1] for line in lines if "gomp" in os.path.basename(line.split()[-1])}
"""


def run(code: str, **environment: str) -> str:
    """What a fresh interpreter prints, with one thread of OpenBLAS."""
    settings = {"OPENBLAS_NUM_THREADS": "1", "FASTLOSS_NUM_THREADS": "2", **environment}
    return run_python(SETUP + textwrap.dedent(code), **settings)


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """Environment in which the loader finds no runtime: what has its name is no library."""
    (tmp_path / "libgomp.so.1").write_text("This is no library.")
    return {"LD_LIBRARY_PATH": str(tmp_path)}


@pytest.fixture
def runtime() -> str:
    """The file of the runtime that this process has found."""
    library = _kernels.openmp_library()
    if not library:
        pytest.skip("needs an OpenMP runtime")
    return library


@needs_linux_and_openmp
def test_show_config_names_the_file_that_is_loaded() -> None:
    output = run("""
        compute()
        fastloss.show_config()
        (loaded,) = runtimes()
        assert os.path.samefile(loaded, _kernels.openmp_library())
        assert threads() > 1
    """)
    (line,) = [line for line in output.splitlines() if line.startswith("openmp ")]
    assert str(_kernels.openmp_library()) in line


@needs_dynamic_runtime
def test_without_a_runtime_calls_are_serial(nowhere: dict[str, str]) -> None:
    """One warning, equal bits, and a truthful report."""
    code = """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fastloss.cross_entropy(x[:3], y[:3])
            few = len(caught)
            found = compute(), compute(1)
        print(few, len(caught), threads(), bool(runtimes()), found[0] == found[1])
        for warning in caught:
            print(warning.category.__name__, str(warning.message).partition(",")[0])
        import hashlib
        print(hashlib.sha256(repr(found[0]).encode()).hexdigest())
        fastloss.show_config()
    """
    without, beside = (run(code, **more).splitlines() for more in (nowhere, {}))
    assert without[0] == "0 1 1 False True"
    assert without[1] == "RuntimeWarning fastloss found no OpenMP runtime (libgomp.so.1)"
    assert "openmp            no runtime was found: every call is serial" in without
    assert beside[0] == "0 0 2 True True"
    assert beside[1] == without[2]  # the bits


@needs_dynamic_runtime
def test_one_thread_needs_no_runtime(nowhere: dict[str, str]) -> None:
    run("warnings.simplefilter('error'); compute(1)", **nowhere)


@needs_dynamic_runtime
def test_the_warning_may_be_an_error(nowhere: dict[str, str]) -> None:
    """It is raised before anything is written, and once."""
    run(
        """
        warnings.simplefilter("error")
        out = np.full_like(x, 7.0)
        try:
            fastloss.cross_entropy(x, y, return_grad=True, out=out)
        except RuntimeWarning:
            assert (out == 7.0).all()
        else:
            sys.exit("no warning")
        compute()
        """,
        **nowhere,
    )


@needs_dynamic_runtime
def test_a_runtime_that_is_loaded_later_is_found(
    nowhere: dict[str, str], runtime: str, tmp_path: Path
) -> None:
    """Also under the name of a copy in another package's wheel."""
    copy = tmp_path / "libgomp-e985bcbb.so.1.0.0"
    shutil.copy(runtime, copy)
    run(
        f"""
        warnings.simplefilter("ignore")
        expected = compute()
        assert threads() == 1 and _kernels.openmp_library() == ""
        ctypes.CDLL({str(copy)!r})
        assert compute() == expected
        assert threads() == 2 and _kernels.openmp_library() == {str(copy)!r}
        """,
        **nowhere,
    )


@needs_dynamic_runtime
@pytest.mark.parametrize("order", ["torch, fastloss", "fastloss, torch"])
def test_torchs_runtime_is_the_only_one(order: str) -> None:
    pytest.importorskip("torch")
    run(f"""
        import {order}
        expected = compute(1)
        torch.set_num_threads(2)
        torch.nn.functional.cross_entropy(torch.from_numpy(x).repeat(20, 1), torch.from_numpy(y).repeat(20))
        team = threads()
        assert team > 1 and compute() == expected and threads() == team
        assert runtimes() == {{os.path.realpath(_kernels.openmp_library())}}
        assert os.path.dirname(torch.__file__) in _kernels.openmp_library()
    """)
