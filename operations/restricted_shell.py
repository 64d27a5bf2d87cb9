"""A shell that knows only dnsmend's own scripts: what sudo lets an account run that is not root.

This file is put on a node as it stands, with KNOWN filled in (`operations.privileges`), and needs its python3 alone,
3.6 or newer (hence the quoted annotations). pyinfra starts it as any shell: `sudo -H -n dnsmend-read -c SCRIPT`.

A script without data is known by its SHA-256. One with data has to match a tree (`operations.script_patterns`) from its
first to its last character, and every hole takes only what is one word to sh. Questions have to be what their words
say, and not too many. What it reads from its standard input is looked at as well. Whatever is not known is refused,
and nothing is run.
"""

import base64
import difflib
import hashlib
import json
import os
import re
import shlex
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

#: may: what for; digests: SHA-256 of a script, and its name; trees: by name; inside: trees of what is within others.
KNOWN = json.loads("{}")

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C",
}
REFUSED = 126
#: Files that one change may touch, and bytes of all their new texts, in base64.
MOST_EDITS = 8
MOST_BYTES = 4000000
#: Of all questions of one script: tries, as many as their ids can tell apart, and tries that begin in a second, as many
#: as a policy may have (`probe_rate`) and as pauses of whole microseconds add.
MOST_TRIES = 38400
FASTEST = 10200
#: Tries in flight, over all sources, and of each source where these are many.
IN_FLIGHT, IN_FLIGHT_OF_ONE = 64, 4
#: What may be asked for: nothing that is for more than one name's data, such as AXFR and ANY.
TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
CLASSES = {"IN": 1, "CH": 3}

# Where dnsmasq's files are, and the one that Debian's and Red Hat's units read as shell.
_DEFAULTS = re.compile(r"/etc/(?:default|sysconfig)/dnsmasq")
_FILES = re.compile(r"/etc/(?!systemd/|init\.d/)(?:[^/]+/)*(?:dnsmasq[^/]*\.conf|dnsmasq[^/]*/[^/]+)")
# What a change may take out there, and what may come instead.
_LISTS = "(?:interface|except-interface|listen-address)"
_OUT = re.compile(rf"\s*(?:#.*|{_LISTS}\s*=.*|(?:bind-interfaces|bind-dynamic|local-service)\s*(?:=.*)?)?\r?")
_IN = re.compile(rf"(?:#.*|{_LISTS}=[A-Za-z0-9_.:@*,+-]+(?: +#.*)?|bind-interfaces|bind-dynamic)?\r?")
# In the other one only words go, of one variable: the rest of them stays, and the old line as a comment.
_VARIABLE = re.compile(r"\s*(?:export\s+)?(DNSMASQ_(?:INTERFACE|EXCEPT|OPTS))=.*")
_REST = re.compile(r"(DNSMASQ_[A-Z]+)=(?:'([^'\\]*)'|([A-Za-z0-9@%+=:,./_-]*))  #dnsmend: was (.*)")
#: Words that Debian's unit gives to dnsmasq whatever its defaults file says (/usr/share/dnsmasq/systemd-helper).
_HELPER = {"-x", "/run/dnsmasq/dnsmasq.pid", "-u", "dnsmasq", "--local-service"}
_HELPER |= {"-i", "-I", "-l", "-s", "-r", "-c", "-7", "-m", "-t"}


class Refused(Exception):
    """Why nothing is run."""


class Pattern:
    """A tree as a regular expression: `text`. Named holes of one name hold the same.

    + counts: how many items a list has, where its holes are to be told apart; any other list has as many as it likes
    + bound: what some holes have to hold
    """

    def __init__(self, tree: "list[Any]", counts: "dict[str, int]", bound: "dict[str, str]") -> None:
        self.counts, self.bound = counts, bound
        self.seen = set()  # type: set[str]
        self.text = self._body(tree, "", True)

    def _body(self, tree: "list[Any]", index: str, named: bool) -> str:
        return "".join(self._node(node, index, named) for node in tree)

    def _node(self, node: "Any", index: str, named: bool) -> str:
        if isinstance(node, str):
            return re.escape(node)
        if "hole" in node:
            return self._hole(_group(node["hole"], index), node["like"], named)
        if "each" not in node:
            return self._either(node, index)
        if node["each"] in self.counts:
            return "".join(self._body(node["body"], f"_{item}", named) for item in range(self.counts[node["each"]]))
        return f"(?:{self._body(node['body'], index, False)})*"

    def _either(self, node: "Any", index: str) -> str:
        if "if_new" in node:
            new = self.bound[_group(node["if_new"], index)] == "new"
            return self._body(node["either"][0 if new else 1], index, False)
        return "(?:{}|{})".format(*(self._body(body, index, False) for body in node["either"]))

    def _hole(self, group: str, like: str, named: bool) -> str:
        if group in self.bound:
            return re.escape(self.bound[group])
        if group in self.seen:
            return f"(?P={group})"
        if not group or not named:
            return f"(?:{like})"
        self.seen.add(group)
        return f"(?P<{group}>{like})"


def _group(name: str, index: str) -> str:
    return name.replace(".", "_") + (index if "." in name else "")


def known(script: str) -> "tuple[str, dict[str, str]]":
    """The name of a script that may be run, and what its named holes hold. Raises Refused."""
    name = KNOWN["digests"].get(hashlib.sha256(os.fsencode(script)).hexdigest())
    if name:
        return name, {}
    edits = _edits(script)
    counts = {"edits": sum(group.startswith("edit_path_") for group in edits)}
    for name, tree in KNOWN["trees"].items():
        if isinstance(tree[0], str) and not script.startswith(tree[0]):
            continue
        match = re.fullmatch(Pattern(tree, counts, edits).text, script)
        if match is None:
            continue
        held = {**edits, **match.groupdict()}
        if not all(_one_word(tree, held[group]) for group, tree in KNOWN["inside"].items() if group in held):
            continue
        asking = shlex.split(held["asking"])[0] if "asking" in held else script
        if name not in ("questions", "captures") or _are_bounded(asking, held.get("about")):
            return name, held
    raise Refused(
        f"this account may only {KNOWN['may']}, and that is none of the scripts for it "
        "(or they are not those of the controller's dnsmend: deploys/privileges.py installs them anew)"
    )


def _edits(script: str) -> "dict[str, str]":
    """The files that a script says it changes: what its holes have to hold wherever one of them comes."""
    found = {}
    lines = re.findall(r"(?m)^same (/[A-Za-z0-9@%+=:,./_-]+) (new|[0-9a-f]{64}) ", script)
    for number, (path, digest) in enumerate(lines[:MOST_EDITS]):
        folder, _, name = path.rpartition("/")
        held = {"number": str(number), "path": path, "digest": digest, "parent": folder, "name": name}
        found.update({f"edit_{what}_{number}": text for what, text in held.items()})
    return found


def _one_word(tree: "list[Any]", quoted: str) -> bool:
    words = shlex.split(quoted)
    return len(words) == 1 and re.fullmatch(Pattern(tree, {}, {}).text, words[0]) is not None


def _are_bounded(asking: str, about: "str | None") -> bool:
    """Whether a script of questions asks no more than dnsmend does, and nothing but DNS.

    + asking: a script that the tree of questions takes, in which no other line begins like those with rows
    + about: the questions (name, type, class) whose packets are captured meanwhile, in hex; None: no capture
    """
    sources = [shlex.split(line) for line in re.findall("(?m)^ask [0-9].*", asking)]
    rows = [row.split(" ") for words in sources for row in words[7:-1]]
    most = max(IN_FLIGHT_OF_ONE, IN_FLIGHT // max(1, len(sources)))
    pauses = [int(words[6]) for words in sources]
    return (
        sum(int(row[4]) for row in rows) < MOST_TRIES
        # What is beyond the last id would be bytes in front of the question.
        and all(int(row[6]) + int(row[4]) < MOST_TRIES for row in rows)
        and all(1 <= int(words[5]) <= most for words in sources)
        and all(pauses)
        and sum(1000000 / pause for pause in pauses) <= FASTEST
        and all(row[7] == _question(*row[8:]) for row in rows)
        and about in (None, ",".join(sorted({row[7][20:] for row in rows})))
    )


def _question(name: str, rdtype: str, rdclass: str) -> str:
    """A DNS query behind its id, in hex, as `probes.wire` makes it; "" for one that is none."""
    wire = b""
    for label in re.findall(r"((?:[^.\\]|\\[0-9]{3}|\\[^0-9])+)\.", name):
        text = "".join(
            chr(int(number)) if number else byte for number, byte in re.findall(r"\\([0-9]{3})|\\?(.)", label)
        )
        wire += bytes([len(text)]) + text.encode("ascii")
    # A label of ten bytes begins with a line feed: spaces and the like behind it would be a command to many a server.
    if len(wire) > 254 or ("\\" in name and b"\n" in wire):
        return ""
    header = struct.pack(">5H", 0x0100, 1, 0, 0, 0)
    return (header + wire + struct.pack(">x2H", TYPES[rdtype], CLASSES[rdclass])).hex()


def check_change(held: "dict[str, str]", payload: bytes) -> None:
    """Raise Refused where a change of files would do more than change how dnsmasq chooses its interfaces.

    + held: what the script's holes hold; payload: its standard input, one line "NUMBER BASE64" per new text
    """
    count = sum(group.startswith("edit_path_") for group in held)
    texts = {}
    for line in payload.decode("ascii", "replace").splitlines():
        number, _, text = line.partition(" ")
        texts[number] = base64.b64decode(text, validate=True).decode("utf-8", "surrogateescape")
    if sorted(texts) != [*map(str, range(count)), "undo"] or len(texts) != payload.count(b"\n"):
        raise Refused("its standard input is not that of a change")
    if not re.fullmatch(Pattern(KNOWN["inside"]["undo"], {"edits": count}, held).text, texts["undo"]):
        raise Refused("its way back is not one of dnsmend's")
    for edit in range(count):
        _check_edit(held, edit, texts[str(edit)])
    _check_command(shlex.split(held["test"]), held["unit"])


def _check_edit(held: "dict[str, str]", number: int, text: str) -> None:
    path, new = Path(held[f"edit_path_{number}"]), held[f"edit_digest_{number}"] == "new"
    defaults = _DEFAULTS.fullmatch(str(path)) is not None
    if ".." in path.parts or not (defaults or _FILES.fullmatch(str(path))):
        raise Refused(f"{path} is no file of dnsmasq below /etc by its name")
    if new and (defaults or path.name != "dnsmend.conf"):
        raise Refused(f"{path} is not the name of a file that dnsmend makes")
    for place in (path.parent,) if new else (path.parent, path):
        _check_owner(place)
    old = "" if new else path.read_bytes()[:MOST_BYTES].decode("utf-8", "surrogateescape")
    before, after = old.split("\n"), text.split("\n")
    if defaults:
        fewer = len(before) == len(after) and all(map(_is_less, before, after))
        odd = [] if fewer else ["its words"]
    else:
        odd = _odd(before, after)
    if odd:
        raise Refused(f"{path}: it would change more than interfaces: {odd[0][:80]}")


def _odd(before: "list[str]", after: "list[str]") -> "list[str]":
    """The lines that would go or come and have nothing to do with interfaces."""
    odd = []
    for kind, start, end, first, last in difflib.SequenceMatcher(None, before, after, False).get_opcodes():
        if kind != "equal":
            odd += [line for line in before[start:end] if not _OUT.fullmatch(line)]
            odd += [line for line in after[first:last] if not _IN.fullmatch(line)]
    return odd


def _is_less(before: str, after: str) -> bool:
    """Whether a line of the defaults is as it was, a comment now, or has some of its words, in their order."""
    variable = _VARIABLE.fullmatch(before)
    if before == after or variable is None:
        return before == after
    if after == f"#dnsmend: {before}":
        return True
    rest = _REST.fullmatch(after)
    if rest is None or rest.group(1) != variable.group(1) or rest.group(4) != before.strip():
        return False
    there = iter(shlex.split(before, comments=True)[-1].partition("=")[2].split())
    return all(word in there for word in (rest.group(2) or rest.group(3) or "").split())


def _check_owner(path: Path) -> None:
    status = path.stat()
    if status.st_uid != 0 or stat.S_IMODE(status.st_mode) & 0o022:
        raise Refused(f"{path} can be written by somebody who is not root")


def _check_command(command: "list[str]", unit: str) -> None:
    """The command that tests the new files: dnsmasq, with words that its unit gives it, and --test."""
    show = ["systemctl", "show", unit, "-p", "MainPID", "-p", "ExecStart"]
    shown = subprocess.run(show, env=ENVIRONMENT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=10)
    said = shown.stdout.decode("utf-8", "replace")
    words = _HELPER | set(re.findall(r"\S+", said))
    pid = re.search(r"(?m)^MainPID=([1-9][0-9]*)$", said)
    for path in ("/etc/default/dnsmasq", "/etc/sysconfig/dnsmasq", f"/proc/{pid.group(1)}/cmdline" if pid else ""):
        if path and Path(path).is_file():
            text = Path(path).read_bytes()[:MOST_BYTES].decode("utf-8", "surrogateescape")
            text = re.sub(r"(?m)(?:^|\s)#.*", "", text)
            words |= {*text.split("\0"), *re.split(r"[\s\"']+|(?<=[A-Z])=", text)}
    _check_owner(Path(command[0]))
    for word in command[1:-1]:
        if word not in words:
            raise Refused(f"{unit} does not give {word} to dnsmasq")


def main(argv: "list[str]") -> int:
    try:
        if len(argv) != 3 or argv[1] != "-c":
            raise Refused("it is pyinfra's _shell_executable, and takes -c and a script")
        name, held = known(argv[2])
        os.chdir("/")
        os.environ.clear()
        os.environ.update(ENVIRONMENT)
        if name != "change-files":
            os.execv("/bin/sh", ["sh", "-c", argv[2]])
        payload = sys.stdin.buffer.read(MOST_BYTES)
        check_change(held, payload)
        return subprocess.run(["/bin/sh", "-c", argv[2]], input=payload).returncode
    except (Refused, ValueError, OSError, subprocess.SubprocessError) as reason:
        print(f"dnsmend: refused: {reason}; nothing was done", file=sys.stderr)
        return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv))
