"""Networks that torch.fx dislikes: the command says who takes them, and a wrong export is no success."""

import pytest

from benchmarks.front_ends import __main__ as command
from upscale_opt import VerificationError


def test_each_front_end_has_a_line(capsys):
    assert command.main(["stride-is-asked", "--only", "own"]) == 0
    fx, lifted = capsys.readouterr().out.splitlines()
    assert "refused: the forward of Written needs is_contiguous" in fx and "; verified" in lifted


@pytest.mark.parametrize("error", [VerificationError("differs"), RuntimeError("broken")])
def test_what_is_wrong_is_no_success(error, monkeypatch, capsys):
    def wrong(*given, **named):
        raise error

    monkeypatch.setattr(command, "export", wrong)
    assert command.main(["detector", "--only", "own", "--front-end", "fx"]) == 1
    assert str(error) in capsys.readouterr().out


def test_a_name_that_does_not_exist_is_bad_input(capsys):
    assert command.main(["nothing", "--only", "own"]) == 2
    assert "there is no network 'nothing' here; choose from" in capsys.readouterr().err
