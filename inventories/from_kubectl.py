"""Nodes as the cluster lists them: live, or from a file with the output of `kubectl get nodes -o json`.

pyinfra -y inventories/from_kubectl.py deploys/diagnose.py
DNSMEND_INVENTORY=nodes.json pyinfra -y inventories/from_kubectl.py deploys/diagnose.py
"""

import os as _os

from inventories import kubectl as _kubectl

globals().update(_kubectl.groups(_os.environ.get("DNSMEND_INVENTORY", "")))
