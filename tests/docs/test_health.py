"""The picture of runs that learn and of runs that do not."""

from matplotlib.image import imread

from docs.pictures.health import COLUMNS, draw, read


def test_columns_are_read_without_empty_cells_and_drawn(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text(f"frames,{','.join(COLUMNS)}\n32,,,,\n64,1.5,0.1,-3,\n96,1.0,0.05,-2,0.5\n")
    table = read(file)
    assert table["agents/entropy"] == [(64, 1.5), (96, 1.0)]
    assert table["eval/return_mean"] == [(96, 0.5)]
    draw({"a run": table, "another": table}, tmp_path / "health.png")
    assert imread(tmp_path / "health.png").shape[:2] == (715, 1210)
