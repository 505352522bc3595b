"""Threads: settings, many callers at once, forks, other OpenMP users; the choice of kernels."""

import asyncio
import contextvars
import importlib.util
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from helpers import refused
from levels import LEVEL_NAMES
from processes import run_python

import fastloss
from fastloss import _kernels

CAN_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture(autouse=True)
def restored():
    """The package setting as it was."""
    before = fastloss.get_num_threads()
    yield
    fastloss.set_num_threads(before)


# Settings


def test_set_and_get():
    for threads in (1, 5, np.int32(3)):
        fastloss.set_num_threads(threads)
        assert fastloss.get_num_threads() == threads
        assert type(fastloss.get_num_threads()) is int


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        *((value, ValueError, f"num_threads must be at least 1, got {value}") for value in (0, -1)),
        *((v, TypeError, "num_threads must be an integer") for v in (1.0, 2.0, None, True, "2", [1])),
    ],
)
def test_refused_settings(value, error, text):
    before = fastloss.get_num_threads()
    assert text in refused(partial(fastloss.set_num_threads, value), error, "num_threads")
    refused(fastloss.num_threads(value).__enter__, error, "num_threads")
    assert fastloss.get_num_threads() == before


def test_contexts_nest_and_restore():
    fastloss.set_num_threads(4)
    with fastloss.num_threads(2):
        assert fastloss.get_num_threads() == 2
        with fastloss.num_threads(3):
            assert fastloss.get_num_threads() == 3
        assert fastloss.get_num_threads() == 2
        # The package setting shows once the context is left.
        fastloss.set_num_threads(7)
        assert fastloss.get_num_threads() == 2
    assert fastloss.get_num_threads() == 7


def test_context_ends_with_an_error():
    fastloss.set_num_threads(4)
    with pytest.raises(KeyError), fastloss.num_threads(2):
        raise KeyError
    assert fastloss.get_num_threads() == 4


def test_context_of_a_python_thread():
    """A context holds in its own thread; the package setting everywhere."""
    fastloss.set_num_threads(4)
    with ThreadPoolExecutor(1) as pool, fastloss.num_threads(2):
        assert pool.submit(fastloss.get_num_threads).result() == 4
        pool.submit(fastloss.set_num_threads, 6).result()
        assert pool.submit(fastloss.get_num_threads).result() == 6
        assert fastloss.get_num_threads() == 2
        inherited = contextvars.copy_context()
        assert pool.submit(inherited.run, fastloss.get_num_threads).result() == 2
    assert fastloss.get_num_threads() == 6


def test_contexts_of_tasks():
    async def task(threads, seen):
        with fastloss.num_threads(threads):
            for _ in range(3):
                await asyncio.sleep(0)
                seen.append((threads, fastloss.get_num_threads()))

    async def both():
        seen = []
        await asyncio.gather(task(2, seen), task(3, seen))
        return seen

    seen = asyncio.run(both())
    assert len(seen) == 6
    assert all(wanted == got for wanted, got in seen)


SHOW = "import fastloss; print(fastloss.get_num_threads())"


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"FASTLOSS_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "6,2"}, 6),
        ({"FASTLOSS_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"FASTLOSS_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5),
    ],
    ids=["own", "omp", "omp-nested", "own-first", "own-empty"],
)
def test_environment(environment, threads):
    assert int(run_python(SHOW, **environment)) == threads


@pytest.mark.parametrize("environment", [{}, {"OMP_NUM_THREADS": "many"}])
def test_default_is_the_processors_of_the_process(environment):
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # The OpenMP runtime may complain about its own variable first.
    assert 1 <= int(run_python(SHOW, **environment).split()[-1]) <= available


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_default_follows_the_affinity():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + SHOW
    assert int(run_python(code)) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("FASTLOSS_NUM_THREADS", value) for value in ("0", "-1", "-2", "two", "1.5", "1,2", "0x2")),
        *(("FASTLOSS_ISA", value) for value in ("sse9", "AVX2", "AVX2 ", "2", "avx", "baseline,avx2")),
        # Those that this machine does not have.
        *(("FASTLOSS_ISA", level) for level in _kernels.LEVELS if level not in LEVEL_NAMES),
    ],
)
def test_bad_environment(name, value):
    last = run_python(SHOW, fails=True, **{name: value}).rstrip("\n").splitlines()[-1]
    assert last.startswith(f"ValueError: {name}")
    assert value in last
    if name == "FASTLOSS_ISA" and value not in _kernels.LEVELS:
        assert "baseline, avx2, avx512" in last


# Instruction sets


@pytest.mark.parametrize("name", [*LEVEL_NAMES, "", None])
def test_instruction_set(name):
    """The chosen one, else the best."""
    environment = {} if name is None else {"FASTLOSS_ISA": name}
    rows = shown(run_python("import fastloss; fastloss.show_config()", **environment))
    assert rows["in use"] == (name or LEVEL_NAMES[-1])
    assert rows["machine supports"] == _kernels.LEVELS[_kernels.MACHINE_LEVEL]


def shown(text):
    """What show_config printed, as a dictionary."""
    return {line[:17].strip(): line[17:].strip() for line in text.splitlines()}


def test_show_config(capsys):
    with fastloss.num_threads(9):
        fastloss.show_config()
    rows = shown(capsys.readouterr().out)
    assert rows["fastloss"] == fastloss.__version__
    assert rows["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert rows["numpy"] == np.__version__
    assert rows["compiler"] == _kernels.COMPILER != ""
    built = [_kernels.LEVELS[level] for level in _kernels.BUILT_LEVELS]
    assert rows["instruction sets"].split(", ") == built
    assert rows["in use"] in built
    assert rows["caches"].endswith(
        f"output from {_kernels.stream_from() / 2**20:g} MiB on is written past them"
    )
    assert rows["threads"] == "9"
    assert rows["openmp"]


# Callers


@pytest.mark.usefixtures("isa")
def test_many_callers_at_once():
    """Eight Python threads, with calls small and large, shared and not, each with its own bits."""
    rng = np.random.default_rng(0)
    jobs = []
    for shape in [(8, 10), (4000, 10), (60, 900), (2, 40_000)]:
        x = rng.standard_normal(shape).astype(np.float32)
        target = rng.integers(0, shape[1], shape[0])
        for options in ({}, {"label_smoothing": 0.1, "softcap": 5.0}):
            jobs.append((x, target, options))

    def call(job, threads):
        x, target, options = job
        with fastloss.num_threads(threads):
            loss, grad = fastloss.cross_entropy(x, target, return_grad=True, **options)
        return loss, grad.tobytes()

    expected = [call(job, 1) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda number: call(jobs[number % len(jobs)], 1 + number % 3), range(400))
        for number, result in enumerate(found):
            assert result == expected[number % len(jobs)], number


def test_lock_is_released():
    """Other Python threads run in the middle of a large call."""
    x = np.zeros((400, 32_768), np.float32)
    call = []

    def work():
        begin = time.perf_counter()
        fastloss.logsumexp(x, num_threads=1)
        call.extend((begin, time.perf_counter()))

    # With the lock held there would never be a time within the call; without it there is, unless
    # the system has no processor for this thread, five times in a row.
    for _ in range(5):
        call.clear()
        times = []
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(work)
            while not future.done():
                times.append(time.perf_counter())
        begin, end = call
        margin = (end - begin) / 10.0
        if any(begin + margin < moment < end - margin for moment in times):
            return
    pytest.fail("nothing else ran during the call")


# Forks. Each runs in a process of its own, where a child that hangs is noticed and killed.

CHILDREN = """
import os, signal, sys, time

def child_of(function):
    pid = os.fork()
    if pid == 0:
        try:
            right = function()
        except BaseException as error:
            print(error, flush=True)
            right = False
        os._exit(0 if right else 1)
    return pid

def wait_for(pid):
    deadline = time.monotonic() + 20.0
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0, status
            return
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            sys.exit("the child hangs")
        time.sleep(0.002)
"""

SETUP = f"""{CHILDREN}
import numpy as np
import fastloss

x = np.random.default_rng(0).standard_normal((300, 700)).astype(np.float32)
target = np.arange(300)

def compute(threads=2):
    loss, grad = fastloss.cross_entropy(x, target, return_grad=True, num_threads=threads)
    kl, by_student = fastloss.kl_div_with_logits(x, x[::-1].copy(), return_grad=True, num_threads=threads)
    ppo = fastloss.ppo_loss(x, x - 0.1, x, num_threads=threads)
    others = kl, ppo, float(fastloss.logsumexp(x[:2], num_threads=threads).sum())
    return loss, grad.tobytes(), by_student.tobytes(), others
"""

FORKS = {
    "after-use": """
expected = compute()
wait_for(child_of(lambda: compute() == expected))
assert compute() == expected
""",
    "before-use": """
pid = child_of(lambda: compute() == compute(1))
assert compute() == compute(1)
wait_for(pid)
""",
    "twice": """
expected = compute()

def child():
    wait_for(child_of(lambda: compute() == expected))
    return compute() == expected

wait_for(child_of(child))
""",
    "child-first": """
def child():
    expected = compute()
    wait_for(child_of(lambda: compute() == expected))
    return compute() == expected

wait_for(child_of(child))
""",
    "from-a-pool": """
from concurrent.futures import ThreadPoolExecutor

expected = compute()
with ThreadPoolExecutor(4) as pool:
    assert all(result == expected for result in pool.map(lambda _: compute(), range(16)))
    work = lambda _: wait_for(child_of(lambda: compute() == expected))
    list(pool.map(work, range(8)))
""",
    "while-in-use": """
import threading

expected = compute()
stop = threading.Event()

def busy():
    while not stop.is_set():
        compute()

threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(10):
    wait_for(child_of(lambda: compute() == expected))
stop.set()
for thread in threads:
    thread.join()
""",
    "multiprocessing": """
import multiprocessing

def child(queue):
    queue.put(compute())

expected = compute()
context = multiprocessing.get_context("fork")
queue = context.Queue()
processes = [context.Process(target=child, args=(queue,)) for _ in range(3)]
for process in processes:
    process.start()
for _ in processes:
    assert queue.get(timeout=20) == expected
for process in processes:
    process.join(20)
    assert process.exitcode == 0
""",
}


@CAN_FORK
@pytest.mark.parametrize("code", FORKS.values(), ids=FORKS)
def test_fork(code):
    run_python(SETUP + code)


# Another library with OpenMP in the process

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="needs torch"
)  # not imported here: that would be before fastloss in every test

USE_TORCH = """
from concurrent.futures import ThreadPoolExecutor

torch.set_num_threads(2)
logits, classes = torch.from_numpy(x), torch.from_numpy(target)
def torch_loss():
    return float(torch.nn.functional.cross_entropy(logits.repeat(20, 1), classes.repeat(20)))
"""


@needs_torch
@pytest.mark.parametrize("order", ["torch, fastloss", "fastloss, torch"])
def test_beside_torch(order):
    """Loaded before or after: both work in turn, from several Python threads too."""
    run_python(
        f"import {order}\n" + SETUP + USE_TORCH + "expected = compute(1)\n"
        "for _ in range(5):\n"
        "    assert abs(torch_loss() - expected[0]) < 1e-5\n"
        "    assert compute() == expected\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    found = pool.map(lambda i: compute() if i % 2 else torch_loss(), range(20))\n"
        "    assert all(result == expected for i, result in enumerate(found) if i % 2)\n"
    )


@CAN_FORK
@needs_torch
@pytest.mark.parametrize("order", ["torch, fastloss", "fastloss, torch"])
def test_fork_after_torch_used_its_threads(order):
    """Both may share one OpenMP runtime, which a child then cannot use, whoever used it before."""
    run_python(
        f"import {order}\n" + SETUP + USE_TORCH + "torch_loss()\n"
        "wait_for(child_of(lambda: compute() == compute(1)))\n"
    )


# What the system says of the process

needs_linux_and_openmp = pytest.mark.skipif(
    sys.platform != "linux" or not _kernels.OPENMP, reason="needs Linux and OpenMP"
)


# Children that no hook tells of. The last two import the package for the first time: after the parent used
# OpenMP's threads without it, and after it did not.
UNTOLD = {
    "fork-from-c": f"""{SETUP}
import ctypes

expected = compute()
libc = ctypes.PyDLL(None)  # no hook of Python runs
pid = libc.fork()
if pid == 0:
    os._exit(0 if compute() == expected else 1)
wait_for(pid)
assert compute() == expected
""",
    "first-import-in-child": f"""{CHILDREN}
import ctypes

runtime = ctypes.CDLL("libgomp.so.1", mode=ctypes.RTLD_GLOBAL)
work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
runtime.GOMP_parallel(work, None, 2, 0)

def child():
    import numpy as np
    import fastloss
    x = np.zeros((300, 700), np.float32)
    return np.isfinite(fastloss.cross_entropy(x, np.zeros(300, int), num_threads=2))

wait_for(child_of(child))
""",
    "serial-parent": f"""{CHILDREN}
def child():
    import numpy as np
    import fastloss
    x = np.zeros((300, 7000), np.float32)
    fastloss.cross_entropy(x, np.zeros(300, int), num_threads=3)
    return len(os.listdir("/proc/self/task")) >= 3

wait_for(child_of(child))
""",
}


@needs_linux_and_openmp
@pytest.mark.parametrize("code", UNTOLD.values(), ids=UNTOLD)
def test_children_that_no_hook_tells_of(code):
    run_python(code, OPENBLAS_NUM_THREADS="1")


REFUSED_THREAD = """
import resource, threading

expected = compute(1)
go, results = threading.Event(), []

def late():
    go.wait()
    results.append(compute(4))

thread = threading.Thread(target=late)
thread.start()
if os.getuid() == 0:
    os.setuid(54321)  # the limit does not hold for root
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    threading.Thread(target=int).start()
except RuntimeError:
    pass
else:
    sys.exit("this system knows no limit")
assert compute(4) == expected
go.set()
thread.join()
assert results == [expected]
"""


@needs_linux_and_openmp
def test_a_thread_that_the_system_refuses():
    """The call is serial then, in any thread; the OpenMP runtime by itself would end the process."""
    run_python(SETUP + REFUSED_THREAD, OPENBLAS_NUM_THREADS="1")


@needs_linux_and_openmp
def test_nested_levels_off():
    run_python(SETUP + "assert compute() == compute(1)", OMP_MAX_ACTIVE_LEVELS="0")


@pytest.mark.parametrize("kilobytes", [64, 96])
def test_threads_with_small_stacks(kilobytes):
    """A kernel takes a few KiB of stack: the buffers of blocks are elsewhere."""
    run_python(
        f"""
        import threading
        import numpy as np, fastloss

        names = "kl_div_with_logits", "js_div_with_logits", "tv_distance_with_logits"
        divergences = [getattr(fastloss, name) for name in names]

        def work():
            rng = np.random.default_rng(0)
            for dtype in (np.float64, np.float32, np.float16):
                for rows, classes in ((40, 10), (3, 5000)):
                    x, t = (rng.standard_normal((rows, classes)).astype(dtype) for _ in range(2))
                    y = np.arange(rows) % classes
                    options = dict(label_smoothing=0.1, softcap=5.0, z_loss=0.1, return_hessian=True)
                    fastloss.cross_entropy(x, y, return_grad=True, **options)
                    fastloss.cross_entropy(x[:, ::-1], fastloss.softmax(t), return_grad=True)
                    fastloss.entropy(x, temperature=2.0, return_grad=True)
                    fastloss.multi_margin_loss(x, y, return_grad=True)
                    for loss in divergences:
                        loss(x[:, ::-1], t, teacher_grad=True, return_grad=True)
                    fastloss.binary_cross_entropy_with_logits(
                        x, t > 0, weight=abs(t), return_grad=True, return_hessian=True,
                        grad_output=abs(t), reduction="none",
                    )
                    fastloss.gaussian_nll_loss(x, t, abs(t), return_grad=True)
                    fastloss.dpo_loss(x, t, t, x, return_grad=True)

        with np.errstate(all="ignore"):
            work()  # what is imported late takes more stack than what it computes
        threading.stack_size({kilobytes} * 1024)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """,
        FASTLOSS_NUM_THREADS="1",
    )


@pytest.mark.parametrize("classes", [7, 3000])
def test_targets_that_change_during_a_call(classes):
    """To what is no class: an error or a wrong number, and nothing is written outside of the arrays."""
    run_python(
        f"""
        import threading, time
        import numpy as np, fastloss

        rows = 200_000 // {classes}
        x = np.zeros((rows, {classes}), np.float32)
        out = np.empty_like(x)
        y = np.zeros(rows, np.int64)
        weight = np.ones({classes})
        stop = threading.Event()

        def disturb():
            while not stop.is_set():
                y[...] = 2**40
                y[...] = -(2**50)
                y[...] = 0
                time.sleep(0)

        thread = threading.Thread(target=disturb)
        thread.start()
        end = time.monotonic() + 3.0
        while time.monotonic() < end:
            for loss, options in (
                (fastloss.cross_entropy, {{}}),
                (fastloss.cross_entropy, dict(weight=weight, label_smoothing=0.1)),
                (fastloss.nll_loss, dict(weight=weight)),
                (fastloss.multi_margin_loss, {{}}),
                (fastloss.token_log_probs, {{}}),
            ):
                y[...] = 0
                try:
                    loss(x, y, return_grad=True, out=out, **options)
                except IndexError:
                    pass
        stop.set()
        thread.join()
        """
    )
