"""The files of a guard, rendered for one node, and the list of them that the node keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import PurePosixPath
from typing import Any, Literal

from facts.addresses import server
from facts.guards import FOLDER, MANIFEST, Installed
from facts.netfilter import TOOLS
from facts.netfilter_chains import HASHED, OWNED
from models.guard import KUBERNETES_UNITS, Record
from models.kube_services import PROGRAMS
from operations.scripts import TEMPLATES
from probes import wire
from probes.carry import IN_FLIGHT, carry, time_limit
from probes.guard import Asked

#: What a boot does that finds iptables changed: tell it, keep the kubelet from starting, or select what it was.
Boot = Literal["report", "block", "restore"]

UNITS = "/etc/systemd/system"
PROBE_METRICS = "dnsmend_probe.prom"
BACKEND_METRICS = "dnsmend_backend.prom"
_NOTICE = "Written by dnsmend (deploys/prevent.py), which takes it away with --data remove=true. Not for editing."


@dataclass(frozen=True)
class File:
    """One file. `text` is "" where only its digest is known."""

    path: str
    mode: str
    digest: str
    text: str = ""


@dataclass(frozen=True)
class Files:
    """Everything that a guard is made of: the manifest is the last of `files`.

    + made: what it writes while it runs; folders: those that are made for it, parents first; units: what is enabled;
      services: those of the files that are services
    """

    files: tuple[File, ...] = ()
    made: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    @property
    def paths(self) -> list[str]:
        """Every path that is there or may be."""
        return [file.path for file in self.files] + list(self.made)

    @property
    def started(self) -> list[str]:
        """What runs from now on; a service at boot does not."""
        return [unit for unit in self.units if not unit.endswith(".service")]

    @property
    def stopped(self) -> list[str]:
        """What must not run while files change; a service at boot is not stopped: the kubelet may require it."""
        return self.started + [service for service in self.services if service not in self.units]


def installed(found: Installed) -> Files:
    """What a node's manifest says is there."""
    files = tuple(File(each["path"], each["mode"], each["digest"]) for each in found["files"])
    services = tuple(_services(each.path for each in files))
    return Files(files, tuple(found["made"]), tuple(found["folders"]), tuple(found["units"]), services)


def render(
    asked: Sequence[Asked],
    record: Record | None,
    programs: Sequence[str],
    boot: Boot,
    metrics: str,
    required_by: Sequence[str],
    folders: Sequence[str],
) -> Files:
    """A guard's files.

    + asked: what is asked each minute; empty for no probe
    + record: what iptables is held against; None for no look at it
    + programs: names of processes in DNS pods, which are asked from too; CoreDNS's pods before all others
    + metrics: the folder that node_exporter reads
    + required_by: the units that must not start, for "block"
    + folders: those that are made for it, parents first
    """
    texts: dict[str, tuple[str, str]] = {}
    made: list[str] = []
    units: list[str] = []
    about: dict[str, Any] = {"notice": _NOTICE, "folder": FOLDER, "metrics_folder": metrics, "boot": boot}
    if asked:
        in_pod = [each for each in asked if each.stage == "pod"]
        on_node = [each for each in asked if each.stage != "pod"]
        names = {**about, "metrics": f"{metrics}/{PROBE_METRICS}", "programs": list(programs) if in_pod else []}
        names["coredns"] = PROGRAMS
        limit = sum(time_limit([each.probe for each in part], IN_FLIGHT) for part in (on_node, in_pod) if part)
        texts[f"{FOLDER}/probe"] = ("755", _text("guards/probe.sh.j2", names))
        texts[f"{FOLDER}/judge.awk"] = ("644", _text("guards/judge.awk", names))
        texts[f"{FOLDER}/table"] = ("644", table({"host": on_node, "pod": in_pod}))
        texts[f"{FOLDER}/questions"] = ("755", _script(on_node))
        if in_pod:
            texts[f"{FOLDER}/questions-pod"] = ("755", _script(in_pod))
        for unit in ("dnsmend-probe.service", "dnsmend-probe.timer"):
            texts[f"{UNITS}/{unit}"] = ("644", _text(f"guards/{unit}.j2", {**names, "limit": ceil(limit) + 5}))
        made += [f"{metrics}/{PROBE_METRICS}{end}" for end in ("", ".new")]
        units.append("dnsmend-probe.timer")
    if record:
        names = {
            **about,
            "metrics": f"{metrics}/{BACKEND_METRICS}",
            "tools": TOOLS.strip(),
            "backend": record.backend,
            "other": record.other,
            "commands": record.commands,
            "groups": record.groups,
            "owned": OWNED,
            "hashed": HASHED,
            "kubernetes_units": KUBERNETES_UNITS,
            "required_by": list(required_by),
        }
        texts[f"{FOLDER}/backend"] = ("755", _text("guards/backend.sh.j2", names))
        for unit in (
            "dnsmend-backend.service",
            "dnsmend-backend.timer",
            "dnsmend-backend.path",
            "dnsmend-boot.service",
        ):
            texts[f"{UNITS}/{unit}"] = ("644", _text(f"guards/{unit}.j2", names))
        made += [f"{metrics}/{BACKEND_METRICS}{end}" for end in ("", ".run", ".boot")]
        units += ["dnsmend-backend.timer", "dnsmend-backend.path", "dnsmend-boot.service"]
    files = [File(path, mode, digest(text), text) for path, (mode, text) in texts.items()]
    manifest = _manifest(files, made, folders, units)
    files.append(File(MANIFEST, "644", digest(manifest), manifest))
    return Files(tuple(files), tuple(made), tuple(folders), tuple(units), tuple(_services(texts)))


def table(parts: Mapping[str, Sequence[Asked]]) -> str:
    """What is asked, a line each, for `templates/guards/judge.awk`: the part, its number there, and what counts.

    + parts: "host" and "pod", each in the order of its script
    """
    rows = [
        {
            "part": part,
            "index": index,
            "stage": each.stage,
            "target": server(each.probe["destination"], each.probe["port"]),
            "protocol": each.probe["protocol"],
            "tries": each.probe["tries"],
            "takes": "found" if each.probe["rcodes"] else "any",
            "wire": wire.without_id(each.probe),
            "name": each.probe["name"],
            "rdtype": each.probe["rdtype"],
        }
        for part, asked in parts.items()
        for index, each in enumerate(asked)
    ]
    return TEMPLATES.get_template("guards/table.j2").render(rows=rows)


def digest(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def needed_folders(metrics: str) -> list[str]:
    """Every folder that the guard's files need, parents first."""
    needed = [PurePosixPath(FOLDER), PurePosixPath(metrics)]
    return list(dict.fromkeys(str(each) for path in needed for each in [*reversed(path.parents), path]))


def _script(asked: Sequence[Asked]) -> str:
    return f"# {_NOTICE}\n{carry([each.probe for each in asked])}\n"


def _text(template: str, names: Mapping[str, Any]) -> str:
    return TEMPLATES.get_template(template).render(**names)


def _services(paths: Iterable[str]) -> list[str]:
    return [name for path in paths if (name := PurePosixPath(path).name).endswith(".service")]


def _manifest(files: Sequence[File], made: Sequence[str], folders: Sequence[str], units: Sequence[str]) -> str:
    lines = [f"# {_NOTICE}"]
    lines += [f"file {each.digest} {each.mode} {each.path}" for each in files]
    lines += [f"made - - {path}" for path in made]
    lines += [f"folder - - {path}" for path in folders]
    lines += [f"unit - - {unit}" for unit in units]
    return "\n".join(lines) + "\n"
