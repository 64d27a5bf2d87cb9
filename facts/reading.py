"""How a node is read: bounded shell sections, and what came back of each.

A section is one POSIX shell script that runs with a time limit of its own. Its standard output, standard error and
exit code come back apart from each other, so that an empty answer, a missing tool, a refused read and a hanging
command are four different things. Reading writes nothing on the node: no temporary file, no kernel module, no table.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Generic, Literal, TypedDict, TypeVar

from pyinfra.api.facts import FactBase
from typing_extensions import override

T = TypeVar("T")

State = Literal["value", "empty", "tool missing", "not permitted", "timed out", "failed"]

#: A script exits with this code when the kernel or a file mode refuses the read and its tool would not say so.
NOT_PERMITTED = 77
_TOOL_MISSING = 127
#: timeout(1): the limit passed; or SIGKILL was needed.
_TIMED_OUT = (124, 137)
_CODE = re.compile(r"!@code (\d{1,3})$")
#: Characters of a reader's complaint that are kept: it may quote what it did not understand.
_WORDS = 300
#: Lines of standard error that are kept.
_ERRORS = 200
_DENIED = re.compile(r"permission denied|operation not permitted|must be root|access denied", re.IGNORECASE)

# A content line can never look like a delimiter: what begins one is drawn by lot on the node, stands in no command line
# and in no environment, and leaves the node in no line; awk(1) marks all other lines. Bytes that are not printable
# ASCII become "?", so that no answer can fail to decode (file contents travel as base64). Standard error is caught in
# a variable, since a file must not be written. Processes are what a section costs: what is the same for all of them is
# done once, so a script finds its user's number in $euid. Red Hat's sudoers file leaves /usr/local out, where Kubespray
# puts crictl; it comes last, so that nothing there hides what the system has.
_PRELUDE = r"""export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin"
euid=$(id -u)
export euid
section() {
    printf '\n%s begin %s\n' "$mark" "$1"
    errors=$(timeout -k 1 "$2" sh -c "$3" 2>&1 >&4 4>&- </dev/null)
    code=$?
    printf '\n%s errors\n%s\n%s code %s\n%s end %s\n' "$mark" "$errors" "$mark" "$code" "$mark" "$1"
}
unset mark
read -r mark </proc/sys/kernel/random/uuid || mark=$(od -An -N 16 -t x1 /dev/urandom | tr -d ' \n')
[ -n "$mark" ] || exit 0
"""
# The line's end before a delimiter belongs to it: content may end without one. An empty line is held back until it is
# known to be no such one.
_MARKED = r"""awk '
    NR == 1 { mark = $0 " "; next }
    index($0, mark) == 1 {
        word = substr($0, length(mark) + 1)
        if (word ~ /^begin /) { print "@" word; sign = "|" }
        else if (word == "errors") sign = "!"
        else if (word ~ /^code /) print "!@" word
        else { print "@" word; sign = "" }
        held = 0
        next
    }
    sign == "" { next }
    held { print sign; held = 0 }
    $0 == "" { held = 1; next }
    { print sign $0 }'"""
_PRINTABLE = r"tr -c '\11\12\40-\176' '?'"


class Reading(TypedDict, Generic[T]):
    """What one section says: `value` holds something only where `state` is "value"; `detail` is in the tool's words."""

    state: State
    value: T
    detail: str


class Section(TypedDict):
    """One section as it came from the node, before its fact has read it. `code` is -1 when the end is missing."""

    output: list[str]
    errors: list[str]
    code: int


class NodeFact(FactBase[Reading[T]], Generic[T]):
    """A fact that works alone and inside the snapshot.

    + script: POSIX sh, coreutils, sed and awk only; exits 127 for a missing tool and 77 for a refused read
    + limit: seconds that the script may take
    """

    abstract = True
    script: str
    limit = 10

    def read(self, output: list[str]) -> T:
        """The script's standard output as the fact's value. Raises ValueError for output that is not understood."""
        raise NotImplementedError

    @staticmethod
    def nothing() -> T:
        """The value of an empty reading."""
        return []  # type: ignore[return-value]

    @override
    def command(self) -> str:
        return commands([self])

    @override
    def process(self, output: list[str]) -> Reading[T]:
        return self.reading(sections(output).get(section_name(self)))

    def reading(self, section: Section | None) -> Reading[T]:
        """Tell value, empty, missing tool, refused read, time-out and failure apart. Never raises."""
        if section is None or section["code"] == -1:
            return {"state": "failed", "value": self.nothing(), "detail": "the node's answer ended before this section"}
        errors = "\n".join(section["errors"][:_ERRORS])
        code = section["code"]
        if code:
            return {"state": _state(code, errors), "value": self.nothing(), "detail": errors or f"exit code {code}"}
        try:
            value = self.read(section["output"])
            # No report and no bundle could hold NaN, or a number of thousands of digits.
            json.dumps(value, allow_nan=False)
        except Exception as error:  # A node may send anything: no reader is to be the first that thought of it.
            why = str(error)[:_WORDS] or type(error).__name__
            return {"state": "failed", "value": self.nothing(), "detail": f"output not understood: {why}"}
        return {"state": "value" if value else "empty", "value": value, "detail": errors}


def _state(code: int, errors: str) -> State:
    if code == _TOOL_MISSING:
        return "tool missing"
    if code in _TIMED_OUT:
        return "timed out"
    if code == NOT_PERMITTED or _DENIED.search(errors):
        return "not permitted"
    return "failed"


def section_name(fact: NodeFact[T] | type[NodeFact[T]]) -> str:
    """The section's name in the node's answer: the fact's class name."""
    cls = fact if isinstance(fact, type) else type(fact)
    return cls.__name__


def commands(facts: Iterable[NodeFact[T]]) -> str:
    """One shell script that runs every fact's section, in order; it exits 0 whatever the sections do."""
    calls = [f"section {section_name(fact)} {fact.limit} {shlex.quote(fact.script)}" for fact in facts]
    told = "printf '%s\\n' \"$mark\""
    return "\n".join([f"{_PRELUDE}{{ {told}", *calls, f"true; }} 4>&1 | {_PRINTABLE} | {_MARKED}"])


def readings(facts: Mapping[str, NodeFact[Any]], output: list[str]) -> dict[str, Reading[Any]]:
    """The node's answer as a reading of each fact, under the facts' own names."""
    found = sections(output)
    return {name: fact.reading(found.get(section_name(fact))) for name, fact in facts.items()}


def sections(output: list[str]) -> dict[str, Section]:
    """The node's answer, cut at its delimiters. Lines outside of sections (a login banner, say) are passed over."""
    found: dict[str, Section] = {}
    current: Section | None = None
    for line in output:
        if line.startswith("@begin "):
            current = {"output": [], "errors": [], "code": -1}
            # The first one counts: no script of ours says anything twice.
            found.setdefault(line[7:], current)
        elif current is None:
            continue
        elif line.startswith("|"):
            current["output"].append(line[1:])
        elif match := _CODE.match(line):
            # The last one counts: a tool may print such a line on standard error, but not after its end.
            current["code"] = int(match[1])
        elif line.startswith("!") and len(line) > 1:
            current["errors"].append(line[1:])
        elif line.startswith("@end "):
            current = None
    return found
