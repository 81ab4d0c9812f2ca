"""Tests of the comparison with the dense network: figures by hand, positions, labels, and what is refused."""

import json
import math

import lessons
import pytest
import torch
from torch import nn

from upscale_opt.errors import UpscaleError
from upscale_opt.learning.evaluation import accuracy
from upscale_opt.learning.fidelity import compare_outputs


class Shifted(nn.Module):
    """Logits plus a constant per class."""

    def __init__(self, *shift):
        super().__init__()
        self.shift = torch.tensor(shift)

    def forward(self, x):
        return x + self.shift.reshape(1, -1, *(1,) * (x.ndim - 2))


def test_figures_are_those_by_hand():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
    found = compare_outputs(nn.Identity(), Shifted(0.0, 1.0), [logits[:2], (logits[2:],)])
    divergences = []
    for a, b in logits.tolist():
        p = math.exp(a) / (math.exp(a) + math.exp(b))
        q = math.exp(a) / (math.exp(a) + math.exp(b + 1))
        divergences.append(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    mean = sum(divergences) / 3
    error = math.sqrt(sum((own - mean) ** 2 for own in divergences) / 2 / 3)
    assert found.kl == pytest.approx(mean) and found.kl_error == pytest.approx(error)
    assert found.images == 3 and found.agreement == pytest.approx(2 / 3)
    assert found.agreement_error == pytest.approx(math.sqrt(((1 / 3) ** 2 * 2 + (2 / 3) ** 2) / 2 / 3))
    assert found.accuracy is found.dense_accuracy is None
    assert json.loads(json.dumps(found.to_dict()))["kl"] == found.kl
    assert str(found).endswith("of 3 images") and "same class 66.67 ± 33.33 %" in str(found)


def test_labels_add_the_accuracy_of_both():
    data = lessons.toy_data()
    dense, other = lessons.small(), lessons.small(seed=1).train()
    found = compare_outputs(dense, other, data.test_batches(10))
    assert other.training and not dense.training
    assert found.dense_accuracy == accuracy(dense, data.test_batches(10))
    assert found.accuracy == accuracy(other, data.test_batches(10)) and found.accuracy.top5 is not None
    assert "(dense: top-1" in str(found)
    same = compare_outputs(dense, dense, data.test_batches())
    assert (same.kl, same.kl_error, same.agreement, same.agreement_error) == (0, 0, 1, 0)
    single = compare_outputs(dense, other, [data.test[0][0][None]])
    assert single.kl_error is single.agreement_error is None and "±" not in str(single)


def test_positions_of_an_image_count_alike():
    x = torch.randn(4, 3, 5, 2)
    shifted = Shifted(0.0, 1.0, -1.0)
    found = compare_outputs(nn.Identity(), shifted, [x])
    apart = x.movedim(1, -1).reshape(-1, 3)
    flat = compare_outputs(nn.Identity(), shifted, [apart])
    assert found.images == 4 and flat.images == 40
    assert found.kl == pytest.approx(flat.kl) and found.agreement == pytest.approx(flat.agreement)
    labels = torch.randint(3, (4, 5, 2))
    labelled = compare_outputs(nn.Identity(), shifted, [(x, labels)]).accuracy
    expected = accuracy(shifted, [(apart, labels.reshape(-1))])
    assert labelled.top1 == pytest.approx(expected.top1) and labelled.loss == pytest.approx(expected.loss)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


LOGITS = torch.zeros(2, 3)
REFUSED = {
    "no images": (nn.Identity(), [], "there are no images to compare on"),
    "a tuple": (Pair(), [LOGITS], r"the other network returns outputs that are no logits \(a tuple\); wrap it"),
    "one dimension": (nn.Flatten(0), [LOGITS], r"no logits \(of shape \(6,\)\)"),
    "other classes": (nn.Linear(3, 4), [LOGITS], r"shapes \(2, 3\) and \(2, 4\); give two networks with the same"),
    "not finite": (Shifted(math.inf, 0.0, 0.0), [LOGITS], "the other network returns values that are NaN or infinite"),
    "wrong images": (nn.Linear(5, 3), [LOGITS], r"the other network cannot take the images of shape \(2, 3\)"),
    "three parts": (nn.Identity(), [(LOGITS, LOGITS, LOGITS)], "a batch has 3 parts"),
    "some labels": (nn.Identity(), [LOGITS, (LOGITS, torch.zeros(2).long())], "some batches have labels and some have"),
    "wrong labels": (nn.Identity(), [(LOGITS, torch.zeros(3).long())], r"give class numbers of shape \(2,\)"),
    "large labels": (nn.Identity(), [(LOGITS, torch.full((2,), 7))], "class number 7, but the model has 3 outputs"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_compared_is_refused_in_one_sentence(what):
    other, batches, message = REFUSED[what]
    with pytest.raises(UpscaleError, match=message) as caught:
        compare_outputs(nn.Identity(), other, batches)
    assert "\n" not in str(caught.value)
