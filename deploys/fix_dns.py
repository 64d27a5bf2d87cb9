"""Make cluster DNS answer, wave by wave: change, prove, take back what is not proven, and stop there.

    pyinfra inventory deploys/fix_dns.py --dry --diff    # what would change, and why
    pyinfra inventory deploys/fix_dns.py -y
    pyinfra -y inventory deploys/undo.py --data run=RUN  # the way back

One iptables backend with nobody's stale rules in the other one; then a dnsmasq that answers pods.
"""

from pyinfra import host, state

from deploys import policy as policies
from deploys import rollout
from models.stale_rules import other
from operations import alternatives, conntrack, dnsmasq, kube_proxy, kubelet, netfilter, runs, verify
from operations.wave import any_changed, gate

policy = policies.of(host)
plan = rollout.of(state)

# host.loop gives each wave operations of its own: pyinfra knows an operation by its line and its turn in the loop.
for wave in host.loop(plan.waves):
    if host.name in wave:
        backend = plan.changes[host.name].backend
        changed = []
        if backend:
            chosen = alternatives.backend(
                name=f"{wave}: iptables is {backend}",
                target=backend,
                undo_after=policy.undo_after,
                _if=wave.is_open,
            )
            switched = [chosen] if plan.changes[host.name].switches else []
            kubelet.follow(
                name=f"{wave}: the kubelet follows", backend=backend, _if=[wave.is_open, any_changed(*switched)]
            )
            hints = netfilter.remove_hints(
                name=f"{wave}: no hint leads to {other(backend)}",
                losing=other(backend),
                undo_after=policy.undo_after,
                _if=wave.is_open,
            )
            kube_proxy.restart(
                name=f"{wave}: kube-proxy writes to {backend}",
                backend=backend,
                vips=plan.services,
                _if=[wave.is_open, any_changed(*switched, hints)],
            )
            removed = netfilter.remove_stale(
                name=f"{wave}: no stale rule in {other(backend)}",
                losing=other(backend),
                undo_after=policy.undo_after,
                _if=wave.is_open,
            )
            conntrack.flush(
                name=f"{wave}: forget where DNS went",
                scope="dns",
                vips=plan.services,
                _if=[wave.is_open, any_changed(*switched, removed)],
            )
            changed += [chosen, hints, removed]
        listening = dnsmasq.interface_policy(
            name=f"{wave}: dnsmasq answers pods, LAN and host",
            **policies.dnsmasq_arguments(policy),
            undo_after=policy.undo_after,
            _if=wave.is_open,
        )
        verify.dns_answers(
            name=f"{wave}: prove it from the pods",
            wave=wave,
            changes=[*changed, listening],
            how=policies.asking(policy),
            vips=policy.dns_vips,
            services=plan.services,
            _if=wave.is_open,
        )
        runs.undo(name=f"{wave}: take back what is not proven", run=runs.RUN, reason="not proven", _if=wave.is_unproven)
    gate(name=f"{wave}: gate", wave=wave)
