"""Events of AEDAT files: version 4 (iniVation's DV, flatbuffers) and 3.1 (jAER and cAER: DVS-Gesture).

Our own reader, of the published formats: a file comes from outside, and the wheels that read version 4
end the whole process on a damaged one. Every offset is checked before it is followed, and a packet is
decompressed up to a limit. Which packets hold events is told by their flatbuffer's identifier, so the
header's XML is not parsed.

Sources: docs.inivation.com (AEDAT 4.0, AEDAT 3.1); schemas of dv-processing: ``IOHeader`` (compression,
dataTablePosition, infoNode), ``EventPacket`` (a vector of structs of 16 bytes).
"""

from __future__ import annotations

import os
import struct
from importlib.util import find_spec
from typing import IO

import numpy as np

from neurocompile.errors import NeurocompileError

__all__ = ["MAGIC_3", "MAGIC_4", "read_aedat3", "read_aedat4"]

MAGIC_3, MAGIC_4 = b"#!AER-DAT3.1\r\n", b"#!AER-DAT4.0\r\n"
_PACKET = 1 << 27
"""Bytes of one packet, decompressed: 8 million events."""
_HEADER = 1 << 24
_EVENT = np.dtype(
    {
        "names": ["t", "x", "y", "p"],
        "formats": ["<i8", "<i2", "<i2", "?"],
        "offsets": [0, 8, 10, 12],
        "itemsize": 16,
    }
)
_POLARITY_EVENT, _ADDRESS = 1, 0x7FFF
_LZ4, _ZSTD = (1, 2), (3, 4)


def read_aedat4(file: IO[bytes], most: int) -> dict[str, np.ndarray]:
    """Fields t (microseconds), x, y, p of all events of one stream, in the order of the file.

    Args:
        file: at its beginning.
        most: events at most.

    Raises:
        ValueError: for anything but an intact file of one event stream.
        NeurocompileError: NC4001 where the library of its compression is not installed.
    """
    end = _size(file)
    file.seek(len(MAGIC_4))
    size = struct.unpack("<I", _exactly(file, 4))[0]
    if size > _HEADER:
        raise ValueError(f"its header claims {size:,} bytes")
    header = _Table(_exactly(file, size), 0)
    compression, table = header.number(0, "<i", 0), header.number(1, "<q", -1)
    start = file.tell()
    if table >= 0:
        if not start <= table <= end:
            raise ValueError(f"its packets end at byte {table:,} of {end:,}")
        end = table
    parts, streams, total = [], set(), 0
    while file.tell() < end:
        at = file.tell()
        stream, size = struct.unpack("<ii", _exactly(file, 8))
        if not 0 <= size <= min(end - at - 8, _PACKET):
            raise ValueError(f"the packet at byte {at:,} claims {size:,} bytes: is the file cut?")
        events = _events(_decompressed(_exactly(file, size), compression), at)
        if events is not None:
            streams.add(stream)
            parts.append(events)
            total += len(events)
        if total > most:
            raise ValueError(f"it holds more than {most:,} events")
    if len(streams) > 1:
        raise ValueError(
            f"it holds {len(streams)} streams of events; write each as a file of its own"
        )
    whole = np.concatenate(parts) if parts else np.zeros(0, _EVENT)
    return {name: whole[name] for name in ("t", "x", "y", "p")}


def read_aedat3(file: IO[bytes], most: int) -> dict[str, np.ndarray]:
    """Fields t (microseconds), x, y, p of all valid polarity events; as :func:`read_aedat4`."""
    end = _size(file)
    file.seek(0)
    while (line := file.readline(4096)) and line != b"#!END-HEADER\r\n":
        if not line.startswith(b"#") or file.tell() > _HEADER:
            raise ValueError("its header does not end")
    parts, total = [], 0
    while (at := file.tell()) < end:
        head = struct.unpack("<hhiiiiii", _exactly(file, 28))
        kind, size, offset, overflow, number = head[0], head[2], head[3], head[4], head[6]
        if number < 0 or size <= 0 or number * size > min(end - at - 28, _PACKET):
            raise ValueError(
                f"the packet at byte {at:,} claims {number:,} events of {size:,} bytes: is the file cut?"
            )
        data = _exactly(file, number * size)
        if kind != _POLARITY_EVENT:
            continue
        if size != 8 or offset != 4 or overflow < 0:
            raise ValueError(f"the packet at byte {at:,} holds events of another layout")
        words = np.frombuffer(data, "<u4").reshape(-1, 2)
        parts.append(words[words[:, 0] & 1 == 1].astype(np.int64) + np.array([0, overflow << 31]))
        total += len(words)
        if total > most:
            raise ValueError(f"it holds more than {most:,} events")
    word, t = np.concatenate([np.zeros((0, 2), np.int64), *parts]).T
    return {"t": t, "x": word >> 17 & _ADDRESS, "y": word >> 2 & _ADDRESS, "p": word >> 1 & 1}


class _Table:
    """A flatbuffer's root table; every access within ``data`` (ValueError otherwise)."""

    def __init__(self, data: bytes, start: int) -> None:
        self.data = data
        self.at = start + self._read("<I", start)
        self.fields = self.at - self._read("<i", self.at)
        self.size = self._read("<H", self.fields)

    def _read(self, form: str, at: int) -> int:
        if not 0 <= at <= len(self.data) - struct.calcsize(form):
            raise ValueError(f"an offset leads to byte {at:,} of a part of {len(self.data):,}")
        return int(struct.unpack_from(form, self.data, at)[0])

    def place(self, slot: int) -> int | None:
        """Byte of a field; None where it has its default."""
        entry = 4 + 2 * slot
        offset = self._read("<H", self.fields + entry) if entry + 2 <= self.size else 0
        return self.at + offset if offset else None

    def number(self, slot: int, form: str, default: int) -> int:
        """A field's number."""
        place = self.place(slot)
        return default if place is None else self._read(form, place)

    def structs(self, slot: int, kind: np.dtype) -> np.ndarray:
        """A vector of structs."""
        place = self.place(slot)
        if place is None:
            return np.zeros(0, kind)
        start = place + self._read("<I", place)
        length = self._read("<I", start)
        if length * kind.itemsize > len(self.data) - start - 4:
            raise ValueError(f"a packet claims {length:,} events in {len(self.data):,} bytes")
        return np.frombuffer(self.data, kind, length, start + 4)


def _events(data: bytes, at: int) -> np.ndarray | None:
    """Events of a packet, behind its own size; None for frames and other kinds."""
    if len(data) < 12:
        raise ValueError(f"the packet at byte {at:,} has {len(data)} bytes")
    return _Table(data, 4).structs(0, _EVENT) if data[8:12] == b"EVTS" else None


def _decompressed(data: bytes, compression: int) -> bytes:
    if compression == 0:
        return data
    if compression in _LZ4:
        _needs("lz4")
        import lz4.frame

        frame = lz4.frame.LZ4FrameDecompressor()
        try:
            found = frame.decompress(data, max_length=_PACKET + 1)
        except RuntimeError as error:
            raise ValueError(f"a packet is not LZ4: {error}") from error
        if not frame.eof:
            raise ValueError("a packet's LZ4 frame does not end, or is too large")
    elif compression in _ZSTD:
        _needs("zstandard")
        import zstandard

        try:
            found = (
                zstandard.ZstdDecompressor(max_window_size=_PACKET)
                .stream_reader(data)
                .read(_PACKET + 1)
            )
        except zstandard.ZstdError as error:
            raise ValueError(f"a packet is not Zstandard: {error}") from error
    else:
        raise ValueError(f"its compression is number {compression}; 0 to 4 are known")
    if len(found) > _PACKET:
        raise ValueError(f"a packet is larger than {_PACKET:,} bytes")
    return found


def _needs(name: str) -> None:
    if find_spec(name) is None:
        raise NeurocompileError(
            "NC4001", f"this AEDAT file needs {name}: pip install 'neurocompile[events]'"
        )


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"it ends {size - len(data):,} bytes too early")
    return data


def _size(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)
