"""Render schedules for systemd: services and their timers, and the same as a line for cron."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from lakescore.scheduling.description import FINAL, MINUTES_BETWEEN, MOST_HOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.scheduling.cron import Cron
    from lakescore.scheduling.description import Job, Schedule


def render(schedule: Schedule) -> dict[str, str]:
    """Return a service and a timer for each job, and the line for cron.

    Raises:
        ConfigError: systemd cannot express the schedule.
    """
    schedule.refuse_alarm("systemd")
    head = f"# Written by: {schedule.command('systemd')}\n"
    files = {
        f"{schedule.name}.service": head + _service(schedule, schedule.name, schedule.tasks),
        f"{schedule.name}.timer": head + _timer(schedule.name, schedule.cron),
    }
    if (then := schedule.then) is not None:
        files |= {
            f"{then.name}.service": head + _service(schedule, then.name, [then], schedule.name),
            f"{then.name}.timer": head + _timer(then.name, schedule.then_cron),
        }
    return files | {f"{schedule.name}.crontab": head + _crontab(schedule)}


def _service(schedule: Schedule, name: str, jobs: Sequence[Job], after: str = "") -> str:
    assigned = "\n".join(
        f"Environment={_quoted(f'{key}={value}')}" for key, value in _variables(schedule).items()
    )
    commands = "\n".join(
        f"ExecStart={' '.join(_quoted(word, dollar='$$') for word in _command(schedule, job))}"
        for job in jobs
    )
    order = (
        # Two timers start in either order, and After= waits only for a unit that is starting.
        f"# It also starts the first service, which has nothing to do if it has run already,\n"
        f"# and waits until that service ends or fails: it needs none of its rows.\n"
        f"Wants={after}.service\nAfter={after}.service\n"
        if after
        else ""
    )
    return f"""\
[Unit]
Description={name}
Wants=network-online.target
After=network-online.target
{order}
[Service]
Type=oneshot
WorkingDirectory={_escape_unit(schedule.project)}
{assigned}
{commands}
TimeoutStartSec={MOST_HOURS}h
# A repeated run writes nothing twice. It cannot change the exit codes in the last line.
Restart=on-failure
RestartSec={MINUTES_BETWEEN}min
RestartPreventExitStatus={" ".join(map(str, FINAL))}
"""


def _timer(name: str, cron: Cron) -> str:
    return f"""\
[Unit]
Description={name} at {_escape_unit(cron.text)} UTC

[Timer]
OnCalendar={cron.on_calendar()}
# If the machine was off at the time of a run, the run starts later.
Persistent=true

[Install]
WantedBy=timers.target
"""


def _crontab(schedule: Schedule) -> str:
    line = _locked(schedule, schedule.name, schedule.tasks)
    if (then := schedule.then) is not None:
        second = _locked(schedule, then.name, [then])
        if schedule.then_on:
            # The day on which the first job starts; it can end on the next day.
            days = "|".join(map(str, schedule.then_on))
            line = f"day=$(date -u +%u) && {line} && case $day in {days}) {second};; esac"
        else:
            line = f"{line} && {second}"
    line = f"cd {shlex.quote(schedule.project)} && {line}"  # cron starts commands in HOME
    return f"CRON_TZ=UTC\n{schedule.cron.text} {line.replace('%', chr(92) + '%')}\n"


def _locked(schedule: Schedule, name: str, jobs: Sequence[Job]) -> str:
    """Return a command that runs *jobs* one after the other, unless they run already."""
    variables = [f"{key}={value}" for key, value in _variables(schedule).items()]
    lines = [shlex.join(["env", *variables, *_command(schedule, job)]) for job in jobs]
    line = lines[0] if len(lines) == 1 else f"sh -c {shlex.quote(' && '.join(lines))}"
    return f"flock -n /tmp/{name}.lock {line}"


def _variables(schedule: Schedule) -> Mapping[str, str]:
    return {"PLACE": schedule.place, **schedule.environment}


def _command(schedule: Schedule, job: Job) -> list[str]:
    root = schedule.project
    return [f"{schedule.python_folder}/bin/lakescore", job.kind, *job.arguments(root)]


def _escape_unit(text: str) -> str:
    """Return *text* for a unit's file, where `%` starts a specifier."""
    return text.replace("%", "%%")


def _quoted(text: str, *, dollar: str = "$") -> str:
    r"""Return *text* as one word of a unit's file, with literal `%`, `"` and `\`.

    A `$` is literal in the value of a variable; in a command it must be written twice.
    """
    plain = _escape_unit(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", dollar)
    return plain if re.fullmatch(r"[\w./=:@+,-]+", plain) else f'"{plain}"'
