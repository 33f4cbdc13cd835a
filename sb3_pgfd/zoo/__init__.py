"""
The RL Zoo with the algorithms of this package.

``register()`` makes them known to rl-zoo3 in this process; ``python -m sb3_pgfd.train`` and ``python -m sb3_pgfd.enjoy``
are the Zoo's own commands with everything registered.
"""

from sb3_pgfd.zoo.registration import ALGORITHMS, register

__all__ = ["ALGORITHMS", "register"]
