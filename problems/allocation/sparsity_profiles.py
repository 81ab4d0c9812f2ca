"""Sparsity profiles: one sparsity per layer, in text files with a line ``<sparsity> <layer name>`` per layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from problems.allocation.sparsity_levels import DECIMALS
from problems.allocation.timing_tables import numbered_words, require_name
from problems.conversions import of_kind, real
from problems.errors import ProblemError
from problems.files import write_text_atomically


def read_sparsity_profile(path: str | Path) -> dict[str, float]:
    """Read sparsities by layer name, in the order of the file.

    Raises
    ------
    ProblemError
        If the file cannot be read, a line has another form, or a layer occurs twice. The message names the line.
    """
    profile: dict[str, float] = {}
    for number, words in numbered_words(path):
        try:
            sparsity = float(words[0])
        except ValueError:
            sparsity = -1.0
        if len(words) != 2 or not 0 <= sparsity < 1:
            raise ProblemError(
                f"{path}, line {number}: {' '.join(words)!r} is not '<sparsity> <layer name>' with a sparsity in "
                "[0, 1); correct it"
            )
        if words[1] in profile:
            raise ProblemError(f"{path}, line {number}: layer {words[1]!r} occurs twice; remove one line")
        profile[words[1]] = sparsity
    if not profile:
        raise ProblemError(f"{path} lists no layers; add lines '<sparsity> <layer name>'")
    return profile


def write_sparsity_profile(profile: Mapping[str, float], path: str | Path) -> None:
    """Write sparsities by layer name, to 4 decimals.

    Raises
    ------
    ProblemError
        If a rounded sparsity is outside [0, 1), a name has spaces, there is no layer, or the path cannot be written.
    """
    lines = []
    for name, sparsity in of_kind(profile, Mapping, "the profile").items():
        require_name(name)
        real(sparsity, f"layer {name!r}: sparsity")
        label = f"{sparsity:.{DECIMALS}f}"
        if not 0 <= float(label) < 1:
            raise ProblemError(f"layer {name!r} has sparsity {sparsity}, {label} in a file; give one in [0, 1)")
        lines.append(f"{abs(float(label)):.{DECIMALS}f} {name}\n")
    if not lines:
        raise ProblemError("a profile has no layers; give at least one")
    write_text_atomically("".join(lines), path)
