"""The lint of ONNX Runtime's graph, on a network with slices whose widths are known."""

import pytest
import torch
from torch import nn

from upscale_opt import ModelError
from upscale_opt.onnx_runtime import lint
from upscale_opt.onnx_runtime.lint import onnx_lint
from upscale_opt.onnx_runtime.optimised import block_size
from upscale_opt.onnx_runtime.writing import written

X = torch.zeros(1, 3, 8, 8)
blocked_only = pytest.mark.skipif(block_size() is None, reason="ONNX Runtime has no blocked layout on this machine")


class Sliced(nn.Module):
    """A stream of 64 channels of which one consumer reads a range, between two that read everything."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, padding=1)
        self.norm = nn.BatchNorm2d(64)
        self.first = nn.Conv2d(64, 64, 3, padding=1)
        self.part = nn.Conv2d(width, 32, 1)
        self.last = nn.Conv2d(32, 32, 1)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.first(x)
        return self.last(self.part(x if self.part.in_channels == 64 else x.narrow(1, 8, self.part.in_channels)))


def linted(width):
    found = onnx_lint(Sliced(width).eval(), X)
    return found, {own.name: own for own in found.convolutions}


@blocked_only
def test_a_network_that_reads_everything_is_reordered_at_its_end_only():
    found, _ = linted(64)
    assert (found.blocked, len(found.convolutions), found.reorders) == (4, 4, 1)
    assert not found.findings and "4 of 4 convolutions in the blocked layout, 1 reorder, 0 Slice" in str(found)


@blocked_only
def test_an_aligned_slice_is_reordered_and_stays_in_the_layout():
    found, by_name = linted(40)
    assert (found.blocked, found.counts["Slice"], found.reorders) == (4, 1, 3)
    own = by_name["part.weight"]
    assert own.is_blocked and own.before == ("ReorderOutput", "Slice", "ReorderInput")
    assert found.findings == (own,) and own.reason == "reordered 2 times behind Slice"


@blocked_only
def test_an_unaligned_slice_leaves_the_layout():
    found, by_name = linted(37)
    assert found.blocked == 3
    own = by_name["part.weight"]
    assert not own.is_blocked and own.reads == 37 and "reads 37 channels, no multiple of 4" in own.reason
    assert [named.name for named in found.findings] == ["part.weight", "last.weight"]


@blocked_only
def test_files_and_bytes_are_alike(tmp_path):
    model = Sliced(37).eval()
    content = written(model, (X,))
    (tmp_path / "model.onnx").write_bytes(content)
    expected = onnx_lint(model, X).to_dict()
    for source in (content, tmp_path / "model.onnx"):
        assert onnx_lint(source).to_dict() == expected


@pytest.mark.slow
@blocked_only
def test_both_exporters_are_alike():
    model = Sliced(37).eval()
    by_export = torch.onnx.export(model, (X,), dynamo=True, external_data=False, verbose=False)
    assert onnx_lint(by_export.model_proto.SerializeToString()).to_dict() == onnx_lint(model, X).to_dict()


@blocked_only
def test_why_grouped_and_narrow_convolutions_are_outside():
    model = nn.Sequential(
        nn.Conv2d(3, 66, 1), nn.Conv2d(66, 66, 3, groups=66), nn.Conv2d(66, 64, 1), nn.Conv2d(64, 64, 1, groups=32)
    )
    reasons = [own.reason for own in onnx_lint(model.eval(), X).findings]
    assert "computes 66 channels in 66 groups, no multiple of 4" in reasons[0]
    assert "reads 66 channels, no multiple of 4" in reasons[1]
    assert "each of its 32 groups has 2 and 2 channels" in reasons[2]


def test_a_machine_without_the_layout_says_so(monkeypatch):
    monkeypatch.setattr(lint, "block_size", lambda: None)
    found = onnx_lint(Sliced(37).eval(), X)
    assert found.block is None and not found.findings and "has no blocked layout on this machine" in found.summary()


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="there is no file"):
        onnx_lint(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="give example_inputs"):
        onnx_lint(nn.ReLU())
    with pytest.raises(ModelError, match="give a path, bytes, a module or an export"):
        onnx_lint(3)
    with pytest.raises(ModelError, match="ONNX Runtime does not accept this network"):
        onnx_lint(b"nothing")
