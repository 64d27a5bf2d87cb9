"""What a dnsmasq process was told: its command line and its files, as one list of options in the order it reads them.

Pure: the caller brings `/proc/PID/cmdline` and what the node has at each path. Follows dnsmasq 2.90: `read_opts`,
`one_file` and the `conf-dir` part of `one_opt` in src/option.c. What a later one reads otherwise is not known.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NotRequired, TypedDict

from facts.dnsmasq_arguments import arguments
from facts.dnsmasq_keywords import known_to, may_know_more, once
from facts.dnsmasq_lines import KeywordError, LineError, lines, parse_line, split_value
from facts.dnsmasq_values import check_value

DEFAULT_FILE = "/etc/dnsmasq.conf"


class Option(TypedDict):
    """One option as dnsmasq sees it.

    + name: long name without dashes; `domain-suffix` is `domain`, `dhcp-lease` is `dhcp-leasefile`
    + value: after unquoting, before splitting at commas (`split_value` does that); None for a keyword that stands alone
    + file: absolute path; "" is the command line
    + line: from 1; 0 on the command line
    """

    name: str
    value: str | None
    file: str
    line: int


class Entry(TypedDict):
    """One name in a directory; `kind` is what it leads to, "dangling" a symbolic link that leads nowhere."""

    name: str
    kind: Literal["file", "dir", "dangling", "other"]


class ConfigFile(TypedDict):
    """What the node has at one path. "unreadable" and "large" are there, but their content was not sent.

    A "list" is large too, and holds nothing but names with the addresses, servers and sets for them: whoever is
    answered is answered whatever it says. Such files are left out of what is read, and so are their options.

    + path: absolute
    + content: of a file, undecodable bytes as surrogates; "" otherwise
    + entries: of a directory, in any order; empty otherwise
    + identity: device and inode ("2049:1234"), by which dnsmasq reads no file twice; without it the path counts
    """

    path: str
    kind: Literal["file", "dir", "missing", "unreadable", "large", "list"]
    content: str
    entries: list[Entry]
    identity: NotRequired[str]


class ConfigError(Exception):
    """dnsmasq refuses to start with this.

    + message: in dnsmasq's words ("bad option at line 3 of /etc/dnsmasq.d/x.conf")
    + file, line: where, as in `Option`; the line is 0 if the whole file is meant
    + code: exit code of dnsmasq: 1 configuration, 3 file
    """

    def __init__(self, message: str, file: str = "", line: int = 0, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.code = code


class NotAllKnown(Exception):
    """dnsmasq reads more than what is known.

    + message, file, line: what is not, and where it stands, as in `ConfigError`
    + options, read: what is, as `read_options` returns them
    """

    def __init__(self, message: str, file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.options: list[Option] = []
        self.read: list[str] = []


class NeedsFile(NotAllKnown):
    """dnsmasq opens these paths, and nothing is known about them: send them, or say that they are missing."""

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__(f"not sent by the node: {', '.join(paths)}", paths[0])
        self.paths = tuple(paths)


class CannotTell(NotAllKnown):
    """dnsmasq reads something here that cannot be known: a script's output, its standard input, an unsent file.

    Or a later dnsmasq reads what 2.90 would refuse.
    """


def read_options(
    argv: Sequence[str], files: Mapping[str, ConfigFile], version: str = "2.90"
) -> tuple[list[Option], list[str]]:
    """The options of one process in the order dnsmasq reads them, and the files that it reads, in order.

    Everything that is there is returned, also what a later option overrides. The options `conf-file`, `conf-dir` and
    `servers-file` stand before what they bring in, except for the first `--conf-file` of the command line: its file
    (or /etc/dnsmasq.conf) is read last.

    + argv: with argv[0], as in /proc/PID/cmdline split at NUL
    + files: what the node has, by absolute path
    + version: which dnsmasq reads them, "" where that is not known

    Raises `ConfigError` where dnsmasq would not start, `NeedsFile` with all paths that are missing from `files`,
    `CannotTell` where the answer is not in files at all.
    """
    reader = _Reader(files, version)
    try:
        reader.command_line(argv)
    except ConfigError:
        if not reader.needed:
            raise
    unknown = NeedsFile(reader.needed) if reader.needed else reader.unknown
    if unknown is not None:
        unknown.options, unknown.read = reader.options, reader.read
        raise unknown
    return reader.options, reader.read


class _Reader:
    """Reads on behind what cannot be known, for what comes later may keep dnsmasq from starting whatever that is."""

    def __init__(self, files: Mapping[str, ConfigFile], version: str) -> None:
        self.files = files
        self.options: list[Option] = []
        self.read: list[str] = []
        self.needed: list[str] = []
        self.unknown: CannotTell | None = None
        self._version = version
        self._known = known_to(version)
        self._cut_short = False
        self._identities: set[str] = set()
        self._once_on_command_line: set[str] = set()
        self._once_in_file: set[str] = set()
        self._servers: str | None = None

    def command_line(self, argv: Sequence[str]) -> None:
        try:
            main_file = self._arguments(argv)
        except LineError as error:
            raise ConfigError(str(error)) from None
        if main_file is not None:
            self._file(main_file, file="", line=0)
        elif not self._cut_short:
            self._file(DEFAULT_FILE, file="", line=0, may_be_missing=True)
        self._servers_file()

    def _arguments(self, argv: Sequence[str]) -> str | None:
        """Reads what stands on the command line, and returns the file that is left for last."""
        last: str | None = None
        for name, value in self._words(argv):
            self.options.append(Option(name=name, value=value, file="", line=0))
            try:
                counts = self._counts(name, value, from_file=False)
            except LineError as error:
                raise LineError(f"bad command line options: {error}") from None
            if name == "conf-file" and last is None:
                last = value or None
            elif counts:
                self._follow(name, value, file="", line=0)
        return last

    def _words(self, argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
        try:
            yield from arguments(argv, self._known)
        except KeywordError:
            if not may_know_more(self._version):
                raise
            # What follows may name the file in the place of the default one.
            self._cut_short = True
            self._cannot_tell(f"the command line is none that dnsmasq 2.90 takes{self._other_version()}")

    def _other_version(self) -> str:
        return f", and this is {self._version}" if self._version else ", and which version this is is not known"

    def _cannot_tell(self, message: str, file: str = "", line: int = 0) -> None:
        self.unknown = self.unknown or CannotTell(message, file, line)

    def _counts(self, name: str, value: str | None, from_file: bool) -> bool:
        """False if dnsmasq takes no notice of the option; `LineError` if it does not take it."""
        if once(name):
            if not from_file and name in self._once_in_file:
                return False
            seen, word = (self._once_in_file, "keyword") if from_file else (self._once_on_command_line, "flag")
            if name in seen:
                raise LineError(f"illegal repeated {word}")
            seen.add(name)
        check_value(name, value, general="error" if from_file else "try --help")
        return True

    def _follow(self, name: str, value: str | None, file: str, line: int) -> None:
        if name == "conf-script":
            self._cannot_tell(f"the output of {value} is part of the configuration", file, line)
        if name == "conf-file" and value:
            self._file(value, file, line)
        if name == "conf-dir":
            self._directory(split_value(value), file, line)
        if name == "servers-file":
            self._servers = value

    def _sent(self, path: str) -> ConfigFile | None:
        if path not in self.files and path not in self.needed:
            self.needed.append(path)
        return self.files.get(path)

    def _file(self, given: str, file: str, line: int, may_be_missing: bool = False) -> None:
        if given == "-":
            self._cannot_tell("a part of the configuration came from standard input", file, line)
            return
        path = absolute(given)
        sent = self._sent(path)
        if sent is None or (sent["kind"] == "missing" and may_be_missing):
            return
        if sent["kind"] == "missing":
            raise ConfigError(f"cannot read {given}: No such file or directory", file, line, code=3)
        identity = sent.get("identity") or path
        if identity in self._identities:
            return
        self._identities.add(identity)
        if sent["kind"] == "list":
            return
        self.read.append(path)
        # fopen(3) opens a directory, and reads nothing from it.
        if sent["kind"] != "dir":
            self._content(sent)

    def _content(self, sent: ConfigFile) -> None:
        path = sent["path"]
        if sent["kind"] != "file":
            self._cannot_tell(f"the content of {path} is not known ({sent['kind']})", path)
            return
        for number, text in lines(sent["content"]):
            try:
                parsed = parse_line(text, self._known)
                if parsed is None:
                    continue
                name, value = parsed
                self._counts(name, value, from_file=True)
            except KeywordError as error:
                if may_know_more(self._version):
                    of_later = f"dnsmasq 2.90 says: {error} at line {number} of {path}{self._other_version()}"
                    self._cannot_tell(of_later, path, number)
                    continue
                raise ConfigError(f"{error} at line {number} of {path}", path, number) from None
            except LineError as error:
                raise ConfigError(f"{error} at line {number} of {path}", path, number) from None
            self.options.append(Option(name=name, value=value, file=path, line=number))
            self._follow(name, value, path, number)

    def _directory(self, parts: list[str], file: str, line: int) -> None:
        given, *suffixes = parts or [""]
        if not given:
            return
        sent = self._sent(absolute(given))
        if sent is None:
            return
        if sent["kind"] == "unreadable":
            self._cannot_tell(f"the directory {given} could not be read", file, line)
            return
        if sent["kind"] != "dir":
            reason = "No such file or directory" if sent["kind"] == "missing" else "Not a directory"
            raise ConfigError(f"cannot access directory {given}: {reason}", file, line, code=3)
        entries = [entry for entry in sent["entries"] if _is_config(entry["name"], suffixes)]
        for entry in entries:
            if entry["kind"] == "dangling":
                message = f"cannot access {given}/{entry['name']}: No such file or directory"
                raise ConfigError(message, f"{absolute(given)}/{entry['name']}", code=3)
        names = [entry["name"] for entry in entries if entry["kind"] == "file"]
        for name in sorted(names, key=lambda name: name.encode("utf-8", "surrogateescape")):
            self._file(f"{given}/{name}", file, line)

    def _servers_file(self) -> None:
        """Its lines are read when everything else is, and one that is wrong is logged and passed over.

        So is a file that is not there: whatever it holds, dnsmasq starts, and takes packets as the other files say.
        Nodes do not send it.
        """
        sent = self.files.get(absolute(self._servers)) if self._servers else None
        if sent is None or sent["kind"] != "file":
            return
        self.read.append(sent["path"])
        for number, text in lines(sent["content"]):
            try:
                parsed = parse_line(text, self._known)
                if parsed is None or parsed[0] not in ("server", "rev-server"):
                    continue
                check_value(*parsed, general="error")
            except LineError:
                continue
            self.options.append(Option(name=parsed[0], value=parsed[1], file=sent["path"], line=number))


def absolute(path: str) -> str:
    """The key of a path in `files`: a service starts in /, and doubled or trailing slashes and `.` mean nothing.

    `..` stays: behind a symbolic link only the node knows where it leads.
    """
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def _is_config(name: str, suffixes: Sequence[str]) -> bool:
    """True if conf-dir reads a file of this name: `*.x` are the only ones wanted, `.x` are left out."""
    if name.endswith("~") or name.startswith(".") or (name.startswith("#") and name.endswith("#")):
        return False
    wanted = [suffix[1:] for suffix in suffixes if suffix.startswith("*") and suffix != "*"]
    unwanted = [suffix for suffix in suffixes if suffix and not suffix.startswith("*")]

    def ends(suffix: str) -> bool:
        return len(name) > len(suffix) and name.endswith(suffix)

    return (not wanted or any(map(ends, wanted))) and not any(map(ends, unwanted))
