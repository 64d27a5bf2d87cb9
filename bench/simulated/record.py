"""Record what a node of the lab says, for the simulated fleet: `python -m bench.simulated.record`, with the lab up.

Two recordings of node-0: healthy, and with `except-interface=cilium_*`. What others wrote (Debian's files) is replaced
by comments of the same length.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

from facts.history import NodeHistory
from facts.snapshot import NodeSnapshot

FOLDER = Path(__file__).resolve().parent
NODE = "node-0"
#: Whole files whose text is not ours to keep.
_DEBIANS = ("/etc/dnsmasq.conf", "/etc/dnsmasq.d/README", "/etc/default/dnsmasq", "/lib/systemd/system/dnsmasq.service")


def main() -> None:
    """Write healthy.txt and incident.txt."""
    _lab("heal")
    _save("healthy.txt")
    _lab("inject", "dnsmasq-except-cilium", "--node", NODE)
    _save("incident.txt")
    _lab("heal")


def _save(name: str) -> None:
    scripts = (NodeSnapshot().command(), NodeHistory().command())
    text = "".join(_lab("exec", NODE, "--", "sh", "-c", script) for script in scripts)
    (FOLDER / name).write_text(_without_debians(text))


def _lab(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "lab", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def _without_debians(text: str) -> str:
    """Comments instead of the files' own lines; a file is its line, then base64 in lines of 76."""
    for path in _DEBIANS:
        pattern = re.compile(rf"(^\|file [^\n]* {re.escape(path)}\n)((?:\|[A-Za-z0-9+/=]+\n)+)", re.MULTILINE)
        text = pattern.sub(lambda match: match[1] + _comments(match[2]), text)
    return text


def _comments(block: str) -> str:
    size = len(base64.b64decode(block.replace("|", "")))
    comments = ("#" + "-" * 70 + "\n") * (size // 72) + "#\n"
    encoded = base64.encodebytes(comments.encode()).decode()
    return "".join(f"|{line}\n" for line in encoded.splitlines())


if __name__ == "__main__":
    main()
