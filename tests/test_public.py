"""The public surface: every name is documented, typed, and has its reference, its cases and its doctests."""

import ast
import doctest
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest
from helpers import SETTINGS

import fastloss
from fastloss import reference

# Objects, whose own tests have what stands for a reference.
OBJECTS = {"Finding", "LossCurve", "Perplexity"}
LOSSES = [name for name in fastloss.__all__ if re.search("(loss|entropy|penalty)", name)]
MODULES = sorted(
    f"{folder}{info.name}"
    for folder in ("", "torch.")
    for info in pkgutil.iter_modules([str(Path(fastloss.__path__[0], folder.rstrip(".")))])
    if info.name not in ("_kernels", "__main__")
)


@pytest.mark.parametrize("name", sorted(set(fastloss.__all__) - SETTINGS - OBJECTS))
def test_has_a_reference(name: str) -> None:
    ours = inspect.signature(getattr(fastloss, name)).parameters
    theirs = inspect.signature(getattr(reference, name)).parameters
    beyond_arithmetic = {"out", "accumulate", "num_threads", "check_domain", "memory_budget", "filter_eps"}
    assert {k: v.default for k, v in ours.items() if k not in beyond_arithmetic} == {
        k: v.default for k, v in theirs.items()
    }


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_takes_the_common_arguments(name: str) -> None:
    """They are the last. Options are given by name: of what has a default, only arrays are positional."""
    parameters = inspect.signature(getattr(fastloss, name)).parameters
    common = ["reduction", "return_grad", "grad_output", "out", "accumulate", "num_threads"]
    assert [p for p in parameters if p != "return_hessian"][-len(common) :] == common
    options = [p for p in parameters.values() if p.default is not p.empty]
    optional_arrays = {"ref_chosen_logps", "ref_rejected_logps", "group_sizes"}
    assert {p.name for p in options if p.kind is not p.KEYWORD_ONLY} <= optional_arrays
    required = [p for p in parameters.values() if p.default is p.empty]
    numbers = ["scale", "bias"] if name == "siglip_loss" else []
    assert [p.name for p in required if p.kind is p.KEYWORD_ONLY] == numbers


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module: str) -> None:
    if module.startswith("torch"):
        pytest.importorskip("torch")
    loaded = importlib.import_module(f"fastloss.{module}")
    assert doctest.testmod(loaded).failed == 0


def run_python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run this Python in a process of its own."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **options)


@pytest.mark.parametrize("module", ["fastloss", "fastloss.boosting"])
def test_import_is_light(module: str) -> None:
    """It loads no framework, not even the optional bfloat16, and nothing that reads curves."""
    heavy = "torch|jax|sklearn|ml_dtypes|lightgbm|xgboost|fastloss[.]_curve[.].*"
    code = f"import re, sys, {module}; print([name for name in sys.modules if re.fullmatch('{heavy}', name)])"
    assert run_python("-c", code, check=True).stdout.strip() == "['fastloss._curve.finding']"


LAZY_MODULES = ["boosting", "reference", "torch"]


def test_dir_has_what_users_want() -> None:
    wanted = {*fastloss.__all__, *LAZY_MODULES}
    assert wanted <= set(dir(fastloss))
    assert all(re.fullmatch("__.+__", name) for name in set(dir(fastloss)) - wanted)
    assert all(hasattr(fastloss, name) for name in dir(fastloss) if name != "torch")  # that is optional


def test_modules_are_loaded_when_first_used() -> None:
    code = f"""if True:
        import sys
        import fastloss
        full = ["fastloss." + name for name in {LAZY_MODULES}]
        assert not set(full) & set(sys.modules)
        print(fastloss.reference.cross_entropy([[0.0, 0.0]], [0]))
        print(fastloss.boosting.lightgbm_objective.__name__)
        assert "torch" not in sys.modules
        from fastloss.regression import mse_loss
        assert fastloss.mse_loss is mse_loss and not hasattr(fastloss, "nonsense")
    """
    done = run_python("-c", code, check=True)
    assert done.stdout.split() == ["0.6931471805599453", "lightgbm_objective"]


def test_torch_is_loaded_when_first_used() -> None:
    pytest.importorskip("torch")
    code = "import fastloss; print(fastloss.torch.cross_entropy.__module__); from fastloss import torch"
    assert run_python("-c", code, check=True).stdout.startswith("fastloss.torch")


def test_without_torch() -> None:
    """The attribute is missing and says why; importing the module says it as ever."""
    code = """if True:
        import pydoc, sys
        sys.modules["torch"] = None  # as if it were not installed
        import fastloss
        assert not hasattr(fastloss, "torch")
        try:
            fastloss.torch
        except AttributeError as error:
            assert "fastloss.torch cannot be imported: " in str(error), error
            assert isinstance(error.__cause__, ImportError)
        try:
            from fastloss import torch
        except ImportError as error:
            assert error.name == "torch"
        assert "cross_entropy" in pydoc.render_doc(fastloss)  # asks for every attribute
    """
    run_python("-c", code, check=True)


def test_type_checkers_see_the_modules(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="a type checker")
    program = tmp_path / "program.py"
    program.write_text(
        "import fastloss\n"
        "reveal_type(fastloss.reference.cross_entropy)\n"
        "reveal_type(fastloss.boosting.lightgbm_objective)\n"
        "fastloss.torch.install()\n"
        "fastloss.nonsense\n"
        "fastloss.torch.nonsense\n"
    )
    # The modules of torch alone take most of the time.
    skipped = [f"[mypy-{name}.*]\nfollow_imports = skip" for name in ("torch", "lightgbm", "xgboost")]
    settings = ["[mypy]\nfollow_imports = silent\nignore_missing_imports = True", *skipped]
    (tmp_path / "mypy.ini").write_text("\n".join(settings))
    environment = os.environ | {"MYPYPATH": str(Path(fastloss.__file__).parents[1])}
    check = ("-m", "mypy", f"--cache-dir={tmp_path}", str(program))
    output = run_python(*check, cwd=tmp_path, env=environment)
    errors = re.findall(r"program.py:(\d+): error: (.*)  \[(.*)\]", output.stdout)
    missing = ('Module has no attribute "nonsense"', "attr-defined")
    assert errors == [("5", *missing), ("6", *missing)], output
    types = re.findall(r'program.py:(\d+): note: Revealed type is "(.*)"', output.stdout)
    assert [line for line, _ in types] == ["2", "3"] and "Any" != types[0][1] != types[1][1] != "Any"


@pytest.fixture
def source_tree(tmp_path: Path) -> Path:
    """A clone without compiled kernels."""
    package = Path(fastloss.__file__).parent
    ignored = shutil.ignore_patterns("_kernels.*", "__pycache__")
    shutil.copytree(package, tmp_path / "fastloss", ignore=ignored)
    (tmp_path / "setup.py").touch()
    return tmp_path


def import_error(folder: Path) -> str:
    """What Python prints of ``import fastloss`` in a folder.

    Without site-packages, as an editable installation lends its kernels to any package of the name.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = run_python("-S", "-c", "import fastloss", cwd=folder, env=environment)
    assert done.returncode == 1
    return done.stderr


def test_the_source_tree_says_what_it_is(source_tree: Path) -> None:
    error = import_error(source_tree)
    message = error.splitlines()[-1]
    assert message.startswith(f"ImportError: Python has found the source tree of fastloss in {source_tree}, ")
    assert "`pip install -e .` in that folder" in message and "start Python in another folder" in message
    assert "circular" not in error and "No module named" not in error


def test_an_installed_package_without_kernels_is_not_called_a_source_tree(source_tree: Path) -> None:
    (source_tree / "setup.py").unlink()
    message = import_error(source_tree).splitlines()[-1]
    assert message == (
        f"ImportError: the fastloss in {source_tree / 'fastloss'} has no compiled kernels: "
        "install it again with this Python."
    )


def test_kernels_for_another_python_are_named(source_tree: Path) -> None:
    (source_tree / "fastloss" / "_kernels.cpython-38-riscv64-linux-gnu.so").touch()
    message = import_error(source_tree).splitlines()[-1]
    assert "not compiled for this Python (only _kernels.cpython-38-riscv64-linux-gnu.so)" in message


def test_kernels_that_do_not_load_keep_their_message(source_tree: Path) -> None:
    """As where the OpenMP runtime is missing: the message is the loader's."""
    (source_tree / "fastloss" / f"_kernels{EXTENSION_SUFFIXES[0]}").write_bytes(b"no library")
    error = import_error(source_tree)
    *_, cause, message = (line for line in error.splitlines() if line.startswith("ImportError: "))
    own = cause.removeprefix("ImportError: ")
    assert message == f"ImportError: the compiled kernels of fastloss cannot be loaded: {own}"
    assert "_kernels" in own and "source tree" not in error
    assert "The above exception was the direct cause" in error


def test_kernels_that_miss_a_module_keep_their_message(source_tree: Path) -> None:
    (source_tree / "fastloss" / "_kernels.py").write_text("import no_such_module")
    error = import_error(source_tree)
    assert error.splitlines()[-1].endswith("cannot be loaded: No module named 'no_such_module'")
    assert "source tree" not in error


def test_command_line_prints_the_configuration() -> None:
    output = run_python("-m", "fastloss", "info", check=True).stdout
    assert output.startswith("fastloss") and "instruction sets" in output


def test_command_line_alone_prints_its_help() -> None:
    alone = run_python("-m", "fastloss", check=True)
    assert alone.stdout == run_python("-m", "fastloss", "--help", check=True).stdout
    assert re.search("^ +info .*\n +demo ", alone.stdout, re.MULTILINE) and alone.stderr == ""


def test_command_line_has_the_version() -> None:
    output = run_python("-m", "fastloss", "--version", check=True).stdout
    assert output == f"fastloss {fastloss.__version__}\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["info", "--nonsense"]])
def test_command_line_refuses_the_rest(arguments: list[str]) -> None:
    done = run_python("-m", "fastloss", *arguments)
    assert done.returncode == 2 and "nonsense" in done.stderr and done.stdout == ""


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fastloss"):
            inner = node.module in ("fastloss", "fastloss._engine")
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if inner else {node.module}
    return found


def test_the_engine_imports_no_face() -> None:
    engine = Path(fastloss.__file__).parent / "_engine"
    names = {name for path in engine.glob("*.py") for name in imported(path)}
    assert {n for n in names if not re.match(r"fastloss\.(_engine|_kernels)\b", n)} <= {
        "fastloss.__version__"
    }
