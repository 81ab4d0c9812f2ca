"""Stores only grow, take one row per cell and attempt, and know who is alive."""

import sqlite3
import threading
from dataclasses import replace

import pytest

from upscale_opt.errors import SweepError
from upscale_opt.sweeps import sqlite_store
from upscale_opt.sweeps.owners import LEASE_SECONDS, Owner, this_process
from upscale_opt.sweeps.rows import DONE, FAILED, Row, row_of
from upscale_opt.sweeps.running import collect
from upscale_opt.sweeps.stores import open_store

ROW = Row("a", DONE, {"kind": "orders"}, figures={"value": 3})
LOST = replace(ROW, status=FAILED, reason="no reason", figures={})
GONE = Owner(this_process().host, "1/other")
KINDS = ("s.sqlite", "s.jsonl")


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    with open_store(tmp_path / request.param) as opened:
        yield opened


def test_rows_come_back(store):
    assert store.append(ROW) and store.append(replace(LOST, address="b"))
    assert list(store.rows()) == [ROW, replace(LOST, address="b")]
    assert store.known() == {"a": (True, 1), "b": (False, 1)}
    with open_store(store.path, create=False) as again:
        assert list(again.rows()) == list(store.rows()) and again.known() == store.known()


def test_a_cell_has_one_row_and_what_is_done_stays(store):
    assert store.append(ROW)
    assert not store.append(replace(ROW, figures={"value": 4}))
    assert not store.append(replace(ROW, attempt=2))
    assert list(store.rows()) == [ROW]


def test_a_failed_cell_may_be_tried_again(store):
    assert store.append(LOST) and not store.append(LOST)
    assert store.append(replace(ROW, attempt=2))
    assert list(store.rows()) == [replace(ROW, attempt=2)] and store.known() == {"a": (True, 2)}


def test_several_threads_write_one_store(store):
    numbers = range(20)

    def write(first):
        for number in numbers[first::4]:
            assert store.append(replace(ROW, address=str(number)))

    threads = [threading.Thread(target=write, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.known()) == len(numbers)


def test_rows_of_a_sqlite_file_cannot_be_changed(tmp_path):
    path = tmp_path / "s.sqlite"
    with open_store(path) as store:
        store.append(ROW)
    connection = sqlite3.connect(path)
    for statement in ("DELETE FROM rows", "UPDATE rows SET reason = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="rows are never"):
            connection.execute(statement)
    connection.close()


def test_claims_keep_others_away_until_their_owner_is_gone(tmp_path, monkeypatch):
    me, far = this_process(), Owner("another machine", "7/7")
    with open_store(tmp_path / "s.sqlite") as store:
        assert store.claim("a", far) and not store.claim("a", me)  # it may be alive
        assert store.claim("b", GONE) and store.claim("b", me)  # it is not: this is its machine
        assert store.claim("c", me) and not store.claim("c", far)
        store.release(me)
        assert store.claim("c", far)
        now = sqlite_store.time.time()
        monkeypatch.setattr(sqlite_store.time, "time", lambda: now + LEASE_SECONDS + 1)
        store.renew(far)
        assert not store.claim("a", me)
        monkeypatch.setattr(sqlite_store.time, "time", lambda: now + 3 * LEASE_SECONDS)
        assert store.claim("a", me)
        store.append(ROW)
        assert not store.claim("a", me)  # it is done


def test_half_a_line_of_a_killed_process_is_no_row(tmp_path):
    path = tmp_path / "s.jsonl"
    with open_store(path) as store:
        store.append(ROW)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    with open_store(path) as store:
        assert store.known() == {"a": (True, 1)}
        assert store.append(replace(ROW, address="b"))
    with open_store(path) as store:
        assert [row.address for row in store.rows()] == ["a", "b"]


def test_rows_of_other_stores_are_collected_once(tmp_path):
    with open_store(tmp_path / "a.jsonl") as first, open_store(tmp_path / "b.sqlite") as second:
        first.append(LOST)
        first.append(replace(ROW, address="b"))
        assert collect(second, first.rows()) == 2 and collect(second, first.rows()) == 0
        with open_store(tmp_path / "c.jsonl") as third:
            third.append(ROW)  # done elsewhere
            assert collect(second, third.rows()) == 1
        assert second.known() == {"a": (True, 2), "b": (True, 1)}


def test_files_that_are_no_stores_are_refused(tmp_path):
    text, other = tmp_path / "text.sqlite", tmp_path / "other.sqlite"
    text.write_text("no database, but long enough to be taken for one" * 30)
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE own (x)")
    connection.commit()
    connection.close()
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"a": 1}\n')
    for path, said in (
        (text, "cannot use the store"),
        (other, "no store of a sweep"),
        (tmp_path / "none.sqlite", "there is no store"),
        (tmp_path / "none.jsonl", "cannot open the store"),
        (tmp_path / "no folder" / "a.sqlite", "cannot use the store"),
    ):
        with pytest.raises(SweepError, match=said):
            open_store(path, create="folder" in path.parent.name)
    with open_store(lines, create=False) as store, pytest.raises(SweepError, match="line 1 is no row of a sweep"):
        list(store.rows())
    with pytest.raises(SweepError, match="use a newer upscale_opt"):
        row_of(ROW.to_json().replace('"version": 1', '"version": 2'), "x")


def test_shared_disks_have_no_shared_memory(tmp_path, monkeypatch):
    assert journal(tmp_path / "a.sqlite") == "wal"
    monkeypatch.setattr(sqlite_store, "file_system", lambda path: "nfs4")
    assert journal(tmp_path / "b.sqlite") == "delete"


def journal(path):
    open_store(path).close()
    connection = sqlite3.connect(path)
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    connection.close()
    return mode
