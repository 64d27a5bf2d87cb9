"""The few words of QEMU's monitor protocol that the lab needs (QEMU, docs/interop/qmp-spec.txt)."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from lab.host import LabError

_TIMEOUT = 30.0


class Monitor:
    """A connection to the monitor of one virtual machine."""

    def __init__(self, path: Path) -> None:
        self._link = socket.socket(socket.AF_UNIX)
        self._link.settimeout(_TIMEOUT)
        self._link.connect(str(path))
        self._file = self._link.makefile("rw", encoding="utf-8")
        self._file.readline()
        self.do("qmp_capabilities")

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._link.close()

    def do(self, command: str, **arguments: Any) -> Any:
        """Execute a command and return its answer; events are passed over. Raises LabError, OSError."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while line := self._file.readline():
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise LabError(f"QEMU refuses {command}: {answer['error']['desc']}")
        raise LabError(f"QEMU ended during {command}")

    def wait_for_migration(self, timeout: float) -> None:
        """Wait until a started or incoming migration has completed. Raises LabError."""
        deadline = time.monotonic() + timeout
        while (status := self.do("query-migrate").get("status")) != "completed":
            if status in ("failed", "cancelled") or time.monotonic() > deadline:
                raise LabError(f"QEMU's state cannot be carried over: {status}")
            time.sleep(0.02)
