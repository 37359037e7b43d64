"""Write YAML in a plain style, below the command that wrote it."""

from __future__ import annotations

from typing import Any

import yaml


def as_yaml(command: str, *documents: Any, note: str = "") -> str:  # noqa: ANN401 - any value of YAML
    """Return *documents* as one file that *command* writes, with a *note* of comment lines."""
    advice = "# The command below wrote this file. Do not edit it; run the command again."
    head = f"{advice}\n# {command}\n{note}"
    texts = [
        yaml.dump(document, Dumper=_Plain, sort_keys=False, width=100) for document in documents
    ]
    return head + "---\n".join(texts)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - PyYAML's signature
        return True
