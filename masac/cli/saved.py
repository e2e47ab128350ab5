"""The saved policy that a command works on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masac.training.policies.saved_policy import SavedPolicy


def saved_policy(run_dir: Path, checkpoint: str) -> SavedPolicy:
    """The policy of a run.

    Raises:
        ConfigError: if there is no such policy, or it is damaged.
    """
    from masac.training.policies.saved_policy import find_policy, read_policy  # imported when needed: PyTorch

    return read_policy(find_policy(run_dir, checkpoint=checkpoint))


def say(line: str) -> None:
    """Print a line on standard error: ``--json`` prints the result on standard output."""
    print(line, file=sys.stderr, flush=True)
