"""The JSON Schema of target files says what the loader says, and the shipped files follow it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from neurocompile.targets import list_targets, load_target, target_schema

ROOT = Path(__file__).resolve().parents[2]


def follows(schema: dict, node: dict, value: object) -> bool:
    """Whether a value follows the part of JSON Schema that the target's schema uses."""
    if "$ref" in node:
        return follows(schema, schema["$defs"][node["$ref"].rpartition("/")[2]], value)
    if "anyOf" in node:
        return any(follows(schema, option, value) for option in node["anyOf"])
    if "enum" in node:
        return value in node["enum"]
    kind = node.get("type")
    if kind == "object":
        known = isinstance(value, dict) and set(node.get("required", ())) <= set(value)
        if known and node.get("additionalProperties", True) is False:
            known = set(value) <= set(node["properties"])
        return known and all(
            follows(schema, node["properties"][k], v)
            for k, v in value.items()
            if k in node["properties"]
        )
    if kind == "array":
        items = [*node.get("prefixItems", ())]
        if not isinstance(value, list) or not node.get("minItems", 0) <= len(value) <= node.get(
            "maxItems", 1 << 30
        ):
            return False
        return all(
            follows(schema, items[i] if i < len(items) else node["items"], v)
            for i, v in enumerate(value)
        )
    if kind == "null":
        return value is None
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "number"):
        types = int if kind == "integer" else (int, float)
        if isinstance(value, bool) or not isinstance(value, types):
            return False
        return node.get("minimum", value) <= value <= node.get("maximum", value)
    return kind is None or isinstance(value, str)


@pytest.mark.parametrize("name", list_targets())
def test_shipped_files_follow_the_schema(name: str) -> None:
    content = yaml.safe_load((ROOT / "hw_targets" / f"{name}.yaml").read_text())
    schema = target_schema()
    assert follows(schema, schema, content)
    assert not follows(schema, schema, {**content, "colour": "blue"})
    assert not follows(schema, schema, {k: v for k, v in content.items() if k != "core"})
    assert not follows(
        schema, schema, {**content, "chips": {**content["chips"], "status": "rumour"}}
    )
    assert not follows(schema, schema, {**content, "cost": {**content["cost"], "model": "magic"}})


def test_schema_is_printed() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "neurocompile", "targets", "--schema"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(found.stdout) == json.loads(msgspec.json.encode(target_schema()))


def test_boards_are_so_many_chips_of_loihi2() -> None:
    chip = load_target("loihi2")
    for name, chips, cores in (("kapoho_point", 8, 960), ("hala_point", 1152, 140_544)):
        board = load_target(name)
        assert (board.chips.value, board.cores) == (chips, cores)
        assert board.capacity == chip.capacity
        assert len(set(board.slot_order(board.cores))) == board.cores


@pytest.mark.parametrize("name", list_targets())
def test_every_number_has_a_source_that_is_a_sentence_or_listed(name: str) -> None:
    listed = (ROOT / "hw_targets" / "SOURCES.md").read_text()

    def walk(node: object) -> None:
        if isinstance(node, dict) and "value" in node:
            assert node["status"] in ("published", "secondary", "derived", "assumed")
            key = node["source"].split()[0]
            known = re.search(rf"^\| {re.escape(key)} ", listed, re.MULTILINE) is not None
            assert known or " " in node["source"] or key == "made-up", (name, node["source"])
        elif isinstance(node, dict):
            for child in node.values():
                walk(child)

    walk(yaml.safe_load((ROOT / "hw_targets" / f"{name}.yaml").read_text()))


def test_the_example_adds_a_target(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "02_new_target.py"), "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "half_loihi2" in found.stdout and "NC3101" in found.stdout
    assert load_target(tmp_path / "half_loihi2.yaml").core.neurons.value == 2048
