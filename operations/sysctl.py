"""Kernel settings of the node, in force now and after a boot."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping

from pyinfra import host
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation
from typing_extensions import override

from operations import runs
from operations.scripts import step_script
from operations.wave import refusal

STEP = "sysctl"

#: Ours alone: what others have configured is not edited. sysctl.d(5) reads files in the order of their names.
FILE = "/etc/sysctl.d/90-dnsmend.conf"

_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")


class Settings(FactBase[dict[str, str]]):
    """What kernel settings are now; one that this kernel has not is left out.

    + names: "net.ipv4.vs.expire_nodest_conn"

    .. code:: python

        {"net.ipv4.vs.expire_nodest_conn": "0"}
    """

    @staticmethod
    @override
    def default() -> dict[str, str]:
        return {}

    @override
    def process(self, output: Iterable[str]) -> dict[str, str]:
        return dict(line.split("=", 1) for line in output if "=" in line)

    @override
    def command(self, names: Iterable[str]) -> StringCommand:
        script = 'for name; do value=$(sysctl -n "$name" 2>/dev/null) && echo "$name=$value"; done; true'
        return StringCommand("sh", "-c", QuoteString(script), "-", *map(QuoteString, names))


@operation()
def settings(
    wanted: Mapping[str, str], undo_after: int = 600, run: str = runs.RUN
) -> Generator[StringCommand, None, None]:
    """
    Set kernel settings, now and for every boot (in a file of our own below /etc/sysctl.d).

    + wanted: names and values: {"net.ipv4.vs.expire_nodest_conn": "1"}
    + undo_after: seconds after which the node takes the change back unless `verify.dns_answers` has confirmed it
    + run: the run's id, under which the old values are kept on the node

    Only what differs is set. A setting that this kernel has not is refused; one that it does not accept takes the
    others back.

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
    needed = {name: value for name, value in wanted.items() if now[name] != value}
    if not needed:
        host.noop("every setting is as it should be")
        return
    because = "; ".join(f"{name}: {now[name]} -> {value}" for name, value in needed.items())
    if not host.state.is_executing:
        host.log(f"{because} (sysctl -w, and {FILE})")
    text = step_script("set-sysctls.sh.j2", run, STEP, undo_after, about=because, now=now, wanted=needed, file=FILE)
    yield from runs.change(run, STEP, StringCommand(text), because=because)
