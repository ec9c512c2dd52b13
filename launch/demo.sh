#!/usr/bin/env bash
# From nothing to a trained, interrupted, resumed, evaluated and inspected mixture of LoRA experts
# on a real model, on two processes. Usage: launch/demo.sh [--out DIR] [--steps N]
#   --out DIR   what the demo writes (runs/demo; an older demo there is replaced)
#   --steps N   training steps of each of the three runs (40, at least 8)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$root/runs/demo
steps=40

fail() { echo "demo: $*" >&2; exit 1; }

while [[ $# -gt 0 ]]; do
  case $1 in
    -h | --help) sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    --out) [[ $# -gt 1 ]] || fail "--out needs a folder"; out=$(realpath -m "$2"); shift 2 ;;
    --steps) [[ $# -gt 1 ]] || fail "--steps needs a number"; steps=$2; shift 2 ;;
    *) echo "demo: unknown option $1 (expected --out DIR or --steps N)" >&2; exit 2 ;;
  esac
done
if ! [[ $steps =~ ^[0-9]{1,9}$ && $steps -ge 8 ]]; then
  echo "demo: --steps is $steps, expected 8 or more" >&2
  exit 2
fi

cd "$root"
dfmoa=$root/build/release/launch/dfmoa
config=$root/configs/dfmoa_smollm2.ini
downloads=$(realpath -m "${DFMOA_DOWNLOADS:-$root/downloads}")
export DFMOA_DOWNLOADS=$downloads OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
processes=2
cores=$(nproc)
export OMP_NUM_THREADS=$((cores > processes ? cores / processes : 1))
every=$((steps / 4))           # a checkpoint at each quarter
kill_after=$((every + every / 2))  # between two checkpoints
base=$out/base
data=$out/data

# part NAME COMMAND...: runs it and notes its seconds for the table.
part() {
  local name=$1 begin=$SECONDS
  shift
  printf '\n== %s\n' "$name" >&2
  "$@"
  printf '%s\t%d\n' "$name" $((SECONDS - begin)) >> "$times"
}

# train RUN RESUME [OPTION...]: replaces the shell that calls it, so that its pid is mpirun's.
train() {
  local run=$1 resume=$2
  shift 2
  exec mpirun -n "$processes" --oversubscribe --bind-to none --mca btl self,vader \
    --mca mpi_yield_when_idle 1 \
    "$dfmoa" train -c "$config" --run "$run" --resume "$resume" --json \
    --set model.path="$base" --set data.train="$data/train.jsonl" \
    --set train.steps="$steps" --set checkpoint.every="$every" --set log.every=1 "$@" < /dev/null
}

last_step() {  # of a run's metrics, 0 where there are none yet
  local found
  found=$(grep -oE '"step": *[0-9]+' "$1/metrics.jsonl" 2>/dev/null | grep -oE '[0-9]+$' |
    sort -n | tail -1) || true
  echo "${found:-0}"
}

children_of() {  # of mpirun: the processes of the program
  { cat /proc/[0-9]*/status 2> /dev/null || true; } |  # a process may end meanwhile
    awk -v parent="$1" '/^Name:/ { name = $2 } /^Pid:/ { pid = $2 }
      /^PPid:/ && $2 == parent && name ~ /^dfmoa/ { print pid }'
}

build() {
  local unity=()
  # From nothing, unity files halve the time; a folder that is there keeps its own choice.
  if [[ ! -f build/release/CMakeCache.txt ]]; then unity=(-DCMAKE_UNITY_BUILD=ON); fi
  .venv/bin/cmake --preset release "${unity[@]}" >&2
  .venv/bin/cmake --build build/release --target dfmoa -j 2 >&2
}

make_data() {
  .venv/bin/python launch/demo_data.py --out "$data" --seed 1 --eval-per-task 40
}

convert() {
  "$dfmoa" convert "$downloads/SmolLM2-135M-Instruct.Q4_1.gguf" "$base" --nf4
}

# Kills one process without warning at a step that is no checkpoint.
train_and_kill() {
  local mpirun victim step status=0
  (train "$out/tuned" none > "$out/killed.json" 2> >(tee "$out/killed.log" >&2)) &
  mpirun=$!
  trap 'kill "$mpirun" 2>/dev/null || true' EXIT
  while step=$(last_step "$out/tuned") && [[ $step -lt $kill_after ]]; do
    kill -0 "$mpirun" 2>/dev/null || fail "training ended at step $step before it could be killed,
$(tail -3 "$out/killed.log")"
    sleep 0.1
  done
  victim=$(children_of "$mpirun" | sort -n | tail -1)
  [[ -n $victim ]] || fail "no process of the training was found"
  kill -9 "$victim"
  wait "$mpirun" 2>/dev/null || status=$?
  trap - EXIT
  [[ $status -ne 0 ]] || fail "training ended well although process $victim was killed"
  step=$(last_step "$out/tuned")
  [[ $((step % every)) -ne 0 ]] || fail "the kill hit step $step, which is a checkpoint"
  echo "$step" > "$out/killed_at"
  echo "killed one of $processes processes after step $step (checkpoints every $every steps)"
}

resume() {
  (train "$out/tuned" auto > "$out/tuned.json" 2> >(tee "$out/log.txt" >&2))
  resumed=$(grep -oE 'resumed at step [0-9]+' "$out/log.txt" | head -1 | grep -oE '[0-9]+$') ||
    fail "the log says nowhere at which step the run was resumed"
  [[ $resumed -gt 0 ]] || fail "the run was resumed at step 0, expected a checkpoint"
  echo "resumed at step $resumed"
}

train_twin() { (train "$out/twin" none > "$out/twin.json"); }

adapters_of() {  # NAME EXPERTS RANK of every adapter of a resolved configuration
  awk -F ' *= *' '
    function flush() { if (name != "") print name, experts, rank; name = "" }
    /^\[/ { flush() }
    /^\[adapter\./ { name = substr($0, 10, length($0) - 10) }
    name != "" && $1 == "experts" { experts = $2 }
    name != "" && $1 == "rank" { rank = $2 }
    END { flush() }' "$1"
}

# One expert with the directions of all experts, everything else the same.
train_one() {
  local sets=() name experts rank
  while read -r name experts rank; do
    sets+=(--set "adapter.$name.experts=1" --set "adapter.$name.rank=$((experts * rank))")
  done < <(adapters_of "$out/tuned/config.ini")
  [[ ${#sets[@]} -gt 0 ]] || fail "$out/tuned/config.ini names no adapter"
  (train "$out/single" none "${sets[@]}" > "$out/single.json")
}

evaluate() {  # one process on all cores
  local OMP_NUM_THREADS=$cores
  "$dfmoa" eval "$base" --data "$data/heldout.jsonl" --exact-match \
    --max-new-tokens 24 --json > "$out/eval_base.json"
  "$dfmoa" eval "$out/tuned" --data "$data/heldout.jsonl" --exact-match \
    --max-new-tokens 24 --json > "$out/eval_tuned.json"
  "$dfmoa" eval "$out/single" --data "$data/heldout.jsonl" --exact-match \
    --max-new-tokens 24 --json > "$out/eval_single.json"
}

generate() {
  local prompt
  prompt=$(head -1 "$data/heldout.jsonl" | .venv/bin/python -c \
    'import json, sys; print(json.load(sys.stdin)["messages"][0]["content"])')
  printf 'prompt: %s\n' "$prompt"
  "$dfmoa" generate "$out/tuned" -p "$prompt" --tokens 16 --greedy --show-gates
}

inspect() {
  "$dfmoa" inspect "$out/tuned" --json > "$out/inspect.json"
  "$dfmoa" inspect "$out/tuned"
  "$dfmoa" inspect "$out/tuned" --ranks
}

if [[ -e $out ]]; then
  [[ -f $out/parts.tsv || -z $(ls -A "$out") ]] || fail "$out holds something else than a demo"
  rm -rf "$out"
fi
mkdir -p "$out"
times=$out/parts.tsv
: > "$times"

part "set up" ci/setup.sh --product
part "build" build
part "fetch" ci/fetch.sh
part "data" make_data
part "convert" convert
part "train and kill" train_and_kill
part "resume" resume
part "undisturbed twin" train_twin
part "one expert" train_one
part "evaluate" evaluate
part "generate" generate
part "inspect" inspect
echo
.venv/bin/python launch/demo_table.py "$out"
