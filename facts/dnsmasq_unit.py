"""The command line that dnsmasq.service gives to dnsmasq, worked out without running anything.

Debian's unit runs /usr/share/dnsmasq/systemd-helper, which reads /etc/default/dnsmasq as shell and appends
--local-service; Red Hat's unit runs the program itself.
"""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath

#: Where Debian's unit takes its options from.
DEFAULTS = "/etc/default/dnsmasq"
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$")


def assignments(defaults: str) -> dict[str, str]:
    """The variables of a defaults file. Raises ValueError where only a shell could tell a value ($, backtick)."""
    values: dict[str, str] = {}
    for number, line in enumerate(defaults.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.match(line)
        if not match or "$" in match[2] or "`" in match[2]:
            raise ValueError(f"{DEFAULTS}:{number}: only a shell can tell what this line does: {line.strip()}")
        try:
            values[match[1]] = "".join(shlex.split(match[2][:65_536], comments=True)[:1])
        except ValueError as error:
            raise ValueError(f"{DEFAULTS}:{number}: {error}: {line.strip()}") from error
    return values


def unit_command(exec_start: str, defaults: str) -> list[str]:
    """The argument vector of dnsmasq under its unit.

    + exec_start: the value of ``systemctl show -p ExecStart``: ``{ path=... ; argv[]=... ; ... }``
    + defaults: text of /etc/default/dnsmasq, "" where there is none

    Raises ValueError where the unit is neither Debian's nor runs dnsmasq itself.
    """
    path = re.search(r"path=(\S+)", exec_start)
    argv = re.search(r"argv\[\]=(.*?) ; ", exec_start)
    if path and argv and PurePosixPath(path[1]).name == "dnsmasq":
        return argv[1].split()
    if not path or PurePosixPath(path[1]).name not in ("systemd-helper", "dnsmasq-helper") and "init.d" not in path[1]:
        raise ValueError(f"dnsmasq.service starts something unknown: {exec_start or 'no ExecStart'}")
    given = assignments(defaults)
    command = ["/usr/sbin/dnsmasq", "-x", "/run/dnsmasq/dnsmasq.pid"]
    for variable, option in (("MAILHOSTNAME", "-m"), ("MAILTARGET", "-t")):
        if given.get(variable):
            command += [option, given[variable]]
    command += ["-u", given.get("DNSMASQ_USER") or "dnsmasq"]
    command += [part for name in given.get("DNSMASQ_INTERFACE", "").split() for part in ("-i", name)]
    command += [part for name in given.get("DNSMASQ_EXCEPT", "").split() for part in ("-I", name)]
    for variable, option in (
        ("DHCP_LEASE", "-l"),
        ("DOMAIN_SUFFIX", "-s"),
        ("RESOLV_CONF", "-r"),
        ("CACHESIZE", "-c"),
        ("CONFIG_DIR", "-7"),
    ):
        if given.get(variable):
            command += [option, given[variable]]
    return [*command, *given.get("DNSMASQ_OPTS", "").split(), "--local-service"]
