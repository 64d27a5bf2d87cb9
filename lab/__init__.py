"""A cluster on one machine: real Debian nodes, a Cilium-shaped data path, real resolvers, and faults to inject.

With `up --kubernetes` the nodes are virtual machines, as only their own kernel is sure to have IPVS, and there are a
real API server and a real kube-proxy.

`python -m lab up` builds the nodes, `lab.api.Lab` drives them from tests. Everything lives in the lab's own
namespaces; the machine sees one veth, `dnsmend0`.
"""
