"""Recordings of event cameras: the frames that SpikingJelly makes, and files of strangers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neurocompile
from neurocompile.errors import NeurocompileError
from neurocompile.events import Events, frames_from_events, load_events

SAMPLE = Path(__file__).parent / "data" / "events.npy"
"""A bar that turns, 32 x 32, made by :func:`turning_bar`."""
DTYPE = [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?")]


def turning_bar(events: int = 2000, size: int = 32, seed: int = 0) -> np.ndarray:
    """Events at the edges of a bar that turns once, in microseconds: tonic's structured array."""
    random = np.random.default_rng(seed)
    t = np.sort(random.integers(0, 100_000, events))
    angle, along = t / 100_000 * 2 * np.pi, random.uniform(0, size * 0.45, events)
    side = random.integers(0, 2, events)
    across = 2.0 * side - 1
    x = size / 2 + along * np.cos(angle) - across * np.sin(angle)
    y = size / 2 + along * np.sin(angle) + across * np.cos(angle)
    found = np.zeros(events, DTYPE)
    found["t"], found["p"] = t, side
    found["x"], found["y"] = x.clip(0, size - 1), y.clip(0, size - 1)
    return found


def test_the_committed_sample_is_what_its_recipe_gives() -> None:
    assert (np.load(SAMPLE) == turning_bar()).all()


def spikingjelly(events: Events, by: str, T: int, rows: int, columns: int) -> np.ndarray:
    datasets = pytest.importorskip("spikingjelly.datasets")
    fields = {"t": events.t, "x": events.x, "y": events.y, "p": events.p.astype(int)}
    return datasets.integrate_events_by_fixed_frames_number(fields, by, T, rows, columns)


@pytest.mark.parametrize("T", [1, 3, 16])
@pytest.mark.parametrize("by, theirs", [("time", "time"), ("number", "number")])
def test_frames_are_those_of_spikingjelly(by: str, theirs: str, T: int) -> None:
    events = load_events(SAMPLE)
    frames = frames_from_events(events, T, (2, 32, 32), by=by)
    assert frames.dtype == np.float32 and frames.sum() == len(events)
    assert (frames == spikingjelly(events, theirs, T, 32, 32)).all()
    assert (frames_from_events(events, T, (1, 32, 32), by=by)[:, 0] == frames.sum(axis=1)).all()


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 3), st.integers(0, 2), st.booleans()),
        min_size=1,
    ),
    st.integers(1, 8),
    st.sampled_from(["time", "number"]),
)
def test_every_event_is_counted_once_where_it_is(found, T, by) -> None:
    found.sort(key=lambda event: event[0])
    t, x, y, p = (np.array(column) for column in zip(*found, strict=True))
    if by == "time" and (t[-1] - t[0]) // T == 0:
        with pytest.raises(NeurocompileError, match="NC1012.*do not fill"):
            frames_from_events({"t": t, "x": x, "y": y, "p": p}, T, (2, 3, 4), by=by)
        return
    frames = frames_from_events({"t": t, "x": x, "y": y, "p": p}, T, (2, 3, 4), by=by)
    wanted = np.zeros((2, 3, 4))
    np.add.at(wanted, (p.astype(int), y, x), 1)
    assert frames.shape == (T, 2, 3, 4) and (frames.sum(axis=0) == wanted).all()


@pytest.mark.parametrize("layout", ["events", "CD/events", "dsec", "e2vid", "npz", "fields.npz"])
def test_files_of_every_layout_hold_the_same_events(tmp_path: Path, layout: str) -> None:
    events, path = turning_bar(), tmp_path / "recording"
    fields = {name: events[name] for name in "txyp"}
    if layout.endswith("npz"):
        path = path.with_suffix(".npz")
        np.savez(path, **(fields if "." in layout else {"events": events}))
    else:
        h5py = pytest.importorskip("h5py", reason="needs the extra events")
        with h5py.File(path, "w") as archive:
            if layout in ("dsec", "e2vid"):
                more = "s" if layout == "e2vid" else ""
                for name, values in fields.items():
                    archive[f"events/{name}{more}"] = values
            else:
                archive[layout] = events
    found, wanted = load_events(path), load_events(SAMPLE)
    assert all((getattr(found, name) == getattr(wanted, name)).all() for name in "txyp")


def broken(name: str) -> np.ndarray | dict[str, np.ndarray]:
    events = turning_bar(50)
    if name == "falls":
        events["t"][7] = 10**9
    elif name == "negative":
        events["x"][3] = -1
    elif name == "outside":
        events["y"][3] = 32
    fields = {field: events[field] for field in "txyp"}
    if name == "short":
        fields["x"] = fields["x"][1:]
    elif name == "lacks":
        del fields["p"]
    elif name == "text":
        fields["p"] = np.array(["on"] * 50)
    elif name == "nan":
        fields["t"] = np.full(50, np.nan)
    return fields


@pytest.mark.parametrize(
    "name, words",
    [
        ("falls", "event 8 is of time"),
        ("negative", "negative pixels"),
        ("outside", "go to row 32 .* has 32 rows"),
        ("short", "as many of each"),
        ("lacks", "no field 'p' .it has t, x, y"),
        ("text", "numbers, at most"),
        ("nan", "no numbers"),
    ],
)
def test_odd_events_are_refused(name: str, words: str) -> None:
    with pytest.raises(NeurocompileError, match=f"NC1012 .*{words}"):
        frames_from_events(broken(name), 4, (2, 32, 32))


def test_odd_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"#!AER-DAT4.0\r\n" + bytes(100))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes(SAMPLE.read_bytes()[:500])
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    for name in ("text", "pickle.npy", "cut.npy", "cut.h5"):
        with pytest.raises(NeurocompileError, match="NC1012|NC4001"):
            load_events(tmp_path / name)
    with pytest.raises(NeurocompileError, match="NC1001"):
        load_events(tmp_path)
    for arguments in ((0, (2, 32, 32)), (True, (2, 32, 32)), (4, (3, 32, 32)), (4, (2, 32))):
        with pytest.raises(NeurocompileError, match="NC1015"):
            neurocompile.frames_from_events(load_events(SAMPLE), *arguments)


def test_the_command_writes_what_a_build_calibrates_on(tmp_path: Path, capsys) -> None:
    from neurocompile.cli import main
    from neurocompile.data import load_samples

    np.save(tmp_path / "y.npy", np.array([3, 1]))
    out = tmp_path / "x.npz"
    call = ["frames", SAMPLE, SAMPLE, "--T", 4, "--shape", "2x32x32", "-o", out]
    with pytest.raises(SystemExit) as stop:
        main([str(part) for part in (*call, "--labels", tmp_path / "y.npy")])
    assert stop.value.code == 0 and "4,000 events" in capsys.readouterr().out
    found = load_samples(out, (4, 2, 32, 32), steps=4)
    assert found.y is not None and found.y.tolist() == [3, 1]
    assert (found.x[1] == frames_from_events(load_events(SAMPLE), 4, (2, 32, 32))).all()
    with pytest.raises(SystemExit) as stop:
        main([str(part) for part in (*call, "--shape", "32x32")])
    assert stop.value.code == 2


AEDAT = Path(__file__).parent / "data" / "events.aedat4"
"""The first 400 events of the sample, written by dv-processing 2.0.4 (LZ4), as a DVS128."""


def same(found: Events, wanted: np.ndarray) -> bool:
    return all((getattr(found, name) == wanted[name]).all() for name in "txyp")


def aedat4(events: np.ndarray, compression: int, pack, packets: int = 3) -> bytes:
    """A file of version 4 by its published layout, without its table of packets; ``pack`` compresses."""

    def table(fields: bytes, offsets: list[int], mark: bytes = b"") -> bytes:
        """A flatbuffer: root, identifier, vtable, table of ``fields`` at ``offsets``."""
        head = 4 + len(mark)
        vtable = np.array([4 + 2 * len(offsets), 4 + len(fields), *offsets], "<u2").tobytes()
        vtable += bytes(-(head + len(vtable)) % 4)
        start = head + len(vtable)
        return np.uint32(start).tobytes() + mark + vtable + np.int32(len(vtable)).tobytes() + fields

    header = table(np.int32(compression).tobytes() + np.int64(-1).tobytes(), [4, 8])
    whole = b"#!AER-DAT4.0\r\n" + np.uint32(len(header)).tobytes() + header
    for part in np.array_split(events, packets):
        rows = np.zeros(
            len(part),
            np.dtype(
                {
                    "names": list("txyp"),
                    "formats": ["<i8", "<i2", "<i2", "?"],
                    "offsets": [0, 8, 10, 12],
                    "itemsize": 16,
                }
            ),
        )
        for name in "txyp":
            rows[name] = part[name]
        vector = np.uint32(4).tobytes() + np.uint32(len(rows)).tobytes() + rows.tobytes()
        body = table(vector, [4], b"EVTS")
        body = pack(np.uint32(len(body)).tobytes() + body)
        whole += np.array([0, len(body)], "<i4").tobytes() + body
    return whole


def aedat3(events: np.ndarray) -> bytes:
    """A file of version 3.1: a packet of another kind first, an event that is not valid last."""
    whole = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    whole += (
        np.array([2, 0], "<i2").tobytes() + np.array([4, 0, 0, 1, 1, 1], "<i4").tobytes() + bytes(4)
    )
    words = np.zeros((len(events) + 1, 2), "<u4")
    x, y, p = (events[name].astype(np.uint32) for name in "xyp")
    words[:-1, 0], words[:-1, 1] = x << 17 | y << 2 | p << 1 | 1, events["t"]
    head = np.array([8, 4, 0, len(words), len(words), len(events)], "<i4")
    return whole + np.array([1, 0], "<i2").tobytes() + head.tobytes() + words.tobytes()


def test_a_file_of_another_library_is_read(tmp_path: Path) -> None:
    pytest.importorskip("lz4", reason="needs the extra events")
    found = load_events(AEDAT)
    assert same(found, turning_bar()[:400])
    frames = frames_from_events(found, 16, (2, 128, 128))  # as models of DVS128 Gesture take them
    assert frames.shape == (16, 2, 128, 128) and frames.sum() == 400


@pytest.mark.parametrize("name", ["none", "lz4", "zstandard"])
def test_aedat_4_however_it_is_compressed(tmp_path: Path, name: str) -> None:
    pack, number = bytes, 0
    if name == "lz4":
        pack, number = pytest.importorskip("lz4.frame").compress, 1
    elif name == "zstandard":
        pack, number = pytest.importorskip("zstandard").ZstdCompressor().compress, 3
    path = tmp_path / "recording.aedat4"
    path.write_bytes(aedat4(turning_bar(), number, pack))
    assert same(load_events(path), turning_bar())


def test_aedat_3_holds_what_spikingjelly_reads(tmp_path: Path) -> None:
    path = tmp_path / "recording.aedat"
    path.write_bytes(aedat3(turning_bar()))
    found = load_events(path)
    assert same(found, turning_bar())
    theirs = pytest.importorskip("spikingjelly.datasets").load_aedat_v3(str(path))
    assert all((theirs[name][:-1] == getattr(found, name)).all() for name in "txyp")


def reads_or_refuses(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        assert len(load_events(path))
    except NeurocompileError as error:
        assert error.code == "NC1012" and "\n" not in str(error)


@given(st.data())
def test_damaged_aedat_files_are_read_or_refused(tmp_path_factory, data) -> None:
    """Some bytes changed, the end cut: one line, never anything else."""
    files = [aedat3(turning_bar(60)), aedat4(turning_bar(60), 0, bytes)]
    if find_spec("lz4") is not None:
        files.append(AEDAT.read_bytes())
    found = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, min(len(found), 400) - 1))
        found[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(found)), st.integers(0, len(found))))
    path = tmp_path_factory.getbasetemp() / "damaged"
    reads_or_refuses(path, bytes(found[:cut]))


@pytest.mark.parametrize("name", ["lz4", "zstandard"])
def test_a_packet_that_grows_without_end_is_refused(tmp_path: Path, name: str) -> None:
    """A packet of half a gigabyte of zeros, in some kilobytes."""
    if name == "lz4":
        pack, number = pytest.importorskip("lz4.frame").compress, 1
    else:
        pack, number = pytest.importorskip("zstandard").ZstdCompressor().compress, 3
    path = tmp_path / "bomb.aedat4"
    path.write_bytes(aedat4(turning_bar(), number, lambda body: pack(bytes(1 << 28)), 1))
    with pytest.raises(NeurocompileError, match="NC1012.*too large|NC1012.*larger than"):
        load_events(path)


def test_two_cameras_in_a_file_are_refused(tmp_path: Path) -> None:
    data = aedat4(turning_bar(), 0, bytes, 2)
    first = data.index(b"EVTS")
    second = data.index(b"EVTS", first + 1) - 16  # the packet's stream, in front of sizes and root
    assert data[second : second + 4] == bytes(4)
    path = tmp_path / "two.aedat4"
    path.write_bytes(data[:second] + b"\1" + data[second + 1 :])
    with pytest.raises(NeurocompileError, match="NC1012.*2 streams of events"):
        load_events(path)


def damaged_3(**fields: int) -> bytes:
    """A file of version 3.1 whose last packet's head has other numbers."""
    names = ("size", "offset", "overflow", "capacity", "number", "valid")
    data = bytearray(aedat3(turning_bar(10)))
    head = len(data) - 11 * 8 - 24
    for name, value in fields.items():
        at = head + 4 * names.index(name)
        data[at : at + 4] = np.int32(value).tobytes()
    return bytes(data)


def damaged_4(at: int, value: int) -> bytes:
    """A file of version 4 with another whole number ``at`` a byte."""
    data = bytearray(aedat4(turning_bar(10), 0, bytes, 1))
    data[at : at + 4] = np.int32(value).tobytes()
    return bytes(data)


EVENTS_AT = aedat4(turning_bar(10), 0, bytes, 1).index(b"EVTS")
DAMAGED = {
    "a long header": (damaged_4(14, 1 << 30), r"its header claims 1,073,741,824 bytes"),
    "an unknown compression": (aedat4(turning_bar(), 9, bytes), "its compression is number 9"),
    "a packet cut short": (
        damaged_4(EVENTS_AT - 12, 1 << 20),
        "claims 1,048,576 bytes: is the file",
    ),
    "a small packet": (
        damaged_4(EVENTS_AT - 12, 8)[: EVENTS_AT - 8 + 8],
        r"the packet at byte \d+ has 8 bytes",
    ),
    "events beyond their packet": (
        damaged_4(len(damaged_4(14, 0)) - 164, 1 << 20),
        "a packet claims 1,048,576 events in",
    ),
    "no LZ4": (aedat4(turning_bar(), 1, bytes), "a packet is not LZ4"),
    "no Zstandard": (aedat4(turning_bar(), 3, bytes), "a packet is not Zstandard"),
    "a header without end": (b"#!AER-DAT3.1\r\nx\r\n", "its header does not end"),
    "events of another size": (
        damaged_3(size=4, number=10),
        r"the packet at byte \d+ holds events of another layout",
    ),
    "a negative time": (damaged_3(overflow=-1), "holds events of another layout"),
    "more events than bytes": (damaged_3(number=1 << 20), "is the file cut"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_what_is_wrong_with_a_recording_is_named(tmp_path: Path, what: str) -> None:
    data, why = DAMAGED[what]
    for library in ("lz4", "zstandard"):
        if library.replace("andard", "") in what.lower():
            pytest.importorskip(library, reason="needs the extra events")
    (tmp_path / "recording").write_bytes(data)
    with pytest.raises(NeurocompileError, match=f"NC1012 .*{why}"):
        load_events(tmp_path / "recording")


@pytest.mark.parametrize("make", [aedat3, lambda events: aedat4(events, 0, bytes)])
def test_more_events_than_are_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make
) -> None:
    monkeypatch.setattr("neurocompile.events.MOST", 100)
    (tmp_path / "recording").write_bytes(make(turning_bar(200)))
    with pytest.raises(NeurocompileError, match="NC1012 .*it holds more than 100 events"):
        load_events(tmp_path / "recording")


def test_a_list_of_recordings_gives_a_sample_each() -> None:
    first, second = turning_bar(seed=1), turning_bar(seed=2)
    found = frames_from_events([first, second], 4, (2, 32, 32))
    assert found.shape == (2, 4, 2, 32, 32)
    for frames, one in zip(found, (first, second)):
        np.testing.assert_array_equal(frames, frames_from_events(one, 4, (2, 32, 32)))
    with pytest.raises(NeurocompileError, match="NC1015 by is 'size'; take 'time' or 'number'"):
        frames_from_events(first, 4, (2, 32, 32), by="size")  # type: ignore[arg-type]
    with pytest.raises(NeurocompileError, match="NC1012 .*a mapping is needed, not a int"):
        frames_from_events(3, 4, (2, 32, 32))


def test_a_table_of_two_axes_in_hdf5_is_refused_before_it_is_read(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra events")
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = np.zeros((5, 2))
    with pytest.raises(NeurocompileError, match=r"NC1012 .* is float64 \[5, 2\]: more than"):
        load_events(tmp_path / "wide.h5")
