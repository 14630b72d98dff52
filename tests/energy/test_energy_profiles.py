"""Profiles: each number has a source; files of strangers are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neurocompile.energy.max_affine import MaxAffine, Timing, fit_max_affine, load_timings
from neurocompile.energy.power import load_power
from neurocompile.energy.price import complete
from neurocompile.energy.profile import list_profiles, load_profile, profile_of
from neurocompile.errors import NeurocompileError
from neurocompile.targets import load_target

HOSTILE = [
    b"",
    b"[1, 2]",
    b"name: x",
    b"\xff\xfe",
    b"a: &a [*a, *a]",
    b"name: x\nname: y",
    b"!!python/object/apply:os.system ['true']",
    b"name: mine\ndescription: d\nhardware: h\nenergy: {synaptic_operation: {value: .nan, source: s, status: published}}",
    b"name: mine\ndescription: d\nhardware: h\nenergy: {synaptic_operation: {value: -1, source: s, status: published}}",
    b"name: mine\ndescription: d\nhardware: h\nenergy: {synaptic_operation: {value: 1, source: s, status: rumour}}",
    b"name: mine\ndescription: d\nhardware: h\nenergy: {unknown: {value: 1, source: s, status: assumed}}",
    b"name: davies2018\ndescription: d\nhardware: h\nenergy: {}",
    b"name: '<script>'\ndescription: d\nhardware: h\nenergy: {}",
    b"name: mine\ndescription: d\nhardware: h\nenergy: {ac: {value: 1, source: s, status: assumed}, "
    b"synaptic_operation: {value: 1, source: s, status: assumed}}",
    b"[" * 5000,
    b"x" * 100_000,
]


def test_shipped_profiles() -> None:
    assert list_profiles() == ["davies2018", "horowitz45", "keras-spiking", "sanafe-loihi"]
    for name in list_profiles():
        assert load_profile(name).name == name


@pytest.mark.parametrize("data", HOSTILE)
def test_hostile_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(data)
    with pytest.raises(NeurocompileError) as caught:
        load_profile(path)
    for line in str(caught.value).split("\n"):
        assert (
            line.startswith("NC7002 energy profile 'p.yaml'")
            and line.isprintable()
            and len(line) < 700
        )


def test_all_that_is_wrong_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "name: mine\ndescription: d\nhardware: h\nenergy: {message: 3, spike: {value: -2, source: s, status: derived}}"
    )
    with pytest.raises(NeurocompileError) as caught:
        load_profile(path)
    unknown, negative = caught.value.messages
    assert "$.energy.message is unknown" in unknown and "$.energy.spike.value is -2" in negative


def test_unknown_profile(tmp_path: Path) -> None:
    for name in ("daves2018", str(tmp_path), "a\0b"):
        with pytest.raises(NeurocompileError) as caught:
            load_profile(name)
        assert caught.value.code == "NC7001"


def test_power(tmp_path: Path) -> None:
    path, good = (
        tmp_path / "p.json",
        {
            "schema": 1,
            "device": "d",
            "source": "s",
            "static_w": 0.2,
            "dynamic_w": 0.1,
            "seconds_per_inference": 0.01,
        },
    )
    path.write_text(json.dumps(good))
    assert load_power(path).dynamic_pj == pytest.approx(1e9) and load_power(
        path
    ).static_pj == pytest.approx(2e9)
    for wrong in (
        {},
        {**good, "schema": 2},
        {**good, "static_w": -1},
        {**good, "x": 1},
        {**good, "seconds_per_inference": 0},
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(NeurocompileError) as caught:
            load_power(path)
        assert caught.value.code == "NC7003"


def test_fit_recovers_its_own_model(tmp_path: Path) -> None:
    truth, rng = MaxAffine(500.0, 3.5, 6.0, 20.0, 0, 0.0), np.random.default_rng(3)
    rows = [tuple(float(v) for v in r) for r in rng.uniform(0, [5000, 3000, 900], (40, 3))]
    timings = [Timing(*row, truth.step_ns(*row)) for row in rows]
    found = fit_max_affine(timings)
    assert found.relative_rms < 1e-9
    for name in ("constant", "per_operation", "per_update", "per_packet"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=1e-6)
    assert fit_max_affine(timings) == found
    path = tmp_path / "t.json"
    path.write_text('[{"core_operations": 1}]')
    with pytest.raises(NeurocompileError) as caught:
        load_timings(path)
    assert caught.value.code == "NC7004"
    assert found.undetermined == ()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "too few"),
        ([(10, 0, 0)] * 6, "too few"),
        ([(10, 5, 2), (20, 9, 1), (30, 5, 7), (9, 9, 9)], "4 constants"),
        ([(10 * k, 20 * k, 5 * k) for k in range(1, 9)], "follows from the others"),
        ([(10 * k, 7, k * k) for k in range(1, 9)], "never varies"),
        ([(0, 0, 0)] * 6, "no count"),
    ],
)
def test_measurements_that_determine_nothing_are_refused(
    rows: list[tuple[int, int, int]], says: str
) -> None:
    """Too few, alike, or with counts that grow together: many constants fit, so none is given."""
    with pytest.raises(NeurocompileError, match=says) as caught:
        fit_max_affine([Timing(*map(float, row), 100.0 + max(row)) for row in rows])
    assert caught.value.code == "NC7007" and "\n" not in str(caught.value)


def test_a_count_that_is_never_the_slowest_has_no_constant() -> None:
    rng = np.random.default_rng(1)
    rows = [
        (float(a), float(b), float(c))
        for a, b, c in rng.uniform([1000, 1000, 0], [9000, 9000, 3], (20, 3))
    ]
    found = fit_max_affine([Timing(*row, 50.0 + max(2 * row[0], 3 * row[1])) for row in rows])
    assert found.undetermined == ("link_packets",) and found.per_packet == 0.0
    assert (found.per_operation, found.per_update) == (pytest.approx(2), pytest.approx(3))


def test_a_target_and_a_profile_speak_of_the_same_constants() -> None:
    """Loihi 1's file has Davies et al.'s constants, as the profile does; Loihi 2's has none."""
    own, published = profile_of(load_target("loihi1")), load_profile("davies2018")
    assert (
        complete(own) and own.targets == ("loihi1",) and any("davies2018" in s for s in own.sources)
    )
    for part in ("energy", "time"):
        ours, theirs = getattr(own, part), getattr(published, part)
        assert type(ours) is type(theirs)
        for name in ours.__struct_fields__:
            a, b = getattr(ours, name), getattr(theirs, name)
            assert (a and a.value) == (b and b.value), name
    assert own.static_power.value == published.static_power.value
    assert not complete(profile_of(load_target("loihi2")))
