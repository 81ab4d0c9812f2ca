"""Tests of proofs as data: files come back as they were, nonsense is refused by name, claims read as sentences."""

import json
from fractions import Fraction

import pytest
from proof_instances import small_problem

from problems import OBJECTIVES, Claim, Kind, Objective, Potentials, ProblemError, Proof, read_proof, write_proof
from problems.proof_files import proof_from_dict, proof_to_dict
from problems.proofs import fingerprint

HALF = {"block": "b", "leave": [0.5], "enter": [0]}
CLAIMS = (
    Claim("trivial", 0),
    Claim("conflict", 3, accesses=("a0", "a1"), views=1),
    Claim("group", 4, "solved exactly", ("a1",), share=Fraction(1, 3)),
    Claim("relaxation", 5, potentials=(Potentials("b0", (1, -2), (0, 3)),)),
    Claim("search", 6, "path over pairs of chains", figures={"states": 2704156, "hours": 0.5}),
)


@pytest.mark.parametrize("objective", [OBJECTIVES["runs"], OBJECTIVES["latency"], Objective("mixed", alpha=2, gamma=3)])
def test_a_proof_survives_its_file(tmp_path, objective):
    proof = Proof.of(small_problem(0, tables=True), objective, 6, CLAIMS, solver="nobody")
    write_proof(proof, tmp_path / "p.json")
    assert read_proof(tmp_path / "p.json") == proof


def test_claims_read_as_sentences():
    """Names, least cost, and what kind of evidence there is."""
    assert [str(claim) for claim in CLAIMS] == [
        "each for itself, all accesses cost at least 0",
        "at most 1 of a0 and a1 can be views: together they cost at least 3",
        "a1 costs at least 4 (counted 1/3 times): solved exactly",
        "all accesses together cost at least 5",
        "all accesses together cost at least 6: path over pairs of chains (states 2 704 156, hours 0.5)",
    ]
    assert CLAIMS[0].words(ticks=4) == str(CLAIMS[0]) and "cost at least 1.5:" in CLAIMS[4].words(ticks=4)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "guess", "bound": 1},
        {"kind": "search", "bound": -1},
        {"kind": "search", "bound": 10**400},
        {"kind": "search", "bound": 1, "share": Fraction(3, 2)},
        {"kind": "search", "bound": 1, "accesses": ("a", "a")},
        {"kind": "search", "bound": 1, "accesses": ("a", "b"), "views": 1},
        {"kind": "conflict", "bound": 1, "accesses": ("a", "b")},
        {"kind": "conflict", "bound": 1, "accesses": ("a", "b"), "views": 2},
        {"kind": "conflict", "bound": 1, "accesses": ("a", "b"), "views": -1},
        {"kind": "search", "bound": 1, "figures": {"states": float("nan")}},
        {"kind": "search", "bound": 1, "figures": {"states": True}},
        {"kind": "group", "bound": 1, "potentials": (Potentials("b", (0, 0), (0, 0)),)},
        {"kind": "relaxation", "bound": 1, "potentials": (Potentials("b", (0, 0), (0, 0)),) * 2},
    ],
)
def test_nonsense_claims_are_refused(arguments):
    with pytest.raises(ProblemError):
        Claim(**arguments)


def test_potentials_and_proofs_must_make_sense():
    with pytest.raises(ProblemError, match="one of each"):
        Potentials("b", (0, 1), (0,))
    with pytest.raises(ProblemError, match="at least one claim"):
        Proof.of(small_problem(0), OBJECTIVES["span"], 0, [])
    with pytest.raises(ProblemError, match="no cost is below 0"):
        Proof.of(small_problem(0), OBJECTIVES["span"], -1, CLAIMS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "newer"),
        ({"bound": "6"}, "field 'bound' must be int"),
        ({"bound": 6.0}, "field 'bound' must be int"),
        ({"objective": "speed"}, "field 'objective'"),
        ({"objective": {"name": "x", "alpha": None, "gamma": None}}, "alpha, gamma or both"),
        ({"claims": {}}, "field 'claims' must be list"),
        ({"claims": []}, "at least one claim"),
        ({"claim": []}, "unknown field 'claim'"),
        ({"claims": [{"kind": "search"}]}, r"claims\[0\] lacks the field 'bound'"),
        ({"claims": [{"kind": "search", "bound": 1, "note": ""}]}, r"claims\[0\] has an unknown field 'note'"),
        ({"claims": [{"kind": "search", "bound": 1, "share": "1/0"}]}, "write a fraction"),
        ({"claims": [{"kind": "search", "bound": 1, "share": "2"}]}, "share"),
        ({"claims": [{"kind": "search", "bound": 1, "accesses": [1]}]}, "list names"),
        ({"claims": [{"kind": "conflict", "bound": 1, "accesses": ["a"]}]}, r"claims\[0\]"),
        ({"claims": [7]}, r"claims\[0\] must be an object"),
        ({"claims": [{"kind": "relaxation", "bound": 1, "potentials": [HALF]}]}, "whole numbers below"),
    ],
)
def test_a_broken_file_is_refused_by_field(tmp_path, change, message):
    document = proof_to_dict(Proof.of(small_problem(0), OBJECTIVES["span"], 6, CLAIMS))
    (tmp_path / "p.json").write_text(json.dumps(document | change))
    with pytest.raises(ProblemError, match=message):
        read_proof(tmp_path / "p.json")


def test_every_field_is_required():
    document = proof_to_dict(Proof.of(small_problem(0), OBJECTIVES["span"], 6, CLAIMS))
    for field in set(document) - {"format", "version"}:
        with pytest.raises(ProblemError, match=field):
            proof_from_dict({name: value for name, value in document.items() if name != field})


def test_fingerprints_tell_instances_apart():
    """Equal problems agree, a change of anything but the problem's own name shows."""
    problems = [small_problem(seed) for seed in range(20)] + [small_problem(0, tables=True)]
    assert len({fingerprint(problem) for problem in problems}) == len(problems)
    assert fingerprint(small_problem(3)) == fingerprint(small_problem(3))
    assert [kind.value for kind in Kind] == ["trivial", "conflict", "group", "relaxation", "search", "obstructions"]
