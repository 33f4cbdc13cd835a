"""Environments, collection and studies over several machines, with Ray. See docs/distributed.md."""

from sb3_pgfd.distributed.cluster import connect
from sb3_pgfd.distributed.collection import RayCollector
from sb3_pgfd.distributed.jobs import Job, Outcome, run_jobs
from sb3_pgfd.distributed.ray_vec_env import RayVecEnv, RayWorkerError

__all__ = ["Job", "Outcome", "RayCollector", "RayVecEnv", "RayWorkerError", "connect", "run_jobs"]
