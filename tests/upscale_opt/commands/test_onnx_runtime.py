"""`--backend onnxruntime` on the command line: the lint in what is printed and in JSON documents, and refusals."""

import json

from command_line import RESIDUAL, upscale_opt

IN_IT = (*RESIDUAL, "--backend", "onnxruntime")


def test_profile_and_compare_say_what_is_reordered(tmp_path):
    out = tmp_path / "out.json"
    profiled = upscale_opt("profile", *IN_IT, "--json", out)
    assert profiled.returncode == 0 and "unpruned: onnxruntime " in profiled.stdout, profiled.stderr
    document = json.loads(out.read_text())
    assert document["onnx"]["unpruned"]["convolutions"] == 8
    assert document["latency"]["unpruned"]["backend"] == "onnxruntime"
    how = ("--no-verify", "--repeats", "2", "--solver", "greedy", "--json", out)
    compared = upscale_opt("compare", *IN_IT, *how)
    assert compared.returncode == 0 and "greedy: onnxruntime " in compared.stdout, compared.stderr
    document = json.loads(out.read_text())
    assert set(document["onnx"]) == set(document["latency"]) == {"unpruned", "baseline", "greedy"}
    assert document["conditions"]["runtime"].startswith("onnxruntime ")


def test_what_onnx_runtime_cannot_do_is_refused_before_any_work(tmp_path):
    for options, reason in (
        (("--dtype", "float16"), "no convolutions in float16"),
        (("--memory-format", "channels_last"), "choose the memory format contiguous"),
    ):
        for command in ("profile", "calibrate"):
            refused = upscale_opt(command, *IN_IT, *options)
            assert refused.returncode == 2 and reason in refused.stderr
    refused = upscale_opt("profile", *IN_IT, "--plan", tmp_path / "plan.json", "--accesses")
    assert refused.returncode == 2 and "leave out --backend onnxruntime" in refused.stderr
