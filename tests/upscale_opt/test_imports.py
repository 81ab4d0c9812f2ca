"""Tests of who imports what: torch only when needed, and a clear word if a foreign package is in the way."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, cwd=ROOT, **kwargs):
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, **kwargs)


def test_importing_upscale_opt_loads_no_torch():
    result = run("-c", "import sys, upscale_opt; assert 'torch' not in sys.modules; dir(upscale_opt)")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("objective", ["copies", "latency"])
def test_solving_an_instance_loads_no_torch(tmp_path, objective):
    from problems import write_instance
    from problems.generators import random_masks, with_tables

    write_instance(with_tables(random_masks(20, 4), concave=False), tmp_path / "a.json")
    script = (
        "import sys, runpy\n"
        f"sys.argv = ['upscale-opt', 'solve', '--instance', {str(tmp_path / 'a.json')!r}, '--proof', "
        f"'--objective', {objective!r}]\n"
        "try:\n    runpy.run_module('upscale_opt', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    result = run("-c", script)
    assert result.returncode == 0, result.stderr
    assert "greedy" in result.stdout and "auto" in result.stdout


@pytest.mark.parametrize("command", [[], ["solve"], ["allocate"], ["calibrate"]])
def test_help_loads_nothing_heavy(command):
    """Nor do the libraries: users wait for what they import."""
    script = (
        "import sys, runpy, upscale_opt, solvers\n"
        f"sys.argv = ['upscale-opt', *{command!r}, '--help']\n"
        "try:\n    runpy.run_module('upscale_opt', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert not {'torch', 'scipy', 'ortools', 'matplotlib'} & set(sys.modules)\n"
    )
    result = run("-c", script)
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout


def test_every_public_name_resolves():
    result = run("-c", "import upscale_opt\nfor name in upscale_opt.__all__: getattr(upscale_opt, name)")
    assert result.returncode == 0, result.stderr


def test_every_public_name_is_on_the_page_of_the_library():
    import upscale_opt

    page = (ROOT / "docs" / "library.md").read_text()
    assert not [name for name in upscale_opt.__all__ if f"`{name}`" not in page]


@pytest.mark.slow
def test_the_example_of_the_library_runs(tmp_path):
    page = (ROOT / "docs" / "library.md").read_text()
    result = run("-c", page.split("```python\n")[1].split("```")[0], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert result.returncode == 0, result.stderr
    assert "greedy" in result.stdout and (tmp_path / "pruned" / "plan.json").exists()


@pytest.mark.parametrize("layout", ["solvers.py", "problems/__init__.py"])
def test_a_foreign_package_in_the_way_is_named(tmp_path, layout):
    intruder = tmp_path / layout
    intruder.parent.mkdir(exist_ok=True)
    intruder.write_text("")
    path = {"PYTHONPATH": str(ROOT), "PATH": ""}
    program = run("-m", "upscale_opt", "solve", "--model", "resnet18", cwd=tmp_path, env=path)
    assert program.returncode == 2
    assert str(intruder) in program.stderr and "Traceback" not in program.stderr
    assert len(program.stderr.strip().splitlines()) == 1
    library = run("-c", "import upscale_opt", cwd=tmp_path, env=path)
    assert "ImportError: upscale_opt needs its own package" in library.stderr and str(intruder) in library.stderr
