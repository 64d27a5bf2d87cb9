"""Kernel settings of the node, in force now and after a boot."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping

from pyinfra import host
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.host import Host
from pyinfra.api.operation import operation
from typing_extensions import override

from facts.sysctl_files import SysctlFiles
from models.kernel_settings import overruled, same
from models.refused import Refused
from operations import runs
from operations.scripts import step_script
from operations.wave import refusal

STEP = "sysctl"

#: Ours alone: what others have configured is not edited. sysctl.d(5) reads files in the order of their names.
FILE = "/etc/sysctl.d/90-dnsmend.conf"

_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")


class Settings(FactBase[dict[str, str]]):
    """What kernel settings are now, one space between words; one that this kernel has not is left out.

    + names: "net.ipv4.vs.expire_nodest_conn"

    .. code:: python

        {"net.ipv4.vs.expire_nodest_conn": "0", "net.ipv4.ip_local_port_range": "32768 60999"}
    """

    @staticmethod
    @override
    def default() -> dict[str, str]:
        return {}

    @override
    def process(self, output: Iterable[str]) -> dict[str, str]:
        told = (line.partition("=") for line in output if "=" in line)
        return {name: " ".join(value.split()) for name, _, value in told}

    @override
    def command(self, names: Iterable[str]) -> StringCommand:
        script = 'for name; do value=$(sysctl -n "$name" 2>/dev/null) && echo "$name=$value"; done; true'
        return StringCommand("sh", "-c", QuoteString(script), "-", *map(QuoteString, names))


def check_boot(node: Host, wanted: Mapping[str, str]) -> None:
    """Raises Refused where a boot would set something else after our file, with that file and line."""
    found = node.get_fact(SysctlFiles)
    if found["state"] not in ("value", "empty"):
        raise Refused(f"what its files set at boot is not known: {found['state']}: {found['detail']}")
    for line in overruled(found["value"], FILE, wanted):
        raise Refused(
            f"{line['file']}:{line['line']} sets {line['name']} = {line['value']} at every boot, after {FILE}: it has "
            f"to be {wanted[line['name']]} there as well, or not to be there"
        )


@operation()
def settings(
    wanted: Mapping[str, str], undo_after: int = 600, run: str = runs.RUN
) -> Generator[StringCommand, None, None]:
    """
    Set kernel settings, now and for every boot (in a file of our own below /etc/sysctl.d).

    + wanted: names and values: {"net.ipv4.vs.expire_nodest_conn": "1"}
    + undo_after: seconds after which the node takes the change back unless `verify.dns_answers` has confirmed it
    + run: the run's id, under which the old values are kept on the node

    Only what differs is set. Refused are a setting that this kernel has not, and one that another file sets otherwise
    at boot, after ours; one that the kernel does not accept takes the others back. What belongs to a module
    (nf_conntrack, ip_vs, br_netfilter) can be set at boot only where /etc/modules-load.d has the module loaded before.

    **Example:**

    .. code:: python

        sysctl.settings(name="IPVS lets go of pods that have gone", wanted={"net.ipv4.vs.expire_nodest_conn": "1"})
    """
    if odd := [name for name in wanted if not _NAME.fullmatch(name)]:
        yield refusal(f"refused: {odd[0]!r} is no name of a kernel setting")
        return
    now = host.get_fact(Settings, names=list(wanted))
    if missing := [name for name in wanted if name not in now]:
        yield refusal(f"refused: this kernel has no {missing[0]}")
        return
    needed = {name: " ".join(value.split()) for name, value in wanted.items() if not same(now[name], value)}
    if not needed:
        host.noop("every setting is as it should be")
        return
    try:
        check_boot(host, needed)
    except Refused as reason:
        yield refusal(f"refused: {reason}")
        return
    because = "; ".join(f"{name}: {now[name]} -> {value}" for name, value in needed.items())
    if not host.state.is_executing:
        host.log(f"{because} (sysctl -w, and {FILE})")
    text = step_script("set-sysctls.sh.j2", run, STEP, undo_after, about=because, now=now, wanted=needed, file=FILE)
    yield from runs.change(run, STEP, StringCommand(text), because=because)
