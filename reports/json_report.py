"""The diagnosis for programs: all of it, as docs/diagnosis.schema.json says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import cast

from checks.diagnosis import Diagnosis

FORMAT = 1
_SURROGATE = re.compile("[\ud800-\udfff]")


def read(path: str) -> Diagnosis:
    """An earlier report, to compare with. OSError and ValueError, in one sentence, for what is none."""
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise OSError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is no diagnosis: it is not JSON") from error
    if not isinstance(found, dict) or not isinstance(found.get("hops"), list):
        raise ValueError(f"{path}: is no diagnosis: it has no hops")
    if found.get("format") != FORMAT:
        raise ValueError(f"{path}: is a diagnosis of format {found.get('format')!r}, this dnsmend reads {FORMAT}")
    return cast(Diagnosis, found)


def render(diagnosis: Diagnosis) -> str:
    """JSON in ASCII, so that a terminal runs no escape of a log line; bytes that are no text become U+FFFD."""
    text = json.dumps(diagnosis, indent=2, ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair is no character: many readers of JSON refuse the whole file for it.
    whole = json.loads(_SURROGATE.sub("\ufffd", text))
    return json.dumps(whole, indent=2) + "\n"
