"""When the files that tell how a node resolves, filters and forwards were last changed."""

from __future__ import annotations

from typing import TypedDict

from typing_extensions import override

from facts.changes import MOST, SINCE, utc
from facts.reading import NodeFact


class FileTimes(TypedDict):
    """`modified`: its content (mtime); `changed`: its inode (ctime), which nobody can set back; both UTC.

    A folder's times tell that a file in it was added, removed or renamed.
    """

    path: str
    folder: bool
    modified: str
    changed: str


#: Files that tell how a node resolves, filters and forwards; folders tell what was removed from them.
FILES = (
    "/etc/dnsmasq.conf /etc/dnsmasq.d /etc/dnsmasq.d/* /etc/default/dnsmasq /etc/resolv.conf /etc/hosts "
    "/etc/nsswitch.conf /etc/systemd/resolved.conf /etc/systemd/resolved.conf.d /etc/systemd/resolved.conf.d/* "
    "/etc/NetworkManager/NetworkManager.conf /etc/NetworkManager/conf.d /etc/NetworkManager/conf.d/* "
    "/etc/NetworkManager/dnsmasq.d /etc/NetworkManager/dnsmasq.d/* /etc/systemd/network /etc/systemd/network/* "
    "/etc/netplan /etc/netplan/* /etc/network/interfaces /etc/network/interfaces.d /etc/network/interfaces.d/* "
    "/etc/sysctl.conf /etc/sysctl.d /etc/sysctl.d/* /etc/modules-load.d /etc/modules-load.d/* /etc/modprobe.d "
    "/etc/modprobe.d/* /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env /etc/default/kubelet "
    "/etc/kubernetes/*.yaml /etc/kubernetes/*.yml /etc/kubernetes/*.env /etc/kubernetes/manifests "
    "/etc/kubernetes/manifests/* /etc/cni/net.d /etc/cni/net.d/* /etc/containerd/config.toml "
    "/etc/containerd/certs.d/* /etc/nftables.conf /etc/iptables /etc/iptables/* /etc/sysconfig/iptables "
    "/etc/firewalld /etc/firewalld/*/* /etc/ufw/*.rules /etc/systemd/system /etc/systemd/system/*.service "
    "/etc/systemd/system/*.service.d/* /var/lib/dnsmend /var/lib/dnsmend/*"
).split()


class ConfigurationTimes(NodeFact[list[FileTimes]]):
    """Configuration files that were changed lately. Source: stat(1), inode(7).

    .. code:: python

        [{"path": "/etc/dnsmasq.d/k8s.conf", "folder": False,
          "modified": "2026-11-22T02:12:38Z", "changed": "2026-11-22T02:12:38Z"}]
    """

    script = (
        SINCE
        + rf"""
stat -c '%Y %Z %F/%n' -- {" ".join(FILES)} 2>/dev/null |
    awk -v since="$since" '$1 $2 ~ /^[0-9]+$/ && ($1 >= since || $2 >= since)' | sort -n -k 2 | tail -n {MOST}
"""
    )

    @override
    def read(self, output: list[str]) -> list[FileTimes]:
        found: list[FileTimes] = []
        for line in filter(None, output):
            modified, changed, rest = line.split(" ", 2)
            kind, _, path = rest.partition("/")
            found.append(
                {
                    "path": f"/{path.lstrip('/')}",
                    "folder": kind == "directory",
                    "modified": utc(modified),
                    "changed": utc(changed),
                }
            )
        return found
