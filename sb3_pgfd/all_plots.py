"""``python -m sb3_pgfd.all_plots``: the RL Zoo's ``all_plots`` with this package's algorithms."""

import sys

from sb3_pgfd.zoo.commands import main

if __name__ == "__main__":
    sys.exit(main("all-plots"))
