"""What `ansible_ssh_common_args` and its like say, as ssh_config(5): pyinfra takes jump hosts from there alone."""

from __future__ import annotations

import atexit
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

#: Options with an argument that are another spelling of an ssh_config keyword.
_SHORT = {"J": "ProxyJump", "i": "IdentityFile", "l": "User", "p": "Port", "F": "Include"}
#: Without an argument, and of no weight for reaching a node.
_FLAGS = frozenset("46ACTaknqtvxXY")
#: Keywords that pyinfra's SSH client follows, by their lower-case names.
_FOLLOWED = {
    keyword.lower(): keyword
    for keyword in (
        "ProxyJump",
        "ProxyCommand",
        "IdentityFile",
        "CertificateFile",
        "IdentityAgent",
        "User",
        "Port",
        "HostName",
        "UserKnownHostsFile",
        "ConnectTimeout",
        "ServerAliveInterval",
        "ForwardAgent",
        "Include",
    )
}
#: Those that change how fast or how talkative ssh is, or that pyinfra's client does by itself.
_IRRELEVANT = frozenset(
    """
    addkeystoagent batchmode compression connectionattempts controlmaster controlpath controlpersist forwardx11
    gssapiauthentication gssapidelegatecredentials hashknownhosts identitiesonly kbdinteractiveauthentication
    loglevel numberofpasswordprompts passwordauthentication preferredauthentications pubkeyauthentication
    serveralivecountmax tcpkeepalive updatehostkeys
    """.split()
)


def options(arguments: str) -> tuple[dict[str, str], dict[str, str]]:
    """
    The keywords of ssh's arguments, the first of each winning as in ssh itself, and what is not taken over, with why.

    ValueError: they cannot be split.
    """
    found: dict[str, str] = {}
    left: dict[str, str] = {}
    words = shlex.split(arguments)
    while words:
        word = words.pop(0)
        if re.fullmatch(r"-[%s]+" % "".join(sorted(_FLAGS)), word):  # noqa: UP031
            continue
        option, value = word[:2], word[2:]
        if len(option) < 2 or option[0] != "-" or (option != "-o" and option[1] not in _SHORT):
            left[word.split("=")[0] if option[:1] == "-" else "an argument"] = "not known to dnsmend, not used"
            continue
        if not value:
            if not words:
                left[option] = "has no value"
                break
            value = words.pop(0)
        if option == "-o":
            keyword, _, value = (
                part.strip() for part in re.sub(r"^(\w+)\s+", r"\1=", value.strip(), count=1).partition("=")
            )
        else:
            keyword = _SHORT[option[1]]
        why = _refused(keyword.lower(), value)
        if why:
            left[keyword] = why
        elif keyword.lower() in _FOLLOWED:
            found.setdefault(_FOLLOWED[keyword.lower()], value)
    return found, left


def _refused(keyword: str, value: str) -> str:
    if keyword == "stricthostkeychecking":
        return (
            ""
            if value in ("yes", "ask")
            else "not taken over: ssh_strict_host_key_checking in group_data/all.py decides"
        )
    if keyword == "userknownhostsfile" and value == "/dev/null":
        return "not taken over: host keys are checked"
    if "sshpass" in value or "\n" in value:
        return "holds a password or more than one line: not used"
    if keyword in _FOLLOWED or keyword in _IRRELEVANT:
        return ""
    return "not known to dnsmend, not used"


def write(stanzas: Mapping[str, Mapping[str, str]]) -> str:
    """
    A private ssh_config file with a stanza for each host, on this machine, until the process ends. Returns its path.

    The person's own configuration comes after them, for jump hosts that are named there; `Include` names another one.
    """
    folder = Path(mkdtemp(prefix="dnsmend-ssh-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    lines: list[str] = []
    others: list[str] = []
    for host, keywords in stanzas.items():
        lines.append(f"Host {host}")
        lines += [f"    {keyword} {value}" for keyword, value in keywords.items() if keyword != "Include"]
        others += [keywords["Include"]] if "Include" in keywords else []
    lines += [f"Include {Path(other).expanduser().resolve()}" for other in dict.fromkeys(others or ["~/.ssh/config"])]
    # pyinfra would ask about an unknown key of a jump host on the terminal; nobody may be there.
    lines += ["Host *", "    StrictHostKeyChecking yes"]
    path = folder / "config"
    path.touch(0o600)
    path.write_text("\n".join(lines) + "\n")
    return str(path)
