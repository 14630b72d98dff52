"""The meaning oracle at length: ``python tools/nightly_meaning.py [10000] [--first SEED] [--jobs N]``.

Every program of ``tests/meaning/programs.py`` is compiled from an ONNX file, runs on the emulator,
and is compared with float64, every spike of every layer; parity runs on each. Prints how many
compile, the refusals by code with the first seed of each, and every seed with a difference; exit
code 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "meaning"))

from oracle import Verdict, judge_seed  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.count)
    start, refused, wrong, totals = time.perf_counter(), {}, [], Counter()
    with ProcessPoolExecutor(asked.jobs, get_context("spawn")) as pool:
        for seed, verdict in zip(seeds, pool.map(judge_seed, seeds, chunksize=8)):
            _count(seed, verdict, refused, wrong, totals)
            done = seed - asked.first + 1
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
