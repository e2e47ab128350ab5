"""MkDocs calls these while it builds the site: see mkdocs.yml."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # MkDocs loads this file by its path

from docs.generate import filled


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what is generated into a page."""
    return filled(markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings name things as Sphinx does, :class:`GroupSACLoss`; leave the name."""
    return re.sub(r":(?:class|func|meth|attr|mod):<code>~?", "<code>", html)
