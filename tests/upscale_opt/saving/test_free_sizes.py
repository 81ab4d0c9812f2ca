"""Saved forms keep the batch and the size of images free where the network leaves them free."""

import pytest
import torch
from torch import nn

from upscale_opt import UpscaleError, export, save_as


class Fixed(nn.Module):
    """A network that fixes its batch size."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x))).reshape(2, 4, 64)


@pytest.mark.parametrize("form", ["pt2", "torchscript"])
def test_a_fixed_batch_is_refused_unless_asked_for(form, planned, tmp_path):
    model, inputs = Fixed().eval(), (torch.randn(2, 3, 8, 8),)
    _, _, _, made = planned(model, inputs)
    exported = export(model, inputs, made, verify=False)
    with pytest.raises(UpscaleError, match=r"does not run at batch size 1 .* save it with dynamic_batch=False"):
        save_as(exported, tmp_path / "file", form)
    assert not list(tmp_path.iterdir())
    save_as(exported, tmp_path / "file", form, dynamic_batch=False)
    save_as(exported, tmp_path / "file", form, inputs, dynamic_batch=False)


class Chain(nn.Module):
    """Two convolutions: an order of the channels between them is no change of shape."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))


class Diffusing(nn.Module):
    """A block of a diffusion model: an image, and a time step per sample."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.t = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Linear(1, 8)

    def forward(self, x, t):
        return self.b(self.a(x) + self.t(t[:, None])[:, :, None, None])


@pytest.mark.parametrize("form", ["pt2", "torchscript"])
def test_one_value_per_sample_is_a_batch(form, tmp_path):
    model, inputs = Diffusing().eval(), (torch.randn(2, 3, 4, 4), torch.rand(2))
    exported = export(model, inputs, masks={}, baseline=True)
    save_as(exported, tmp_path / "file", form)
    loaded = torch.export.load(tmp_path / "file").module() if form == "pt2" else torch.jit.load(tmp_path / "file")
    x, t = torch.randn(5, 3, 4, 4), torch.rand(5)
    torch.testing.assert_close(loaded(x, t), model(x, t))


class Scaling(nn.Module):
    """A vector of one entry that is no batch."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x, scale):
        return self.b(self.a(x) * scale)


def test_a_vector_may_be_no_batch(tmp_path):
    model, inputs = Scaling().eval(), (torch.randn(1, 3, 4, 4), torch.rand(1))
    save_as(export(model, inputs, masks={}, baseline=True), tmp_path / "file", "pt2")
    x = torch.randn(3, 3, 4, 4)
    torch.testing.assert_close(torch.export.load(tmp_path / "file").module()(x, inputs[1]), model(x, inputs[1]))


@pytest.mark.parametrize("form", ["pt2", pytest.param("onnx", marks=pytest.mark.slow)])
def test_image_sizes_stay_free_where_the_network_leaves_them_free(form, tmp_path):
    model, inputs = Chain().eval(), (torch.randn(1, 3, 8, 8),)
    save_as(export(model, inputs, masks={}, baseline=True), tmp_path / "file", form)
    x = torch.randn(3, 3, 12, 20)
    if form == "pt2":
        found = torch.export.load(tmp_path / "file").module()(x)
    else:
        session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "file")
        found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    torch.testing.assert_close(found, model(x), rtol=1e-4, atol=1e-5)


def test_image_sizes_that_the_network_decides_on_stay_fixed(tmp_path):
    class Deciding(Chain):
        def forward(self, x):
            return super().forward(x if x.shape[2] < 10 else -x)

    model, inputs = Deciding().eval(), (torch.randn(1, 3, 8, 8),)
    save_as(export(model, inputs, masks={}, baseline=True), tmp_path / "file", "pt2")
    loaded = torch.export.load(tmp_path / "file").module()
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(loaded(x), model(x))
    with pytest.raises(Exception, match=r"(?i)size|guard|shape"):
        loaded(torch.randn(3, 3, 12, 8))
