"""kube-proxy that does not run, or that runs and does not sync."""

from __future__ import annotations

from lab.faults.fault import ClusterFault, expect_lost
from lab.host import LabError
from lab.kubernetes import kube_proxy
from lab.places import Node
from lab.state import State

# An ipset of the wrong type, as an older release may leave behind: each sync ends there.
_WRONG_SET = """
set -e
systemctl stop kube-proxy.service
iptables-save -t nat | sed -n '/match-set KUBE-LOOP-BACK /s/^-A/-D/p' |
    { echo '*nat'; cat; echo COMMIT; } | iptables-restore --noflush
ipset destroy KUBE-LOOP-BACK
ipset create KUBE-LOOP-BACK hash:ip
systemctl start kube-proxy.service
"""

_HEALTHY = """
exec 3<>/dev/tcp/127.0.0.1/10256
printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3
head -n 1 <&3
"""


def _stopped(_: State, node: Node) -> str:
    node.run(["systemctl", "stop", "kube-proxy.service"])
    if node.active("kube-proxy.service"):
        raise LabError("the fault is not live: kube-proxy.service is active")
    return f"kube-proxy.service is stopped; {expect_lost(node, 0, 0, queries=10)} so far"


def _sync_failing(_: State, node: Node) -> str:
    node.run(["sh", "-c", _WRONG_SET])
    started = "ExecMainStartTimestamp"
    since = node.run(["systemctl", "show", "--property", started, "--value", "kube-proxy.service"]).stdout.strip()
    kube_proxy.wait(
        node,
        f"journalctl --unit=kube-proxy --since='{since}' --output=cat | grep -q 'Failed to make sure ip set'",
        "kube-proxy has no trouble with its ipsets",
    )
    status = node.run(["bash", "-c", _HEALTHY]).stdout.strip()
    if " 200 " not in f"{status} ":
        raise LabError(f"the fault is not as it should be: healthz gives {status!r}")
    return f"each sync fails over the ipset KUBE-LOOP-BACK, healthz says {status}"


FAULTS = (
    ClusterFault("kube-proxy-stopped", "kube-proxy is stopped: nothing follows the next change", _stopped),
    ClusterFault("sync-failing", "kube-proxy's sync fails each time, while healthz is 200", _sync_failing),
)
