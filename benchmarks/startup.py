"""Start-up time of the commands: python -m benchmarks.startup [--repeats 5] [--json FILE].

Measures the seconds from start to end of ``masac --help``, and from the start of ``masac train`` with its defaults to
the first row of ``metrics.csv``, after one step of all environments. For comparison: Python alone, importing PyTorch,
and importing what a TorchRL recipe for VMAS imports. The commands take turns; a figure is the median, with the range.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import print_table, summary, write_json

IMPORTS = "from torchrl.collectors import Collector; from torchrl.envs.libs.vmas import VmasEnv; import vmas"
RUNS = {
    "python": [sys.executable, "-c", "pass"],
    "import torch": [sys.executable, "-c", "import torch"],
    "import torchrl, vmas": [sys.executable, "-c", IMPORTS],
    "masac --help": [sys.executable, "-m", "masac", "--help"],
}
TRAIN = "masac train, first step"


def main() -> None:
    """Time all commands and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in (*RUNS, TRAIN)}
    for _ in range(arguments.repeats + 1):  # the first round reads files from disk and does not count
        for name, command in RUNS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - started)
        times[TRAIN].append(_first_step())
    seconds = {name: summary(values[1:]) for name, values in times.items()}
    rows = [(name, "{median:.2f}".format(**s), "{min:.2f} to {max:.2f}".format(**s)) for name, s in seconds.items()]
    print_table("seconds", ("command", "median", "range"), rows)
    write_json(arguments.json, {"seconds": seconds}, device="cpu")


def _first_step() -> float:
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "masac", "train", f"run_dir={run_dir}", "training.steps_per_iteration=1"]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                while not _has_row(run_dir / "metrics.csv"):
                    if process.poll() is not None:
                        raise RuntimeError(
                            f"{' '.join(command)} ended with exit code {process.returncode} before its first step"
                        )
                    time.sleep(0.005)
                return time.perf_counter() - started
            finally:
                process.kill()


def _has_row(path: Path) -> bool:
    return path.is_file() and path.read_text().count("\n") >= 2


if __name__ == "__main__":
    main()
