"""Arguments that several classes take are explained once."""

from dataclasses import dataclass

import pytest

from masac.docstrings import argument_texts, explained_by


class Source:
    """A source.

    Args:
        mode: ``"fast"``, or None
            for neither. Default: None.
        size: of it. Default: 3.
    """


def test_explanations_are_on_one_line_whatever_the_indentation():
    stripped = "A source.\n\nArgs:\n    mode: one\n        two.\n    size: of it.\n"  # as Python 3.13 keeps docstrings
    assert argument_texts(stripped) == {"mode": "one two.", "size": "of it."}
    assert argument_texts(Source.__doc__)["mode"] == '``"fast"``, or None for neither. Default: None.'


def test_a_dataclass_explains_its_fields_in_the_words_of_others():
    @explained_by(Source, as_yaml=True, kind="round.")
    @dataclass
    class Made:
        """Made.

        Args:
            size: its own.
        """

        kind: str
        mode: str
        size: int

    assert Made.__doc__.startswith("Made.\n\nArgs:\n")
    assert argument_texts(Made.__doc__) == {
        "kind": "round.",
        "mode": "``fast``, or null for neither.",
        "size": "its own.",
    }


def test_a_field_that_nobody_explains_is_an_error():
    @dataclass
    class Made:
        """Made."""

        color: str

    with pytest.raises(KeyError, match="color"):
        explained_by(Source)(Made)
