"""Sweeps survive being killed: fewer cells than ``python -m benchmarks.sweeps`` has, on every engine that is here."""

import importlib.util
import json
import random

import pytest

from benchmarks import sweeps
from benchmarks.sweeps import Sweep, declaration, differences, disturb
from upscale_opt.sweeps.cells import cells_of
from upscale_opt.sweeps.declarations import axes_of
from upscale_opt.sweeps.documents import located
from upscale_opt.sweeps.rows import DONE, Row

CELLS, KILLS = 216, 10
ENGINES = {"processes": "upscale_opt", "ray": "ray"}


def test_the_number_of_cells_is_about_what_is_asked():
    for number in (72, 216, 1000):
        found = cells_of(axes_of(located(declaration(number), "x")))
        assert abs(len(found) - number) <= sweeps.CELLS_PER_AMOUNT // 2 and len(set(found)) == len(found)


def test_differences_are_counted():
    row = Row("a", DONE, {"kind": "orders"}, figures={"value": 1})
    other = Row("a", DONE, {"kind": "orders"}, figures={"value": 2})
    assert set(differences([row], [row]).values()) == {0}
    assert differences([row], [other])["different"] == 1
    assert differences([row], [])["lost"] == 1 and differences([], [row])["unknown"] == 1
    assert differences([row], [row, row])["twice"] == 1


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed"), "undisturbed", CELLS, "processes", 2)
    sweep.finish()
    return sweep.rows()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_sweep_survives_ten_kills(engine, undisturbed, tmp_path):
    if importlib.util.find_spec(ENGINES[engine]) is None:
        pytest.skip(f"{engine} is not installed here")
    sweep = Sweep(tmp_path, "killed", CELLS, engine, 2)
    killed = disturb(sweep, KILLS, random.Random(0), len(undisturbed))
    assert len(killed) == KILLS, json.dumps(killed)
    found = differences(undisturbed, sweep.rows())
    assert set(found.values()) == {0}, found
    assert len(undisturbed) == CELLS
