"""Minimal edits of dnsmasq's files: an option is taken out where it stands and stays there as a comment.

One line stays one line, so that every other line keeps its number. The marker is a comment to dnsmasq and to sh alike.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from facts.dnsmasq_options import ConfigError, ConfigFile, NotAllKnown, Option, absolute, read_options
from facts.dnsmasq_unit import assignments

MARK = "#dnsmend:"
MANAGED = "dnsmend.conf"
_BLOCK = re.compile(rf"{MARK} begin\n.*?{MARK} end\n", re.DOTALL)


@dataclass(frozen=True)
class Edit:
    """One file before and after; `before` is None for a file that does not exist yet."""

    path: str
    before: str | None
    after: str


def drop_option(content: str, option: Option, keep: Sequence[str]) -> str:
    """The text of a file without the option of that line, or with only the parts in `keep` of its value."""
    lines = content.split("\n")
    raw = lines[option["line"] - 1]
    if keep:
        ending = "\r" if raw.endswith("\r") else ""
        lines[option["line"] - 1] = f"{option['name']}={','.join(keep)}  {MARK} was {raw.strip()}{ending}"
    else:
        lines[option["line"] - 1] = f"{MARK} {raw}"
    return "\n".join(lines)


def drop_argument(
    argv: Sequence[str], files: Mapping[str, ConfigFile], option: Option, version: str = "2.90"
) -> tuple[list[str], list[str]]:
    """The command line without one of its options, and the words that were taken out of it.

    Which words make up an option is dnsmasq's matter (-I name, -Iname, --except-interface=name, --except-i name): the
    words whose absence takes away just this option are the ones. Raises ValueError where there are none.
    """
    options, _ = read_options(argv, files, version)
    without = options.copy()
    without.remove(option)
    for length in (2, 1):
        for start in range(1, len(argv) - length + 1):
            shorter = [*argv[:start], *argv[start + length :]]
            try:
                if read_options(shorter, files, version)[0] == without:
                    return shorter, list(argv[start : start + length])
            except (ConfigError, NotAllKnown):
                continue
    raise ValueError(f"{option['name']} cannot be told apart on the command line")


def drop_default(defaults: str, words: Sequence[str]) -> str:
    """The text of /etc/default/dnsmasq without these words of the command line.

    Raises ValueError where no variable holds them.
    """
    lines = defaults.split("\n")
    for number, line in enumerate(lines):
        if line.lstrip().startswith("#") or not (held := assignments(line)):
            continue
        ((variable, value),) = held.items()
        given = value.split()
        # DNSMASQ_INTERFACE and DNSMASQ_EXCEPT hold bare names, for which the unit writes -i and -I.
        sought = list(words[1:]) if variable in ("DNSMASQ_INTERFACE", "DNSMASQ_EXCEPT") else list(words)
        for start in range(len(given)):
            if sought and given[start : start + len(sought)] == sought:
                rest = [*given[:start], *given[start + len(sought) :]]
                left = f"{variable}={shlex.quote(' '.join(rest))}  {MARK} was {line.strip()}"
                return "\n".join([*lines[:number], left if rest else f"{MARK} {line}", *lines[number + 1 :]])
    raise ValueError(f"no variable holds {' '.join(words)}")


def managed_path(argv: Sequence[str], files: Mapping[str, ConfigFile], version: str = "2.90") -> str | None:
    """Where a file of our own would be read: in the first conf-dir whose rules take it. None where there is none."""
    options, _ = read_options(argv, files, version)
    for option in options:
        directory = absolute((option["value"] or "").split(",")[0])
        listed = files.get(directory)
        if option["name"] != "conf-dir" or listed is None or listed["kind"] != "dir":
            continue
        path = f"{directory}/{MANAGED}"
        if path in read_options(argv, with_text(files, {path: ""}), version)[1]:
            return path
    return None


def with_block(content: str, block: str) -> str:
    """A file's text with our lines at its end, in place of those of an earlier change."""
    kept = _BLOCK.sub("", content)
    return f"{kept}{'' if kept.endswith(chr(10)) or not kept else chr(10)}{MARK} begin\n{block}{MARK} end\n"


def with_text(files: Mapping[str, ConfigFile], texts: Mapping[str, str]) -> dict[str, ConfigFile]:
    """The node's files as they would be with these contents."""
    changed = dict(files)
    for path, text in texts.items():
        directory, _, name = path.rpartition("/")
        known = changed.get(path)
        # Without the inode: dnsmasq skips a file that it has read under another name, and a new file has its own.
        changed[path] = {"path": path, "kind": "file", "content": text, "entries": []}
        if known and known["kind"] == "file" and "identity" in known:
            changed[path]["identity"] = known["identity"]
        parent = changed.get(directory)
        if parent and parent["kind"] == "dir" and all(entry["name"] != name for entry in parent["entries"]):
            entries = [*parent["entries"], {"name": name, "kind": "file"}]
            changed[directory] = {**parent, "entries": entries}  # type: ignore[typeddict-item]
    return changed
