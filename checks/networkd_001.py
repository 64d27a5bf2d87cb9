"""systemd-networkd leaves the pods' links alone.

A .network file that matches every link makes networkd configure those of a network plugin, and take away what it did
not set there. And udev gives tunnels another MAC address than the one that the plugin has told the other nodes.
"""

from __future__ import annotations

import re

from checks import guard
from checks.case import Case
from checks.crossing import crossing
from checks.finding import Finding, Status
from facts.pods import host_interface
from probes.count import asked, lost, summary

ID = "NETWORKD-001"
TITLE = "systemd-networkd leaves the pods' links alone"

#: Links that a network plugin or kube-proxy makes.
_PLUGINS = re.compile(
    r"cilium_|lxc[0-9a-f_]|cali|vxlan\.calico|tunl0|flannel|cni\d|cbr0|kube-|nodelocaldns|antrea|genev_sys|ovn|weave"
)
_EVIDENCE = 8


def check(case: Case) -> list[Finding]:
    """One finding. What networkd does at its next restart is a warning; it is not lost yet."""
    if found := guard.kubernetes(case, "networkd", "interfaces", "pods"):
        return [case.finding(ID, TITLE, *found)]
    state = case.snapshot["networkd"]["value"]
    if state is None:
        return [case.finding(ID, TITLE, Status.PASS, "networkd manages no link")]
    interfaces = case.snapshot["interfaces"]["value"]
    own = {host_interface(pod, interfaces) for pod in case.snapshot["pods"]["value"]} - {""}
    taken = [one for one in state["links"] if _PLUGINS.match(one["name"]) or one["name"] in own]
    evidence = [f"{one['name']}: {one['state']} by {one['file']}" for one in taken][:_EVIDENCE]
    evidence += [f"{name}={value}" for name, value in state["foreign"].items()]
    if taken:
        sentence = f"networkd manages {taken[0]['name']} ({taken[0]['file']}): it takes away what it did not set there"
        return [case.finding(ID, TITLE, Status.WARN, sentence, evidence)]
    changed = [one for one in state["policies"] if one["policy"].split()[:1] == ["persistent"]]
    changed = [one for one in changed if one["name"].startswith("flannel")]
    losing = [one for one in crossing(case) if lost(one)]
    if changed and losing:
        evidence += [f"{asked(one)}: {summary(one)}" for one in losing][:_EVIDENCE]
        sentence = (
            f"udev chooses the MAC address of {changed[0]['name']} ({changed[0]['file']}: MACAddressPolicy=persistent),"
            " and pods lose questions: compare it with the one that the other nodes know"
        )
        return [case.finding(ID, TITLE, Status.WARN, sentence, evidence)]
    return [case.finding(ID, TITLE, Status.PASS, "networkd manages none of the pods' links", evidence)]
