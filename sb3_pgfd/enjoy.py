"""``python -m sb3_pgfd.enjoy``: the RL Zoo's ``enjoy`` with this package's algorithms."""

import sys

from sb3_pgfd.zoo.commands import main

if __name__ == "__main__":
    sys.exit(main("enjoy"))
