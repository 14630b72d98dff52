"""A plugin of pytest for ``nightly_mutants.py``: writes which lines each test runs, or runs given tests.

MUTANT_LINES names a folder: a line of JSON a test, ``[name, seconds, passed, {file: lines}]``, of the
files below MUTANT_ROOT. What a fixture of a module or a session runs counts for each test that
takes it. MUTANT_TESTS names a JSON list: these tests (or files) run, in its order; what is not
there any more is left out. From Python 3.12 on lines are seen by ``sys.monitoring``, once a test each, at little
cost; before, by a trace function.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

ROOT = os.environ.get("MUTANT_ROOT", "") + os.sep
Lines = dict[str, set[int]]
TOOL = 4

now: Lines = defaultdict(set)
shared: dict[str, Lines] = {}
spent: dict[str, tuple[float, bool]] = {}


def watched(file: str) -> bool:
    return file.startswith(ROOT)


def start() -> None:
    if sys.version_info >= (3, 12):
        events = sys.monitoring

        def line(code: Any, number: int) -> Any:
            if watched(code.co_filename):
                now[code.co_filename].add(number)
            return events.DISABLE

        events.use_tool_id(TOOL, "mutants")
        events.register_callback(TOOL, events.events.LINE, line)
        events.set_events(TOOL, events.events.LINE)
        return

    def trace(frame: Any, event: str, _: Any) -> Any:
        if not watched(frame.f_code.co_filename):
            return None
        now[frame.f_code.co_filename].add(frame.f_lineno)
        return trace

    sys.settrace(trace)
    threading.settrace(trace)


def fresh() -> None:
    """From here on every line is seen again."""
    now.clear()
    if sys.version_info >= (3, 12):
        sys.monitoring.restart_events()


def joined(into: Lines, more: Lines) -> None:
    for file, lines in more.items():
        into[file] |= lines


class Recorder:
    def __init__(self, folder: Path) -> None:
        self.file = (folder / f"lines.{os.getpid()}").open("a")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> Any:
        fresh()
        result = yield
        for name in getattr(item, "fixturenames", ()):
            joined(now, shared.get(name, {}))
        seconds, passed = spent.pop(item.nodeid, (0.0, False))
        lines = {file.removeprefix(ROOT): sorted(found) for file, found in now.items()}
        self.file.write(json.dumps([item.nodeid, round(seconds, 3), passed, lines]) + "\n")
        self.file.flush()
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Any:
        if fixturedef.scope == "function":
            return (yield)
        before: Lines = defaultdict(set)
        joined(before, now)
        fresh()
        result = yield
        own = shared[fixturedef.argname] = defaultdict(set)
        joined(own, now)
        joined(now, before)
        return result

    def pytest_runtest_logreport(self, report: Any) -> None:
        seconds, passed = spent.get(report.nodeid, (0.0, True))
        passed = passed and report.outcome == "passed"
        spent[report.nodeid] = seconds + report.duration, passed


class Chooser:
    def __init__(self, names: list[str]) -> None:
        self.place = {name: i for i, name in enumerate(names)}

    def of(self, name: str) -> int:
        return self.place.get(name, self.place.get(name.partition("::")[0], -1))

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        chosen = [item for item in items if self.of(item.nodeid) >= 0]
        items[:] = sorted(chosen, key=lambda item: self.of(item.nodeid))


def pytest_configure(config: Any) -> None:
    chosen, folder = os.environ.get("MUTANT_TESTS"), os.environ.get("MUTANT_LINES")
    if chosen:
        config.pluginmanager.register(Chooser(json.loads(Path(chosen).read_text())))
    alone = config.getoption("numprocesses", None) in (None, 0)
    if folder and (alone or "PYTEST_XDIST_WORKER" in os.environ):
        config.pluginmanager.register(Recorder(Path(folder)))
        start()
