"""Working on a node's kube-proxy: its mode, how often it syncs, and waiting until it has."""

from __future__ import annotations

from lab.host import LabError
from lab.kubernetes.plan import CLUSTER
from lab.places import Node

CONFIG = "/etc/kubernetes/kube-proxy.yaml"

# Prints when the last sync came to its end, in seconds since 1970; 0 if none has. bash, as nodes have no curl.
LAST_SYNC = r"""{ exec 3<>/dev/tcp/127.0.0.1/10249 && printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3 && awk '
    $1 == "kubeproxy_sync_proxy_rules_last_timestamp_seconds" { at = $2 } END { printf "%d", at }' <&3; } 2>/dev/null"""

_RESTART = f"""
start=$(date +%s)
systemctl restart kubelet.service kube-proxy.service
for try in $(seq 300); do
    moment=$({LAST_SYNC})
    [ "${{moment:-0}}" -ge "$start" ] && exit 0
    sleep 0.3
done
exit 1
"""

_UNTIL = 'for try in $(seq "$1"); do if eval "$2"; then exit 0; fi; sleep 0.3; done; exit 1'


def set_mode(node: Node, mode: str) -> None:
    """Write `ipvs` or `iptables` to kube-proxy's configuration; it is not restarted."""
    node.run(["sed", "-i", f's/^mode:.*/mode: "{mode}"/', CONFIG])


def sync_seldom(node: Node) -> None:
    """Let kube-proxy sync once an hour, so that what is broken behind its back stays broken. Raises LabError."""
    if "syncPeriod" not in (text := node.read(CONFIG)):
        node.write(CONFIG, f"{text}ipvs:\n  syncPeriod: 1h0m0s\n")
    restart(node)


def restart(node: Node) -> None:
    """Restart kubelet's stand-in and kube-proxy, and wait for the first sync. Raises LabError."""
    if node.run(["bash", "-c", _RESTART], check=False, timeout=200.0).returncode != 0:
        raise LabError(f"kube-proxy on {node.name} does not sync after a restart")


def wait(node: Node, condition: str, what: str, *, seconds: int = 90) -> None:
    """Wait on the node until the shell `condition` is true. Raises LabError that says `what` is not so."""
    argv = ["bash", "-c", _UNTIL, "sh", str(int(seconds / 0.3)), condition]
    # Emulated, a turn of the loop takes longer than its pause.
    if node.run(argv, check=False, timeout=seconds * 4.0).returncode != 0:
        raise LabError(f"{node.name}: {what}")


def expect_real_servers(node: Node, addresses: tuple[str, ...]) -> None:
    """Wait until IPVS has exactly `addresses` behind the DNS service over UDP. Raises LabError."""
    wanted = " ".join(sorted(addresses))
    service = f"{CLUSTER.dns_service}:53"
    found = f"ipvsadm -Sn | sed -n 's/^-a -u {service} -r \\([0-9.]*\\):53 .*/\\1/p' | LC_ALL=C sort | paste -sd' '"
    wait(node, f'[ "$({found})" = "{wanted}" ]', f"IPVS does not get the real servers {wanted}")
