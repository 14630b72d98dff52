"""What ``nightly_mutants.py`` has judged: its log, faults that no test can find, and the score.

A fault that changes nothing that a law could see (``equivalent_mutants.yaml``, each with its kind and
its reason) is counted apart. An entry names the text of the line, not its number: where that text
or the fault is no more, reading the file ends in an error.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

import yaml
from mutations import Mutant, mutants

__all__ = ["FOUND", "KINDS", "equivalents", "faults", "key", "located", "place", "read", "summary"]

ROOT = Path(__file__).resolve().parents[1]
EQUIVALENT = Path(__file__).resolve().parent / "equivalent_mutants.yaml"
FOUND = ("killed", "timeout")
KINDS = {
    "same": "every value it can meet gives the same result",
    "speed": "another way to the same result",
    "unreachable": "a branch or bound that nothing reaches",
    "heuristic": "a mapping or a bound may be better or worse; every law holds for both",
    "drawn": "another number of samples, another start or another tolerance of an experiment",
}


@lru_cache(None)
def faults(file: str) -> tuple[Mutant, ...]:
    """All faults of a file of today's code."""
    return tuple(mutants((ROOT / file).read_bytes()))


@lru_cache(None)
def _lines(file: str) -> tuple[str, ...]:
    return tuple((ROOT / file).read_text().splitlines())


def key(file: str, mutant: Mutant) -> str:
    return f"{file}:{mutant.line}:{mutant.start}: {mutant.what}"


def place(file: str, mutant: Mutant) -> dict[str, object]:
    """What names a fault when its line moves: the line's text and the column within it."""
    line = _lines(file)[mutant.line - 1]
    head = (ROOT / file).read_bytes()[: mutant.start].rpartition(b"\n")[2]
    return {"text": line.strip(), "column": len(head.decode()) - len(line) + len(line.lstrip())}


def equivalents() -> dict[str, str]:
    """Kind by key of every fault that changes nothing; ValueError where an entry is stale."""
    found: dict[str, str] = {}
    for entry in yaml.safe_load(EQUIVALENT.read_text()) or []:
        file, what, text, kind = (entry[name] for name in ("file", "what", "text", "kind"))
        if kind not in KINDS or not entry["why"].strip():
            raise ValueError(f"{EQUIVALENT.name}: '{text}' needs a kind of {list(KINDS)} and a why")
        same = [m for m in _at(file, what, text) if _fits(file, m, entry)]
        if len(same) != 1:
            raise ValueError(
                f"{EQUIVALENT.name}: {len(same)} faults '{what}' on a line '{text}' of {file}: "
                "mend or drop the entry (`column` and `nth` choose among several)"
            )
        found[key(file, same[0])] = kind
    return found


def _at(file: str, what: str, text: str) -> list[Mutant]:
    if not (ROOT / file).exists():
        return []
    return [m for m in faults(file) if m.what == what and _lines(file)[m.line - 1].strip() == text]


def _fits(file: str, mutant: Mutant, entry: dict) -> bool:
    column = entry.get("column")
    if column is not None and place(file, mutant)["column"] != column:
        return False
    if "nth" not in entry:  # of the lines of this text, from 1
        return True
    lines = [i for i, line in enumerate(_lines(file), 1) if line.strip() == entry["text"]]
    return lines[entry["nth"] - 1 : entry["nth"]] == [mutant.line]


def located(entry: dict) -> tuple[str, Mutant] | None:
    """The fault of an entry of the log in today's code; None if its line is no more."""
    where, _, what = entry["mutant"].partition(": ")
    file, line, start = where.rsplit(":", 2)
    if "text" not in entry:  # a log from before texts were kept
        same = [m for m in faults(file) if key(file, m) == entry["mutant"]]
    else:
        same = [
            m for m in _at(file, what, entry["text"]) if place(file, m)["column"] == entry["column"]
        ]
    return (file, min(same, key=lambda m: abs(m.line - int(line)))) if same else None


def read(log: Path) -> dict[str, list[dict]]:
    """Every verdict on a fault, the first first; a line cut short by an interrupt is not counted."""
    found: dict[str, list[dict]] = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found.setdefault(entry["mutant"], []).append(entry)
    return found


def summary(judged: list[list[dict]], wanted: int, least: float) -> int:
    """The score, by package, of first and last verdicts; every fault that no test found.

    The last verdict counts. A fault that changes nothing counts neither as found nor as lost, and
    is printed with its kind.
    """
    apart = equivalents()
    alive: list[str] = []
    wrong: list[str] = []
    states: dict[str, Counter[str]] = defaultdict(Counter)
    harmless: Counter[str] = Counter()
    for verdicts in judged:
        entry = verdicts[-1]
        state, name = entry["state"], entry["mutant"]
        today = located(entry)
        kind = apart.get(key(*today)) if today is not None else None
        if state != "killed" and kind is not None:  # time alone finds nothing in them
            harmless[kind] += 1
            alive.append(f"changes nothing ({kind}): {name}")
        elif state not in FOUND:
            alive.append(f"{state} ({entry['tests']} tests): {name}")
        elif state == "killed" and kind is not None:
            wrong.append(name)
        states[name.split("/")[1]][state if state == "killed" or not kind else "equivalent"] += 1
    for package, counts in sorted(states.items()):
        total = sum(counts.values()) - counts["equivalent"]
        print(f"{package:10} {_dead(counts):4} of {total:4} found  {dict(counts)}")
    everything: Counter[str] = sum(states.values(), Counter())
    dead, total = _dead(everything), len(judged) - sum(harmless.values())
    first = sum(_first(verdicts)["state"] in FOUND for verdicts in judged)
    share = 100 * dead / max(total, 1)
    print(
        f"first verdicts: {first} of {len(judged)} found ({100 * first / max(len(judged), 1):.1f} %)"
    )
    print(
        f"last verdicts: {dead} of {len(judged)} found ({100 * dead / max(len(judged), 1):.1f} %)"
    )
    print(f"{sum(harmless.values())} change nothing a law could see: {dict(harmless)}")
    print(f"found {dead} of {total} others ({share:.1f} %), {wanted - len(judged)} not judged")
    print(f"of those {everything['timeout']} by running out of time alone")
    for line in sorted(alive):
        print(f"  {line}")
    for name in wrong:
        print(f"  said to change nothing, but found (drop it from {EQUIVALENT.name}): {name}")
    return 0 if share >= least and not wrong else 1


def _dead(counts: Counter[str]) -> int:
    return sum(counts[state] for state in FOUND)


def _first(verdicts: list[dict]) -> dict:
    """That of the run which judged it first: its last, for a killer that fails without a fault is none."""
    return [v for v in verdicts if not v.get("again")][-1]
