"""pyinfra's command line, with a difference: `python -m bench.launch [--record FILE] [--apart] -- ARGUMENT...`.

+ --record: what it did over SSH is kept in FILE, as JSON, see `bench.recorded.Recording`
+ --apart: snapshots are read fact by fact, see `bench.apart`
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

# First: it patches sockets and threads, which everything after it has to find patched.
from pyinfra_cli.main import main as pyinfra

from bench.apart import read_apart
from bench.recorded import Recording, record


def main() -> None:
    """Run pyinfra."""
    parser = argparse.ArgumentParser(prog="python -m bench.launch", description=__doc__.split(":")[0])
    parser.add_argument("--record", type=Path, metavar="FILE")
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("arguments", nargs="+", metavar="ARGUMENT")
    wanted = parser.parse_args()
    sys.argv[1:] = wanted.arguments
    kept: Recording = {"connected": [], "execs": []}
    if wanted.apart:
        read_apart()
    if wanted.record:
        record(kept)
    try:
        pyinfra()
    finally:
        if wanted.record:
            wanted.record.write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
