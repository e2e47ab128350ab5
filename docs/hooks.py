"""Hooks that MkDocs calls while it builds the site; see mkdocs.yml."""

from __future__ import annotations

import re
import sys
from html import unescape
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # MkDocs loads this file by its path

from docs.generate import filled


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the generated parts of a page."""
    return filled(markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Convert equations to MathML, and Sphinx roles such as :class:`GroupSACLoss` to plain code."""
    return re.sub(r":(?:class|func|meth|attr|mod):<code>~?", "<code>", with_equations(html))


def on_post_page(output: str, **_: Any) -> str:
    """Mark where code may break; the search index is made before, without the marks."""
    return with_breaks(with_whole_options(output))


def with_breaks(html: str) -> str:
    """HTML in which inline code may break after punctuation between words, and blocks after an opening bracket."""
    parts = re.split(r"(<pre.*?</pre>|<code[^>]*>.*?</code>)", html, flags=re.DOTALL)
    return "".join(_code_with_breaks(part) if part.startswith(("<pre", "<code")) else part for part in parts)


def _code_with_breaks(code: str) -> str:
    if code.startswith("<pre"):
        return code.replace('<span class="p">(</span>', '<span class="p">(</span><wbr>')
    pieces = re.split(r"(<[^>]*>)", code)
    return "".join(piece if piece.startswith("<") else _text_with_breaks(piece) for piece in pieces)


def _text_with_breaks(text: str) -> str:
    # After a dot only before a word of four letters or more: not in metrics.csv or 0.25.
    text = re.sub(r"(?<=[\w\]).])([=/:,|\[(]+(?=[\w\"'\[(&])|\.(?=[A-Za-z_]\w{3}))", r"\1<wbr>", text)
    return re.sub(r"\w{17,}", _name_with_breaks, text)


def _name_with_breaks(name: re.Match[str]) -> str:
    """A long name that may break between its words on narrow screens."""
    return re.sub(r"(?<=[a-z0-9]_)(?=[a-z])|(?<=[a-z])(?=[A-Z])", '<wbr class="narrow">', name[0])


def with_whole_options(html: str) -> str:
    """HTML in which options such as ``--venv`` and extras such as ``.[ray]`` do not break."""
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
    """HTML with the equations that pymdownx.arithmatex marks as MathML, which browsers draw natively."""
    block = r'<div class="arithmatex">\\\[(.*?)\\\]</div>'
    inline = r'<span class="arithmatex">\\\((.*?)\\\)</span>'
    html = re.sub(block, lambda found: _mathml(found[1], display="block"), html, flags=re.DOTALL)
    return re.sub(inline, lambda found: _mathml(found[1], display="inline"), html, flags=re.DOTALL)


def _mathml(latex: str, *, display: str) -> str:
    from latex2mathml.converter import convert  # of the extra docs

    return convert(unescape(latex).strip(), display=display)
