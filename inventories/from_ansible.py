"""Nodes from an Ansible or Kubespray inventory: its path comes from the environment, or stands here in a copy.

DNSMEND_INVENTORY=~/kubespray/inventory/mycluster/hosts.yaml pyinfra -y inventories/from_ansible.py deploys/diagnose.py
"""

import os as _os

from inventories import ansible as _ansible

globals().update(_ansible.groups(_os.environ.get("DNSMEND_INVENTORY", "")))
