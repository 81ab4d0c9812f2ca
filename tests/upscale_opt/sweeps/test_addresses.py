"""Addresses: everything that decides a figure counts, and nothing else."""

from dataclasses import replace

from upscale_opt.sweeps import addresses
from upscale_opt.sweeps.addresses import Addresses
from upscale_opt.sweeps.cells import LATENCY, ORDERS, Cell, Condition, Masking, Model, cell_of

CELL = Cell(ORDERS, Model("resnet18"), "0.5", Masking(), 0, objective="copies", method="auto", time_limit=10.0)


def test_every_field_counts():
    others = (
        replace(CELL, kind="accuracy"),
        replace(CELL, model=Model("resnet34")),
        replace(CELL, model=replace(CELL.model, weights="DEFAULT")),
        replace(CELL, model=replace(CELL.model, input_shape=(1, 3, 32, 32))),
        replace(CELL, amount="0.25"),
        replace(CELL, masking=Masking("l1")),
        replace(CELL, masking=Masking(mode="constrained")),
        replace(CELL, seed=1),
        replace(CELL, objective="traffic"),
        replace(CELL, method="greedy"),
        replace(CELL, time_limit=1.0),
        replace(CELL, verify=True),
        replace(CELL, condition=Condition(batch=8)),
        replace(CELL, threads=2),
    )
    found = {Addresses().of(cell) for cell in (CELL, *others)}
    assert len(found) == len(others) + 1 and all(len(own) == 64 for own in found)


def test_a_cell_survives_its_description():
    assert cell_of(CELL.to_dict()) == CELL
    assert Addresses().of(cell_of(CELL.to_dict())) == Addresses().of(CELL)


def test_contents_of_files_count_and_folders_do_not(tmp_path):
    found = []
    for folder, content in (("a", "x = 1"), ("b", "x = 1"), ("c", "x = 2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "nets.py").write_text(content)
        (tmp_path / folder / "weights.pt").write_text(content)
        model = Model(f"{tmp_path}/{folder}/nets.py:net", f"{tmp_path}/{folder}/weights.pt")
        found.append(Addresses().of(replace(CELL, model=model)))
    assert found[0] == found[1] != found[2]


def test_a_file_that_is_written_again_is_read_again(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text("x = 1")
    known, cell = Addresses(), replace(CELL, model=Model(f"{path}:net"))
    before = known.of(cell)
    path.write_text("x = 1 + 1")
    assert known.of(cell) != before


def test_folders_of_images_count_by_names_and_sizes(tmp_path):
    (tmp_path / "a.png").write_bytes(b"123")
    cell = replace(CELL, data=str(tmp_path))
    before = Addresses().of(cell)
    (tmp_path / "b.png").write_bytes(b"1")
    assert Addresses().of(cell) != before


def test_the_machine_counts_for_latencies_only(monkeypatch):
    latency = replace(CELL, kind=LATENCY)
    before = Addresses().of(CELL), Addresses().of(latency)
    monkeypatch.setattr(addresses, "machine", lambda device: "another one")
    assert Addresses().of(CELL) == before[0] and Addresses().of(latency) != before[1]


def test_versions_count(monkeypatch):
    before = Addresses().of(CELL)
    monkeypatch.setattr(addresses, "versions", lambda: {"upscale-opt": "99"})
    assert Addresses().of(CELL) != before
