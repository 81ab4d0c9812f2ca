"""Nothing is rounded, cut off or taken for true on its way into a problem, an order or a proof."""

import json
from pathlib import Path

import numpy as np
import pytest

from problems import (
    OBJECTIVES,
    Access,
    Block,
    Bundle,
    Claim,
    CostTable,
    Curve,
    LayerLevels,
    LayerTimes,
    Order,
    Potentials,
    Problem,
    ProblemError,
    Proof,
    TimingTable,
    distinct_levels,
    evaluate,
    instance_from_dict,
    instance_to_dict,
    order_by_names,
    rank_errors,
    read_instance,
    read_proof,
    sparsity_grid,
    write_instance,
)
from problems.collection import Collection, Entry, load
from problems.files import json_of, read_any_json
from problems.generators import random_masks

PROBLEM = random_masks(8, 3)
ORDER = Order.identity(PROBLEM)
SPAN = OBJECTIVES["span"]
CLAIM = Claim("trivial", 0)
TIMES = LayerTimes("conv", (0, 0.5), (2, 1))


def access(**changes):
    return Access(**{"name": "a", "blocks": (0,), "kept": np.array([1, 0]), **changes})


@pytest.mark.parametrize(
    "kept", [[True, False], [1, 0], [1.0, 0.0], np.array([1, 0], np.uint8), np.array([True, False])]
)
def test_booleans_and_exact_zeros_and_ones_are_kept_arrays(kept):
    assert access(kept=kept).kept.tolist() == [True, False]


ODD = {
    "kept, shares": (lambda: access(kept=[0.5, 0.2]), "kept holds 0.5"),
    "kept, counts": (lambda: access(kept=[2, 0]), "kept holds 2"),
    "kept, negative": (lambda: access(kept=[-1, 0]), "kept holds -1"),
    "kept, NaN": (lambda: access(kept=[float("nan"), 0]), "kept holds nan"),
    "kept, words": (lambda: access(kept=["yes", "no"]), "kept holds str"),
    "kept, objects": (lambda: access(kept=[None, 1]), "kept is no array of numbers"),
    "kept, jagged": (lambda: access(kept=[[1], [1, 0]]), "kept is no array"),
    "blocks, share": (lambda: access(blocks=(0.7,)), "'a': blocks lists numbers, not float64"),
    "blocks, Boolean": (lambda: access(blocks=(True,)), "'a': blocks lists numbers, not bool"),
    "channel size, Boolean": (lambda: access(channel_size=True), "channel_size is True"),
    "table": (lambda: access(table={"copy": 1}), "give a CostTable"),
    "name": (lambda: access(name=7), "the name of an access is 7"),
    "size, share": (lambda: Block("x", 2.5), "block 'x': size is 2.5"),
    "size, Boolean": (lambda: Block("x", True), "block 'x': size is True"),
    "pinned, word": (lambda: Block("x", 2, pinned="no"), "block 'x': pinned is 'no'"),
    "removable, number": (lambda: Block("x", 2, removable=2), "block 'x': removable is 2"),
    "required, share": (lambda: Block("x", 2, required=(0.5,)), "block 'x': required lists numbers, not float64"),
    "required, huge": (lambda: Block("x", 2, required=(2**70,)), "block 'x': required is no array"),
    "required, Boolean": (lambda: Block("x", 2, required=(True,)), "block 'x': required lists numbers, not bool"),
    "units, share": (lambda: Bundle(((0.2,), (1,))), "a unit of a bundle lists numbers, not float64"),
    "no block": (lambda: Problem((), ()), "has no block"),
    "blocks of another kind": (lambda: Problem(("x",), ()), "which is no Block"),
    "order, Boolean": (lambda: Order([[True, False]]), "channel numbers, not bool"),
    "order, number": (lambda: Order(7), "7 is no list"),
    "order, one list": (lambda: evaluate(PROBLEM, [[0, 1]]), "the order is [[0, 1]]"),
    "curve, share": (lambda: Curve((1, 2), (3, 4.5)), "must be whole numbers"),
    "curve, number": (lambda: Curve(1, 2), "1 is no list"),
    "table, curve": (lambda: CostTable((1, 2)), "the read of a cost table is (1, 2)"),
    "claim, share of a channel": (lambda: Claim("search", 1.5), "the bound of a claim is 1.5"),
    "claim, views": (lambda: Claim("conflict", 1, accesses=("a", "b"), views=True), "the views of a conflict is True"),
    "claim, share": (lambda: Claim("search", 1, share=float("nan")), "give a fraction"),
    "claim, access": (lambda: Claim("search", 1, accesses=(1,)), "which is no str"),
    "potentials": (lambda: Potentials("x", (0.5, 1), (0, 1)), "potentials of block 'x': leave lists numbers"),
    "proof, bound": (lambda: Proof.of(PROBLEM, SPAN, 0.5, [CLAIM]), "the bound of a proof is 0.5"),
    "proof, problem": (lambda: Proof.of("a.json", SPAN, 0, [CLAIM]), "the problem is 'a.json'"),
    "levels, share": (lambda: distinct_levels([8, 5.5]), "counts of channels lists numbers, not float64"),
    "ranks, share": (lambda: rank_errors([0, 1.5], 5), "a rank is 1.5"),
    "grid, endless": (lambda: sparsity_grid(steps=2**70), "steps is "),
    "errors, Boolean": (lambda: LayerLevels("a", (0, 0.5), (2, 1), (0, True)), "errors are whole units"),
    "times, words": (lambda: LayerTimes("a", (0, "0.5"), (2, 1)), "sparsities is '0.5'"),
    "base, word": (lambda: TimingTable((TIMES,), base="1"), "base is '1'"),
    "path": (lambda: read_instance(7), "the path is 7"),
    "path with a zero byte": (lambda: read_instance("a\0b"), "zero byte"),
    "path to write to": (lambda: write_instance(PROBLEM, None), "the path is None"),
    "what to write": (lambda: write_instance("x", "y"), "the problem is 'x'"),
    "library": (lambda: load(7), "the name of an instance is 7"),
    "channels": (lambda: order_by_names(PROBLEM, [0], {}), "channels is [0]"),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_of_another_kind_is_one_sentence_that_names_it(what):
    make, message = ODD[what]
    with pytest.raises(ProblemError) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "a": 2}', "the field 'a' twice"),
        (b'{"a": {"b": 1, "c": 2, "b": 1}}', "the field 'b' twice"),
        (b"[NaN]", "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"[1e999]", "1e999 is too large"),
        (b"\xff", "not valid JSON"),
        (b"[" * 10**5, "not valid JSON"),
        (b"[" + b"1" * 5000 + b"]", "not valid JSON"),
    ],
)
def test_what_the_json_standard_does_not_have_is_refused(content, message, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    for read in (lambda: json_of(content, "a.json"), lambda: read_any_json(tmp_path / "a.json")):
        with pytest.raises(ProblemError, match=message):
            read()


SPOILT = {
    "reader as text": lambda d: d["blocks"][0]["channels"].__setitem__(0, [1, ["0"]]),
    "reader as Boolean": lambda d: d["blocks"][0]["channels"].__setitem__(0, [1, [True]]),
    "count as share": lambda d: d["blocks"][0]["channels"].__setitem__(0, [1.0, [0]]),
    "required, huge": lambda d: d["blocks"][0].update(required=[2**80]),
    "unknown field of a block": lambda d: d["blocks"][0].update(size=4),
    "unknown field of an access": lambda d: d["accesses"][0].update(kept=[]),
    "pinned as number": lambda d: d["blocks"][0].update(pinned=1),
    "channel size as Boolean": lambda d: d["accesses"][0].update(channel_size=True),
    "no blocks": lambda d: d.update(blocks=[], accesses=[]),
}


@pytest.mark.parametrize("what", SPOILT)
def test_spoilt_instances_are_refused(what):
    document = json.loads(json.dumps(instance_to_dict(PROBLEM)))
    assert instance_from_dict(document) == PROBLEM
    SPOILT[what](document)
    with pytest.raises(ProblemError):
        instance_from_dict(document)


ENTRY = {
    "name": "a/b",
    "family": "f",
    "source": "s",
    "model": None,
    "amount": None,
    "segment": None,
    "seed": 0,
    "hash": "0" * 64,
    "blocks": 1,
    "channels": 8,
    "accesses": 3,
    "classes": 4,
    "tables": False,
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../b"),
        ("name", "/etc/b"),
        ("name", ""),
        ("hash", "5f0c"),
        ("seed", -1),
        ("blocks", 0),
        ("channels", -3),
        ("accesses", True),
        ("classes", 1.0),
        ("tables", 1),
        ("model", 1),
        ("colour", "red"),
    ],
)
def test_entries_of_an_index_that_make_no_sense_are_refused(field, value, tmp_path):
    text = json.dumps({"format": "upscale_opt.library", "version": 1, "instances": [{**ENTRY, field: value}]})
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ProblemError, match=field) as caught:
        Collection(tmp_path).entries  # noqa: B018
    assert "instances[0]" in str(caught.value)


def test_an_instance_that_is_not_the_one_of_the_index_is_refused(tmp_path):
    """One mask changed after the index was written: values and bounds beside it are of another instance."""
    collection = Collection(tmp_path)
    from problems.signatures import content_hash

    sizes = {"blocks": 1, "channels": 8, "accesses": 3, "classes": 4}
    collection.write_index([Entry(**{**ENTRY, "name": "a", "hash": content_hash(PROBLEM), **sizes})])
    write_instance(PROBLEM, tmp_path / "a.json")
    assert collection.load("a") == PROBLEM
    write_instance(random_masks(8, 3, seed=1), tmp_path / "a.json")
    with pytest.raises(ProblemError, match="not the instance that the index lists"):
        collection.load("a")


def test_proof_files_are_read_to_the_last_field(tmp_path):
    from problems.proof_files import proof_to_dict

    document = proof_to_dict(Proof.of(PROBLEM, SPAN, 0, [CLAIM]))
    path = Path(tmp_path / "p.json")
    path.write_text(json.dumps(document))
    assert read_proof(path).bound == 0
    for change in ({"bound": 0.0}, {"bound": True}, {"ticks": 0}, {"ticks": True}, {"nonsense": 1}, {"solver": None}):
        path.write_text(json.dumps({**document, **change}))
        with pytest.raises(ProblemError):
            read_proof(path)
    for change in ({"bound": 0.5}, {"nonsense": 1}, {"figures": {"states": True}}, {"text": 1}, {"views": 1}):
        path.write_text(json.dumps({**document, "claims": [{**document["claims"][0], **change}]}))
        with pytest.raises(ProblemError):
            read_proof(path)
