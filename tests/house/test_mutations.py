"""The nightly mutation run plants what it says: real faults, one each, lines kept, texts left alone."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    not (ROOT / "tools" / "mutations.py").is_file(), reason="outside of the repository"
)

SOURCE = b'''"""Doc < string."""
LIMIT: int = 3  # "\xc2\xb5" > 1


def f(a, b):
    if a < b and not b:
        raise ValueError(f"{a} < {b}" + "!")
    total = max(a,
                b + 1)
    total += 1
    print(total == 1)
    return total
'''


@pytest.fixture
def mutations():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import mutations

        yield mutations
    finally:
        sys.path.remove(str(ROOT / "tools"))


def test_each_is_one_fault_on_its_line(mutations) -> None:
    found = mutations.mutants(SOURCE)
    assert {m.what for m in found} == {
        "3 -> 4",
        "a < b and (not b) -> (a < b or not b)",
        "a < b -> (a <= b)",
        "not b -> b",
        "max -> min",
        "b + 1 -> (b - 1)",
        "1 -> 2",
        "total += 1 -> pass",
    }
    before = SOURCE.splitlines()
    for mutant in found:
        text = mutant.apply(SOURCE)
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(SOURCE))
        after = text.splitlines()
        changed = [i for i, (a, b) in enumerate(zip(before, after), 1) if a != b]
        assert len(after) == len(before) and changed[0] == mutant.line


def test_every_file_of_the_packages_gives_programs(mutations) -> None:
    for file in sorted((ROOT / "neurocompile" / "ir").glob("*.py"))[::4]:
        source = file.read_bytes()
        for mutant in mutations.mutants(source)[::25]:
            ast.parse(mutant.apply(source))


@pytest.fixture
def verdicts(mutations):
    import mutant_verdicts

    yield mutant_verdicts
    mutant_verdicts.faults.cache_clear()
    mutant_verdicts._lines.cache_clear()


def test_every_fault_that_is_said_to_change_nothing_is_in_the_code(verdicts) -> None:
    """An entry whose line has changed is stale: its reason has to be read again."""
    assert set(verdicts.equivalents().values()) <= set(verdicts.KINDS)


@pytest.fixture
def small(verdicts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A checkout of one file, and how its list of harmless faults is written."""
    place = tmp_path / "neurocompile" / "ir" / "f.py"
    place.parent.mkdir(parents=True)
    place.write_bytes(SOURCE)
    monkeypatch.setattr(verdicts, "ROOT", tmp_path)
    monkeypatch.setattr(verdicts, "EQUIVALENT", tmp_path / "list.yaml")
    entry = {"file": "neurocompile/ir/f.py", "text": "b + 1)", "what": "b + 1 -> (b - 1)"}
    entry |= {"kind": "same", "why": "a test"}

    def write(**changes: object) -> None:
        (tmp_path / "list.yaml").write_text(json.dumps([entry | changes]))
        verdicts.faults.cache_clear()
        verdicts._lines.cache_clear()

    write()
    return place, write


def test_a_harmless_fault_is_found_by_its_lines_text_and_stale_ones_are_refused(
    verdicts, small
) -> None:
    place, write = small
    (name,) = verdicts.equivalents()
    place.write_bytes(b"#\n" + SOURCE)  # the line moves
    write()
    (moved,) = verdicts.equivalents()
    assert int(moved.split(":")[1]) == int(name.split(":")[1]) + 1
    for changes in (
        {"text": "b + 2)"},
        {"what": "b"},
        {"kind": "odd"},
        {"why": " "},
        {"column": 1},
    ):
        write(**changes)
        with pytest.raises(ValueError, match=r"list\.yaml"):
            verdicts.equivalents()
    place.write_bytes(SOURCE + b"\n\ndef g(b):\n    total = max(0,\n                b + 1)\n")
    write()
    with pytest.raises(ValueError, match="2 faults"):
        verdicts.equivalents()
    write(nth=2)
    (second,) = verdicts.equivalents()
    assert second != name


def test_first_and_last_verdicts_stand_and_harmless_faults_count_apart(
    verdicts, small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = "neurocompile/ir/f.py"
    one, two, three, *_, plus = sorted(
        verdicts.faults(file), key=lambda m: m.what == "b + 1 -> (b - 1)"
    )

    def entry(mutant, state: str, **more: object) -> dict:
        named = {"mutant": verdicts.key(file, mutant), "state": state, "tests": 1}
        return named | verdicts.place(file, mutant) | more

    log = tmp_path / "log.jsonl"
    lines = [entry(one, "killed"), entry(two, "survived"), entry(plus, "survived")]
    lines += [entry(three, "killed"), entry(three, "unsound"), entry(two, "killed", again=True)]
    log.write_text("\n".join(map(json.dumps, lines)) + '\n{"mutant": "cut sho')
    judged = list(verdicts.read(log).values())
    assert [len(v) for v in judged] == [1, 2, 1, 2]
    assert verdicts.summary(judged, 4, least=60) == 0
    said = capsys.readouterr().out
    assert "first verdicts: 1 of 4 found" in said and "last verdicts: 2 of 4 found" in said
    assert "found 2 of 3 others (66.7 %), 0 not judged" in said
    assert "changes nothing (same): neurocompile/ir/f.py" in said
    assert verdicts.summary(judged, 4, least=67) == 1
    small[0].write_bytes(b"#\n" + SOURCE)
    small[1]()
    moved = verdicts.located(lines[1])
    assert moved is not None and moved[1].line == two.line + 1 and moved[1].what == two.what
    small[0].write_bytes(SOURCE)
    small[1]()
    # a test that finds what is said to change nothing says so
    assert verdicts.summary([[entry(plus, "killed")]], 1, least=0) == 1
    assert "said to change nothing, but found" in capsys.readouterr().out
