"""Read by pyinfra from the working directory before anything else runs."""

import sys
from pathlib import Path

from pyinfra import config

# pyinfra appends the working directory to sys.path: an installed package called `facts` would hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent))

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<4"

# One failed node stops the run: the waves after it stay untouched. A diagnosis goes on without the nodes that it cannot
# reach, and says so.
_LOOKING = ("diagnose.py", "verify.py", "blast.py", "onboard.py")
config.FAIL_PERCENT = 100 if any(argument.endswith(_LOOKING) for argument in sys.argv) else 0
