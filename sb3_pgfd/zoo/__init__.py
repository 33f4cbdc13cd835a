"""
The RL Zoo with the algorithms of this package.

``register()`` makes them known to rl-zoo3 in this process; ``sb3-pgfd train``, or ``python -m sb3_pgfd.train``, and so on are
the Zoo's own commands with everything registered: see ``commands.py``.
"""

from sb3_pgfd.zoo.registration import ALGORITHMS, register

__all__ = ["ALGORITHMS", "register"]
