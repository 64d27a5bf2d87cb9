"""Tracked connections that still go where the rules of before sent them."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence
from ipaddress import ip_address
from typing import Literal

from pyinfra import host, logger
from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation

from facts.conntrack import Conntrack, DnsFlows, Flows, not_deletable
from operations import runs
from operations.wave import refusal

#: Exit code 1 says that no flow matched, which is as good; 2 is a wrong option (conntrack(8), measured with 1.4.7).
_DELETE = "{ conntrack -f {family} -D -p udp --orig-dst {vip} --dport 53 || [ $? = 1 ]; }"


def dns_flows(flows: Sequence[Flows], vips: Sequence[str]) -> dict[str, int]:
    """How many UDP flows each address has that clients asked; those without any are left out."""
    # A policy may write an IPv6 address in full.
    asked = {ip_address(vip) for vip in vips}
    found: dict[str, int] = {}
    for each in flows:
        address = ip_address(each["destination"])
        if each["protocol"] == "udp" and address in asked:
            found[str(address)] = found.get(str(address), 0) + each["flows"]
    return found


def delete_command(vip: str) -> str:
    """The shell command that forgets the UDP flows to port 53 of an address. Raises ValueError for no address."""
    family = "ipv4" if ip_address(vip).version == 4 else "ipv6"
    return _DELETE.replace("{family}", family).replace("{vip}", shlex.quote(vip))


@operation()
def flush(
    scope: Literal["dns", "all"] = "dns", vips: Sequence[str] = (), required: bool = True, run: str = runs.RUN
) -> Generator[StringCommand, None, None]:
    """
    Forget tracked connections, after having said how many there are.

    + scope: "dns" for the UDP flows to port 53 of `vips`, "all" for everybody's
    + vips: DNS service addresses
    + required: whether it fails where flows cannot be read or deleted, or only warns
    + run: the run's id, for the journal

    Only needed after rules have changed, or where a check found stale flows: give it `_if`. With "dns" every other
    flow lives on; "all" cuts NATed connections of every program on the node. Neither touches the IPVS table.

    **Example:**

    .. code:: python

        conntrack.flush(name="Forget DNS flows", scope="dns", vips=["10.32.0.10"], _if=stale.did_change)
    """
    if scope == "all":
        reading = host.get_fact(Conntrack)
        count = reading["value"]["count"] if reading["value"] else 0
        said = f"{count} tracked flows"
        command = "conntrack -F"
        known = reading["state"] in ("value", "empty")
        why = "" if known else f"its tracked flows are not known: {reading['state']}: {reading['detail']}"
    else:
        dns = host.get_fact(DnsFlows)
        found = dns_flows(dns["value"], vips)
        count = sum(found.values())
        said = ", ".join(f"{number} UDP flows to {vip}:53" for vip, number in found.items())
        command = " && ".join(delete_command(vip) for vip in found)
        # Without a flow there is nothing to delete, with or without a tool.
        why = not_deletable(dns) if count or dns["state"] not in ("value", "empty") else ""
    if why and required:
        yield refusal(f"refused: {why}")
        return
    if why:
        stay = f"tracked flows stay ({why}): each goes where it went before, until it has been silent for two minutes"
        host.log_styled(stay, fg="yellow", log_func=logger.warning)
        host.noop("tracked flows stay")
        return
    if not count:
        host.noop("no tracked flows to forget")
        return
    host.log(f"to forget: {said}: {command}")
    yield StringCommand(command)
    runs.record(run, host.name, "forgot", flows=said)
