"""``python -m bagel_perf`` is ``bagel-perf``."""

import sys

from bagel_perf.cli import main

if __name__ == "__main__":
    sys.exit(main())
