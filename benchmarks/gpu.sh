#!/bin/bash
# Fifteen minutes of one GPU: everything in the order in which it is wanted, each part with its own limit, results written as they come.
#
#   bash benchmarks/gpu.sh OUT              on the GPU machine, from the root of the checkout; OUT is carried home
#   bash benchmarks/gpu.sh OUT --rehearse   the same on a CPU, sizes of seconds
#
# SECONDS_IN_ALL (600) is what all parts may take; the last one gets what is left. PARTS names some of them, and PATIENCE (1) multiplies the
# limits, for a rehearsal on a busy machine. Part `rate` is run only where PARTS names it: its outcome is set by hand before `masks`. A part that fails or is cut off keeps what it has written and stops no other; OUT/parts.txt says
# how each ended and OUT/<part>.log what it printed. CARRY names a folder: after each part all of OUT is there as home.tgz-aa, -ab, ..., files of
# at most 15 MiB, where few files may come home: cat home.tgz-* | tar -xz -C OUT. benchmarks/gpu_prepare.sh makes what must be there before.
set -u
OUT=$(realpath -m "${1:?usage: bash benchmarks/gpu.sh OUT [--rehearse]}")
REHEARSE=${2:-}
SECONDS_IN_ALL=${SECONDS_IN_ALL:-600}
PARTS=${PARTS:-kernels attention training given masks science}
PYTHON=${PYTHON:-python3}
PATIENCE=${PATIENCE:-1}
cd "$(dirname "$0")/.." && mkdir -p "$OUT"
export PYTHONUNBUFFERED=1 CONAN_REVISION=${CONAN_REVISION:-$(git rev-parse --short=12 HEAD 2>/dev/null)}
if compgen -G "wheels/*.whl" >/dev/null; then  # what `make wheels` gathered and the machine lacks
  for first in wheels/*.whl.part-aa; do  # a wheel that was cut up to be carried
    [ -f "$first" ] && cat "${first%aa}"* >"${first%.part-aa}" && rm "${first%aa}"*
  done
  [ -d site ] || $PYTHON -m pip install --quiet --no-index --no-deps --target site $(find wheels -name '*.whl')
  export PYTHONPATH=$PWD/site:$PWD${PYTHONPATH:+:$PYTHONPATH}
else
  export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
fi

part() {  # name, seconds, command: the name is in PARTS, and time is left
  local name=$1 limit=$(($2 * PATIENCE)) began=$SECONDS code
  shift 2
  [[ " $PARTS " == *" $name "* ]] || return 0
  ((limit > SECONDS_IN_ALL - SECONDS)) && limit=$((SECONDS_IN_ALL - SECONDS))
  if ((limit < 1)); then
    echo "$name: not begun, no time was left" | tee -a "$OUT/parts.txt"
    return 0
  fi
  timeout --signal TERM --kill-after 15 "$limit" "$@" >"$OUT/$name.log" 2>&1
  code=$?
  echo "$name: $((SECONDS - began)) s of $limit, exit code $code$([ $code = 124 ] && echo ', cut off')" | tee -a "$OUT/parts.txt"
  grep -h '^SKIPPED' "$OUT/$name.log" | tee -a "$OUT/parts.txt"
  if [ -n "${CARRY:-}" ]; then
    mkdir -p "$CARRY" && tar -cz -C "$OUT" . | split -b 15M - "$CARRY/home.tgz-"
  fi
}

job() {  # name, seconds, seconds of these for packing, job file, options of pack: computes for that long, then packs what has finished
  local name=$1 limit=$2 packing=$3 file=$4 options=${5:-} time=$(($2 * PATIENCE)) left=$((SECONDS_IN_ALL - SECONDS))
  time=$(((time < left ? time : left) - packing))
  part "$name" "$limit" bash -c "$PYTHON -m conan_lib job $file --minutes $(awk "BEGIN {print ($time > 5 ? $time : 5) / 60}")
    code=\$?; $PYTHON -m conan_lib pack $file '$OUT/$name' $options; exit \$code"
}

if [ "$REHEARSE" = --rehearse ]; then
  ATTENTION=(--device cpu --heads 4/2x16 --lengths 16 32 --repeats 3 --batch 1 --variants reference "ours, auto" "SDPA bidirectional")
  TRAINING="--device cpu --size smoke --lengths 16 32 --tokens 64 --switches fused none"
  SCIENCE=params/jobs/h100-rehearsal.yaml MASKS=params/jobs/smollm2-gpu-rehearsal.yaml RATE=$MASKS
else
  ATTENTION=(--device cuda) TRAINING="--device cuda" SCIENCE=params/jobs/h100.yaml MASKS=params/jobs/smollm2-gpu.yaml
  RATE=params/jobs/smollm2-gpu-rate.yaml
fi
part kernels 45 $PYTHON -m pytest -m gpu -rs tests/attention
part attention 60 $PYTHON -m benchmarks.attention "${ATTENTION[@]}" --budget 45 --out "$OUT/attention"
part training 75 $PYTHON -m benchmarks.training $TRAINING --parts steps --budget 60 --out "$OUT/training"
part given 60 bash -c "for folder in parcel/*/; do [ -d \$folder ] && $PYTHON -m conan_lib unpack \$folder; done"
job rate 90 30 $RATE --results
job masks 300 30 $MASKS --results
job science $((SECONDS_IN_ALL - SECONDS)) 60 $SCIENCE  # all but weights: its runs have more than scores
exit 0
