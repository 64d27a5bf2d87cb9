"""The cluster steps around a change, in waves of one node, in the order of deploys/fix_dns.py. For the tests.

+ change: the command that stands for the change
+ proven: whether the proof succeeds
+ reads: whether nodes are read, to know them by their addresses as well; that takes long on emulated machines
"""

from pyinfra import host, inventory, state
from pyinfra.operations import python, server

from deploys import policy as policies
from facts import snapshot
from operations import cluster, coredns
from operations.wave import Wave, gate, waves

policy = policies.of(host)
kubectl = policies.cluster(host)
assert kubectl
if not host.data.get("reads", False):
    snapshot.of = lambda host: None
names = [each.name for each in snapshot.active(inventory)]
# pyinfra runs this file once per host: all of them go through the same waves.
plan = state.__dict__.setdefault("test_waves", tuple(waves(names, [], 1, 1)))

for wave in host.loop(plan):
    if host.name in wave:

        def unproven(wave: Wave = wave) -> None:
            wave.fail(host.name, "not proven: as told")

        def untouched(wave: Wave = wave) -> bool:
            return wave.is_open() and not wave.is_unproven()

        cluster.cordon(
            name=f"{wave}: takes no new pods",
            wave=wave,
            kubectl=kubectl,
            namespace=policy.dns_namespace,
            drain=policy.cluster_drain,
            timeout=policy.drain_timeout,
            _if=wave.is_open,
        )
        server.shell(name=f"{wave}: change", commands=[host.data.get("change", "true")], _if=untouched)
        if not host.data.get("proven", True):
            python.call(name=f"{wave}: prove", function=unproven, _if=untouched)
        cluster.uncordon(name=f"{wave}: takes pods again", kubectl=kubectl, wave=wave)
        coredns.wait_for_endpoints(
            name=f"{wave}: DNS has endpoints",
            wave=wave,
            kubectl=kubectl,
            namespace=policy.dns_namespace,
            minimum=policy.dns_endpoints,
            wait=policy.coredns_wait,
            _if=untouched,
        )
    gate(name=f"{wave}: gate", wave=wave)

if policy.coredns_rollout and host.name == plan[-1].nodes[0]:
    coredns.rollout_restart(
        name="CoreDNS starts afresh",
        kubectl=kubectl,
        namespace=policy.dns_namespace,
        workload=policy.coredns_workload,
        minimum=policy.dns_endpoints,
        wait=policy.coredns_wait,
    )
