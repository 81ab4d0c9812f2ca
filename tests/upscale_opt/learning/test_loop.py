"""Tests of the training loop: it learns, it is deterministic, and it goes on bit for bit after it was stopped."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lessons
import numpy as np
import pytest
import torch

from solvers import solve
from upscale_opt import MaskError, effective_masks, export, extract, l2_masks, plan, trace
from upscale_opt.errors import LearningError
from upscale_opt.learning.checkpoints import read_checkpoint
from upscale_opt.learning.columns import Columns, HeldColumns, dead_entries
from upscale_opt.learning.datasets import load_data
from upscale_opt.learning.evaluation import accuracy
from upscale_opt.learning.finetuning import finetune
from upscale_opt.learning.loop import fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.learning.targets import Target
from upscale_opt.models.running import reestimate_batch_norm

ROOT = Path(__file__).resolve().parents[3]
SHORT = Recipe(epochs=3, batch_size=16, lr=0.1)


def test_it_learns():
    model = lessons.small()
    epochs = fit(model, lessons.toy_data(480), [replace(SHORT, epochs=6)])
    assert [own.epoch for own in epochs] == list(range(6))
    assert epochs[-1].loss < epochs[0].loss / 4 and epochs[-1].test.top1 > 0.9
    assert not model.training


def test_the_same_seed_gives_the_same_weights_and_global_generators_are_left_alone():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    states, draws = [], []
    for seed in (0, 0, 1):
        model = lessons.small(dropout=0.2)
        before = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        fit(model, lessons.toy_data(), [replace(SHORT, seed=seed)])
        after = random.getstate(), torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
        assert before[0] == after[0] and torch.equal(before[1], after[1]) and np.array_equal(before[2], after[2])
        states.append(model.state_dict())
        draws.append(torch.rand(1))
    assert lessons.same_state(states[0], states[1]) and not lessons.same_state(states[0], states[2])


@pytest.mark.parametrize("stopped", [(0, 0), (0, 2), (1, 0), (1, 1)])
def test_a_training_goes_on_bit_for_bit_after_an_interrupt(tmp_path, stopped):
    """Two phases, with dropout; interrupted in the middle of an epoch of either."""
    recipes = [SHORT, replace(SHORT, epochs=2, seed=5, schedule="constant", warmup=1)]
    whole = lessons.small(dropout=0.2)
    log = fit(whole, lessons.toy_data(), recipes)

    def interrupt():
        raise KeyboardInterrupt

    path = tmp_path / "checkpoint.pt"
    phase, epoch = stopped
    with pytest.raises(KeyboardInterrupt):
        fit(
            lessons.small(dropout=0.2),
            lessons.toy_data(),
            recipes,
            method=lessons.Stop(epoch, interrupt, phase),
            checkpoint=path,
        )
    again = lessons.small(seed=9, dropout=0.2)  # its weights do not matter, unless nothing was kept
    if stopped == (0, 0):
        assert not path.exists()
        again = lessons.small(dropout=0.2)
    else:
        stored = read_checkpoint(path)
        assert (stored.phase, stored.epoch) == ((phase, epoch) if epoch else (0, 3))
    assert fit(again, lessons.toy_data(), recipes, checkpoint=path) == log
    assert lessons.same_state(whole, again)
    assert [own.name for own in tmp_path.iterdir()] == ["checkpoint.pt"]
    finished = lessons.small(seed=3, dropout=0.2)
    assert fit(finished, lessons.toy_data(), recipes, checkpoint=path) == log
    assert lessons.same_state(whole, finished)


@pytest.mark.slow
def test_a_training_goes_on_bit_for_bit_after_kill_9(tmp_path):
    """In another process, which kills itself in the middle of the second epoch."""
    script = (
        "import os, signal, torch, lessons, test_loop as tests\n"
        "from upscale_opt.learning.loop import fit\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"  # bit for bit holds for one number of threads
        "kill = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"fit(lessons.small(dropout=0.2), lessons.toy_data(), [tests.SHORT], method=lessons.Stop(1, kill), "
        f"checkpoint={str(tmp_path / 'checkpoint.pt')!r})\n"
    )
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "upscale_opt", Path(__file__).parent)))
    killed = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    whole, again = lessons.small(dropout=0.2), lessons.small(dropout=0.2)
    fit(whole, lessons.toy_data(), [SHORT])
    fit(again, lessons.toy_data(), [SHORT], checkpoint=tmp_path / "checkpoint.pt")
    assert lessons.same_state(whole, again)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    fit(lessons.small(), lessons.toy_data(), [SHORT], checkpoint=path)
    with pytest.raises(LearningError, match=r"started with lr 0\.1, not 0\.2; resume it with the same options"):
        fit(lessons.small(), lessons.toy_data(), [replace(SHORT, lr=0.2)], checkpoint=path)
    with pytest.raises(LearningError, match="the checkpoint is of another model"):
        fit(lessons.small(width=4), lessons.toy_data(), [SHORT], checkpoint=path)
    path.write_bytes(b"nonsense")
    with pytest.raises(LearningError, match="is no checkpoint of a training"):
        fit(lessons.small(), lessons.toy_data(), [SHORT], checkpoint=path)


def test_mixed_precision_trains_and_keeps_float32_weights():
    model = lessons.small()
    fit(model, lessons.toy_data(), [replace(SHORT, mixed_precision=True)])
    plain = lessons.small()
    fit(plain, lessons.toy_data(), [SHORT])
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    assert not lessons.same_state(model, plain)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0; give a whole number of at least 1"),
        ({"lr": float("nan")}, "the learning rate is nan; give"),
        ({"momentum": 1.0}, r"the momentum is 1; give a number in \[0, 1\)"),
        ({"weight_decay": -1.0}, "weight_decay is -1; give"),
        ({"schedule": "step"}, "there is no schedule 'step'; choose cosine or constant"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(LearningError, match=message):
        Recipe(**settings)


def test_a_loss_that_is_not_finite_is_an_error():
    with pytest.raises(LearningError, match=r"the loss is (nan|inf) in epoch 0; choose a smaller learning rate"):
        fit(lessons.small(), lessons.toy_data(480), [replace(SHORT, lr=1e18)])


def test_top1_and_top5_are_counted():
    scores = torch.tensor([[9.0, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [4, 9, 8, 7, 6, 5]])
    found = accuracy(torch.nn.Identity(), [(scores[:3], torch.tensor([0, 4, 5])), (scores[3:], torch.tensor([1]))])
    assert (found.top1, found.top5, found.images) == (0.5, 0.75, 4)
    assert str(found).startswith("top-1 50.00 %, top-5 75.00 %")
    assert accuracy(torch.nn.Identity(), [(scores[:, :5], torch.tensor([0, 4, 1, 1]))]).top5 is None


def test_batch_norm_statistics_are_means_over_the_batches():
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(2, momentum=0.3), torch.nn.Dropout(0.5))
    batches = [(torch.randn(4, 2, 3, 3) * 5 + 1, None) for _ in range(3)]
    reestimate_batch_norm(model, ((x,) for x, _ in batches))
    expected = torch.stack([x.mean((0, 2, 3)) for x, _ in batches]).mean(0)
    assert torch.allclose(model[0].running_mean, expected, atol=1e-6)
    assert model[0].momentum == 0.3 and model[0].training and model[1].training


def test_digits_are_always_split_in_the_same_way():
    pytest.importorskip("sklearn")
    data = load_data("digits")
    assert (len(data.train), len(data.test), data.num_classes, data.input_shape) == (1297, 500, 10, (1, 8, 8))
    torch.manual_seed(7)
    assert torch.equal(load_data("digits").test.tensors[0], data.test.tensors[0])
    (images, labels), (more, _) = data.sampled(40, seed=3)
    assert (len(images), len(more)) == (32, 8) and torch.equal(data.sampled(40, seed=3)[0][0], images)
    place = (data.train.tensors[0] == images[0]).all(-1).all(-1).all(-1).nonzero()[0, 0]
    assert data.train.tensors[1][place] == labels[0]  # none of those to test on
    assert sum(len(own) for own, _ in data.sampled(9999, test=True)) == 500
    with pytest.raises(LearningError, match="the number of images is 0"):
        data.sampled(0)


def folder(root, parts, images=1):
    from PIL import Image

    for part, classes in parts.items():
        for number, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for i in range(images):
                Image.new("RGB", (300, 280), (60 * number, 40, 10 * i)).save(root / part / name / f"{i}.png")
    return root


def test_folders_of_images_are_read_with_the_evaluation_transform(tmp_path):
    data = load_data(folder(tmp_path, {"train": ["a", "b"], "val": ["a", "b"]}))
    image, label = data.test[1]
    assert (data.num_classes, label, tuple(image.shape), data.input_shape) == (2, 1, (3, 224, 224), (3, 224, 224))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (torch.tensor([60, 40, 0]) / 255 - mean) / deviation
    assert torch.allclose(image, expected[:, None, None].expand_as(image), atol=1e-5)
    assert data.train[0][0].shape == (3, 224, 224)
    ((plain, labels),) = data.sampled(2)
    assert torch.allclose(plain[labels.tolist().index(1)], image, atol=1e-5)  # not cropped at random
    only = load_data(tmp_path / "val")
    assert only.train is None and len(only.test) == 2
    with pytest.raises(LearningError, match="has no images to learn from; put class folders into"):
        only.train_batches(1, torch.Generator())
    with pytest.raises(LearningError, match="has no images to learn from"):
        only.sampled(1)


def test_missing_data_and_wrong_class_counts_are_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(
        LearningError, match=r"there is no folder .*; give digits, mnist5k, .*, or a folder with class folders"
    ):
        load_data(tmp_path / "missing")
    with pytest.raises(LearningError, match="holds no pictures; give it one folder per class"):
        load_data(tmp_path)
    folder(tmp_path, {"train": ["a", "b"], "val": ["a"]})
    with pytest.raises(LearningError, match=r"has 2 classes and .* 1, only one of them has 'b'"):
        load_data(tmp_path)
    with pytest.raises(LearningError, match="the model has 10 outputs, but toy has 4 classes; give a model with 4"):
        fit(lessons.small(), lessons.toy_data(classes=4), [SHORT])
    with pytest.raises(LearningError, match="cannot take the images of toy, of shape 1x8x8"):
        fit(torch.nn.Conv2d(3, 4, 1), lessons.toy_data(), [SHORT])
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(LearningError, match="pip install -e"):
        load_data("digits")


def test_fine_tuning_holds_dropped_columns_bitwise_at_zero():
    model = lessons.small()
    found = finetune(model, lessons.toy_data(480), replace(SHORT, epochs=6), Target(0.5))
    assert found.model is model and set(found.masks) == set(Target().weights(trace(model, torch.zeros(1, 1, 8, 8))))
    assert all(mask.sum() == len(mask) / 2 for mask in found.masks.values())
    assert lessons.zero_where_dropped(model, found.masks)
    assert found.epochs[-1].test.top1 > 0.8
    found.require_zero(trace(model, torch.zeros(1, 1, 8, 8)))
    with torch.no_grad():
        model.blocks[0].conv1[0].weight += 1
    with pytest.raises(LearningError, match="is not zero where its mask drops channels"):
        found.require_zero(trace(model, torch.zeros(1, 1, 8, 8)))


def test_momentum_is_zero_where_columns_are_dropped_and_dead_filters_do_not_decay():
    """Masks that change in the middle of a training, and a channel that nobody reads."""
    model, data = lessons.small(), lessons.toy_data()
    graph = trace(model, torch.zeros(1, 1, 8, 8))
    columns = Columns(model, graph, Target().weights(graph))
    mask = np.arange(8) != 3
    name = "blocks.0.conv2.0.weight"
    filters = model.blocks[0].conv1
    before = {}

    class Watch(HeldColumns):
        def after_step(self, training):
            super().after_step(training)
            if training.epoch == 1 and not before:
                self.columns.set({name: mask})
                self.columns.hold(training.optimiser)
                before["weight"] = filters[0].weight[3].clone(), filters[1].weight[3].clone()
                assert not training.optimiser.state[self.columns.weights[name]]["momentum_buffer"][:, 3].any()

    fit(model, data, [replace(SHORT, weight_decay=0.1)], method=Watch(columns))
    assert torch.equal(filters[0].weight[3], before["weight"][0]) and torch.equal(
        filters[1].weight[3], before["weight"][1]
    )
    assert not torch.equal(filters[0].weight[2], before["weight"][0])
    assert lessons.zero_where_dropped(model, columns.masks)
    dead = {id(parameter): entries for parameter, entries in dead_entries(model, graph, columns.masks)}
    assert dead[id(filters[1].bias)].nonzero().tolist() == [[3]]


def test_targets_are_exact_and_an_unreachable_one_is_an_error():
    model = lessons.small()
    graph = trace(model, torch.zeros(1, 1, 8, 8))
    scores = Columns(model, graph, Target().weights(graph)).norms()
    kept = {
        name: int(mask.sum()) for name, mask in Target("0.9", amounts={"blocks.0.*": 0.25}).masks(graph, scores).items()
    }
    assert set(kept.values()) == {6, 1, 2} and kept["blocks.0.conv1.0.weight"] == 6
    everything = sum(len(own) for own in scores.values())
    pooled = Target(0.5, "global").masks(graph, scores)
    assert sum(int(mask.sum()) for mask in pooled.values()) == everything - everything // 2
    with pytest.raises(MaskError, match=r"asks for \d+ of 80 channels to go, but each of 7 layers keeps one; choose"):
        Target(0.99, "global").masks(graph, scores)
    with pytest.raises(MaskError, match="outside"):
        Target(1.0)
    with pytest.raises(MaskError, match="the network has no convolution whose inputs can be dropped"):
        Target(ignore=("blocks.*",)).weights(graph)


def test_an_export_is_fine_tuned_by_the_same_loop_and_resumes(tmp_path):
    data, x = lessons.toy_data(), torch.zeros(1, 1, 8, 8)

    def exported():
        model = lessons.small()
        graph = trace(model, x)
        masks = effective_masks(graph, l2_masks(graph, 0.5)).masks
        problems = extract(graph, masks)
        return export(model, x, plan(problems, masks, {name: solve(own) for name, own in problems.items()}))

    whole, again = exported(), exported()
    fit(whole.module, data, [SHORT])

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(again.module, data, [SHORT], method=lessons.Stop(2, interrupt), checkpoint=tmp_path / "a.pt")
    fresh = exported()
    fit(fresh.module, data, [SHORT], checkpoint=tmp_path / "a.pt")
    assert lessons.same_state(whole.module, fresh.module)
    for name, piece in fresh.slices.items():
        own = fresh.module.state_dict()[name]
        held = piece.held(tuple(own.shape))
        assert held is None or not own[held.expand(own.shape)].any()
