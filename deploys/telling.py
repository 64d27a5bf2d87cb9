"""The reports that `--data json=FILE` and its like ask for, and an earlier one: errors are as pyinfra shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host

from checks.diagnosis import Diagnosis, Hop
from deploys.shape import misfit
from reports import json_report
from reports import write as reports


def wanted(host: Host, formats: Sequence[str] = reports.FORMATS) -> dict[str, str]:
    """The files by format, "-" for standard output. Raises PyinfraError for what cannot be written to."""
    try:
        return reports.wanted(host.data.dict(), formats)
    except ValueError as error:
        raise PyinfraError(str(error)) from error


def earlier(path: Any) -> list[Hop]:
    """The hops of the report that `--data before=FILE` names, none for None. Raises PyinfraError for what is none."""
    if path is None:
        return []
    try:
        if not isinstance(path, str) or not path:
            raise ValueError(f"{path}: must be a report that --data json=FILE wrote")
        hops = json_report.read(path)["hops"]
        if problem := misfit(hops, list[Hop], "hops"):
            raise ValueError(f"{path}: is no diagnosis: {problem}")
    except (OSError, ValueError) as error:
        raise PyinfraError(f"--data before={error}") from error
    return hops


def folder(host: Host, key: str) -> str:
    """The folder that `--data KEY=DIR` names, "" without it. Raises PyinfraError for what is no path."""
    path = host.data.get(key)
    if path is None:
        return ""
    # pyinfra reads the value as JSON where it is any: a folder's name of digits is a number then.
    if not isinstance(path, str) or not path:
        raise PyinfraError(f"--data {key}={path}: must be the path of a folder, with ./ before a name of digits")
    return path


def write(diagnosis: Diagnosis, paths: Mapping[str, str]) -> None:
    """Write each of them. Raises PyinfraError, in one sentence that names the file."""
    try:
        reports.write(diagnosis, paths)
    except (OSError, ValueError) as error:
        raise PyinfraError(str(error)) from error
