"""Files of group tables: they come back as they were, broken ones are told of, and processes may share one."""

import json
import multiprocessing

import numpy as np
import pytest

from upscale_opt.errors import UpscaleError
from upscale_opt.latency.cost_tables import Conditions
from upscale_opt.widths.group_tables import GroupTable, GroupTables

CONDITIONS = Conditions("a processor", "float32", "contiguous", "eager", 1, "2.0")


def table(seed=0, first=(8, 16, 64), second=(4, 32)):
    rng = np.random.default_rng(seed)
    return GroupTable(first, second, rng.uniform(1, 1e6, (len(first), len(second))).round(1))


def written(directory, **entries):
    tables = GroupTables(CONDITIONS, entries, dict.fromkeys(entries, 0.003))
    return tables.write(directory)


def test_a_file_comes_back_as_it_was(tmp_path):
    one, other = table(), table(1, first=(0,), second=(0,))
    assert written(tmp_path, one=one, other=other).name.startswith("groups-")
    found = GroupTables.load(tmp_path, CONDITIONS)
    assert list(found.entries) == ["one", "other"] and found.seconds == {"one": 0.003, "other": 0.003}
    for name, own in (("one", one), ("other", other)):
        assert (found.entries[name].first, found.entries[name].second) == (own.first, own.second)
        assert np.array_equal(found.entries[name].nanoseconds, own.nanoseconds)
    assert "2 operator groups" in str(found)


def test_no_file_is_no_tables(tmp_path):
    assert GroupTables.load(tmp_path / "nowhere", CONDITIONS).entries == {}


def test_tables_are_exact_at_ticks_and_linear_between_them():
    own = table()
    assert np.allclose(own.at(own.first, own.second), own.nanoseconds, rtol=1e-12)
    between = own.at((12,), (4, 18, 32))
    middle = (own.nanoseconds[0] + own.nanoseconds[1]) / 2
    assert np.allclose(between[0], [middle[0], middle.mean(), middle[1]])
    line = GroupTable((8, 16), (0,), np.array([[10.0], [30.0]]))
    assert line.at((8, 10, 16), (0,)).tolist() == [[10.0], [15.0], [30.0]]
    point = GroupTable((0,), (0,), np.array([[7.0]]))
    assert point.at((0,), (0,)).tolist() == [[7.0]]


def test_widths_outside_are_refused():
    with pytest.raises(UpscaleError, match="8 to 64 channels, not at 4 to 64; calibrate again"):
        table().at((4, 64), (4,))


def test_known_wants_the_range_and_the_care():
    tables = GroupTables(CONDITIONS, {"one": table()}, {"one": 0.003})
    assert tables.known("one", (8, 64), (4, 32), 0.003) is tables.entries["one"]
    assert tables.known("one", (16,), (5,), 0.0) is tables.entries["one"]
    assert tables.known("one", (4, 64), (4, 32), 0.003) is None
    assert tables.known("one", (8, 64), (4, 33), 0.003) is None
    assert tables.known("one", (8, 64), (4, 32), 0.004) is None
    assert tables.known("two", (8, 64), (4, 32), 0.003) is None


BROKEN = {
    "group": [None, 3, ["x"]],
    "seconds": [None, "x", -1, True],
    "first": [None, [], [8, 8], [16, 8], [-8, 8], [1.5, 2], ["8"], 8, [True, 8]],
    "second": [None, [], [32, 4], {"a": 1}],
    "nanoseconds": [None, [], [[1.0, 2.0]], [[1.0], [2.0], [3.0]], [[1, 2], [3, 4], [5, 0]], [[1, 2], [3, 4], [5, -1]],
                    [[1, 2], [3, 4], [5, "6"]], [1, 2, 3], [[1, 2], [3, 4], [5, True]], [[[1], 2], [3, 4], [5, 6]]],
    "more": [1],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(name, value) for name, values in BROKEN.items() for value in values])
def test_a_broken_field_of_a_group_is_one_sentence(tmp_path, field, value):
    path = written(tmp_path, one=table())
    document = json.loads(path.read_text())
    if value is None:
        del document["groups"][0][field]
    else:
        document["groups"][0][field] = value
    path.write_text(json.dumps(document))
    with pytest.raises(UpscaleError) as error:
        GroupTables.load(tmp_path, CONDITIONS)
    text = str(error.value)
    assert field in text and text.endswith("; delete the file and calibrate again") and "\n" not in text


@pytest.mark.parametrize(
    "change",
    [
        {"format": "x"},
        {"version": 99},
        {"conditions": {}},
        {"conditions": 3},
        {"groups": {}},
        {"groups": [3]},
        {"other": 1},
    ],
)
def test_a_broken_document_is_one_sentence(tmp_path, change):
    path = written(tmp_path, one=table())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UpscaleError, match="delete the file and calibrate again"):
        GroupTables.load(tmp_path, CONDITIONS)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": NaN}'])
def test_what_is_no_document_is_one_sentence(tmp_path, text):
    path = written(tmp_path, one=table())
    path.write_text(text)
    with pytest.raises(UpscaleError, match="delete the file and calibrate again"):
        GroupTables.load(tmp_path, CONDITIONS)
    with pytest.raises(UpscaleError, match=r"cannot|delete the file"):
        written(tmp_path, two=table())
    assert path.read_text() == text


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UpscaleError, match="choose another --tables DIR"):
        written(tmp_path / "file", one=table())


def _write(directory, name):
    GroupTables(CONDITIONS, {name: table(int(name))}, {name: 0.0}).write(directory)


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    own = [context.Process(target=_write, args=(tmp_path, str(i))) for i in range(8)]
    for process in own:
        process.start()
    for process in own:
        process.join()
    found = GroupTables.load(tmp_path, CONDITIONS)
    assert sorted(found.entries) == sorted(map(str, range(8)))
    assert all(np.array_equal(found.entries[str(i)].nanoseconds, table(i).nanoseconds) for i in range(8))


def test_of_a_group_in_both_the_own_table_stays(tmp_path):
    written(tmp_path, one=table(0), two=table(1))
    later = GroupTables(CONDITIONS, {"one": table(2)}, {"one": 0.5})
    later.write(tmp_path)
    assert list(later.entries) == ["one", "two"]
    found = GroupTables.load(tmp_path, CONDITIONS)
    assert np.array_equal(found.entries["one"].nanoseconds, table(2).nanoseconds) and found.seconds["one"] == 0.5
    assert np.array_equal(found.entries["two"].nanoseconds, table(1).nanoseconds)
