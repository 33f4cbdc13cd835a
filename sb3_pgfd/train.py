"""``python -m sb3_pgfd.train``: the RL Zoo's ``train`` with this package's algorithms."""

import sys

from sb3_pgfd.zoo.commands import main

if __name__ == "__main__":
    sys.exit(main("train"))
