#!/usr/bin/env bash
# Sets up, builds and runs every test; counts them per label; non-zero on any failure and on any
# skip whose dependency ci/setup.sh installs. --quick leaves out the labels parity, slow and fault.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick=0
for argument in "$@"; do
  case $argument in
    --quick) quick=1 ;;
    *) echo "ci/test.sh: unknown option $argument (expected --quick)" >&2; exit 2 ;;
  esac
done

export DFMOA_DOWNLOADS=${DFMOA_DOWNLOADS:-$PWD/downloads}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export GTEST_COLOR=no NO_COLOR=1
build=build/ci
started=$SECONDS

part() { printf '\n== %s (after %d s)\n' "$1" $((SECONDS - started)); }

build_cuda_library() {
  local nvcc
  nvcc=$(command -v nvcc || true)
  if [[ -z $nvcc && -x /usr/local/cuda/bin/nvcc ]]; then nvcc=/usr/local/cuda/bin/nvcc; fi
  if [[ -z $nvcc ]]; then
    echo "CUDA library: no nvcc, not built"
    return
  fi
  CUDACXX=$nvcc .venv/bin/cmake --preset cuda -DDFMOA_TESTS=OFF
  .venv/bin/cmake --build build/cuda --target dfmoa_kernels_cuda -j 2
  echo "CUDA library: built"
}

part "set up"
ci/setup.sh
if [[ $quick -eq 0 ]]; then
  part "fetch the model and the tokenizer"
  ci/fetch.sh
fi
part "checks: layers, style"
.venv/bin/python ci/check_layers.py
ci/check_style.sh
part "build (preset ci)"
.venv/bin/cmake --preset ci
.venv/bin/cmake --build "$build" -j 2
part "build the CUDA library"
build_cuda_library

part "tests"
select=()
if [[ $quick -eq 1 ]]; then select=(-LE '^(parity|slow|fault)$'); fi
rm -f "$build/junit.xml"
status=0
.venv/bin/ctest --test-dir "$build" --output-on-failure -j 2 --no-tests=error "${select[@]}" \
  --test-output-size-passed 65536 --output-junit junit.xml || status=$?
part "counts"
.venv/bin/python ci/count_tests.py "$build/junit.xml" "$status"
