"""Tools that are missing on a node, or that do not end."""

from __future__ import annotations

from collections.abc import Callable

from lab.faults.fault import Fault, Mode
from lab.host import LabError
from lab.places import Node

_HANGING = "#!/bin/sh\nexec sleep 3600\n"


def _missing(*paths: str) -> Callable[[Node, Mode | None], str]:
    def apply(node: Node, _: Mode | None) -> str:
        node.remove(*paths)
        command = paths[0].rpartition("/")[2]
        if node.run(["sh", "-c", f"command -v {command}"], check=False).returncode == 0:
            raise LabError(f"the fault is not live: the node still finds {command}")
        return f"{command} is gone"

    return apply


def _hanging(path: str) -> Callable[[Node, Mode | None], str]:
    def apply(node: Node, _: Mode | None) -> str:
        # Removed first: writing would go into the file that other names may link to.
        node.remove(path)
        node.write(path, _HANGING, 0o755)
        return f"{path} sleeps for an hour"

    return apply


FAULTS = (
    Fault("tool-missing-python3", "no python3 on the node", _missing("/usr/bin/python3", "/usr/bin/python3.11")),
    Fault("tool-missing-dig", "no dig on the node", _missing("/usr/bin/dig")),
    Fault("tool-missing-ss", "no ss on the node", _missing("/usr/bin/ss")),
    Fault("tool-hanging-ss", "ss that does not end", _hanging("/usr/bin/ss")),
)
