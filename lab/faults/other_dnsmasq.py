"""A second, healthy dnsmasq on the node, as other programs run one: it must be left alone."""

from __future__ import annotations

from lab import healing
from lab.faults.fault import Fault, Mode
from lab.host import LabError
from lab.places import Node

_LIBVIRT_CONF = """\
##WARNING:  THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE
##OVERWRITTEN AND LOST.
strict-order
pid-file=/run/libvirt/network/default.pid
except-interface=lo
bind-dynamic
interface=virbr0
dhcp-range=192.168.122.2,192.168.122.254,255.255.255.0
dhcp-no-override
dhcp-authoritative
dhcp-lease-max=253
"""

_LIBVIRT_UNIT = """\
[Unit]
Description=libvirt network "default"

[Service]
Type=forking
RuntimeDirectory=libvirt/network
ExecStartPre=-/usr/sbin/ip link add virbr0 type bridge
ExecStartPre=/usr/sbin/ip address replace 192.168.122.1/24 dev virbr0
ExecStartPre=/usr/sbin/ip link set virbr0 up
ExecStart=/usr/sbin/dnsmasq --conf-file=/var/lib/libvirt/dnsmasq/default.conf --leasefile-ro
PIDFile=/run/libvirt/network/default.pid
"""

# NetworkManager's dns=dnsmasq plugin, on the address that Ubuntu gave it so that it can live beside another one.
_NETWORKMANAGER_UNIT = """\
[Unit]
Description=NetworkManager's dnsmasq

[Service]
RuntimeDirectory=NetworkManager
ExecStart=/usr/sbin/dnsmasq --no-resolv --keep-in-foreground --no-hosts --bind-interfaces \\
    --pid-file=/run/NetworkManager/dnsmasq.pid --listen-address=127.0.1.1 --cache-size=400 --clear-on-reload \\
    --conf-file=/dev/null --proxy-dnssec --conf-dir=/etc/NetworkManager/dnsmasq.d
"""


def _start(node: Node, unit: str, text: str, address: str) -> str:
    node.write(f"/etc/systemd/system/{unit}", text)
    node.run(["systemctl", "daemon-reload"])
    healing.restart(node, unit)
    answer = node.ask(address, "localhost")
    if answer.kind != "answered":
        raise LabError(f"the second dnsmasq does not answer at {address}: {answer}")
    return f"{unit} serves {address}"


def _libvirt(node: Node, _: Mode | None) -> str:
    node.write("/var/lib/libvirt/dnsmasq/default.conf", _LIBVIRT_CONF)
    return _start(node, "libvirt-network-default.service", _LIBVIRT_UNIT, "192.168.122.1")


def _networkmanager(node: Node, _: Mode | None) -> str:
    node.write("/etc/NetworkManager/dnsmasq.d/upstream.conf", f"server={node.plan.vip}\n")
    return _start(node, "networkmanager-dnsmasq.service", _NETWORKMANAGER_UNIT, "127.0.1.1")


FAULTS = (
    Fault(
        "second-dnsmasq-libvirt",
        "libvirt's dnsmasq on virbr0, 192.168.122.1, with its own configuration file (no fault in itself)",
        _libvirt,
    ),
    Fault(
        "second-dnsmasq-networkmanager",
        "NetworkManager's dnsmasq on 127.0.1.1 with its own folder (no fault in itself)",
        _networkmanager,
    ),
)
