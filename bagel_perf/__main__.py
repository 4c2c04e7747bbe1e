"""The program: ``bagel-perf``, and ``python -m bagel_perf``."""

import sys


def main() -> int:
    """Runs the command line; Ctrl-C while it is still imported ends in one line, too."""
    try:
        from bagel_perf.cli import main as run
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 6
    return run()


if __name__ == "__main__":
    sys.exit(main())
