"""``python -m sb3_pgfd.enjoy``: the RL Zoo's ``enjoy`` with this package's algorithms."""

from sb3_pgfd.zoo.front_end import enjoy

if __name__ == "__main__":
    enjoy()
