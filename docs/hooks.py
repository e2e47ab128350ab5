"""MkDocs calls these while it builds the site: see mkdocs.yml."""

from __future__ import annotations

import re
import sys
from html import unescape
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # MkDocs loads this file by its path

from docs.generate import filled


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what is generated into a page."""
    return filled(markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Write equations in MathML; of what docstrings name as Sphinx does, :class:`GroupSACLoss`, leave the name."""
    return re.sub(r":(?:class|func|meth|attr|mod):<code>~?", "<code>", with_equations(html))


def with_equations(html: str) -> str:
    """HTML with its equations, as pymdownx.arithmatex marks them, in MathML, which browsers draw by themselves."""
    block = r'<div class="arithmatex">\\\[(.*?)\\\]</div>'
    inline = r'<span class="arithmatex">\\\((.*?)\\\)</span>'
    html = re.sub(block, lambda found: _mathml(found[1], display="block"), html, flags=re.DOTALL)
    return re.sub(inline, lambda found: _mathml(found[1], display="inline"), html, flags=re.DOTALL)


def _mathml(latex: str, *, display: str) -> str:
    from latex2mathml.converter import convert  # of the extra docs

    return convert(unescape(latex).strip(), display=display)
