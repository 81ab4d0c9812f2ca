"""Proves what a window problem accepts, what windows and words are, and that files lose nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from problems import (
    ChannelLosses,
    ProblemError,
    StreamAccess,
    WindowProblem,
    Windows,
    evaluate_windows,
    ordering_problem,
    read_windows,
    write_windows,
)
from problems.windows import losses as losses_module
from problems.windows.generators import random_windows
from problems.windows.words import NOT_STORED, cells_of_word, full_word, require_word, windows_of_word, word_of_windows

WRITER, READER = StreamAccess("w", "writer"), StreamAccess("r", "reader")


def losses_of(num_pairs: int, num_channels: int, seed: int = 0) -> ChannelLosses:
    return ChannelLosses.from_scores(np.random.default_rng(seed).standard_normal((4, num_pairs, num_channels)))


def test_losses_are_means_of_squared_sums_over_cut_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed in chunks, remembered, and forgotten when there are too many."""
    scores = np.random.default_rng(0).standard_normal((5, 4, 7))
    cut = np.random.default_rng(1).random((40, 4)) < 0.5
    expected = ((scores[np.newaxis] * cut[:, np.newaxis, :, np.newaxis]).sum(axis=2) ** 2).mean(axis=1)
    matrices = np.einsum("ipc,iqc->cpq", scores, scores) / 5
    for bytes_of_chunk, remembered in ((2**26, 2**28), (1, 2**28), (300, 200)):
        monkeypatch.setattr(losses_module, "CHUNK_BYTES", bytes_of_chunk)
        monkeypatch.setattr(losses_module, "REMEMBERED_BYTES", remembered)
        for losses in (ChannelLosses.from_scores(scores), ChannelLosses.from_matrices(matrices)):
            for _ in range(2):
                np.testing.assert_allclose(losses.of_cut(cut), expected, atol=1e-12)
                np.testing.assert_allclose(losses.of_cut(cut[::-3]), expected[::-3], atol=1e-12)
            np.testing.assert_allclose(losses.total, (scores.sum(axis=1) ** 2).mean(axis=0))
            assert (losses.num_pairs, losses.num_channels) == (4, 7)
            assert not losses.moments.flags.writeable


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        ([1.0], "moments have shape"),
        (np.zeros((3, 0)), "moments have shape"),
        (np.zeros((2, 3)), "for no number of pairs"),
        ([[np.nan]], "holds nan"),
        ([["a"]], "give numbers"),
        ([[True]], "give numbers"),
        ([[-1.0]], "not positive semidefinite"),
        ([[1.0], [2.0], [1.0]], "not positive semidefinite"),
    ],
)
def test_moments_must_be_those_of_scores(moments: Any, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        ChannelLosses(moments)


def test_scores_and_matrices_have_their_shapes() -> None:
    for scores in (np.zeros((0, 2, 3)), np.zeros((2, 3))):
        with pytest.raises(ProblemError, match="give \\(images, pairs, channels\\)"):
            ChannelLosses.from_scores(scores)
    with pytest.raises(ProblemError, match="give \\(channels, pairs, pairs\\)"):
        ChannelLosses.from_matrices(np.zeros((2, 3, 2)))
    with pytest.raises(ProblemError, match="symmetric"):
        ChannelLosses.from_matrices([[[1.0, 0.5], [0.2, 1.0]]])
    with pytest.raises(ProblemError, match="give \\(sets, 2 pairs\\)"):
        losses_of(2, 3).of_cut([True, False])
    with pytest.raises(ProblemError, match=r"cells have shape \(1, 2\)"):
        random_windows(3, 3).values([[1, 0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), losses_of(1, 3), []), "has no access"),
        (((WRITER, WRITER), losses_of(1, 3), [1, 1]), "same name"),
        (((WRITER, READER), losses_of(2, 3), [1, 1]), "of 2 pairs, but the accesses have 1 pairs"),
        (((READER, WRITER), losses_of(1, 3), [1, 1]), "but the accesses have 0 pairs"),
        (((WRITER, READER), losses_of(1, 3), [1]), "prices have shape"),
        (((WRITER, READER), losses_of(1, 3), [1, np.inf]), "prices holds inf"),
        (((WRITER, READER), losses_of(1, 3), [1, 1], [True]), "full has shape"),
        (((WRITER, READER), losses_of(1, 3), [1e308, 1e308]), "too large"),
        (((WRITER, "r"), losses_of(1, 3), [1, 1]), "no StreamAccess"),
        (((WRITER, READER), [[1.0]], [1, 1]), "give a ChannelLosses"),
        (((WRITER, READER), losses_of(1, 3), [1, 1], None, 3), "the name of a problem"),
    ],
)
def test_wrong_problems_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        WindowProblem(*arguments)


def test_wrong_accesses_are_refused() -> None:
    for arguments in (("a", "both"), (3, "writer"), ("a", "writer", 1), ("a", ["writer"])):
        with pytest.raises(ProblemError, match="give"):
            StreamAccess(*arguments)


def test_windows_are_evaluated_channel_by_channel() -> None:
    """A reader in front of the second writer, prices per channel, a channel that is not stored."""
    accesses = [
        StreamAccess(name, role) for name, role in (("a", "writer"), ("b", "reader"), ("c", "writer"), ("d", "reader"))
    ]
    scores = np.random.default_rng(0).standard_normal((3, 3, 4))
    prices = np.random.default_rng(1).random((4, 4))
    problem = WindowProblem(accesses, ChannelLosses.from_scores(scores), prices)
    assert problem.pairs.tolist() == [[0, 1], [0, 3], [2, 3]]
    windows = Windows([3, 0, 2], [0, 1, 0, 0], [3, 3, 2, 1])
    cut = {3: [0], 0: [1, 2], 2: [1, 2], 1: [0, 1, 2]}
    loss = sum(float((scores[:, pairs, c].sum(axis=1) ** 2).mean()) for c, pairs in cut.items())
    price = prices[0, [3, 0, 2]].sum() + prices[1, [0, 2]].sum() + prices[2, [3, 0]].sum() + prices[3, [3]].sum()
    totals = evaluate_windows(problem, windows)
    assert totals.loss == pytest.approx(loss) and totals.price == pytest.approx(price)
    assert totals.value == totals.loss + totals.price
    assert str(windows) == "3 channels stored, windows 0:3 1:3 0:2 0:1" and windows.widths.tolist() == [3, 2, 2, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 0], [0, 0], [1, 1]), "stores a channel twice"),
        (([0, 1], [0, 0], [1]), "2 starts and 1 stops"),
        (([0, 1], [0, 2], [1, 1]), "window 1 does not lie"),
        (([0, 1], [0, 0], [1, 3]), "window 1 does not lie"),
        (([0, 0.5], [0, 0], [1, 1]), "give whole numbers"),
        (([[0]], [0, 0], [1, 1]), "has 2 dimensions"),
        (([0, 4], [0, 0], [2, 2]), "outside 0 to 3"),
        (([0, 1], [0], [2]), "1 windows for 2 accesses"),
        (([0, 1], [0, 1], [2, 2]), "access 'r' is pinned"),
        (([0, 1], [0, 0], [2, 2]), "marked as full"),
        (([1, 3], [0, 0], [1, 2]), "marked as full"),
    ],
)
def test_wrong_windows_are_refused(arguments: tuple, message: str) -> None:
    accesses = (WRITER, StreamAccess("r", "reader", pinned=True))
    problem = WindowProblem(accesses, losses_of(1, 4), [1, 1], np.arange(4) == 3)
    with pytest.raises(ProblemError, match=message):
        evaluate_windows(problem, Windows(*arguments))


def test_cells_without_a_pinned_access_or_a_full_channel_cost_infinitely_much() -> None:
    accesses = (WRITER, StreamAccess("r", "reader", pinned=True))
    problem = WindowProblem(accesses, losses_of(1, 2), [1, 1], [True, False])
    finite = np.isfinite(problem.values([[0, 0], [1, 0], [0, 1], [1, 1]]))
    assert finite.tolist() == [[False, False], [False, False], [False, True], [True, True]]
    assert np.isfinite(problem.dropped).tolist() == [False, True]


def test_a_word_of_windows_opens_what_begins_before_it_closes_what_ends() -> None:
    problem = random_windows(4, 2)
    assert word_of_windows(problem, Windows([3, 1], [0, 1], [1, 2])) == (0, 1, 0, 1)


@pytest.mark.parametrize("seed", range(20))
def test_words_and_windows_are_the_same(seed: int) -> None:
    """Channels in cells of a word become windows whose masks are the cells; a word of the windows has these cells."""
    rng = np.random.default_rng(seed)
    made = random_windows(9, 5, seed=seed)
    accesses = [StreamAccess(own.name, own.role, bool(rng.random() < 0.2)) for own in made.accesses]
    problem = WindowProblem(accesses, made.losses, made.prices)
    word = tuple(rng.permutation(np.repeat(problem.free, 2).astype(int)).tolist())
    held = cells_of_word(problem, word)
    cells = rng.integers(NOT_STORED, len(held), size=9)
    windows = windows_of_word(problem, word, cells)
    windows.require_valid(problem)
    assert np.array_equal(windows.masks(9).T, held[cells] & (cells != NOT_STORED)[:, np.newaxis])
    again = cells_of_word(problem, word_of_windows(problem, windows))
    for channel in windows.order:
        assert (again == windows.masks(9)[:, channel]).all(axis=1).any()


def test_wrong_words_are_refused() -> None:
    problem = random_windows(4, 2)
    assert full_word(problem) == (0, 1, 1, 0) and require_word(problem, np.array([1, 1, 0, 0])) == (1, 1, 0, 0)
    for word in ((0, 1), (0, 0, 0, 1), (0, 0, 2, 2), [[0, 0, 1, 1]], (0, 0, 1, 1.5), "0011"):
        with pytest.raises(ProblemError, match="a word"):
            require_word(problem, word)
    for cells in ([0, 0, 0], [0, 0, 0, 5], [0, 0, 0, -2]):
        with pytest.raises(ProblemError, match="are not 4 numbers from -1 to 4"):
            windows_of_word(problem, (0, 1, 0, 1), cells)


def test_the_ordering_problem_keeps_what_windows_hold() -> None:
    problem = random_windows(5, 3)
    ordering = ordering_problem(problem, Windows([4, 1, 2], [0, 1, 1], [2, 1, 3]))
    assert [access.name for access in ordering.accesses] == ["writer0", "writer2"]
    assert [np.flatnonzero(access.kept).tolist() for access in ordering.accesses] == [[1, 4], [1, 2]]
    assert ordering_problem(problem, Windows([4, 1], [0, 0, 0], [0, 0, 0])).stored[0].tolist() == [1, 4]
    with pytest.raises(ProblemError, match="no channel is stored"):
        ordering_problem(problem, Windows([], [0, 0, 0], [0, 0, 0]))


@pytest.mark.parametrize("per_channel", [False, True])
def test_files_lose_nothing(tmp_path: Path, per_channel: bool) -> None:
    made = random_windows(6, 5, seed=3)
    accesses = [StreamAccess(own.name, own.role, own.name == "reader1") for own in made.accesses]
    prices = made.channel_prices * np.arange(1, 7) / 3 if per_channel else made.prices
    problem = WindowProblem(accesses, made.losses, prices, np.arange(6) == 2, "stream")
    write_windows(problem, tmp_path / "stream.json")
    again = read_windows(tmp_path / "stream.json")
    assert again.accesses == problem.accesses and again.name == "stream"
    for field in ("prices", "full"):
        assert np.array_equal(getattr(again, field), getattr(problem, field))
    assert np.array_equal(again.losses.moments, problem.losses.moments)
    only = WindowProblem([WRITER], ChannelLosses(np.zeros((0, 3))), [1.0])
    write_windows(only, tmp_path / "only.json")
    assert read_windows(tmp_path / "only.json").num_channels == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is no upscale_opt.windows file"),
        ({"version": 2}, "newer than the 1"),
        ({"extra": 1}, "unknown field 'extra'"),
        ({"channels": 0}, "field 'channels' is 0"),
        ({"channels": True}, "field 'channels' must be int"),
        ({"full": [4]}, "field 'full' must list channels from 0 to 3"),
        ({"full": [1, 1]}, "each once"),
        ({"moments": [[1.0]]}, "lists of 4 numbers"),
        ({"moments": [["a", 1, 1, 1]]}, "give numbers"),
        ({"moments": []}, "of 0 pairs"),
        ({"accesses": [{"name": "w"}]}, "lacks the field 'prices'"),
        ({"accesses": [{"name": "w", "role": "both", "pinned": False, "prices": 1}]}, "role is 'both'"),
        ({"accesses": [{"name": "w", "role": "writer", "pinned": 0, "prices": 1}]}, "must be bool"),
        ({"accesses": [{"name": "w", "role": "writer", "pinned": False, "prices": 1, "x": 1}]}, "unknown field 'x'"),
        ({"name": None}, "field 'name'"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "stream.json"
    write_windows(random_windows(4, 2), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ProblemError, match=re.escape(message)) as caught:
        read_windows(path)
    assert str(path) in str(caught.value)


def test_the_example_of_the_formats_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "formats.md").read_text()
    (example,) = re.findall(r'^(\{"format": "upscale_opt.windows".*?)^```', page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "stream.json").write_text(example)
    problem = read_windows(tmp_path / "stream.json")
    assert problem.pairs.tolist() == [[0, 1], [0, 2]] and problem.losses.total.tolist() == [5.0, 9.0]
    write_windows(problem, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == example


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_channels": 0},
        {"num_accesses": 0},
        {"images": 0},
        {"reader_agreement": 1.5},
        {"writer_agreement": -1},
        {"seed": -1},
    ],
)
def test_the_generator_refuses_what_is_out_of_range(arguments: dict) -> None:
    with pytest.raises(ProblemError):
        random_windows(**({"num_channels": 3, "num_accesses": 2} | arguments))


def test_random_problems_are_the_same_for_the_same_seed_and_readers_agree() -> None:
    first, second, other = (random_windows(400, 6, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.losses.moments, second.losses.moments) and np.array_equal(first.prices, second.prices)
    assert not np.array_equal(first.losses.moments, other.losses.moments)
    cut_by_access = [first.cut(~np.eye(6, dtype=bool)[[a]]) for a in range(6)]
    ranks = [np.argsort(np.argsort(first.losses.of_cut(cut)[0])) for cut in cut_by_access]
    agreement = np.corrcoef(ranks)
    assert agreement[1, 3] > 0.2
