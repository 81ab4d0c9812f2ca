"""Files of benchmarks that can be continued: what is missing is measured, what is there is not."""

import pytest

from benchmarks import results
from upscale_opt import UpscaleError

FILES = {"figures": ("name", "dtype", "figure"), "details": ("name", "dtype", "detail")}


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    return tmp_path


def run(measured, names="abc", **options):
    return results.resumed(
        FILES,
        {(name, "float32"): name for name in names},
        measured,
        lambda found: " ".join(f"{row['name']}{row['figure']}" for row in found["figures"]),
        key=("name", "dtype"),
        defaults={"dtype": "float32"},
        **options,
    )


def measuring(seen, stop=None, error=KeyboardInterrupt):
    def measured(name):
        if name == stop:
            raise error
        seen.append(name)
        own = {"name": name, "dtype": "float32"}
        return {"figures": [{**own, "figure": len(seen)}], "details": [{**own, "detail": part} for part in (1, 2)]}

    return measured


def test_an_interrupted_command_goes_on_where_it_was(directory, capsys):
    seen = []
    assert run(measuring(seen, stop="b")) == 130 and seen == ["a"]
    assert not (directory / "figures.md").exists()
    assert run(measuring(seen)) == 0 and seen == ["a", "b", "c"]
    assert (directory / "figures.md").read_text() == "a1 b2 c3" == capsys.readouterr().out.strip()
    assert [row["detail"] for row in results.read_rows(directory / "details.csv")] == ["1", "2"] * 3
    assert run(measuring(seen)) == 0 and len(seen) == 3, "nothing is measured a second time"
    assert run(measuring(seen), names="b", fresh=True) == 0 and seen[3:] == ["b"]
    assert (directory / "figures.md").read_text() == "a1 c3 b4"


def test_the_first_file_says_what_is_done_and_is_written_last(directory, monkeypatch):
    """Interrupted between two files: the rows of the other one are measured again, not twice there."""
    seen, written = [], []
    monkeypatch.setattr(results, "write_text_atomically", lambda text, path: written.append(path.name))
    assert run(measuring(seen), names="a") == 0
    assert written == ["details.csv", "figures.csv", "figures.md"]
    monkeypatch.undo()
    monkeypatch.setattr(results, "DIRECTORY", directory)
    (directory / "details.csv").write_text("name,dtype,detail\na,float32,0\n")
    assert run(measuring(seen), names="a") == 0
    assert [row["detail"] for row in results.read_rows(directory / "details.csv")] == ["1", "2"]


def test_rows_of_before_a_column_was_there_count(directory):
    (directory / "figures.csv").write_text("name,figure\na,7\n")
    seen = []
    assert run(measuring(seen), names="ab") == 0 and seen == ["b"]
    assert (directory / "figures.csv").read_text() == "name,dtype,figure\na,float32,7\nb,float32,1\n"


def test_bad_input_is_one_sentence_and_keeps_what_was_measured(directory, capsys):
    seen = []
    assert run(measuring(seen, stop="b", error=UpscaleError("no such network; choose another"))) == 2
    assert capsys.readouterr().err.endswith("error: no such network; choose another\n")
    assert len(results.read_rows(directory / "figures.csv")) == 1
