"""The nodes of the lab on this machine, read from its record: `python -m lab up` first."""

import json as _json
import os as _os
from pathlib import Path as _Path

from pyinfra.api.exceptions import InventoryError as _InventoryError

_directory = _Path(_os.environ.get("DNSMEND_LAB_DIR", "/var/lib/dnsmend-lab")).resolve()

try:
    _record = _json.loads((_directory / "state.json").read_text())
except (OSError, ValueError):
    _record = {"ready": False}
if not _record["ready"]:
    # An empty inventory would let pyinfra end with success on zero hosts.
    raise _InventoryError("the lab is not up: run `python -m lab up`")

_common = {
    "ssh_user": "ops",
    "ssh_key": str(_directory / "ssh/id_ed25519"),
    "ssh_known_hosts_file": str(_directory / "ssh/known_hosts"),
    "ssh_strict_host_key_checking": "yes",
    "_sudo": True,
    # All nodes are this one machine, which may be busy.
    "node_deadline": 90,
}
if _record.get("programs"):
    # The cluster's administrator, from this machine: for steps that cordon, drain and wait.
    _common["kubectl"] = str(_Path(_record["programs"]) / "kubectl")
    _common["kubeconfig"] = str(_directory / "kubernetes/kubeconfig")

if _record.get("emulated"):
    # They answer late, and lose what comes too fast. What the lab makes them lose is a quarter and more.
    _common |= {
        "probe_tries": 10,
        "probe_pods": 1,
        "probe_deadline": 5,
        "probe_rate": 100,
        "probe_smallest_loss": 0.25,
        "node_deadline": 120,
    }

nodes = [
    (f"node-{_index}", {"ssh_hostname": f"198.18.53.{10 + _index}", **_common}) for _index in range(_record["nodes"])
]

# Every node runs the dnsmasq that serves its VIP.
dns = [_name for _name, _data in nodes]
