"""Imports go one way: from the command line down to the equations, without circles."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "masac"
ROOMS = [
    {"conf", "docstrings", "errors", "keys", "functional", "recurrence", "signals", "compat", "files", "dotted_keys"},
    {"actions", "images", "named_objects", "process", "settings", "skipping"},
    {"groups"},
    {"group_signals", "layouts", "envs"},
    {"networks", "plotting", "rendering"},
    {"losses"},
    {"algorithm", "integrations"},
    {"training"},
    {"exporting"},
    {"cli"},
    {"__main__"},
]
"""What lies at the top of the package, from the bottom up; a room imports from those before it, and from itself."""


def modules():
    """The syntax tree of every module, by its dotted name."""
    return {
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            file.read_text()
        )
        for file in PACKAGE.rglob("*.py")
    }


def imports():
    """The modules of the package that each of them imports, inside of functions too."""
    trees = modules()
    found = {}
    for name, tree in trees.items():
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        full = [(node.module, f"{node.module}.{alias.name}") for node in nodes for alias in node.names]
        found[name] = {whole if whole in trees else part for part, whole in full} & set(trees)
    return found


def room(name):
    return name.split(".")[1]


def test_no_module_imports_itself_by_way_of_others():
    TopologicalSorter({name: others - {"masac"} for name, others in imports().items()}).prepare()


def test_rooms_import_from_below_only():
    level = {name: number for number, names in enumerate(ROOMS) for name in names}
    found = {name: others for name, others in imports().items() if name != "masac"}
    assert {room(name) for name in found} == set(level)
    upward = [
        (name, other)
        for name, others in found.items()
        for other in others
        if other != "masac" and room(other) != room(name) and level[room(other)] >= level[room(name)]
    ]
    assert upward == []


def test_no_test_imports_another():
    for file in Path(__file__).parent.rglob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
        names = [f"{node.module}.{alias.name}" for node in nodes for alias in node.names]
        assert not [name for name in names if name.startswith("tests.") and ".test_" in name], file
