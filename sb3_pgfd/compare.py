"""``python -m sb3_pgfd.compare``: the command ``sb3-pgfd compare``."""

import sys

from sb3_pgfd.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
