"""What dnsmend's guards have left on a node: the manifest of their files, and whether those are still what it says."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TypedDict

from typing_extensions import override

from facts.reading import NodeFact, commands

#: Where the guards' programs are, and the list of everything that belongs to them.
FOLDER = "/usr/local/lib/dnsmend"
MANIFEST = f"{FOLDER}/manifest"


class InstalledFile(TypedDict):
    """One file of the guards. `digest` is the SHA-256 of what was installed, `now` of what is there, "" for nothing."""

    path: str
    digest: str
    mode: str
    now: str


class Installed(TypedDict):
    """What a manifest lists; without one there are no `files`.

    `made` are files that the guards write while they run, `folders` those that were made for them, `units` those that
    were enabled; `running` are those of them that are enabled and active now (a service that runs once: enabled).
    `missing` are those of the folders that were asked about which are not there.
    """

    files: list[InstalledFile]
    made: list[str]
    folders: list[str]
    units: list[str]
    running: list[str]
    missing: list[str]


class Guards(NodeFact[Installed | None]):
    """The guards that are installed on this node.

    + folders: absolute paths of folders that the guards would need, parents first

    .. code:: python

        {
            "files": [
                {"path": "/usr/local/lib/dnsmend/probe", "digest": "9f86d0...", "mode": "755", "now": "9f86d0..."},
            ],
            "made": ["/var/lib/node_exporter/textfile_collector/dnsmend_probe.prom"],
            "folders": ["/usr/local/lib/dnsmend"],
            "units": ["dnsmend-probe.timer"], "running": ["dnsmend-probe.timer"],
            "missing": ["/var/lib/node_exporter"],
        }
    """

    script_body = rf"""
for folder; do [ -d "$folder" ] || echo "missing - - - $folder"; done
[ -e {MANIFEST} ] || exit 0
[ -r {MANIFEST} ] || {{ echo "{MANIFEST} may not be read" >&2; exit 77; }}
own=$(sha256sum < {MANIFEST} | cut -d ' ' -f 1)
echo "file $own $own 644 {MANIFEST}"
while read -r kind digest mode path; do
    case $kind in
        file)
            now=$(sha256sum 2>/dev/null < "$path" | cut -d ' ' -f 1)
            echo "file ${{now:--}} $digest $mode $path" ;;
        unit)
            running=no
            if systemctl is-enabled --quiet "$path" 2>/dev/null; then
                case $path in *.service) running=yes ;; *) systemctl is-active --quiet "$path" && running=yes ;; esac
            fi
            echo "unit $running - - $path" ;;
        made | folder) echo "$kind - - - $path" ;;
    esac
done < {MANIFEST}
"""

    @staticmethod
    @override
    def nothing() -> Installed | None:
        return None

    @override
    def command(self, folders: Sequence[str] = ()) -> str:
        self.script = f"set -- {shlex.join(folders)}\n{self.script_body}"
        return commands([self])

    @override
    def read(self, output: list[str]) -> Installed:
        found: Installed = {"files": [], "made": [], "folders": [], "units": [], "running": [], "missing": []}
        for line in filter(None, output):
            kind, now, digest, mode, path = line.split(" ", 4)
            if kind == "file":
                found["files"].append({"path": path, "digest": digest, "mode": mode, "now": "" if now == "-" else now})
            elif kind == "unit":
                found["units"].append(path)
                if now == "yes":
                    found["running"].append(path)
            elif kind == "made":
                found["made"].append(path)
            elif kind == "folder":
                found["folders"].append(path)
            else:
                found["missing"].append(path)
        return found
