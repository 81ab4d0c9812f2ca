"""Tests of distillation: the loss, training with and without labels, resuming, and what is refused."""

import copy
from dataclasses import replace

import lessons
import pytest
import torch
from torch.nn import functional
from torch.utils.data import TensorDataset

from upscale_opt.errors import LearningError
from upscale_opt.learning.bip import bip
from upscale_opt.learning.distillation import Distillation
from upscale_opt.learning.fidelity import compare_outputs
from upscale_opt.learning.finetuning import finetune
from upscale_opt.learning.image_sets import Dataset
from upscale_opt.learning.loop import fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.learning.targets import Target

SHORT = Recipe(epochs=3, batch_size=16, lr=0.1)


def unlabelled(data):
    """The same images without labels."""
    parts = (TensorDataset(own.tensors[0]) for own in (data.train, data.test))
    return Dataset(data.name, *parts, None, data.input_shape, labelled=False)


@pytest.fixture(scope="module")
def dense():
    model = lessons.small()
    fit(model, lessons.toy_data(240), [replace(SHORT, epochs=4)])
    return model


def test_the_loss_is_the_one_of_the_paper():
    outputs, taught = torch.randn(5, 10), torch.randn(5, 10)
    labels = torch.arange(5)
    hard = functional.cross_entropy(outputs, labels)
    for weight, t in ((0.9, 4.0), (0.3, 1.0), (0.0, 2.0), (1.0, 2.0)):
        own = Distillation(torch.nn.Identity(), weight, t)
        p, q = (taught / t).softmax(1), (outputs / t).softmax(1)
        soft = t * t * (p * (p / q).log()).sum(1).mean()
        assert own.loss(outputs, taught, hard) == pytest.approx(float((1 - weight) * hard + weight * soft), rel=1e-4)
        assert own.loss(outputs, taught, None) == pytest.approx(float(soft), rel=1e-4)
    assert float(Distillation(torch.nn.Identity()).loss(outputs, outputs, None)) == pytest.approx(0, abs=1e-5)


def test_a_masked_model_learns_the_outputs_of_the_dense_one_without_labels(dense):
    data = unlabelled(lessons.toy_data(240))
    before = copy.deepcopy(dense)
    model = copy.deepcopy(dense)
    found = finetune(model, data, replace(SHORT, epochs=4, lr=0.05), Target(0.5), teacher=dense, temperature=2)
    assert lessons.same_state(dense, before) and not dense.training
    assert lessons.zero_where_dropped(model, found.masks)
    assert found.test.of_teacher and str(found.test).startswith("agreement with the teacher, top-1")
    compared = compare_outputs(dense, model, data.test_batches())
    assert found.test.top1 == pytest.approx(compared.agreement) and compared.agreement > 0.8
    assert found.epochs[-1].loss < found.epochs[0].loss


def test_labels_and_teacher_count_by_their_weights(dense):
    data = lessons.toy_data(96)

    def trained(**kwargs):
        model = copy.deepcopy(dense)
        return model, finetune(model, data, replace(SHORT, epochs=1), Target(0.5), **kwargs)

    plain, nothing = trained(), trained(teacher=dense, distillation=0.0)
    assert not nothing[1].test.of_teacher and lessons.same_state(plain[0], nothing[0])
    alone = trained(teacher=dense, distillation=1.0)
    model = copy.deepcopy(dense)
    finetune(model, unlabelled(data), replace(SHORT, epochs=1), Target(0.5), teacher=dense, distillation=0.4)
    assert lessons.same_state(alone[0], model) and not lessons.same_state(alone[0], plain[0])
    mixed = copy.deepcopy(dense)
    taught = Distillation(dense, 0.5, 2)
    fit(mixed, data, [replace(SHORT, epochs=1, mixed_precision=True)], distillation=taught)
    assert {own.dtype for own in mixed.parameters()} == {torch.float32}


def test_a_distillation_goes_on_bit_for_bit_and_only_with_the_same_teacher(dense, tmp_path):
    data, path = unlabelled(lessons.toy_data(96)), tmp_path / "checkpoint.pt"
    whole, stopped = (lessons.small(dropout=0.2) for _ in range(2))
    log = fit(whole, data, [SHORT], distillation=Distillation(dense))

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(
            stopped, data, [SHORT], method=lessons.Stop(1, interrupt), distillation=Distillation(dense), checkpoint=path
        )
    again = lessons.small(seed=9, dropout=0.2)
    for other in (Distillation(lessons.small(seed=5)), Distillation(dense, temperature=2)):
        with pytest.raises(LearningError, match=r"started with distillation 1, temperature 4, teacher .*, not 1, temp"):
            fit(again, data, [SHORT], distillation=other, checkpoint=path)
    assert fit(again, data, [SHORT], distillation=Distillation(dense), checkpoint=path) == log
    assert lessons.same_state(whole, again)


def test_what_cannot_teach_is_refused(dense):
    data = lessons.toy_data()
    for method in (fit, finetune, bip):
        recipe = [SHORT] if method is fit else SHORT
        with pytest.raises(LearningError, match="training needs labels, and toy has none; fine-tune with a teacher"):
            method(lessons.small(), unlabelled(data), recipe)
    model = lessons.small()
    with pytest.raises(LearningError, match="the teacher shares weights with the model"):
        finetune(model, data, SHORT, teacher=model)
    with pytest.raises(LearningError, match="the model has 3 outputs, but toy has 10 classes"):
        finetune(model, data, SHORT, teacher=lessons.three())
    with pytest.raises(LearningError, match=r"outputs of shape \(16, 10\), and the teacher of \(16, 3\)"):
        finetune(model, unlabelled(data), SHORT, teacher=lessons.three())
    for values, message in (
        ({"weight": 1.5}, "the weight of the teacher is 1.5; give a number from 0 to 1"),
        ({"weight": -1}, "weight is -1; give a number of at least 0"),
        ({"temperature": 0}, "temperature is 0; give a number above 0"),
        ({"temperature": float("inf")}, "the temperature is infinite"),
    ):
        with pytest.raises(LearningError, match=message):
            Distillation(dense, **values)
