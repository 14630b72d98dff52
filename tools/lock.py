"""Rewrite the pins of every dependency in pyproject.toml (``[tool.uv] constraint-dependencies``):
``python tools/lock.py``.

They are the project's lock: exact versions with their markers, and no download address, so that uv
resolves the same environment from whatever index a lab uses. ``tools/requirements.txt`` holds the
same pins with the SHA-256 of every file of theirs, for ``pip install --require-hashes``,
``uv pip sync --require-hashes`` and ``pip-audit``; no address either.

``--check`` changes nothing. Exit code 1 if the pins are not what uv resolves, or if an index has
another file in place of one whose hash is kept; files that it has more of a kept version (wheels
for a new Python) are said and let pass.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"(# pins: tools/lock\.py writes them\nconstraint-dependencies = \[\n)(.*?)(^\]\n)",
    re.DOTALL | re.MULTILINE,
)


HASHES = ROOT / "tools" / "requirements.txt"
HEADER = "# tools/lock.py writes this: every pin of pyproject.toml with the SHA-256 of its files\n"


def resolve() -> dict[str, list[str]]:
    """``name==version ; marker`` of every package of every extra and group, sorted; its hashes."""
    command = [
        "uv",
        "export",
        "--quiet",
        "--no-emit-project",
        "--no-header",
        "--no-annotate",
        "--all-extras",
        "--all-groups",
        "--format",
        "requirements.txt",
    ]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return dict(sorted(pins_of(text).items()))


def pins_of(text: str) -> dict[str, list[str]]:
    """Pin -> hashes of requirements as pip reads them."""
    found: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        pin, *hashes = line.split("--hash=")
        if "==" in pin:
            found[pin.strip()] = sorted(each.strip() for each in hashes)
    return found


def requirements(pins: dict[str, list[str]]) -> str:
    """What :func:`pins_of` reads."""
    lines = (" \\\n    ".join([pin, *(f"--hash={h}" for h in pins[pin])]) for pin in pins)
    return HEADER + "".join(f"{line}\n" for line in lines)


def compare(kept: dict[str, list[str]], found: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """Lines on files that are no longer those whose hash is kept, and on files that are more."""
    wrong = [f"{pin}: pinned, but no hash is kept" for pin in found if not kept.get(pin)]
    wrong += [f"{pin}: a hash is kept of what is not pinned" for pin in kept if pin not in found]
    both = [pin for pin in kept if found.get(pin) and kept[pin]]
    for pin in both:
        lost = len(set(kept[pin]) - set(found[pin]))
        if lost:
            wrong.append(f"{pin}: {lost} of {len(kept[pin])} files are gone or are other files now")
    more = [f"{pin}: files that were not there" for pin in both if set(found[pin]) - set(kept[pin])]
    return wrong, more


def main() -> int:
    """See the module."""
    path = ROOT / "pyproject.toml"
    old, check = path.read_text(), "--check" in sys.argv
    if not check:
        (ROOT / "uv.lock").unlink(missing_ok=True)
        path.write_text(BLOCK.sub(r"\1\3", old))
    found = resolve()
    pins = "".join(f'    "{pin}",\n' for pin in (p.replace('"', "'") for p in found))
    new = BLOCK.sub(lambda m: m[1] + pins + m[3], old)
    if not check:
        path.write_text(new)
        HASHES.write_text(requirements(found))
        return 0
    wrong, more = compare(pins_of(HASHES.read_text()), found)
    if new != old:
        wrong.insert(0, "pins differ from what uv resolves")
    print("\n".join([*wrong, *more]) or "pins and hashes are current")
    if more and not wrong:
        print(
            "pins are current; hashes too but for those files (`python tools/lock.py` keeps them)"
        )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
