"""The meaning oracle at length: ``python tools/nightly_meaning.py [10000] [--first SEED] [--jobs N]
[--log FILE] [--seconds S] [--modules] [--unmapped]``.

Every program of ``tests/meaning/programs.py`` is compiled from an ONNX file, runs on the emulator,
and is compared with float64, every spike of every layer; parity runs on each. With ``--modules`` the
programs are SpikingJelly modules; with ``--unmapped`` they run as circuits, without their cores, in a
quarter of the time. Prints a table of the programs by what is in them: how many
compile, spikes compared, differences; the refusals by code with the first seed of each, and every
seed with a difference. Exit code 1 if there is one. With ``--log`` each verdict is a line of the
file as soon as it is known, and seeds that the file has are not run again: what was stopped, or
reached ``--seconds``, goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "tests" / "meaning")]

from oracle import Verdict, judge_module, judge_seed  # noqa: E402
from programs import random_program  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--log", type=Path, help="verdicts, one a line; read first, then appended to"
    )
    parser.add_argument("--seconds", type=float, help="stop then; with --log it can go on")
    parser.add_argument("--modules", action="store_true", help="torch modules, no files")
    parser.add_argument("--unmapped", action="store_true", help="without cores")
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.count)
    start, table = time.perf_counter(), Table()
    judge = partial(judge_module if asked.modules else judge_seed, mapped=not asked.unmapped)
    verdicts = _verdicts(seeds, judge, asked.jobs, asked.log, asked.seconds)
    for seed, verdict in verdicts:
        table.count(seed, verdict)
        if table.programs % 100 == 0:
            print(table.state(), file=sys.stderr, flush=True)
    seconds = time.perf_counter() - start
    left = asked.count - table.programs
    print(f"{'modules' if asked.modules else 'files'} of seeds {seeds[0]} to {seeds[-1]}", end="")
    print(f", {left:,} of them not run" if left else "", end="")
    print(f"; {seconds:,.0f} s with {asked.jobs} processes")
    table.show()
    return 1 if table.wrong else 0


class Table:
    """Verdicts by what the programs have in them."""

    def __init__(self) -> None:
        self.rows: dict[str, Counter[str]] = {}
        self.refused: dict[str, list[tuple[int, str]]] = {}
        self.wrong: list[tuple[int, Verdict]] = []
        self.programs = 0

    def count(self, seed: int, verdict: Verdict) -> None:
        """Enter one verdict."""
        self.programs += 1
        bad = bool(verdict.different or verdict.where or not verdict.exact)
        for kind in ("all", *random_program(seed).kinds):
            row = self.rows.setdefault(kind, Counter())
            row.update(programs=1, compiled=not verdict.refused, spikes=verdict.spikes)
            row.update(different=verdict.different, met=verdict.met, wrong=bad)
        if verdict.refused:
            self.refused.setdefault(verdict.refused, []).append((seed, verdict.why))
        if bad:
            self.wrong.append((seed, verdict))

    def state(self) -> str:
        """A line of progress."""
        row = self.rows["all"]
        return f"{self.programs:,} programs, {row['compiled']:,} compiled, {row['wrong']:,} wrong"

    def show(self) -> None:
        """Print everything."""
        heads = "| program has | programs | compile | spikes compared | differ | in programs |"
        print(f"{heads}\n|---|---|---|---|---|---|")
        for kind, row in sorted(self.rows.items(), key=lambda k: -k[1]["programs"]):
            figures = ("programs", "compiled", "spikes", "different", "wrong")
            print(f"| {kind} | {' | '.join(f'{row[k]:,}' for k in figures)} |")
        print(f"thresholds {self.rows['all']['met']:,} met exactly in a first step")
        for code, found in sorted(self.refused.items()):
            seed, why = min(found)
            print(f"refused    {len(found):,} {code}, first seed {seed}: {why}")
        for seed, verdict in sorted(self.wrong, key=lambda k: k[0]):
            print(f"wrong      seed {seed}: {verdict}")


def _verdicts(
    seeds: range,
    judge: Callable[[int], Verdict],
    jobs: int,
    log: Path | None,
    seconds: float | None,
) -> Iterator[tuple[int, Verdict]]:
    """Those that ``log`` has, then the others as they are made."""
    start, known = time.perf_counter(), {}  # type: float, dict[int, Verdict]
    if log is not None and log.exists():
        for line in log.read_text().splitlines():
            with contextlib.suppress(ValueError):  # a line that was cut off is run again
                fields = json.loads(line)
                seed = fields.pop("seed")
                known[seed] = Verdict(**fields)
    yield from ((seed, known[seed]) for seed in seeds if seed in known)
    missing = [seed for seed in seeds if seed not in known]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        made = {pool.submit(judge, seed): seed for seed in missing}
        for future in as_completed(made):
            if future.cancelled():
                continue
            seed, verdict = made[future], future.result()
            if log is not None:
                with log.open("a") as file:
                    file.write(json.dumps({"seed": seed, **asdict(verdict)}) + "\n")
            yield seed, verdict
            if seconds is not None and time.perf_counter() - start > seconds:
                pool.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
