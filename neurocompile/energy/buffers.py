"""One step on the mesh with routers whose buffers are finite: full ones stop whoever sends to them.

Each router has a queue of ``buffer`` messages for each of its four neighbours, and one for each of its
cores; each core has one in front of its synapses. Only the first message of a queue can leave it, and
stays in it until it has crossed the link, or the synapses are done with it. A link takes the message that
has been first in its queue longest, if the queue behind the link has room. A core whose own queue is full
stops updating neurons until it has room. East and west come before north and south, and cores always end
what they take: nothing waits in circles.

How many messages Loihi's routers hold is not published: **assumed**, a number of the caller's.
"""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple

import numpy as np

from neurocompile.jit import cached_njit

__all__ = ["play_buffered"]

_NONE = -1
_MADE, _ARRIVED, _LEFT = 0, 1, 2
"""Kinds of events: a core's next message is made; a message is in a queue; one has left it."""


class _Net(NamedTuple):
    """Queues: four a tile (what came going east, west, south, north), one a core for what it sends, one a
    core for what it receives, with the host's messages before all. Outputs: four links a tile, the synapses
    of each core, and each core's way in, which has the number of its queue. All int64, but times.
    """

    log: np.ndarray
    place: np.ndarray
    """(cores, 2): column and row."""
    cores_of: np.ndarray
    """(tiles, most cores of one): -1 for none."""
    first: np.ndarray
    last: np.ndarray
    held: np.ndarray
    """(queues): messages in it, and those on their way to it."""
    moving: np.ndarray
    """(queues): 1 while its first message leaves."""
    ready: np.ndarray
    """float64 (queues): since when its first message is the first."""
    following: np.ndarray
    """(messages): the next one in its queue."""
    busy: np.ndarray
    """(outputs)."""
    source: np.ndarray
    """(outputs): queue of the message that it carries."""
    coming: np.ndarray
    """(cores): message that each makes next."""
    after: np.ndarray
    """(messages): what its core makes after it."""
    stuck: np.ndarray
    """(cores): 1 where it has no room for it."""
    due: np.ndarray
    """float64 (messages): when it is made, if its core never stood still."""
    late: np.ndarray
    """float64 (cores): time that it has stood still."""
    synapses: np.ndarray
    """float64 (cores): when it is done with those."""
    links: np.ndarray
    """(outputs): messages."""
    pushed: np.ndarray
    """(1): events so far."""
    columns: int
    buffer: int
    constants: Any


@cached_njit(nogil=True)
def _output(net, queue, tile):  # type: ignore[no-untyped-def]
    """Where the first message of a queue of ``tile`` goes."""
    cores, to = len(net.place), net.log[net.first[queue], 2]
    if queue >= _links(net) + cores:
        return queue - cores
    x, y = tile % net.columns, tile // net.columns
    if x != net.place[to, 0]:
        return tile * 4 + (0 if x < net.place[to, 0] else 1)
    if y != net.place[to, 1]:
        return tile * 4 + (2 if y < net.place[to, 1] else 3)
    return _links(net) + cores + to


@cached_njit(nogil=True)
def _links(net):  # type: ignore[no-untyped-def]
    """Number of links: the outputs before those of cores, and the queues before theirs."""
    return len(net.busy) - 2 * len(net.place)


@cached_njit(nogil=True)
def _step(net, way):  # type: ignore[no-untyped-def]
    """From a tile's number to that of the next one that way."""
    if way < 2:
        return 1 - 2 * way
    return net.columns if way == 2 else -net.columns


@cached_njit(nogil=True)
def _behind(net, output):  # type: ignore[no-untyped-def]
    """The queue behind a link, or a core's way in."""
    if output >= _links(net):
        return output
    return (output // 4 + _step(net, output % 4)) * 4 + output % 4


@cached_njit(nogil=True)
def _choose(net, output):  # type: ignore[no-untyped-def]
    """The queue whose first message takes a free output, -1 for none."""
    links, cores, best = _links(net), len(net.place), _NONE
    if net.busy[output]:
        return _NONE
    if links <= output < links + cores:  # synapses
        return output + cores if net.first[output + cores] >= 0 else _NONE
    if net.held[_behind(net, output)] >= net.buffer:
        return _NONE
    tile = output // 4 if output < links else _tile_of(net, output - links - cores)
    for i in range(4 + net.cores_of.shape[1]):
        queue = tile * 4 + i if i < 4 else links + net.cores_of[tile, i - 4]
        if i >= 4 and net.cores_of[tile, i - 4] < 0 or net.first[queue] < 0:
            continue
        if net.moving[queue] or _output(net, queue, tile) != output:
            continue
        if best < 0 or net.ready[queue] < net.ready[best]:
            best = queue
    return best


@cached_njit(nogil=True)
def _tile_of(net, core):  # type: ignore[no-untyped-def]
    return net.place[core, 1] * net.columns + net.place[core, 0]


@cached_njit(nogil=True)
def _tile(net, queue):  # type: ignore[no-untyped-def]
    """The tile of a queue."""
    links = _links(net)
    return queue // 4 if queue < links else _tile_of(net, (queue - links) % len(net.place))


@cached_njit(nogil=True)
def _push(net, events, when, kind, which, message):  # type: ignore[no-untyped-def]
    """Of events at one time the one that was pushed first comes first."""
    event = (when, net.pushed[0], np.int64(kind), np.int64(which), np.int64(message))
    heapq.heappush(events, event)
    net.pushed[0] += 1


@cached_njit(nogil=True)
def _append(net, queue, message, when):  # type: ignore[no-untyped-def]
    """A message is in its queue, where room was kept for it."""
    net.following[message] = _NONE
    if net.first[queue] < 0:
        net.first[queue], net.ready[queue] = message, when
    else:
        net.following[net.last[queue]] = message
    net.last[queue] = message


@cached_njit(nogil=True)
def _take(net, events, output, now):  # type: ignore[no-untyped-def]
    """A free output takes the message that waited longest, if there is one."""
    queue = _choose(net, output)
    if queue < 0:
        return
    m = net.first[queue]
    net.busy[output], net.source[output], net.moving[queue] = 1, queue, 1
    links, cores = _links(net), len(net.place)
    if links <= output < links + cores:
        done = now + net.log[m, 3] * net.constants.synapse
        net.synapses[net.log[m, 2]] = done
        _push(net, events, done, _LEFT, output, 0)
        return
    took = net.constants.east_west if output % 4 < 2 else net.constants.north_south
    took = took if output < links else 0.0
    net.links[output] += 1
    behind = _behind(net, output)
    net.held[behind] += 1
    # it has left before it has arrived: a message is in one queue
    _push(net, events, now + took, _LEFT, output, 0)
    _push(net, events, now + took, _ARRIVED, behind, m)


@cached_njit(nogil=True)
def _make(net, events, core, now):  # type: ignore[no-untyped-def]
    """A core sends its next message, or stands still until its queue has room."""
    queue, m = _links(net) + core, net.coming[core]
    net.stuck[core] = net.held[queue] >= net.buffer
    if net.stuck[core]:
        return
    net.late[core] += max(now - net.due[m] - net.late[core], 0.0)
    net.held[queue] += 1
    to = net.log[m, 2]
    near = to != core and _tile_of(net, to) == _tile_of(net, core)
    _push(net, events, now + (net.constants.tile if near else 0.0), _ARRIVED, queue, m)
    net.coming[core] = net.after[m]
    if net.coming[core] >= 0:
        _push(net, events, max(net.due[net.after[m]] + net.late[core], now), _MADE, core, 0)


@cached_njit(nogil=True)
def _leave(net, events, output, now):  # type: ignore[no-untyped-def]
    """The message that an output carried has left its queue: both are free."""
    links, queue = _links(net), net.source[output]
    net.busy[output], net.moving[queue] = 0, 0
    net.first[queue] = net.following[net.first[queue]]
    net.held[queue] -= 1
    net.ready[queue] = now
    _take(net, events, output, now)
    tile = _tile(net, queue)
    if net.first[queue] >= 0:
        _take(net, events, _output(net, queue, tile), now)
    if queue < links:  # the link that fills it
        way = queue % 4
        _take(net, events, (tile - _step(net, way)) * 4 + way, now)
    elif queue >= links + len(net.place):
        _take(net, events, queue, now)
    elif net.stuck[queue - links]:
        _make(net, events, queue - links, now)


@cached_njit(nogil=True)
def _laid_out(log, due, place, constants, buffer, tiles, columns):  # type: ignore[no-untyped-def]
    """The net before the step: the host's messages are there, each core's are a list."""
    cores, messages = len(place), len(log)
    in_tile = np.zeros(tiles, np.int64)
    for c in range(cores):
        in_tile[place[c, 1] * columns + place[c, 0]] += 1
    cores_of = np.full((tiles, max(in_tile.max(), 1)), _NONE)
    in_tile[:] = 0
    for c in range(cores):
        tile = place[c, 1] * columns + place[c, 0]
        cores_of[tile, in_tile[tile]] = c
        in_tile[tile] += 1
    queues = outputs = 4 * tiles + 2 * cores
    net = _Net(
        log,
        place,
        cores_of,
        np.full(queues, _NONE),
        np.full(queues, _NONE),
        np.zeros(queues, np.int64),
        np.zeros(queues, np.int64),
        np.zeros(queues),
        np.full(messages, _NONE),
        np.zeros(outputs, np.int64),
        np.full(outputs, _NONE),
        np.full(cores, _NONE),
        np.full(messages, _NONE),
        np.zeros(cores, np.int64),
        due,
        np.zeros(cores),
        np.zeros(cores),
        np.zeros(outputs, np.int64),
        np.zeros(1, np.int64),
        columns,
        buffer,
        constants,
    )
    end = np.full(cores, _NONE)
    for m in range(messages):
        c = log[m, 1]
        if c == cores:
            _append(net, 4 * tiles + cores + log[m, 2], m, 0.0)
            net.held[4 * tiles + cores + log[m, 2]] += 1
            continue
        if end[c] < 0:
            net.coming[c] = m
        else:
            net.after[end[c]] = m
        end[c] = m
    return net


@cached_njit(nogil=True)
def play_buffered(log, update, due, place, constants, buffer, done, links):  # type: ignore[no-untyped-def]
    """One step: fills ``done`` and ``links`` as ``mesh._play`` does; the time that cores stood still
    because their routers were full.

    Args:
        log: int64 (messages, 5) of :class:`neurocompile.images.machine.MachineCounts`, each core's in the
            order of its neurons.
        due: float64 (messages): when each is made, if its core never stood still.
        buffer: messages that a queue holds, at least 1.
    """
    cores, rows, columns = len(update), links.shape[1], links.shape[2]
    net = _laid_out(log, due, place, constants, buffer, rows * columns, columns)
    events: list[tuple[Any, ...]] = [
        (0.0, np.int64(0), np.int64(0), np.int64(0), np.int64(0)) for _ in range(0)
    ]  # empty, of a type that numba sees
    for c in range(cores):
        _take(net, events, 4 * rows * columns + c, 0.0)
        if net.coming[c] >= 0:
            _push(net, events, due[net.coming[c]], _MADE, c, 0)
    while len(events):
        now, _, kind, which, m = heapq.heappop(events)
        if kind == _MADE:
            _make(net, events, which, now)
        elif kind == _ARRIVED:
            _append(net, which, m, now)
            if net.first[which] == m:
                _take(net, events, _output(net, which, _tile(net, which)), now)
        else:
            _leave(net, events, which, now)
    for output in range(4 * rows * columns):
        tile = output // 4
        links[output % 4, tile // columns, tile % columns] = net.links[output]
    for c in range(cores):
        done[c] = max(update[c] + net.late[c], net.synapses[c])
    return net.late.sum()
