"""Make cluster DNS answer, wave by wave: change, prove, take back what is not proven, and stop there.

    pyinfra inventory deploys/fix_dns.py --dry --diff    # what would change, and why
    pyinfra inventory deploys/fix_dns.py -y
    pyinfra -y inventory deploys/undo.py --data run=RUN  # the way back

One iptables backend with nobody's stale rules in the other one; a kube-proxy that works; a dnsmasq that answers pods.
"""

from pyinfra import host, state

from deploys import policy as policies
from deploys import rollout
from models.stale_rules import other
from operations import (
    alternatives,
    cluster,
    conntrack,
    coredns,
    dnsmasq,
    kube_proxy,
    kubelet,
    lock,
    netfilter,
    runs,
    sysctl,
    verify,
)
from operations.wave import any_changed, gate, one_batch

policy = policies.of(host)
plan = rollout.of(state)
change = plan.changes[host.name]
kubectl = policies.cluster(host)
pause = policy.undo_after
together = one_batch(state)

changing = [name for name, needed in plan.changes.items() if needed]
lock.take(
    name="One run at a time",
    nodes=changing,
    waves=plan.waves,
    **policies.lock_arguments(host),
)
# host.loop gives each wave operations of its own: pyinfra knows an operation by its line and its turn in the loop.
for wave in host.loop(plan.waves):
    if host.name in wave:
        changed, switched = [], []
        for reason in change.asked.because:
            host.log(reason)
        if change and kubectl and policy.closes_nodes:
            cluster.cordon(
                name=f"{wave}: takes no new pods",
                wave=wave,
                kubectl=kubectl,
                namespace=policy.dns_namespace,
                drain=policy.cluster_drain,
                timeout=policy.drain_timeout,
                _parallel=together,
                _if=wave.is_open,
            )
        if change.asked.settings:
            wanted = change.asked.settings
            changed += [
                sysctl.settings(
                    name=f"{wave}: kernel settings",
                    wanted=wanted,
                    undo_after=pause,
                    _parallel=together,
                    _if=wave.is_open,
                )
            ]
        if change.backend:
            backend, losing = change.backend.backend, other(change.backend.backend)
            chosen = alternatives.backend(
                name=f"{wave}: iptables is {backend}",
                target=backend,
                undo_after=pause,
                _parallel=together,
                _if=wave.is_open,
            )
            if change.backend.switches:
                switched += [chosen]
                follows = [wave.is_open, any_changed(chosen)]
                kubelet.follow(name=f"{wave}: the kubelet follows", backend=backend, _parallel=together, _if=follows)
            hints = netfilter.remove_hints(
                name=f"{wave}: no hint leads to {losing}",
                losing=losing,
                undo_after=pause,
                _parallel=together,
                _if=wave.is_open,
            )
            switched += [hints]
            changed += [chosen, hints]
        if change.backend or change.asked.restart:
            kube_proxy.restart(
                name=f"{wave}: kube-proxy writes its rules anew",
                backend=change.writes_to,
                vips=plan.services,
                _parallel=together,
                _if=wave.is_open if change.asked.restart else [wave.is_open, any_changed(*switched)],
            )
        if change.backend:
            removed = netfilter.remove_stale(
                name=f"{wave}: no stale rule in {losing}",
                losing=losing,
                undo_after=pause,
                _parallel=together,
                _if=wave.is_open,
            )
            switched += [removed]
            changed += [removed]
        if change.backend or change.asked.flush:
            conntrack.flush(
                name=f"{wave}: forget where DNS went",
                scope="dns",
                vips=plan.services,
                # New rules are what mends, and what is proven; a flow that stays goes where it went before, which is no
                # worse. A node is not taken back for the lack of a tool that k3s, say, has for itself alone.
                required=change.backend is None,
                _parallel=together,
                _if=wave.is_open if change.asked.flush else [wave.is_open, any_changed(*switched)],
            )
        if change:
            changed += [
                dnsmasq.interface_policy(
                    name=f"{wave}: dnsmasq answers pods, LAN and host",
                    **policies.dnsmasq_arguments(policy, plan.vips),
                    undo_after=pause,
                    _parallel=together,
                    _if=wave.is_open,
                )
            ]
        verify.dns_answers(
            name=f"{wave}: prove it from the pods",
            wave=wave,
            changes=changed,
            how=policies.asking(policy),
            vips=plan.vips,
            services=plan.services,
            _parallel=together,
            listening=[socket for each in change.dnsmasq for socket in each.plan.after.start.sockets],
            _if=wave.is_open,
        )
        runs.undo(
            name=f"{wave}: take back what is not proven",
            run=runs.RUN,
            reason="not proven",
            whole=False,
            _parallel=together,
            _if=wave.is_unproven,
        )
        if change and kubectl and policy.closes_nodes:
            cluster.uncordon(name=f"{wave}: takes pods again", kubectl=kubectl, wave=wave, _parallel=together)
        if kubectl and policy.dns_endpoints:
            coredns.wait_for_endpoints(
                name=f"{wave}: DNS has endpoints",
                wave=wave,
                kubectl=kubectl,
                namespace=policy.dns_namespace,
                minimum=policy.dns_endpoints,
                wait=policy.coredns_wait,
                _parallel=together,
                _if=wave.is_open,
            )
    gate(name=f"{wave}: gate", wave=wave)

if kubectl and policy.coredns_rollout and any(plan.changes.values()) and host.name == plan.waves[-1].nodes[0]:
    coredns.rollout_restart(
        name="CoreDNS starts afresh",
        kubectl=kubectl,
        namespace=policy.dns_namespace,
        workload=policy.coredns_workload,
        minimum=policy.dns_endpoints,
        wait=policy.coredns_wait,
        _if=lambda: not any(wave.failures for wave in plan.waves),
    )
lock.let_go(name="Free for other runs", nodes=changing)
