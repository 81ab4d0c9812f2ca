"""Runs of `upscale_opt.speedup` whose times are computed from sizes, so that tests depend on no machine."""

import json

import torch

from upscale_opt import Effort
from upscale_opt.widths import speedup as module
from upscale_opt.widths.measuring import Measured, Stopwatch, size_of

LEAST = {"effort": Effort(rounds=2, sweeps=1, seconds=0.0, copies=1), "repeats": 2, "networks": 2, "time_limit": 5.0}


class Killed(Exception):
    pass


def data(number=12, shape=(3, 8, 8), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(4, *shape, generator=generator), torch.arange(4)) for _ in range(number // 4)]


def fake_groups(monkeypatch):
    """Groups take times that are computed from their sizes, so that tests depend on no machine."""

    def interleaved(calls, device, effort):
        return [[own[0]()] * 3 for own in calls]

    def prepared(make_specimen, inputs, copies, backend, pool, *, alone=False):
        size = 5000 + size_of(make_specimen(), inputs).macs + sum(x.numel() for x in inputs)
        return [lambda: size] * copies

    monkeypatch.setattr("upscale_opt.widths.group_calibration.interleaved", interleaved)
    monkeypatch.setattr("upscale_opt.widths.group_calibration.prepared_parts", prepared)


def fake_times(monkeypatch, law=lambda share: 0.2 + 0.8 * share):
    """Groups and networks take times that are computed from their sizes."""
    fake_groups(monkeypatch)

    class Fake(Stopwatch):
        measured = 0
        fails_after = None

        def __init__(self, model, inputs, *, backend, repeats):
            self.model, self.inputs, self.backend, self.repeats = model, inputs, backend, repeats
            self.form, self.reason = None, ""
            self._folder = None

        def seconds(self, network):
            return law(size_of(network, self.inputs).macs / size_of(self.model, self.inputs).macs)

        def measure(self, exported, path=None, **how):
            if Fake.measured == Fake.fails_after:
                raise Killed
            Fake.measured += 1
            return Measured(1 / self.seconds(exported.module), 1.0)

        def measure_all(self, exports):
            found = [self.seconds(own.module) for own in exports]
            return [Measured(1 / own, 1.0) for own in found]

    monkeypatch.setattr(module, "Stopwatch", Fake)
    return Fake


def check_report(found):
    text = found.report()
    assert max(map(len, text.splitlines())) <= 80, max(text.splitlines(), key=len)
    assert f"speedup {found.target:g}x" in text and "held out" in text
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["target"] == found.target and len(again["rounds"]) == len(found.rounds)
    assert "Speedup" in repr(found)
