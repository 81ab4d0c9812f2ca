"""Tests that models and weights are found, and that what is wrong with them is said in one sentence."""

import sys

import pytest
import torch
from safetensors.torch import save_file

from upscale_opt import ModelError, ModelReference, load_model
from upscale_opt.models.loading import import_torchvision, read_state_dict

FACTORY = """
import torch
def tiny():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1))
def nothing():
    return None
def broken():
    raise KeyError("x")
"""


@pytest.fixture
def factory(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(FACTORY)
    return path


def test_random_weights_are_those_of_the_seed():
    models = import_torchvision().models
    torch.manual_seed(3)
    expected = models.get_model("squeezenet1_1", weights=None).state_dict()
    found = load_model(ModelReference("squeezenet1_1", seed=3))
    assert not found.training
    assert all(torch.equal(expected[name], tensor) for name, tensor in found.state_dict().items())


def test_a_file_may_define_dataclasses(tmp_path):
    """With annotations that are text, dataclasses look their module up by its name."""
    own = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    a: int\n"
    (tmp_path / "own.py").write_text(own + FACTORY)
    assert isinstance(load_model(ModelReference(f"{tmp_path / 'own.py'}:tiny")), torch.nn.Sequential)


def test_a_factory_in_a_file_with_a_checkpoint(factory, tmp_path):
    model = load_model(ModelReference(f"{factory}:tiny", seed=1))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "a.pt")
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        other = load_model(ModelReference(f"{factory}:tiny", weights=str(tmp_path / name), seed=2))
        assert torch.equal(other[0].weight, model[0].weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet51", "did you mean resnet50 or"),
        ("zzz", "name a torchvision model, timm:NAME or path"),
        ("missing.py:f", "there is no file"),
        ("{factory}:nope", "has no factory 'nope'; it has tiny, nothing, broken"),
        ("{factory}:nothing", "returned a NoneType"),
        ("{factory}:broken", "failed"),
    ],
)
def test_unknown_models_are_refused(factory, name, message):
    with pytest.raises(ModelError, match=message):
        load_model(ModelReference(name.format(factory=factory)))


def test_unusable_checkpoints_are_refused(factory, tmp_path):
    (tmp_path / "garbage.pt").write_bytes(b"not a checkpoint")
    (tmp_path / "garbage.safetensors").write_bytes(b"not a checkpoint")
    torch.save({"other.weight": torch.zeros(3)}, tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(torch.nn.ReLU(), tmp_path / "pickled.pt")
    for name, message in (
        ("absent.pt", "cannot read"),
        ("garbage.pt", "weights_only=True"),
        ("pickled.pt", "weights_only=True"),
        ("garbage.safetensors", "no safetensors file"),
        ("other.pt", "does not fit"),
        ("list.pt", "holds no state_dict"),
    ):
        with pytest.raises(ModelError, match=message):
            load_model(ModelReference(f"{factory}:tiny", weights=str(tmp_path / name)))
    assert read_state_dict(tmp_path / "other.pt").keys() == {"other.weight"}


def test_default_weights_are_for_torchvision_models(factory):
    with pytest.raises(ModelError, match="give the path of a checkpoint"):
        load_model(ModelReference(f"{factory}:tiny", weights="DEFAULT"))


def test_segmentation_models_are_built_without_downloads(monkeypatch):
    """Their builders would fetch trained weights of the backbone."""
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", _no_download)
    model = load_model(ModelReference("lraspp_mobilenet_v3_large"))
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64))["out"].shape == (1, 21, 64, 64)


def _no_download(*_, **__):
    raise AssertionError("downloaded")


def test_timm_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"run: pip install -e '\.\[timm\]'"):
        load_model(ModelReference("timm:resnet10t"))


def test_models_of_timm_are_found_by_name():
    """Where timm is installed."""
    import_torchvision()
    pytest.importorskip("timm")
    model = load_model(ModelReference("timm:resnet10t", seed=3))
    again = load_model(ModelReference("timm:resnet10t", seed=3)).state_dict()
    assert not model.training
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(ModelError, match="did you mean timm:resnet10t"):
        load_model(ModelReference("timm:resnet10"))
