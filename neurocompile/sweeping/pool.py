"""Where the work of a sweep runs: in this process, in processes of this machine, or on a cluster."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol

from neurocompile.errors import NeurocompileError

__all__ = ["Here", "Job", "Pool", "Processes", "kept_busy"]


@dataclass(frozen=True)
class Job:
    """One call, and what becomes of its result in the process of the sweep."""

    label: str
    call: Callable[..., Any]
    """Of a module, so that another process finds it."""
    arguments: tuple[Any, ...]
    done: Callable[[Any], None]


class Pool(Protocol):
    """Runs jobs, in any order."""

    def run(self, jobs: Iterator[Job]) -> Iterator[Job]:
        """Each job when it is done, its ``done`` called. No more jobs are taken from ``jobs`` than
        the workers need: each holds a model.
        """
        ...


class Here:
    """In this process, one after the other."""

    def run(self, jobs: Iterator[Job]) -> Iterator[Job]:
        """See :class:`Pool`."""
        for job in jobs:
            job.done(job.call(*job.arguments))
            yield job


class Processes:
    """In ``workers`` processes of this machine."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, jobs: Iterator[Job]) -> Iterator[Job]:
        """See :class:`Pool`. NC4011 where the system ends a process."""
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.workers, mp_context=context) as pool:
            try:
                yield from kept_busy(jobs, 2 * self.workers, pool.submit)
            except BrokenProcessPool as error:
                raise NeurocompileError(
                    "NC4011",
                    "a worker of the sweep was ended from outside, mostly for want of memory: run the "
                    "same command again with fewer `jobs`; finished points are kept in `out`",
                ) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def kept_busy(jobs: Iterator[Job], most: int, submit: Callable[..., Future[Any]]) -> Iterator[Job]:
    """Each job when it is done; at most ``most`` of them are out at a time."""
    out: dict[Future[Any], Job] = {}
    waiting: deque[Job] = deque()
    while True:
        while len(out) < most and (job := next(jobs, None)) is not None:
            out[submit(job.call, *job.arguments)] = job
        if not out:
            return
        finished, _ = wait(out, return_when=FIRST_COMPLETED)
        for future in finished:
            job = out.pop(future)
            job.done(future.result())
            waiting.append(job)
        while waiting:
            yield waiting.popleft()
