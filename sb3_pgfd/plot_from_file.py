"""``python -m sb3_pgfd.plot_from_file``: the RL Zoo's ``plot_from_file`` with this package's algorithms."""

import sys

from sb3_pgfd.zoo.commands import main

if __name__ == "__main__":
    sys.exit(main("plot-from-file"))
