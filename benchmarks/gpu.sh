#!/usr/bin/env bash
# Speed with thousands of environments on a GPU, in about ten minutes: bash benchmarks/gpu.sh
#
# The results are JSON and a run, in FOLDER. No GPU has been measured yet. On a CPU, at small size, in seconds:
#
#   DEVICE=cpu ENVS=64 BATCH=64 FRAMES=2000 ROUNDS=1 SECONDS_EACH=0.1 CONTENDERS=graph bash benchmarks/gpu.sh
set -euo pipefail

device=${DEVICE:-cuda}
read -ra envs <<< "${ENVS:-1024 4096 16384}"
read -ra batch <<< "${BATCH:-256 1024 4096}"
read -ra contenders <<< "${CONTENDERS:-masac graph own}"
turns=(--rounds "${ROUNDS:-5}" --seconds "${SECONDS_EACH:-0.5}" --device "$device")
folder=${FOLDER:-runs/gpu}
python=${PYTHON:-python}
mkdir -p "$folder"

# An update beside TorchRL's, and collecting beside a plain loop on VMAS.
"$python" -m benchmarks.update_step --batch "${batch[@]}" --contenders "${contenders[@]}" "${turns[@]}" \
  --json "$folder/update_step.json"
"$python" -m benchmarks.collection --tasks navigation --envs "${envs[@]}" "${turns[@]}" --json "$folder/collection.json"

# Many environments, large batches, few updates per frame (FastTD3, Seo et al. 2025, arXiv 2505.22642): one step of
# every environment, then two updates.
many=${envs[-1]} large=${batch[-1]}
"$python" -m masac train task=vmas/navigation training.device="$device" task.num_envs="$many" \
  training.steps_per_iteration=1 training.batch_size="$large" training.updates_per_frame="$("$python" -c "print(2 / $many)")" \
  training.warmup_frames=$((many * 10)) training.buffer_size=$((many * 100)) \
  training.total_frames="${FRAMES:-$((many * 1000))}" evaluation.every_frames=$((many * 100)) logging.progress=plain \
  run_dir="$folder/navigation"
