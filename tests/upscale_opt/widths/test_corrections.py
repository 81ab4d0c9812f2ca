"""Corrections: exact where the network is affine in the sum, never negative, with an honest error."""

import networks
import numpy as np
import pytest
from width_networks import programme_of

from upscale_opt.errors import UpscaleError
from upscale_opt.widths.corrections import fitted, random_widths


@pytest.mark.parametrize(("scale", "constant"), [(1.0, 0.0), (0.7, 0.0), (1.3, 2e5), (0.2, 5e6), (3.0, 1e9)])
def test_affine_times_are_met_exactly(scale, constant):
    sums = np.array([1e6, 2.5e6, 4e6, 9e6, 1.1e7])
    found = fitted(sums, scale * sums + constant)
    assert found.scale == pytest.approx(scale, rel=1e-6)
    assert found.constant == pytest.approx(constant, rel=1e-6, abs=1e-3)
    assert found.error < 1e-8
    assert found.predicted == tuple(sums)


def test_neither_scale_nor_constant_is_negative():
    sums = np.array([1e6, 2e6, 3e6])
    below = fitted(sums, 2 * sums - 5e5)
    assert below.constant == 0 and below.scale > 0
    falling = fitted(sums, [3e6, 2e6, 1e6])
    assert falling.scale > 0 and falling.constant == 0
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = fitted(rng.uniform(1, 1e7, 5), rng.uniform(1, 1e7, 5))
        assert found.scale > 0 and found.constant >= 0 and found.error >= 0


def test_the_error_is_that_of_networks_left_out():
    sums, times = np.array([1e6, 2e6, 3e6, 4e6]), np.array([1.0e6, 2.0e6, 3.0e6, 5.0e6])
    found = fitted(sums, times)
    errors = []
    for i in range(4):
        others = np.arange(4) != i
        own = fitted(sums[others], times[others])
        errors.append(abs((own.scale * sums[i] + own.constant) / times[i] - 1))
    assert found.error == pytest.approx(np.mean(errors))
    inside = abs((found.scale * sums + found.constant) / times - 1).mean()
    assert found.error > inside
    assert "each left out of the fit" in str(found)


def test_too_few_networks_are_refused():
    for sums, times in (([1.0], [1.0]), ([], []), ([1.0, 2.0], [1.0])):
        with pytest.raises(UpscaleError, match="at least two networks"):
            fitted(sums, times)


def test_random_widths_stay_on_candidates_and_span_the_range():
    _, _, programme = programme_of(networks.Residual, step=1)
    candidates = programme.candidates
    found = random_widths(programme.graph, candidates, 8, seed=3)
    assert len(found) == 8 and all(own.keys() == candidates.keys() for own in found)
    assert all(own[b] in candidates[b] for own in found for b in own)
    shares = [sum(own.values()) for own in found]
    whole = sum(widths[-1] for widths in candidates.values())
    assert shares[0] < 0.5 * whole and shares[-1] > 0.75 * whole
    assert found == random_widths(programme.graph, candidates, 8, seed=3)
    assert found != random_widths(programme.graph, candidates, 8, seed=4)
    assert any(len({own[b] / candidates[b][-1] for b in own}) > 1 for own in found)
