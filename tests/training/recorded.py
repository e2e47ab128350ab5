"""Folders of runs as masac train leaves them, written by hand."""

import json

import yaml


def write_run(path, *, seed=0, algorithm="isac", task=None, groups=("agents",), evaluations, finished=True, **config):
    """Write a run; ``evaluations`` has the return (of all groups alike, or a dict a group) at some frames.

    A row every 100 frames, 0.5 s each.
    """
    path.mkdir(parents=True)
    task = {"suite": "vmas", "scenario": "navigation", "factory": None, **(task or {})}
    config = {"task": task, "algorithm": {"name": algorithm}, "seed": seed, "run_dir": str(path), **config}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    names = ["frames", "updates", "wall_time_s", "train/return_mean", "eval/return_mean"]
    names += [f"{group}/{kind}/return_mean" for group in groups for kind in ("train", "eval")]
    lines, last = [",".join(names)], max(evaluations, default=300)
    for frames in range(100, last + 1, 100):
        of = per_group(evaluations.get(frames), groups)
        mean = "" if frames not in evaluations else sum(of.values()) / len(of)
        cells = [frames, 0, frames / 200, -1.0, mean, *(x for group in groups for x in (-1.0, of.get(group, "")))]
        lines.append(",".join(str(cell) for cell in cells))
    (path / "metrics.csv").write_text("\r\n".join(lines) + "\r\n", newline="")
    if finished:
        write_summary(path, frames=last, returns=per_group(evaluations.get(last, 0.0), groups))
    return path


def write_summary(path, *, frames, returns):
    summary = {
        "frames": frames,
        "wall_time_s": frames / 200,
        "eval_return_mean": sum(returns.values()) / len(returns),
        "groups": {group: {"return_mean": value} for group, value in returns.items()},
    }
    (path / "summary.json").write_text(json.dumps(summary))


def per_group(value, groups):
    if value is None:
        return {}
    return value if isinstance(value, dict) else dict.fromkeys(groups, value)
