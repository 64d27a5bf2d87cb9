"""What operations write to a node or run there, from templates/."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import jinja2

from operations import runs

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).resolve().parent.parent / "templates"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,
)
TEMPLATES.filters["quote"] = lambda value: shlex.quote(str(value))
TEMPLATES.filters["awk_match"] = lambda pattern, variable: f"{variable} ~ /{pattern}/"


def step_script(template: str, run: str, step: str, undo_after: int, **names: Any) -> str:
    """
    A change with a way back: it takes the node's lock, keeps a journal and undo.sh, and is undone by a timer.

    + template: its name in templates/; it begins with step.sh.j2, or with undo-step.sh.j2 for the way back
    + run: the run's id
    + step: the change's name; its folder on the node is `runs.step_directory(run, step)`
    + undo_after: seconds after which the node takes the whole run back unless it is confirmed
    + names: what else the template needs

    Raises ValueError for what is no run's id.
    """
    if not runs.is_id(run):
        raise ValueError(f"{run!r} is no run's id")
    if "about" in names:
        names["about"] = " ".join(str(names["about"]).split())
    return TEMPLATES.get_template(template).render(
        run=run,
        step=step,
        folder=runs.NODE_DIRECTORY,
        run_dir=f"{runs.NODE_DIRECTORY}/{run}",
        dir=runs.step_directory(run, step),
        timer=runs.timer(run, step),
        boot_unit=runs.boot_unit(run),
        lock=runs.NODE_LOCK,
        keep=runs.KEPT,
        wave=runs.wave_of_host(),
        by=runs.BY,
        undo_after=undo_after,
        **names,
    )
