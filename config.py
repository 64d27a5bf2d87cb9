"""Read by pyinfra from the working directory before anything else runs."""

import gc
import sys
from pathlib import Path

from pyinfra import config

# pyinfra appends the working directory to sys.path: an installed package called `facts` would hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from deploys import exits, refusals
from facts import bounded, connecting
from reports import messages

exits.install()
refusals.stop_if_out_of_order(sys.argv)

# No node may say more than the controller can hold, or anything that a terminal obeys.
bounded.install()
messages.install()

# pyinfra's own choice is 20 nodes at a time for each processor; --parallel wins over this.
connecting.install()
config.PARALLEL = connecting.PARALLEL

# What a run has read stays until its end: to look for garbage after every 700 objects was a seventh of its time.
gc.set_threshold(100_000, 20, 200)

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<4"

# One failed node stops the run: the waves after it stay untouched. A diagnosis goes on without the nodes that it cannot
# reach, and says so; so does the way back.
_LOOKING = ("diagnose.py", "verify.py", "blast.py", "onboard.py", "undo.py")
config.FAIL_PERCENT = 100 if any(argument.endswith(_LOOKING) for argument in sys.argv) else 0
