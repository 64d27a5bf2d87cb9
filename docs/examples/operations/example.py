"""The node's own resolv.conf: no more name servers than are asked."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra import host
from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation

from facts.resolver import PATH, ResolvConf
from operations import runs
from operations.scripts import step_script
from operations.wave import refusal

#: The folder of this change on the node, below /var/lib/dnsmend/RUN.
STEP = "example"


@operation()
def name_servers(most: int = 3, undo_after: int = 180, run: str = runs.RUN) -> Generator[StringCommand, None, None]:
    """
    Keep the first name servers of /etc/resolv.conf, and comment the others out.

    + most: how many are kept; the C library asks three
    + undo_after: seconds after which the node takes the change back unless `verify.dns_answers` has confirmed it
    + run: the run's id, under which the old file is kept on the node

    Refused where /etc/resolv.conf is a symlink: whoever writes that file would write it again.

    **Example:**

    .. code:: python

        example.name_servers(name="Only name servers that are asked")
    """
    # Live at execution: pyinfra runs this function in the prepare phase, and once more when it changes things.
    reading = host.get_fact(ResolvConf)
    if reading["state"] not in ("value", "empty"):
        yield refusal(f"refused: {PATH} could not be read: {reading['state']}: {reading['detail']}")
        return
    read = reading["value"]
    if read is None or len(read["nameservers"]) <= most:
        host.noop(f"{PATH} names no more than {most} name servers")
        return
    if read["target"]:
        yield refusal(f"refused: {PATH} is a symlink to {read['target']}, which somebody else writes")
        return
    because = f"{', '.join(read['nameservers'][most:])} is never asked"
    if not host.state.is_executing:
        # What a dry run shows.
        host.log(f"{because}: commented out in {PATH}")
    text = step_script(
        "example.sh.j2",
        run,
        STEP,
        undo_after,
        about=because,
        file=PATH,
        most=most,
        planned=" ".join(read["nameservers"]),
    )
    yield from runs.change(run, STEP, StringCommand(text), because=because)
