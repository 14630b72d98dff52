"""Workers of a sweep under dask: processes of this machine, a scheduler that runs already, or a
Slurm cluster (extra ``cluster``).
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from neurocompile.errors import NeurocompileError, not_importable, shown
from neurocompile.sweeping.pool import Job, kept_busy

__all__ = ["Cluster"]

_SECONDS = 30
"""To reach a scheduler."""


class Cluster:
    """A pool of dask workers. One that is lost is no loss: its jobs run again elsewhere.

    Args:
        where: ``local``, ``slurm`` (the user's dask configuration, ``jobqueue.slurm``, says queue,
            cores and memory), or the address of a scheduler, ``tcp://HOST:PORT`` or ``tls://``.
        workers: to start, one process each; jobs out at a time are twice as many.

    Raises:
        NeurocompileError: NC1015 (``where``), NC4001 (no dask), NC4012 (no cluster).
    """

    def __init__(self, where: str, workers: int) -> None:
        if not isinstance(where, str) or not re.fullmatch(r"local|slurm|(tcp|tls)://.+:\d+", where):
            raise NeurocompileError(
                "NC1015", f"cluster is {shown(where)}; local, slurm or tcp://HOST:PORT is possible"
            )
        try:
            import distributed  # noqa: F401

            if where == "slurm":
                import dask_jobqueue  # noqa: F401
        except ImportError as error:
            raise not_importable(f"cluster {where}", error, "cluster") from error
        self.where, self.workers = where, workers

    def run(self, jobs: Iterator[Job]) -> Iterator[Job]:
        """See :class:`~neurocompile.sweeping.pool.Pool`. NC4011 for a job that ended several
        workers.
        """
        from distributed.scheduler import KilledWorker

        with self._client() as client:
            _check_versions(client)
            with warnings.catch_warnings():
                # a job carries its model, so that any worker can run it, and run it again
                warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
                executor = client.get_executor(pure=False)
                try:
                    yield from kept_busy(jobs, 2 * self.workers, executor.submit)
                except KilledWorker as error:
                    raise NeurocompileError(
                        "NC4011",
                        f"a job ended every worker that took it ({_first_line(error)}), mostly for want "
                        "of memory: run the same command again with larger workers; finished points "
                        "are kept in `out`",
                    ) from error

    @contextmanager
    def _client(self) -> Iterator[Any]:
        from distributed import Client

        try:
            with self._workers() as cluster, Client(cluster, timeout=_SECONDS) as client:
                yield client
        except (OSError, TimeoutError, ValueError) as error:
            raise NeurocompileError(
                "NC4012", f"cluster {self.where} cannot be used: {_first_line(error)}"
            ) from error

    @contextmanager
    def _workers(self) -> Iterator[Any]:
        """What a client connects to; closed again if it was started here."""
        if self.where == "local":
            from distributed import LocalCluster

            with LocalCluster(
                n_workers=self.workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            ) as cluster:
                yield cluster
        elif self.where == "slurm":
            from dask import config
            from dask_jobqueue import SLURMCluster

            named = {"cores": 1, "processes": 1, "memory": "4GB"}
            missing = {
                k: v for k, v in named.items() if config.get(f"jobqueue.slurm.{k}", None) is None
            }
            with SLURMCluster(**missing) as cluster:
                cluster.scale(self.workers)
                yield cluster
        else:
            yield self.where


def _version() -> str:
    """Run on a worker."""
    return version("neurocompile")


def _check_versions(client: Any) -> None:
    """Others than ours may compute other figures: NC4012 names the first such worker."""
    for worker, theirs in client.run(_version).items():
        if theirs != _version():
            raise NeurocompileError(
                "NC4012",
                f"worker {worker} has neurocompile {theirs}, this process {_version()}: install the "
                "same on both",
            )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
