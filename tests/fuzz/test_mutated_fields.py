"""One field of an artifact or a target changed, whatever it is: refused in one line with a code, or of
finite figures. The manifest vouches for what was changed, as a forger would make it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import random
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx_cases import small

import neurocompile
from neurocompile import NeurocompileError

JSON = ("manifest.json", "mapping.json", "target.json", "calibration.json")
TEXTS = ("circuit.txt", "quantized.txt")
seeds = st.integers(0, (1 << 32) - 1)
MORE = int(os.environ.get("NEUROCOMPILE_FUZZ", "1"))
"""Times as many examples, for a night."""
kept = settings(
    max_examples=25 * MORE,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("fuzz")
    onnx.save(small(), folder / "m.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        neurocompile.compile(folder / "m.onnx").save(folder / "m.nca")
    with zipfile.ZipFile(folder / "m.nca") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every field, however deep."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in list(keys):
        yield value, key
        yield from places(value[key])


def changed(value: Any, rng: random.Random) -> Any:
    """A copy with one field other, away, or twice as deep."""
    value = copy.deepcopy(value)
    holder, key = rng.choice(list(places(value)))
    old = holder[key]
    other = [
        None,
        True,
        -1,
        0,
        1,
        2**31,
        2**63,
        10**30,
        -0.5,
        1e308,
        "",
        "x",
        "../x",
        [],
        {},
        [old],
        {"a": old},
    ]
    if isinstance(old, (int, float)) and not isinstance(old, bool):
        other += [old + 1, old - 1, -old, old * 1000, old / 3]
    if isinstance(old, str):
        other += [old[:-1], old + "\u202e", old * 300, old.upper()]
    if isinstance(old, list) and old:
        other += [old[:-1], [*old, old[0]], old[::-1]]
    if rng.random() < 0.15:
        del holder[key]
    else:
        holder[key] = rng.choice(other)
    return value


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def ours(call: Any) -> Any:
    """What ``call`` gives; None where it is refused in one clear line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()
    except NeurocompileError as error:
        assert error.code != "NC9001", error
        for line in str(error).split("\n"):
            assert line.startswith("NC") and len(line) < 2000 and line.isprintable()
        return None


@kept
@given(seed=seeds)
def test_an_artifact_with_a_field_changed(
    seed: int, members: dict[str, bytes], tmp_path: Path
) -> None:
    rng, held = random.Random(seed), dict(members)
    name = rng.choice([*JSON, *TEXTS])
    if name in TEXTS:
        lines = held[name].decode().split("\n")
        at = rng.randrange(len(lines))
        word = rng.choice(lines[at].split(" "))
        lines[at] = lines[at].replace(
            word, rng.choice(["-1", "0", "4096", "none", "", "%x", "{", "1e9"]), 1
        )
        held[name] = "\n".join(lines).encode()
    else:
        held[name] = json.dumps(changed(json.loads(held[name]), rng)).encode()
    if name != "manifest.json":
        manifest = json.loads(held["manifest.json"])
        manifest["members"][name] = hashlib.sha256(held[name]).hexdigest()
        held["manifest.json"] = json.dumps(manifest).encode()
    path = tmp_path / "forged.nca"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in held.items():
            archive.writestr(member, data)
    program = ours(lambda: neurocompile.load(path))
    if program is None:
        return
    x = np.zeros((1, *program.circuit.input_shape), np.float32)
    for use in (program.summary, program.energy, lambda: program.run(x).logits.tolist()):
        found = ours(use)
        if found is not None and hasattr(found, "__struct_fields__"):
            import msgspec

            for number in numbers(msgspec.to_builtins(found)):
                assert math.isfinite(number) and number > -1e15
    if (energy := ours(program.energy)) is not None:
        assert all(v >= 0 for v in energy.counts.values())
        assert all((e.dynamic_pj or 0) >= 0 for e in energy.energies)


@kept
@given(seed=seeds)
@example(seed=28)  # neuron_groups of 2^31
def test_a_target_with_a_field_changed(seed: int, tmp_path: Path) -> None:
    rng, root = random.Random(seed), Path(__file__).parents[2] / "hw_targets"
    name = rng.choice(["loihi2.yaml", "loihi1.yaml"])
    path, model = tmp_path / "mine.yaml", tmp_path / "m.onnx"
    target = changed(yaml.safe_load((root / name).read_text()), rng)
    path.write_text(yaml.safe_dump(target, allow_unicode=True))
    if ours(lambda: neurocompile.load_target(path)) is None:
        return
    onnx.save(small(), model)
    program = ours(lambda: neurocompile.compile(model, target=path))
    if program is not None:
        assert program.mapping.cores_used >= 1
        assert all(math.isfinite(n) for n in numbers(program.energy().counts))
