"""The simulated fleet as an inventory; DNSMEND_FLEET is the folder that `bench.simulated.running` has made."""

import json as _json
import os as _os
from pathlib import Path as _Path

from bench.simulated import fleet as _fleet

_folder = _Path(_os.environ["DNSMEND_FLEET"])
_record = _json.loads((_folder / "plan.json").read_text())
_plan = _fleet.Plan(**_record | {"key": _Path(_record["key"])})

nodes = [
    (
        f"node-{_number}",
        {
            "ssh_hostname": _fleet.address(_number),
            "ssh_port": _plan.port_of(_number),
            "ssh_user": "ops",
            "ssh_key": str(_folder / "client"),
            "ssh_known_hosts_file": str(_folder / "known_hosts"),
        },
    )
    for _number in range(_plan.hosts)
]
