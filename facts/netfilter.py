"""What both iptables backends hold, for both families: kube-proxy's rules, and everybody else's.

Both backends' rules apply to every packet, whatever the command `iptables` is. Reading creates nothing: the legacy save
is never given a table (`-t` would create it), and runs only where the kernel has legacy tables; the nft save runs only
where nf_tables is loaded, or where that cannot be told. Measured with iptables 1.8.9 on kernels 6.1 and 6.18.
"""

from __future__ import annotations

import base64
import gzip
import io
import re
import zlib
from typing import Literal, TypedDict, get_args

from pyinfra.api.exceptions import FactValueError
from typing_extensions import override

from facts.netfilter_condense import AWK
from facts.netfilter_table import Table, read_table
from facts.reading import NodeFact, State, commands

_DENIED = re.compile(r"permission denied|not permitted", re.IGNORECASE)

Backend = Literal["nft", "legacy"]
Family = Literal[4, 6]


class Ruleset(TypedDict):
    """The rules of one backend for one family.

    `state` and `detail` are those of this save, as in a Reading: "empty" is a backend without any table. `registered`
    are the legacy tables that the kernel has, with or without a tool to read them (/proc/net/ip_tables_names).
    `incompatible` are nft tables with an iptables name and chains that iptables cannot read: those are not in `tables`.
    """

    backend: Backend
    family: Family
    state: State
    detail: str
    registered: list[str]
    incompatible: list[str]
    tables: list[Table]


#: Defines `names FAMILY` (the kernel's legacy tables) and `saver BACKEND FAMILY` (the command that saves them, nothing
# without one). Where the names with a backend in them are missing, `iptables` itself is asked: 1.8 says "(nf_tables)",
# older ones are legacy. `no_nft` is true where nf_tables is a module that is not loaded: there are no nft rules then,
# and any question would load it. In a container without the kernel's modules that cannot be told.
TOOLS = r"""
names() {
    set -- $(if [ "$1" = 4 ]; then cat /proc/net/ip_tables_names; else cat /proc/net/ip6_tables_names; fi 2>/dev/null)
    # They come in the order in which they were loaded.
    [ $# -eq 0 ] || printf '%s\n' "$@" | sort | tr '\n' ' '
}
saver() {
    if [ "$2" = 4 ]; then command=iptables; else command=ip6tables; fi
    command -v "$command-$1-save" && return
    case "$1 $("$command" -V 2>/dev/null)" in
        "nft "*nf_tables* | "legacy "*legacy*) command -v "$command-save" ;;
        "legacy "*nf_tables* | *" ") ;;
        legacy*) command -v "$command-save" ;;
    esac
}
no_nft() {
    [ -e /proc/modules ] && [ ! -d /sys/module/nf_tables ] || return
    builtin="/lib/modules/$(uname -r)/modules.builtin"
    [ -r "$builtin" ] && ! grep -q '/nf_tables\.ko' "$builtin"
}
[ "${euid:-$(id -u)}" = 0 ] || { echo "only root may read the rules" >&2; exit 77; }
"""


class KubeRules(NodeFact[list[Ruleset]]):
    """The rules of each backend and family, condensed on the node: a few kilobytes also where there are 30,000 rules.

    Always four rulesets, for nft and legacy, IPv4 and IPv6. "tool missing" means that the node has no iptables at all.
    Source: iptables-save(8), /proc/net/ip_tables_names.

    .. code:: python

        [
            {
                "backend": "nft", "family": 4, "state": "value", "detail": "", "registered": [], "incompatible": [],
                "tables": [
                    {
                        "name": "nat", "policies": {"PREROUTING": "ACCEPT", ...},
                        "owned": ["KUBE-SERVICES", ...], "hashed": {"SVC": 5, "SEP": 9},
                        "rules": {"kube": 47, "docker": 4}, "chains": {"docker": 1},
                        "chain_names": {"docker": ["DOCKER"]},
                        "links": [{"text": "-A PREROUTING ... -j KUBE-SERVICES", "chain": "PREROUTING",
                                   "target": "KUBE-SERVICES", "packets": 170, "bytes": 9010}, ...],
                        "foreign_jumps": [], "dns": [...], "duplicates": [], "foreign_digest": "9f86d0...", "cut": {},
                    },
                ],
            },
            ...
        ]
    """

    limit = 30

    script = rf"""{TOOLS}
exec 5>&1
save() {{
    errors=$({{ {{ "$@" 2>&6; echo "@code $?"; }} | awk '{AWK}' >&5; }} 6>&1)
    [ -z "$errors" ] || printf '%s\n' "$errors" | head -n 20 | sed 's/^/errors /'
}}
for family in 4 6; do
    for backend in nft legacy; do
        echo "save $backend $family"
        command=$(saver "$backend" "$family")
        if [ "$backend" = legacy ]; then
            registered=$(names "$family")
            echo "registered $registered"
            [ -n "$registered" ] || continue
        elif no_nft; then
            continue
        fi
        [ -n "$command" ] || {{ echo "code 127"; continue; }}
        save "$command" -c
    done
done
for command in iptables-save iptables-nft-save iptables-legacy-save; do
    command -v "$command" >/dev/null && exit 0
done
echo "iptables-save not found; legacy tables of the kernel: $(names 4)$(names 6)" >&2
exit 127
"""

    @override
    def read(self, output: list[str]) -> list[Ruleset]:
        saves: list[list[str]] = []
        for line in filter(None, output):
            if line.startswith("save "):
                saves.append([])
            saves[-1].append(line)
        return [_ruleset(lines) for lines in saves]


class NftTables(NodeFact[list[str]]):
    """The node's nftables tables by family and name, those of iptables-nft among them. Source: nft(8).

    "ip kube-proxy" and "ip6 kube-proxy" are kube-proxy's in nftables mode, "inet firewalld" is firewalld's.

    .. code:: python

        ["ip nat", "ip filter", "ip kube-proxy", "inet firewalld"]
    """

    limit = 20

    # `list tables` fetches every rule as well (nft 1.0.6: 1.4 s with 30,000 rules), `list chains` does not (0.1 s).
    script = rf"""{TOOLS}
command -v nft >/dev/null || {{ echo "nft not found" >&2; exit 127; }}
no_nft && exit 0
chains=$(nft list chains) || exit $?
printf '%s\n' "$chains" | sed -n 's/^\(table [^{{]*\) {{.*/\1/p'
"""

    @override
    def read(self, output: list[str]) -> list[str]:
        lines = [line.strip() for line in output if line.strip()]
        if strange := [line for line in lines if not line.startswith("table ")]:
            raise ValueError(f"no table: {strange[0]!r}")
        return [line.removeprefix("table ") for line in lines]


class Save(NodeFact[str]):
    """The complete save of one backend and family, with counters and byte for byte: what `X-restore -c` takes back.

    + backend: "nft" or "legacy"
    + family: 4 or 6

    Not for looking: it is megabytes on a large node. More than 64 MB of rules is a failure, never a cut. "empty" means
    that this backend holds no table. Source: iptables-save(8).
    """

    limit = 60
    #: Bytes of a save, before it is compressed for its way.
    most = 64_000_000
    script_body = r"""
command=$(saver "$backend" "$family")
if [ "$backend" = legacy ]; then
    [ -n "$(names "$family")" ] || exit 0
elif no_nft; then
    exit 0
fi
[ -n "$command" ] || { echo "no save command for $backend" >&2; exit 127; }
pack=cat
command -v gzip >/dev/null && pack=gzip
echo "$pack"
{ "$command" -c; echo "@code $?"; } | head -c "$most" | "$pack" | base64
"""

    @staticmethod
    @override
    def nothing() -> str:
        return ""

    @override
    def command(self, backend: Backend, family: Family) -> str:  # type: ignore[override]  # the fact's arguments
        """Raises FactValueError for another backend or family: nothing else may reach the shell."""
        if backend not in get_args(Backend) or family not in get_args(Family):
            raise FactValueError(f"backend nft or legacy, family 4 or 6: {backend!r}, {family!r}")
        given = f"backend={backend} family={family} most={self.most}"
        self.script = TOOLS + given + self.script_body
        return commands([self])

    @override
    def read(self, output: list[str]) -> str:
        if not output or not output[0]:
            return ""
        packed = base64.b64decode("".join(output[1:]))
        whole = (self._unpacked(packed) if output[0] == "gzip" else packed).decode("utf-8", "surrogateescape")
        text, _, code = whole.rpartition("@code ")
        if not code.strip().isdigit():
            raise ValueError(f"the save is larger than {self.most} bytes")
        if int(code):
            raise ValueError(f"the save ended with exit code {int(code)}")
        if text.count("\n*") + text.startswith("*") != text.count("\nCOMMIT"):
            raise ValueError("a table without its COMMIT")
        return text

    def _unpacked(self, packed: bytes) -> bytes:
        """What gzip has packed, as far as it may be long: a few bytes can stand for gigabytes."""
        try:
            with gzip.open(io.BytesIO(packed)) as stream:
                return stream.read(self.most + 100)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"the save cannot be unpacked: {error}") from error


def _ruleset(lines: list[str]) -> Ruleset:
    _, backend, family = lines[0].split()
    ruleset: Ruleset = {
        "backend": "legacy" if backend == "legacy" else "nft",
        "family": 6 if family == "6" else 4,
        "state": "empty",
        "detail": "",
        "registered": [],
        "incompatible": [],
        "tables": [],
    }
    code = 0
    errors: list[str] = []
    table: list[str] = []
    for line in lines[1:]:
        word, _, rest = line.partition(" ")
        if word == "registered":
            ruleset["registered"] = rest.split()
        elif word == "incompatible":
            ruleset["incompatible"].append(rest)
        elif word == "errors":
            errors.append(rest)
        elif word == "code":
            code = int(rest)
        elif word == "end":
            ruleset["tables"].append(read_table(table))
            table = []
        else:
            table.append(line)
    ruleset["detail"] = "\n".join(errors)
    if code == 127:
        ruleset["state"] = "tool missing"
    elif code:
        ruleset["state"] = "not permitted" if _DENIED.search(ruleset["detail"]) else "failed"
    elif table:
        ruleset["state"] = "failed"
        ruleset["detail"] = "a table without its COMMIT"
    elif ruleset["tables"] or ruleset["incompatible"]:
        ruleset["state"] = "value"
    return ruleset
