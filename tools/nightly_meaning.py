"""The meaning oracle at length: ``python tools/nightly_meaning.py [10000] [--first SEED] [--jobs N]
[--log FILE]``.

Every program of ``tests/meaning/programs.py`` is compiled from an ONNX file, runs on the emulator,
and is compared with float64, every spike of every layer; parity runs on each. Prints how many
compile, the refusals by code with the first seed of each, and every seed with a difference; exit
code 1 if there is one. With ``--log`` each verdict is a line of the file as soon as it is known, and
seeds that the file has are not run again: what was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "meaning"))

from oracle import Verdict, judge_seed  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--log", type=Path, help="verdicts, one a line; read first, then appended to"
    )
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.count)
    start, refused, wrong, totals = time.perf_counter(), {}, [], Counter()
    for done, (seed, verdict) in enumerate(_verdicts(seeds, asked.jobs, asked.log), 1):
        _count(seed, verdict, refused, wrong, totals)
        if done % 50 == 0:
            state = f"{done:,} programs, {totals['compiled']:,} compiled, {len(wrong):,} wrong"
            print(state, file=sys.stderr, flush=True)
    seconds = time.perf_counter() - start
    print(f"programs   {asked.count:,} (seeds {seeds[0]}..{seeds[-1]}) in {seconds:,.0f} s")
    print(f"compiled   {totals['compiled']:,}")
    for code, found in sorted(refused.items()):
        print(f"refused    {len(found):,} {code}, first seed {found[0][0]}: {found[0][1]}")
    print(f"spikes     {totals['spikes']:,} compared, {totals['different']:,} differ")
    print(f"thresholds {totals['met']:,} met exactly in a first step")
    for seed, verdict in wrong:
        print(f"wrong      seed {seed}: {verdict}")
    return 1 if wrong else 0


def _verdicts(seeds: range, jobs: int, log: Path | None) -> Iterator[tuple[int, Verdict]]:
    """Those that ``log`` has, then the others as they are made."""
    known: dict[int, Verdict] = {}
    if log is not None and log.exists():
        for line in log.read_text().splitlines():
            fields = json.loads(line)
            seed = fields.pop("seed")
            known[seed] = Verdict(**fields)
    yield from ((seed, known[seed]) for seed in seeds if seed in known)
    missing = [seed for seed in seeds if seed not in known]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for seed, verdict in zip(missing, pool.map(judge_seed, missing, chunksize=8)):
            if log is not None:
                with log.open("a") as file:
                    file.write(json.dumps({"seed": seed, **asdict(verdict)}) + "\n")
            yield seed, verdict


def _count(
    seed: int,
    verdict: Verdict,
    refused: dict[str, list[tuple[int, str]]],
    wrong: list[tuple[int, Verdict]],
    totals: Counter[str],
) -> None:
    if verdict.refused:
        refused.setdefault(verdict.refused, []).append((seed, verdict.why))
        return
    totals.update(compiled=1, spikes=verdict.spikes, different=verdict.different, met=verdict.met)
    if verdict.different or verdict.where or not verdict.exact:
        wrong.append((seed, verdict))


if __name__ == "__main__":
    sys.exit(main())
