"""Keep in the cluster what watches its DNS and keeps CoreDNS apart; or take it away.

    pyinfra inventory deploys/cluster_objects.py --dry                  # tried by the API server, changed nowhere
    pyinfra inventory deploys/cluster_objects.py -y
    pyinfra inventory deploys/cluster_objects.py -y --data remove=true

What is kept is `cluster_objects` in group_data/all.py. A second run changes nothing. See docs/guards.md.
"""

from pyinfra import host, state

from deploys import keeping
from deploys import policy as policies
from operations import cluster_objects

policy = policies.of(host)
kept = keeping.of(state)

if host.name == kept.host:
    cluster_objects.applied(
        name="What watches DNS in the cluster",
        kubectl=kept.kubectl,
        namespace=kept.namespace,
        wanted=kept.objects,
    )
    cluster_objects.spread(
        name="CoreDNS's pods on different nodes",
        kubectl=kept.kubectl,
        namespace=kept.namespace,
        how=kept.spread,
        workload=policy.coredns_workload,
    )
