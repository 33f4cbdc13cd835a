"""The connection to Ray."""

import signal
import threading
from typing import Any

from sb3_pgfd.utils.files import install

try:
    import ray
except ImportError as missing:
    raise ImportError(f"Ray cannot be imported ({missing}): {install('distributed')}") from missing


def connect(address: str | None = None, **options: Any) -> None:
    """
    Connect to a cluster of Ray, unless this process is connected already. Ray finds it by the environment variable
    ``RAY_ADDRESS``, or one that runs on this machine; otherwise it starts one here, which ends with this process.

    :param address: Of the cluster, None: as Ray finds it
    :param options: Further arguments of ``ray.init``
    """
    if ray.is_initialized():
        return
    in_main = threading.current_thread() is threading.main_thread()
    # Ray ends the program in the middle of a step; learning ends between two steps, and saves its state
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(address=address, **{"logging_level": "warning", **options})
    if in_main:
        signal.signal(signal.SIGTERM, handler)


def cpus() -> float:
    """:return: Of all nodes of the cluster together"""
    return float(ray.cluster_resources().get("CPU", 0.0))
