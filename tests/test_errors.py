"""Errors cross processes: a pool or a cluster hands them to its caller as they were raised."""

from __future__ import annotations

import copy
import pickle

import pytest

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.frontends.diagnosis import NotSupportedError, Problem


def errors() -> list[NeurocompileError]:
    one = NeurocompileError("NC1015", "T is 0; 1 or more is needed", kind="range")
    one.details = [{"name": "T"}]
    several = ViolationList("NC1003", ["first", "second"], ["NC1003", "NC1009"])
    reasons = [
        Problem("NC1003", "node_cumsum", "CumSum", "body.0", "Net", "is not supported", ""),
        Problem("NC1009", "", "", "", "", "depends on the batch", "a mean over steps"),
    ]
    return [one, several, NotSupportedError(reasons)]


@pytest.mark.parametrize("error", errors(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_an_error_is_the_same_behind_a_process(error, again) -> None:
    found = again(error)
    assert type(found) is type(error) and str(found) == str(error) and found.args == error.args
    assert found.__dict__ == error.__dict__
