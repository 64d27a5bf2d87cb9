"""A static inventory to copy: `cp inventories/example.py inventories/mine.py; ln -sfn inventories/mine.py inventory`.

Each node is a name, or a name with what is particular to it. A group's name is free; policy for one group goes into
group_data/GROUP.py, for all nodes into group_data/all.py.
"""

nodes = [
    ("node-0.example.com", {"ssh_user": "ops"}),
    ("node-1.example.com", {"ssh_user": "ops", "ssh_hostname": "192.0.2.11", "ssh_port": 2222}),
    ("node-2.example.com", {"ssh_user": "ops", "ssh_key": "~/.ssh/cluster_ed25519"}),
]
