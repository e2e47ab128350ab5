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


def on_post_page(output: str, **_: Any) -> str:
    """Mark where code may break, once the search index has what the page says."""
    return with_breaks(with_whole_options(output))


def with_breaks(html: str) -> str:
    """HTML whose code breaks after the signs between words: options and names within text, calls in blocks."""
    parts = re.split(r"(<pre.*?</pre>|<code[^>]*>.*?</code>)", html, flags=re.DOTALL)
    return "".join(_code_with_breaks(part) if part.startswith(("<pre", "<code")) else part for part in parts)


def _code_with_breaks(code: str) -> str:
    if code.startswith("<pre"):
        return code.replace('<span class="p">(</span>', '<span class="p">(</span><wbr>')
    pieces = re.split(r"(<[^>]*>)", code)
    return "".join(piece if piece.startswith("<") else _text_with_breaks(piece) for piece in pieces)


def _text_with_breaks(text: str) -> str:
    # After a dot only where a word follows: not in metrics.csv, and not in 0.25.
    text = re.sub(r"(?<=[\w\]).])([=/:,|\[(]+(?=[\w\"'\[(&])|\.(?=[A-Za-z_]\w{3}))", r"\1<wbr>", text)
    return re.sub(r"\w{17,}", _name_with_breaks, text)


def _name_with_breaks(name: re.Match[str]) -> str:
    """A long name, which may break between its words where the screen is narrow."""
    return re.sub(r"(?<=[a-z0-9]_)(?=[a-z])|(?<=[a-z])(?=[A-Z])", '<wbr class="narrow">', name[0])


def with_whole_options(html: str) -> str:
    """HTML whose code does not break after the hyphens of an option, nor before the bracket of an extra."""
    parts = re.split(r"(<code[^>]*>.*?</code>)", html, flags=re.DOTALL)
    return "".join(_with_whole_options(part) if part.startswith("<code") else part for part in parts)


def _with_whole_options(code: str) -> str:
    pieces = re.split(r"(<[^>]*>)", code)
    whole = r"(?<![\w-])--?[a-z][\w-]*|\.\[[\w,]+\]"
    return "".join(
        piece if piece.startswith("<") else re.sub(whole, r'<span class="whole">\g<0></span>', piece)
        for piece in pieces
    )


def with_equations(html: str) -> str:
    """HTML with its equations, as pymdownx.arithmatex marks them, in MathML, which browsers draw by themselves."""
    block = r'<div class="arithmatex">\\\[(.*?)\\\]</div>'
    inline = r'<span class="arithmatex">\\\((.*?)\\\)</span>'
    html = re.sub(block, lambda found: _mathml(found[1], display="block"), html, flags=re.DOTALL)
    return re.sub(inline, lambda found: _mathml(found[1], display="inline"), html, flags=re.DOTALL)


def _mathml(latex: str, *, display: str) -> str:
    from latex2mathml.converter import convert  # of the extra docs

    return convert(unescape(latex).strip(), display=display)
