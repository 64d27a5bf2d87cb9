"""A real browser without a network: what it makes of a page, what it complains about, and what it would have loaded."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Opened:
    """A page as the browser has it: its document, its console, the addresses that it asked for."""

    document: str
    console: list[str]
    requests: set[str]


def open_page(page: Path, folder: Path) -> Opened:
    """Open a file. + folder: for the browser's own files. It fails where chromium is not installed."""
    log = folder / "network.json"
    done = subprocess.run(
        [
            # A network namespace of its own: nothing can be loaded, and what is tried is still logged.
            *("unshare", "--net", "--", "timeout", "-k", "5", "180", "chromium"),
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'profile'}"),
            *("--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
    )
    return Opened(
        done.stdout,
        [line for line in done.stderr.splitlines() if ":CONSOLE" in line],
        _asked(log),
    )


def _asked(log: Path) -> set[str]:
    """What the page wanted. Chromium asks about itself as well, whatever page is open: no origin is behind that."""
    text = log.read_text()
    try:
        events = json.loads(text)["events"]
    except ValueError:
        # A browser that ended before its log was closed: every event stands on a line of its own.
        events = json.loads(text.rstrip().rstrip(",") + "]}")["events"]
    given = [event.get("params") or {} for event in events]
    asked = {
        each["url"] for each in given if "url" in each and each.get("initiator", "not an origin") != "not an origin"
    }
    return {url for url in asked if not url.startswith(("file:", "data:"))}
