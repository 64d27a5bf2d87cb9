"""Which values dnsmasq refuses.

Only the options that decide who is answered, and where questions go, are looked at: `dnsmasq --test` on the node has
the last word about all others. Source: `one_opt` and `parse_server` in src/option.c of dnsmasq 2.90.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address

from facts.dnsmasq_lines import QUOTED_COMMA, LineError, split_value


def address(text: str) -> IPv4Address | IPv6Address | None:
    """An address literal as inet_pton(3) takes it: no scope, no prefix."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


_PORTS = {"port", "min-port", "max-port", "query-port"}
_NUMBERS = set(
    "cache-size dns-forward-max edns-packet-max port-limit max-tcp-connections"
    " local-ttl neg-ttl max-ttl min-cache-ttl max-cache-ttl auth-ttl dhcp-ttl".split()
)
_AT_LEAST_ONE = {"port-limit", "max-tcp-connections"}


def check_value(name: str, value: str | None, general: str) -> None:
    """Raises `LineError` if dnsmasq refuses this value.

    + general: what dnsmasq says when it has no better words: "error" in a file, "try --help" on the command line
    """
    parts = split_value(value)
    if name in _PORTS or name in _NUMBERS:
        number = c_integer(value)
        if number is None or (name in _PORTS and not 0 <= number <= 0xFFFF):
            raise LineError(general)
        if name in _AT_LEAST_ONE and number < 1:
            raise LineError(general)
    elif name in ("listen-address", "auth-peer"):
        if not all(address(part) for part in parts):
            raise LineError(general)
    elif name == "local-service":
        if value not in (None, "net", "host"):
            raise LineError(general)
    elif name == "auth-server":
        for part in parts[1:]:
            if not address(part) and "/" in part and part.partition("/")[2].lstrip(" ") not in ("4", "6"):
                raise LineError(general)
    elif name == "address":
        target = _after_domains(value)
        if target not in ("", "#") and not address(target):
            raise LineError("Bad address in --address")
    elif name in ("server", "local"):
        _check_server(_after_domains(value))
    elif name == "rev-server" and not address(parts[0].partition("/")[0].rstrip(" ")):
        raise LineError(general)


def c_integer(value: str | None) -> int | None:
    """A number as dnsmasq reads it: digits only, "" is 0, and too large ones wrap to 32 bits; None if it is none."""
    if value is None or any(char not in "0123456789" for char in value):
        return None
    low = min(int(value or "0"), 2**63 - 1) & 0xFFFFFFFF
    return low - 2**32 if low >= 2**31 else low


def _after_domains(value: str | None) -> str:
    text = (value or "").replace(QUOTED_COMMA, ",")
    return text.rpartition("/")[2].lstrip(" ") if text.startswith("/") else text


def _check_server(target: str) -> None:
    # A name instead of an address is looked up when dnsmasq starts; that cannot be known from the file.
    if target == "#":
        return
    server, _, source = target.partition("@")
    for part in (server, source):
        _, given, port = part.partition("#")
        number = c_integer(port.strip(" "))
        if given and (number is None or not 0 <= number <= 0xFFFF):
            raise LineError("bad port")
