"""The README's picture: measured milliseconds of networks and of their exports, on a CPU and on a GPU.

It measures nothing. The figures are those of two benchmarks, whose results lie in this repository:

* CPU: ``benchmarks.latency`` (``results/latency.csv``), batches of one, contiguous, eager;
* GPU: ``benchmarks.gpu run`` (``results/gpu/h200_orders.jsonl``), batches of 64, float16, channels_last, CUDA graphs.

Half of every consumer's input channels are pruned by L2 norm; weights are random. The figures that are drawn are
written to ``results/picture.csv`` with machine, versions, commit and source, the picture to ``docs/picture.svg``.

    python -m benchmarks.picture
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.results import DIRECTORY, csv_text, read_rows
from problems.files import write_text_atomically

FIGURES = "picture.csv"
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "picture.svg"
COLUMNS = ("panel", "network", "variant", "ms", "iqr_ms", "machine", "versions", "commit", "date", "source")

UNPRUNED, BASELINE, UPSCALE, OURS, FLOOR = VARIANTS = (
    "unpruned network",
    "pruned, every layer copies its channels",
    "pruned, UPSCALE's greedy order",
    "pruned, this package",
    "pruned, if choosing channels cost nothing",
)
_COLOURS = dict(zip(VARIANTS, ("#8a94a0", "#e9b44c", "#d1495b", "#2a9d8f", "#c9ced4"), strict=True))

_CPU_NAMES = {
    "unpruned": UNPRUNED,
    "baseline": BASELINE,
    "greedy": UPSCALE,
    "exact latency": OURS,
    "floor": FLOOR,
}
_GPU_NAMES = _CPU_NAMES | {"greedy as UPSCALE": UPSCALE}
del _GPU_NAMES["greedy"]  # there, greedy's order read in its cheapest ways

NETWORKS = {"mobilenet_v2": "MobileNetV2", "resnet50": "ResNet-50", "densenet121": "DenseNet-121"}
_CPU_CELL = {"amount": "0.5", "batch": "1", "format": "NCHW", "device": "cpu", "backend": "eager"}
_GPU_CELL = {"batch": 64, "dtype": "float16", "memory_format": "channels_last", "backend": "cuda-graph"}


def cpu_rows() -> list[dict[str, Any]]:
    """The figures of the CPU's panel, from ``latency.csv``."""
    source = "latency.csv"
    rows = []
    for row in read_rows(DIRECTORY / source):
        fits = row["model"] in NETWORKS and row["variant"] in _CPU_NAMES
        if fits and all(row[name] == value for name, value in _CPU_CELL.items()):
            rows.append(
                {
                    "panel": "CPU",
                    "network": NETWORKS[row["model"]],
                    "variant": _CPU_NAMES[row["variant"]],
                    "ms": float(row["median_ms"]),
                    "iqr_ms": float(row["iqr_ms"]),
                    "source": f"results/{source}",
                    **{name: row[name] for name in ("machine", "versions", "commit", "date")},
                }
            )
    return _sorted(rows)


def gpu_rows() -> list[dict[str, Any]]:
    """The figures of the GPU's panel, from ``h200_orders.jsonl``."""
    source = "gpu/h200_orders.jsonl"
    rows = []
    for line in (DIRECTORY / source).read_text().splitlines():
        row = json.loads(line)
        if row.get("order") not in _GPU_NAMES or any(row[name] != value for name, value in _GPU_CELL.items()):
            continue
        rows.append(
            {
                "panel": "GPU",
                "network": NETWORKS[row["network"]] + (", all stored" if row["aligned"] else ""),
                "variant": _GPU_NAMES[row["order"]],
                "ms": round(row["measured_ms"], 3),
                "iqr_ms": round(row["iqr_ms"], 3),
                "machine": row["device"],
                "versions": f"torch {row['torch']}, triton {row['triton']}, CUDA {row['cuda']}, cuDNN {row['cudnn']}",
                "commit": row["commit"],
                "date": row["date"],
                "source": f"results/{source}",
            }
        )
    return _sorted(rows)


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = list(NETWORKS.values())
    place = {name: names.index(name.partition(",")[0]) for name in {row["network"] for row in rows}}
    return sorted(rows, key=lambda row: (place[row["network"]], row["network"], VARIANTS.index(row["variant"])))


def drawn(rows: list[dict[str, Any]]) -> str:
    """The picture as SVG, the same bytes for the same figures.

    Parameters
    ----------
    rows
        Those of `cpu_rows` and `gpu_rows`.
    """
    panels = {"CPU": "2 cores of a CPU, one image", "GPU": "NVIDIA H200, 64 images, float16"}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "picture", "font.family": "sans-serif"}):
        figure = Figure(figsize=(10, 5.6), layout="constrained")
        for axes, (panel, title) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            own = [row for row in rows if row["panel"] == panel]
            networks = list(dict.fromkeys(row["network"] for row in own))
            most = max(row["ms"] for row in own)
            for row in own:
                place = 6.4 * networks.index(row["network"]) + VARIANTS.index(row["variant"])
                axes.barh(place, row["ms"], height=0.85, color=_COLOURS[row["variant"]])
                axes.text(row["ms"] + 0.01 * most, place, f"{row['ms']:.3g}", va="center", fontsize=8)
            axes.set_yticks(
                [6.4 * i + 2 for i in range(len(networks))], [name.replace(", ", ",\n") for name in networks]
            )
            axes.tick_params(length=0)
            axes.invert_yaxis()
            axes.set_xlim(0, 1.1 * most)
            axes.set_xlabel("milliseconds per pass, measured")
            axes.set_title(title, fontsize=11)
            axes.spines[["top", "right"]].set_visible(False)
        marks = [matplotlib.patches.Patch(color=_COLOURS[name], label=name) for name in VARIANTS]
        figure.legend(handles=marks, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def main(arguments: list[str] | None = None) -> int:
    """Write the figures and the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.picture", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=PICTURE, help="the SVG file (default: docs/picture.svg)")
    out = parser.parse_args(arguments).out
    rows = [*cpu_rows(), *gpu_rows()]
    write_text_atomically(csv_text(rows, COLUMNS), DIRECTORY / FIGURES)
    write_text_atomically(drawn(rows), out)
    print(f"{len(rows)} figures in {DIRECTORY / FIGURES}, drawn in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
