"""Tests of the option that chooses what captures a network."""


def test_unknown_front_ends_are_refused(run):
    code, _, error = run("solve", "--model", "resnet18", "--front-end", "dynamo")
    assert code != 0 and "--front-end is 'dynamo'" in error and "export (torch.export)" in error
