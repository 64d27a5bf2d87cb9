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
from operations import alternatives, conntrack, dnsmasq, kube_proxy, kubelet, netfilter, runs, sysctl, verify
from operations.wave import any_changed, gate

policy = policies.of(host)
plan = rollout.of(state)

# host.loop gives each wave operations of its own: pyinfra knows an operation by its line and its turn in the loop.
for wave in host.loop(plan.waves):
    if host.name in wave:
        change = plan.changes[host.name]
        # For operations that can be taken back, and for those that only follow others.
        risky = {"undo_after": policy.undo_after, "_if": wave.is_open}
        changed, switched = [], []
        for reason in change.asked.because:
            host.log(reason)
        if change.asked.settings:
            wanted = change.asked.settings
            changed += [sysctl.settings(name=f"{wave}: kernel settings", wanted=wanted, **risky)]
        if change.backend:
            backend, losing = change.backend.backend, other(change.backend.backend)
            chosen = alternatives.backend(name=f"{wave}: iptables is {backend}", target=backend, **risky)
            if change.backend.switches:
                switched += [chosen]
                follows = [wave.is_open, any_changed(chosen)]
                kubelet.follow(name=f"{wave}: the kubelet follows", backend=backend, _if=follows)
            hints = netfilter.remove_hints(name=f"{wave}: no hint leads to {losing}", losing=losing, **risky)
            switched += [hints]
            changed += [chosen, hints]
        if change.backend or change.asked.restart:
            kube_proxy.restart(
                name=f"{wave}: kube-proxy writes its rules anew",
                backend=change.writes_to,
                vips=plan.services,
                _if=wave.is_open if change.asked.restart else [wave.is_open, any_changed(*switched)],
            )
        if change.backend:
            removed = netfilter.remove_stale(name=f"{wave}: no stale rule in {losing}", losing=losing, **risky)
            switched += [removed]
            changed += [removed]
        if change.backend or change.asked.flush:
            conntrack.flush(
                name=f"{wave}: forget where DNS went",
                scope="dns",
                vips=plan.services,
                _if=wave.is_open if change.asked.flush else [wave.is_open, any_changed(*switched)],
            )
        listening = dnsmasq.interface_policy(
            name=f"{wave}: dnsmasq answers pods, LAN and host", **policies.dnsmasq_arguments(policy), **risky
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
