#!/usr/bin/env bash
# What a GPU machine at hand for a quarter of an hour can tell: contracts on the device, costs, and full trainings.
#
# bash benchmarks/on_gpu.sh [--tiny] [--OPTION VALUE]...
#
#   --tiny           about two minutes on one CPU thread, to try the script; give it first
#   --out FOLDER     for the report, and at most seven archives, below 60 MB together   [$OUT, or on_gpu]
#   --data-dir FOLDER   holds cifar10/train-*.parquet and test-*.parquet                [$BENCH_DATA_DIR]
#   --work FOLDER    for the store, lines and logs; the same again continues            [on_gpu in the temporary folder]
#   --from FOLDER    with archives of an earlier run, to continue on another machine
#   --seconds N      for everything                                                     [780]
#   --smoke N, --costs N   seconds of the first two stages; 0 leaves a stage out        [90, 120]
#   --workers N      processes of the first stage                                       [8]
#   --at-once N      trainings at once                                                  [4]
#   --jobs FILE      trainings, a line of options of "bench run" each, the most important first  [benchmarks/gpu_jobs.txt]
#   --python PROGRAM   with torch; the suite need not be installed                      [python3]
set -uo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
out=${OUT:-on_gpu} data=${BENCH_DATA_DIR:-} work=${TMPDIR:-/tmp}/on_gpu from= python=python3 tiny=
seconds=780 smoke=90 costs=120 workers=8 at_once=4 jobs=$top/benchmarks/gpu_jobs.txt

fail() {
  echo "on_gpu.sh: $1" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
    --tiny)
      tiny=--tiny seconds=150 smoke=40 costs=25 workers=1 at_once=2 jobs=$top/benchmarks/gpu_jobs_tiny.txt
      shift
      continue
      ;;
    --out | --work | --from | --seconds | --smoke | --costs | --workers | --at-once | --jobs | --python | --data-dir) ;;
    -h | --help) exec sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" ;;
    *) fail "no option $1; --help lists them" ;;
  esac
  [ $# -gt 1 ] || fail "$1 needs a value"
  name=${1#--} name=${name%-dir} name=${name//-/_}
  case $name in
    seconds | smoke | costs | workers | at_once) [[ $2 =~ ^[0-9]+$ ]] || fail "$1 is '$2', must be a whole number" ;;
  esac
  declare "$name=$2"
  shift 2
done
[ -r "$jobs" ] || fail "--jobs is '$jobs', which cannot be read; give a file with a line of options for each training"
wrong=$(grep -m 1 -v -E '^ *((--[a-z]+ +[^ ]+ *)*|#.*)$' "$jobs")
[ -z "$wrong" ] || fail "a line of --jobs is '$wrong', must be options of bench run with a value each, such as --defense ssr"
if ! ls "$data"/cifar10/train*.parquet "$data"/cifar10/test*.parquet >/dev/null 2>&1; then
  fail "'$data' has no cifar10/train-*.parquet and test-*.parquet; name their folder with --data-dir or BENCH_DATA_DIR"
fi
mkdir -p "$out" "$work/store" || exit 3
out=$(cd "$out" && pwd) work=$(cd "$work" && pwd) data=$(cd "$data" && pwd)
for archive in ${from:+"$from"/store-*.tar}; do
  tar -xf "$archive" -C "$work/store" || fail "$archive cannot be unpacked; --from names a folder with store-*.tar"
done
rm -f "$work"/*.jsonl "$work"/*.json "$work"/*.log "$work"/*.txt
export BENCH_DATA_DIR=$data PYTHONUNBUFFERED=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1
export PYTHONPATH=$work/metadata:$top:$top/plugins${PYTHONPATH:+:$PYTHONPATH}

pid=
pack() { "$python" "$top/benchmarks/gpu_results.py" "$work" "$out"; }

# Also where a signal ends the script: `timeout` hands it on to all processes of the stage.
finish() {
  trap - EXIT TERM INT HUP
  if [ -n "$pid" ]; then
    kill -TERM "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  fi
  pack && cat "$out/report.md"
}
trap finish EXIT
trap 'exit 143' TERM INT HUP

# stage NAME SECONDS WORD...: run a stage; after these seconds it is killed, and what it has written stays.
stage() {
  local name=$1 limit=$2
  shift 2
  [ "$limit" -gt 0 ] || return 0
  echo "== $name, $limit s at most" >&2
  # In the background, since bash handles signals only between commands and in `wait`.
  timeout --kill-after=10 "$limit" "$python" "$top/benchmarks/gpu_$name.py" "$@" >>"$work/$name.log" 2>&1 &
  pid=$!
  wait "$pid"
  echo "== $name ended with code $? after $SECONDS s in all" | tee -a "$work/stages.txt" >&2
  pid=
  pack
}

"$python" "$top/benchmarks/gpu_metadata.py" "$work/metadata" || exit 3
"$python" -c 'import platform, torch
device = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
print(f"{device}, torch {torch.__version__}, Python {platform.python_version()}")' >"$work/machine.txt" || exit 3
stage smoke "$smoke" "$work/smoke.jsonl" "$workers" $tiny
stage costs "$costs" "$work/costs.jsonl" $tiny
# The last stage ends by itself, with time to stop its processes and to pack; `timeout` is for one that hangs.
rest=$((seconds - SECONDS - 20))
mapfile -t lines < <(grep -v -E '^ *(#.*)?$' "$jobs")
stage trainings $((rest > 0 ? rest + 15 : 0)) "$work" "$out" $(($(date +%s) + rest)) "$at_once" "${lines[@]}"
