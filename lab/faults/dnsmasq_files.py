"""Writing dnsmasq's configuration on a node, and the binding mode that goes with it."""

from __future__ import annotations

from collections.abc import Mapping

from lab import healing
from lab.faults.fault import Mode
from lab.host import LabError
from lab.places import Node

INTERFACES = "/etc/dnsmasq.d/10-interfaces.conf"
_KEPT = ("20-upstreams.conf", "README")
DEFAULTS = "/etc/default/dnsmasq"
_NO_STUB = "/etc/systemd/resolved.conf.d/20-no-stub.conf"
OVERRIDE = "/etc/systemd/system/dnsmasq.service.d/override.conf"

_HEAD = "# Node-local resolver: the LAN and this node's pods ask the VIP on bond0.\n"
_TAIL = "\n# No DHCP here, on any link.\nno-dhcp-interface=bond0\n"
# A marker in a comment ends what the lab appends to Debian's own file.
_APPENDED = "# local settings\n"


def configure(
    node: Node,
    mode: Mode,
    *,
    lines: tuple[str, ...] = (),
    files: Mapping[str, str] | None = None,
    defaults: str = "",
    override: str = "",
    stub: bool = True,
) -> None:
    """Write the whole of dnsmasq's configuration but for the upstreams; nothing is restarted.

    `lines` go to 10-interfaces.conf after the binding mode, `files` are further ones by absolute path, `defaults` is
    appended to /etc/default/dnsmasq, `override` is a drop-in of the unit. Wildcard mode, and `stub` not set, take
    systemd-resolved's stub off port 53, without which dnsmasq does not start.
    """
    kept = [word for name in _KEPT for word in ("!", "-name", name)]
    node.run(["find", "/etc/dnsmasq.d", "-mindepth", "1", *kept, "-delete"])
    binding = "" if mode == "wildcard" else f"{mode}\n"
    node.write(INTERFACES, _HEAD + binding + "".join(f"{line}\n" for line in lines) + _TAIL)
    for path, content in (files or {}).items():
        node.write(path, content)
    debian = node.read(DEFAULTS).partition(_APPENDED)[0]
    node.write(DEFAULTS, debian + (f"{_APPENDED}{defaults}" if defaults else ""))
    if override:
        node.write(OVERRIDE, override)
    else:
        node.remove(OVERRIDE)
    node.run(["systemctl", "daemon-reload"])
    set_stub(node, on=stub and mode != "wildcard")


def set_stub(node: Node, *, on: bool) -> None:
    """Switch systemd-resolved's listener on 127.0.0.53, and point /etc/resolv.conf to what then works."""
    if on != (node.run(["test", "-e", _NO_STUB], check=False).returncode == 0):
        return
    if on:
        node.remove(_NO_STUB)
    else:
        node.write(_NO_STUB, "# dnsmasq has port 53 on every address.\n[Resolve]\nDNSStubListener=no\n")
    target = f"../run/systemd/resolve/{'stub-resolv.conf' if on else 'resolv.conf'}"
    node.run(["ln", "-sfn", target, "/etc/resolv.conf"])
    if on:
        # The port has to be free before the stub can have it.
        node.run(["systemctl", "stop", "dnsmasq.service"])
    healing.restart(node, "systemd-resolved.service")


def restart(node: Node) -> None:
    """Restart dnsmasq with what was written. Raises LabError with dnsmasq's own words if it does not start."""
    if not healing.restart(node, "dnsmasq.service", check=False):
        raise LabError(f"dnsmasq does not start on {node.name}: {last_words(node)}")


def last_words(node: Node) -> str:
    """What dnsmasq said when it did not start."""
    log = node.run(["journalctl", "--no-pager", "--output=cat", "--identifier=dnsmasq", "--lines=10"], check=False)
    said = [line for line in log.stdout.splitlines() if line and "FAILED to start up" not in line]
    return said[-1] if said else "it said nothing"
