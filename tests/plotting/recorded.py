"""Folders of runs as masac train leaves them, written by hand."""

import yaml


def write_run(path, *, seed=0, algorithm="isac", task=None, groups=("agents",), evaluations, finished=True, **more):
    """Write a run; ``evaluations`` has the return (of all groups alike, or a dict a group) at some frames.

    A row every 100 frames, 0.5 s each.
    """
    path.mkdir(parents=True)
    last = max(evaluations, default=300)
    training = {"total_frames": last if finished else last + 1, **more.pop("training", {})}
    task = {"suite": "vmas", "scenario": "navigation", "factory": None, **(task or {})}
    config = {"task": task, "algorithm": {"name": algorithm}, "seed": seed, "run_dir": str(path)}
    config |= {"training": training, **more}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    names = ["frames", "updates", "wall_time_s", "train/return_mean", "eval/return_mean"]
    names += [f"{group}/{kind}/return_mean" for group in groups for kind in ("train", "eval")]
    lines = [",".join(names)]
    for frames in range(100, last + 1, 100):
        of = per_group(evaluations.get(frames), groups)
        mean = "" if frames not in evaluations else sum(of.values()) / len(of)
        cells = [frames, 0, frames / 200, -1.0, mean, *(x for group in groups for x in (-1.0, of.get(group, "")))]
        lines.append(",".join(str(cell) for cell in cells))
    (path / "metrics.csv").write_text("\r\n".join(lines) + "\r\n", newline="")
    return path


def per_group(value, groups):
    if value is None:
        return {}
    return value if isinstance(value, dict) else dict.fromkeys(groups, value)
