"""Type errors by mypy, counted by file: ``python tools/check_types.py``.

Packages named in ``EXACT`` have none. Elsewhere ``tools/type_errors.txt`` lists how many a file still
has, and the list may only shrink: exit code 1 where a count grew, and where one shrank or a file is
gone without the list saying so. ``--update`` writes the smaller counts, never larger ones.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tools" / "type_errors.txt"
EXACT = ("artifact", "ir", "mapping", "passes", "targets")
"""Packages of neurocompile/ whose types hold."""
_ERROR = re.compile(r"^(neurocompile[/\\][^:]+):\d+: error: ")


def found_errors() -> tuple[Counter[str], list[str]]:
    """Errors a file, and their lines as mypy prints them."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-color-output"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    counts = Counter(m[1].replace("\\", "/") for line in lines if (m := _ERROR.match(line)))
    if done.returncode not in (0, 1) or (done.returncode == 1 and not counts):
        sys.exit(f"mypy itself failed: {done.stdout}{done.stderr}")
    return counts, lines


def allowed(text: str) -> dict[str, int]:
    """``COUNT FILE`` a line."""
    pairs = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {name: int(count) for count, name in pairs}


def complaints(found: dict[str, int], listed: dict[str, int]) -> list[str]:
    """What is wrong with ``found`` errors a file where ``listed`` ones are allowed."""
    wrong = [
        f"{name} is in {LIST.name}, but its package has no type errors"
        for name in listed
        if name.split("/")[1] in EXACT
    ]
    for name in sorted(found.keys() | listed.keys()):
        now, before = found.get(name, 0), listed.get(name, 0)
        if now > before:
            wrong.append(f"{name}: {now} type errors, {before} allowed")
        elif now < before:
            wrong.append(f"{name}: {now} type errors of {before} are left; run --update")
    return wrong


def main() -> int:
    """See the module."""
    found, lines = found_errors()
    listed = allowed(LIST.read_text(encoding="utf-8"))
    if "--update" in sys.argv:
        left = {name: min(found[name], count) for name, count in listed.items() if found[name]}
        text = "".join(f"{count} {name}\n" for name, count in sorted(left.items()))
        head = (
            "# Type errors that are left, by file (tools/check_types.py); this list only shrinks.\n"
        )
        LIST.write_text(head + text, encoding="utf-8")
        listed = left
    wrong = complaints(found, listed)
    grown = {name for name in found if found[name] > listed.get(name, 0)}
    for line in lines:
        if line.partition(":")[0].replace("\\", "/") in grown:
            print(line)
    print("\n".join(wrong) or f"types hold, but for {sum(found.values())} errors that are listed")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
