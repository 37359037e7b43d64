"""YAML as a person would write it, beneath the command that made it."""

from __future__ import annotations

from typing import Any

import yaml


def as_yaml(command: str, *documents: Any, note: str = "") -> str:  # noqa: ANN401 - what YAML holds
    """Return *documents* as one file that *command* makes, with a *note* of comment lines."""
    head = f"# Made by the command below; make it anew rather than edit it.\n# {command}\n{note}"
    texts = [yaml.dump(each, Dumper=_Plain, sort_keys=False, width=100) for each in documents]
    return head + "---\n".join(texts)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - PyYAML's signature
        return True
