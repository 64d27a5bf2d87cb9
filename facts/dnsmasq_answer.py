"""What a node sends about its dnsmasq processes and their files, line by line, before dnsmasq's rules are applied."""

from __future__ import annotations

import base64
import re
from typing import Literal, TypedDict, cast

from facts.dnsmasq_options import ConfigFile, Entry, absolute

#: systemd.unit(5). It becomes part of commands.
UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]{1,256}")


class Owner(TypedDict):
    """Mode (octal digits), user and group (numbers) and last change (seconds since 1970) of a file."""

    mode: str
    uid: int
    gid: int
    changed: int


class Process(TypedDict):
    """One process named dnsmasq; `ticks` is its start after boot in clock ticks, see proc_pid_stat(5)."""

    pid: int
    parent: int
    ticks: int
    netns: str
    unit: str
    argv: list[str]


class Answer:
    """The lines of the node's script: `process`, `host`, `unit`, `nonlocal`, `version`, and one record per path.

    An `apart` line names a process that has the node's network, and another root.

    A `file` line is followed by the file's content in base64, a `dir` line by an `entry` line for each name in it.
    Raises ValueError for a line that is cut short.
    """

    def __init__(self, output: list[str]) -> None:
        self.processes: list[Process] = []
        self.files: dict[str, ConfigFile] = {}
        self.owners: dict[str, Owner] = {}
        self.apart: set[int] = set()
        self.home = ""
        self.ticks_a_second = 100
        self.booted = 0
        self.unit_loaded = self.unit_running = False
        self.exec_start = ""
        self.version = ""
        self.nonlocal_bind = False
        path = ""
        contents: dict[str, list[bytes]] = {}
        for line in output:
            kind, _, rest = line.partition(" ")
            if kind in ("missing", "unreadable", "large", "list", "dir"):
                path = _key(rest)
                self._add(path, cast(Literal["missing", "unreadable", "large", "list", "dir"], kind))
            elif kind == "file":
                mode, uid, gid, changed, identity, path = rest.split(" ", 5)
                path = _key(path)
                self._add(path, "file")
                self.files[path]["identity"] = identity
                self.owners[path] = {"mode": mode, "uid": int(uid), "gid": int(gid), "changed": int(changed)}
                contents[path] = []
            elif kind == "entry":
                leads_to, name = rest.split(" ", 1)
                if leads_to not in ("file", "dir", "dangling", "other"):
                    raise ValueError(f"no kind of file: {leads_to!r}")
                self.files[path]["entries"].append(cast(Entry, {"name": name, "kind": leads_to}))
            elif " " not in line and path in contents:
                contents[path].append(base64.b64decode(line))
            else:
                self._other(kind, rest)
        for file in self.files.values():
            file["entries"].sort(key=lambda entry: entry["name"])
        for path, content in contents.items():
            self.files[path]["content"] = b"".join(content).decode("utf-8", "surrogateescape")

    def _add(self, path: str, kind: Literal["file", "dir", "missing", "unreadable", "large", "list"]) -> None:
        # A file with a slash behind its name is "missing", and there without it.
        if kind == "missing" and path in self.files:
            return
        self.files[path] = {"path": path, "kind": kind, "content": "", "entries": []}

    def _other(self, kind: str, rest: str) -> None:
        if kind == "process":
            pid, parent, ticks, netns, unit, argv = rest.split(" ")
            if not UNIT_NAME.fullmatch(unit):
                raise ValueError(f"no name of a unit: {unit!r}")
            self.processes.append(
                {
                    "pid": int(pid),
                    "parent": int(parent),
                    "ticks": int(ticks),
                    "netns": netns,
                    "unit": "" if unit == "-" else unit,
                    "argv": base64.b64decode(argv).decode("utf-8", "surrogateescape").split("\0")[:-1],
                }
            )
        elif kind == "apart":
            self.apart.add(int(rest))
        elif kind == "host":
            self.home, ticks_a_second, booted = rest.split(" ")
            self.ticks_a_second, self.booted = int(ticks_a_second), int(booted)
        elif kind == "unit":
            state, running, self.exec_start = rest.split(" ", 2)
            self.unit_loaded, self.unit_running = state == "loaded", running == "yes"
        elif kind == "nonlocal":
            self.nonlocal_bind = rest.startswith("1")
        elif kind == "version":
            self.version = rest


def _key(path: str) -> str:
    """The path as `read_options` looks it up, however a configuration writes it (`conf-dir=/etc/dnsmasq.d/`).

    A relative one was looked for where the script runs, which is not where dnsmasq looks: it stays, and is not found.
    """
    return absolute(path) if path.startswith("/") else path
