"""What long work says on stderr, on a terminal and in a log."""

from __future__ import annotations

import io
import sys

import pytest

from neurocompile import progress
from neurocompile.progress import Counter, Stages, chunks


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes one second further whenever it is asked."""
    now = [0.0]

    def tick() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(progress.time, "perf_counter", tick)


def test_a_terminal_sees_how_much_is_done_and_what_is_left(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    counter = Counter("calibrate", True)
    counter(32, 512)
    assert "calibrate 32/512, about 15 s left" in sys.stderr.getvalue()
    counter.end()
    assert sys.stderr.getvalue().endswith("calibrate         2.00 s\n")


def test_a_log_gets_a_line_for_a_long_stage(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    stages = Stages()
    with stages("map") as done:
        done(1, 2)
    assert sys.stderr.getvalue() == "  map               3.00 s\n"
    assert stages.seconds == {"map": pytest.approx(4.0)}


def test_a_log_gets_no_line_for_a_short_stage_and_none_if_it_is_not_to_show(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Stages()("quantize"):
        pass
    with Stages(False)("map") as done:
        done(1, 2)
    assert list(chunks(5, 2, "samples", True)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert sys.stderr.getvalue() == ""


def test_an_interrupted_stage_leaves_no_line_behind(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    stages = Stages()
    with pytest.raises(KeyboardInterrupt), stages("map"):
        raise KeyboardInterrupt
    assert sys.stderr.getvalue().endswith("\x1b[2K\r") and stages.last == "map"
