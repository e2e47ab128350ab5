"""The files of a run."""

import pytest

from masac.errors import ConfigError
from masac.training.checkpointing.run_files import RunFiles
from masac.training.config import ExperimentConfig


def test_the_first_solving_evaluation_is_found(tmp_path):
    files = RunFiles(tmp_path)
    assert files.first_success(0.5) == {"solved_frames": None, "solved_s": None}
    with files.open_metrics(["frames", "wall_time_s", "eval/success_rate"], frames=0) as table:
        for frames, rate in ((1, None), (2, 0.4), (3, 0.5), (4, 0.9)):
            table.write({"frames": frames, "wall_time_s": frames / 2, "eval/success_rate": rate})
    assert files.first_success(0.5) == {"solved_frames": 3, "solved_s": 1.5}


@pytest.mark.parametrize(("resumes", "step"), [(False, r"with run_dir=\.\.\."), (True, "or resume a copy of it")])
def test_a_run_that_cannot_be_written_says_what_to_do(tmp_path, resumes, step):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=f"run_dir must be a writable folder; got .*{step}"):
        RunFiles(tmp_path / "file" / "run", resumes=resumes)


def test_a_process_of_another_rank_writes_nothing(tmp_path):
    files = RunFiles(tmp_path / "run", writes=False)
    files.write_config(ExperimentConfig())
    files.write_summary({})
    with files.open_metrics(["frames"], frames=0) as table:
        table.write({"frames": 1})
    assert list(tmp_path.iterdir()) == []
