"""The policy that a command was given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masac.training.policies.saved_policy import SavedPolicy


def saved_policy(run_dir: Path, checkpoint: str) -> SavedPolicy:
    """The policy of a run; says what of its config another version of masac wrote.

    Raises:
        ConfigError: if there is no such policy, or it is damaged.
    """
    from masac.training.policies.saved_policy import find_policy, read_policy  # imported when needed: PyTorch

    saved = read_policy(find_policy(run_dir, checkpoint=checkpoint))
    if saved.unknown_keys:
        say(f"warning: {saved.file} has keys that this version of masac does not: {', '.join(saved.unknown_keys)}")
    return saved


def say(line: str) -> None:
    """Print a line that is no result, as ``--json`` prints one."""
    print(line, file=sys.stderr, flush=True)
