"""`--round-to auto` on the command line: what is printed, what is in the JSON document, and what is refused."""

import json

import pytest
from command_line import RESIDUAL, upscale_opt, words

from upscale_opt import read_masks
from upscale_opt.latency.cost_tables import CACHE_VARIABLE

AMOUNT = ("--amount", "0.4")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Tables of the times over kept counts, measured by a command; then every count that is a multiple of 4 is fast."""
    directory = tmp_path_factory.mktemp("tables")
    measured = upscale_opt("export", *RESIDUAL, *AMOUNT, "--round-to", "auto", "--tables", directory)
    assert measured.returncode == 0, measured.stderr
    (path,) = directory.glob("widths-*.json")
    document = json.loads(path.read_text())
    for own in document["operators"]:
        own["timings"] = {n: [2000 if int(n) % 4 else 1000] * len(t) for n, t in own["timings"].items()}
    path.write_text(json.dumps(document))
    return directory


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("solve", ("--no-measure",)),
        ("export", ()),
        ("compare", ("--repeats", "2", "--solver", "greedy")),
        pytest.param("check", ("--repeats", "2", "--time-limit", "1"), marks=pytest.mark.slow),
    ],
)
def test_kept_counts_are_those_that_tables_find_fast(command, options, tables, tmp_path, monkeypatch):
    """16 channels lose 6: 10 are kept, and 12 are as fast."""
    if command != "check":
        monkeypatch.setattr("upscale_opt.latency.width_timings._measure", None)
    told = ("--round-to", "auto", "--tables", tables, "--json", tmp_path / "a.json")
    found = upscale_opt(command, *RESIDUAL, *AMOUNT, *told, *options)
    assert found.returncode == 0, found.stderr
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["round_to"] == "auto"
    if command == "check":
        return
    masks = {own["weight"]: own for own in document["masks"]}
    assert (masks["down.weight"]["asked"], masks["down.weight"]["kept"]) == (10, 12)
    assert not any("dropped" in own for own in masks.values())
    assert "rounding by measured times raised" in words(found.stdout) and "dropped" not in found.stdout


def test_counts_are_lowered_only_if_asked_for_and_every_drop_is_told(tables, tmp_path, monkeypatch):
    """The weakest channel of one consumer has hardly any norm; all others are too strong to go."""
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\nfrom torch import nn\n\n\ndef net():\n"
        "    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 4, 1))\n"
        "    with torch.no_grad():\n"
        "        model[2].weight[:, ::2] *= 1e-3\n        model[2].weight[:, 0] = 1e-3\n    return model\n"
    )
    model = ("--model", f"{path}:net", "--input-shape", "1,3,8,8", "--amount", "0.4375")  # 9 of 16 are kept
    told = ("--round-to", "auto-nearest", "--tables", tmp_path / "tables")
    assert upscale_opt("export", *model, *told).returncode == 0
    (widths,) = (tmp_path / "tables").glob("widths-*.json")
    document = json.loads(widths.read_text())
    (own,) = document["operators"]
    assert set(own["timings"]) == {"8", "9"}
    own["timings"] = {"8": [1000] * 8, "9": [2000] * 8}
    widths.write_text(json.dumps(document))
    found = upscale_opt("export", *model, *told, "--json", tmp_path / "a.json")
    assert found.returncode == 0 and "raised 0 of 2 consumers, dropped 1 of 2.weight (0.0 %)" in words(found.stdout)
    (last,) = (own for own in json.loads((tmp_path / "a.json").read_text())["masks"] if own["weight"] == "2.weight")
    assert (last["asked"], last["kept"], last["dropped"]) == (9, 8, 1) and 0 < last["dropped_share"] < 0.01
    plain = upscale_opt("export", *model, "--round-to", "auto", "--tables", tmp_path / "tables")
    assert plain.returncode == 0 and "dropped" not in plain.stdout


def test_prune_writes_masks_of_the_counts_that_are_fast(tables, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tables))
    monkeypatch.setattr("upscale_opt.latency.width_timings._measure", None)
    told = ("--round-to", "auto", "--out", tmp_path / "out", "--json", tmp_path / "a.json")
    found = upscale_opt("prune", *RESIDUAL, *AMOUNT, *told)
    assert found.returncode == 0 and "rounding by measured times raised" in words(found.stdout), found.stderr
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["round_to"] == "auto" and document["kept"]["down.weight"] == 12
    assert sum(read_masks(tmp_path / "out" / "masks.json")["down.weight"]) == 12


@pytest.mark.parametrize("mode", ["auto", "auto-nearest"])
@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("solve", ("--mode", "constrained")),
        ("export", ("--mode", "both")),
        ("calibrate", ("--mode", "output")),
        ("compare", ("--output-masks", "rows.json")),
        ("prune", ("--mode", "constrained", "--out", "out")),
        ("prune", ("--mode", "output", "--out", "out")),
    ],
)
def test_masks_that_consumers_do_not_have_by_themselves_are_not_rounded_by_measurement(mode, command, options):
    found = upscale_opt(command, *RESIDUAL, "--round-to", mode, *options)
    assert found.returncode == 2 and found.stdout == "" and len(found.stderr.splitlines()) == 1
    assert f"--round-to {mode} rounds what every consumer keeps by itself" in found.stderr
    assert "give a multiple such as 8" in found.stderr


@pytest.mark.parametrize("wrong", ["much", "0", "-8", "1.5", "nan", "off", ""])
@pytest.mark.parametrize("command", ["solve", "compare", "export", "calibrate", "check", "prune", "show"])
def test_roundings_that_make_no_sense_are_refused_before_any_work(command, wrong, tmp_path):
    found = upscale_opt(command, *RESIDUAL, "--round-to", wrong)
    assert found.returncode == 2 and "round_to is" in found.stderr and len(found.stderr.splitlines()) == 1
