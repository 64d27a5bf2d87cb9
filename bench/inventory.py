"""pyinfra's inventory of the nodes that are measured: `bench.fleet` has written where they are."""

import json as _json
import os as _os
from pathlib import Path as _Path

nodes = [(_name, _data) for _name, _data in _json.loads(_Path(_os.environ["DNSMEND_BENCH"]).read_text())]

dns = [_name for _name, _data in nodes]
