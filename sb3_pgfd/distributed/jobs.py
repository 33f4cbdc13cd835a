"""Independent jobs as tasks of Ray: each in a process of its own, on any node of the cluster."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from sb3_pgfd.distributed.cluster import connect

# Seconds that jobs have to save what they have done when all is ended
_GRACE = 30.0


@dataclass(frozen=True)
class Job:
    """A function with its arguments."""

    name: str
    """Also in Ray's dashboard"""
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass
class Outcome:
    """Of a job."""

    job: Job
    value: Any = None
    error: Exception | None = None
    """The last one, if all tries failed"""
    seconds: float = 0.0
    """Since it was handed to Ray"""

    @property
    def reason(self) -> str:
        """Of the error, one line."""
        if isinstance(self.error, RayTaskError):
            return f"{type(self.error.cause).__name__}: {self.error.cause}"
        return " ".join(str(self.error).split())[:300]


def run_jobs(
    jobs: Sequence[Job], at_once: int | None = None, retries: int = 0, address: str | None = None, **resources: Any
) -> Iterator[Outcome]:
    """
    Run jobs in this order. If the caller stops, by Ctrl-C too, those that run are asked to end as by Ctrl-C.

    :param jobs: Their functions must be importable on every node
    :param at_once: How many at a time, None: as many as the cluster has resources for
    :param retries: How often to try again a job that fails or whose process or node dies
    :param address: Of the cluster, None: as Ray finds it, or this machine
    :param resources: That each job reserves, as Ray names them: ``num_cpus``, ``num_gpus``
    :return: What became of each, as they end
    """
    connect(address)
    waiting, running = list(jobs), dict[Any, Outcome]()
    # Its own process, because a job may change anything in it
    task = ray.remote(max_calls=1)(_call)
    options = {"num_cpus": 1.0, **resources, "max_retries": retries, "retry_exceptions": True}
    try:
        while waiting or running:
            while waiting and (at_once is None or len(running) < at_once):
                job = waiting.pop(0)
                named = task.options(name=job.name, scheduling_strategy="SPREAD", **options)
                running[named.remote(job.function, job.arguments)] = Outcome(job, seconds=-time.monotonic())
            ended, _ = ray.wait(list(running), num_returns=1)
            for reference in ended:
                outcome = running.pop(reference)
                outcome.seconds += time.monotonic()
                try:
                    outcome.value = ray.get(reference)
                except RayError as error:
                    outcome.error = error
                yield outcome
    finally:
        _cancel(list(running))


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


def _cancel(references: list[Any]) -> None:
    if not references or not ray.is_initialized():
        return
    for reference in references:
        ray.cancel(reference)
    _, left = ray.wait(references, num_returns=len(references), timeout=_GRACE)
    for reference in left:
        with suppress(RayError):
            ray.cancel(reference, force=True)
