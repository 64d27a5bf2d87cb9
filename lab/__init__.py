"""A cluster on one machine: real Debian nodes, a Cilium-shaped data path, real resolvers, and faults to inject.

`python -m lab up` builds the nodes, `lab.api.Lab` drives them from tests. Everything lives in the lab's own
namespaces; the machine sees one veth, `dnsmend0`.
"""
