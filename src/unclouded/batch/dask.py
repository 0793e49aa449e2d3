"""Units on Dask: a cluster of one's own on this machine, or a scheduler that is there. Only units and outcomes travel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from unclouded.errors import InputMissing, TryAgain, UsageError

if TYPE_CHECKING:
    from unclouded.batch.jobs import Unit
    from unclouded.batch.run import Outcome

CONNECT = "30s"
LOOK = 0.1  # seconds between two looks at the outcomes
ASK = 1.0  # seconds without an outcome after which the scheduler is asked whether it has workers
ALONE = 60.0  # seconds without any worker after which nobody is waited for


def over_dask(work: Callable[[Unit], Outcome], units: Sequence[Unit], scheduler: str | None, workers: int) -> Iterator[Outcome]:
    """The outcomes as they come. A worker that dies is Dask's to replace; a unit that keeps killing workers comes as "again".

    Without `scheduler` a cluster of `workers` processes is started that listens on 127.0.0.1 only, its dashboard too.
    Raises UsageError without Dask, InputMissing if the scheduler does not answer, TryAgain if it vanishes.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise UsageError("Dask is not installed.", do="pip install 'unclouded[dask]', or use --executor local.") from error
    with ExitStack() as stack:
        if scheduler is None:
            cluster: Any = stack.enter_context(LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=min(workers, max(len(units), 1)), threads_per_worker=1, silence_logs=50,
                host="127.0.0.1", dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
            ))  # fmt: skip
        else:
            cluster = scheduler
        client = stack.enter_context(_client(Client, cluster))
        futures = {client.submit(work, unit, key=f"{unit.key}", pure=False): unit for unit in units}
        for future in _as_they_come(client, set(futures)):
            yield _outcome(future, futures[future])


def _as_they_come(client: Any, waiting: set[Any]) -> Iterator[Any]:
    """Futures once they are no longer pending. Raises TryAgain when no worker is left and none comes back."""
    seen = time.monotonic()
    while waiting:
        ready = {future for future in waiting if future.status != "pending"}
        waiting -= ready
        yield from ready
        if ready:
            seen = time.monotonic()
        elif waiting:
            time.sleep(LOOK)
            since = time.monotonic() - seen
            if since > ASK and client.scheduler_info(n_workers=-1)["workers"]:
                seen = time.monotonic()
            elif since > ALONE:
                raise TryAgain(
                    "All Dask workers are gone.", why=f"{len(waiting)} units wait and no worker came back.",
                    do="run the same command again: finished products stay.",
                )  # fmt: skip


def _client(kind: Any, cluster: Any) -> Any:
    try:
        return kind(cluster, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputMissing(f"No Dask scheduler answers at {cluster}.", why=str(error), do="check the address.") from error


def _outcome(future: Any, unit: Unit) -> Outcome:
    from distributed.client import FutureCancelledError

    from unclouded.batch.run import Outcome

    try:
        return future.result()
    except FutureCancelledError as error:
        raise TryAgain(
            "The Dask scheduler is gone.", why=str(error), do="run the same command again: finished products stay."
        ) from error
    except Exception as error:  # noqa: BLE001 - KilledWorker, or what its worker could not even report
        return Outcome(unit, "again", repr(error))
