"""Sweep files: what is wrong is named with line and key, and what is allowed is said."""

import json
import sys

import pytest

from upscale_opt.errors import SweepError
from upscale_opt.sweeps.cells import cells_of
from upscale_opt.sweeps.declarations import axes_of, protocols, read_axes, sweep_file
from upscale_opt.sweeps.documents import located, read_document

SWEEP = """\
models: [resnet18]
amounts: {from: 0.025, to: 0.975, step: 0.025}
masks:
  - importance: [l1, l2]
    mode: [input, constrained]
conditions:
  - batch: [1, 8]
    backend: eager
measure: [orders, latency]
"""


def written(folder, text, name="sweep.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def test_a_sweep_has_every_combination_once(tmp_path):
    axes = read_axes(written(tmp_path, SWEEP))
    assert axes.amounts[:2] == ("0.025", "0.05") and axes.amounts[-1] == "0.975" and len(axes.amounts) == 39
    cells = cells_of(axes)
    orders = 39 * 2 * 2 * 2  # conditions do not matter
    assert len(cells) == len(set(cells)) == orders + orders * 2
    assert [cell.kind for cell in cells] == ["orders"] * orders + ["latency"] * 2 * orders


def test_yaml_json_and_toml_say_the_same(tmp_path):
    axes = read_axes(written(tmp_path, SWEEP))
    plain = {
        "models": ["resnet18"],
        "amounts": {"from": 0.025, "to": 0.975, "step": 0.025},
        "masks": [{"importance": ["l1", "l2"], "mode": ["input", "constrained"]}],
        "conditions": [{"batch": [1, 8], "backend": "eager"}],
        "measure": ["orders", "latency"],
    }
    assert read_axes(written(tmp_path, json.dumps(plain), "a.json")) == axes
    toml = """
        models = ["resnet18"]
        amounts = {from = 0.025, to = 0.975, step = 0.025}
        measure = ["orders", "latency"]
        [[masks]]
        importance = ["l1", "l2"]
        mode = ["input", "constrained"]
        [[conditions]]
        batch = [1, 8]
        backend = "eager"
    """
    assert read_axes(written(tmp_path, toml, "a.toml")) == axes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [resnet18]\namount: 0.5\n", "line 2: there is no key 'amount' in a sweep; choose from models"),
        ("amounts: [0.5]\n", "the key models is missing"),
        ("models: []\n", "line 1: models is a list; give at least one value"),
        ("models: [a]\namounts:\n  - 0.5\n  - 1.5\n", "line 4: amounts[1]: amount 1.5 is outside [0, 1)"),
        ("models: [a]\namounts: {from: 0.5, to: 0.1, step: 0.1}\n", "line 2: amounts is empty"),
        ("models: [a]\namounts: {from: 0.5}\n", "line 2: amounts lacks to"),
        ("models: [a]\nmasks:\n- {importance: l3}\n", "line 3: masks[0].importance: there is no importance 'l3'"),
        ("models: [a]\nmasks:\n- {mode: inputs}\n", "line 3: masks[0].mode is 'inputs'; did you mean input?"),
        ("models: [a]\nmasks: [hrank]\n", "line 2: masks[0] is 'hrank'; it looks at images; add the key data"),
        ("models: [a]\nmethods: [gredy]\n", "methods[0] is 'gredy'; did you mean greedy?"),
        ("models: [a]\nobjectives: [time]\n", "objectives[0] is 'time'; choose from copies"),
        ("models: [a]\nmeasure: [accuracy]\n", "accuracy needs the key data"),
        ("models: [a]\nconditions: [{batch: 0}]\n", "conditions[0].batch is 0; give a whole number from 1"),
        ("models: [a]\nconditions: [{device: gpu}]\n", "conditions[0].device is 'gpu'; choose cpu, cuda or cuda:N"),
        ("models: [a]\ntime_limit: true\n", "time_limit is True; give a number"),
        ("models: [a]\nverify: 1\n", "verify is 1; give true or false"),
        ("models: [{weights: b}]\n", "a model needs the key name"),
        ("models: [a]\ninput_shape: 3\n", "input_shape is 3; give a list of sizes"),
        ("models: [a]\ntraining: {epoch: 1}\n", "there is no key 'epoch' in training; choose from epochs"),
        ("models: [a]\nmodels: [b]\n", "line 2: the key 'models' is given twice"),
        ("models: [a\n", "it is no YAML"),
        ("- a\n", "give a sweep as keys with values"),
        ("models: &a [*a]\n", "an alias stands for itself"),
        ("", "the key models is missing"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(text, said, tmp_path):
    with pytest.raises(SweepError) as caught:
        read_axes(written(tmp_path, text))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_other_formats_name_the_key(tmp_path):
    for name, text, said in (
        ("a.json", '{"models": ["a"], "seeds": [-1]}', "seeds[0] is -1; give a whole number from 0"),
        ("a.json", '{"models": ["a"], "models": ["b"]}', "'models' is given twice"),
        ("a.json", '{"models": ', "line 1: it is no JSON"),
        ("a.toml", "models = [", "it is no TOML"),
        ("a.txt", "", "is no sweep file by its ending"),
        ("a.json", b"\xff", "is no text in UTF-8"),
    ):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(SweepError, match=None) as caught:
            read_axes(path)
        assert said in str(caught.value)


def test_without_pyyaml_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(SweepError, match="needs PyYAML; run: pip install"):
        read_document(written(tmp_path, SWEEP))


def test_the_command_line_replaces_keys(tmp_path):
    document = read_document(written(tmp_path, SWEEP))
    axes = axes_of(document, located({"amounts": ["0.5"], "methods": ["auto"]}, "the command line"))
    assert axes.amounts == ("0.5",) and axes.methods == ("auto",) and len(axes.masks) == 4


def test_the_protocol_of_the_paper_comes_with_the_package():
    assert "upscale-2023" in protocols()
    axes = read_axes(sweep_file("upscale-2023"))
    assert len(axes.models) >= 15 and len(axes.amounts) == 39 and axes.repeats == 100
    assert {own.importance for own in axes.masks} == {"l1", "l2", "fpgm", "lamp"}
    with_data = read_axes(sweep_file("upscale-2023"), located({"data": "digits"}, "the command line"))
    assert {own.importance for own in with_data.masks} == {"l1", "l2", "fpgm", "lamp", "hrank"}
    with pytest.raises(SweepError, match="there is no sweep file nothing; name a file, or one of the package"):
        sweep_file("nothing")
