#!/usr/bin/env bash
# Format, lengths, marks, READMEs, test mirror, self-contained headers, documents.
# Usage: check_style.sh [ROOT]
set -uo pipefail
ci=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${1:-$ci/..}
cd "$root" || exit 1
status=0

check_format() {
  local version folders=() folder
  version=$(clang-format --version | grep -oE 'version [0-9]+' || true)
  if [[ $version != "version 14" ]]; then
    echo "check_format: found clang-format ${version:-nowhere}, expected version 14" >&2
    return 1
  fi
  for folder in src kernels distributed checkpoints launch tests; do
    if [[ -d $folder ]]; then folders+=("$folder"); fi
  done
  find "${folders[@]}" -path tests/golden -prune -o -type f \
    \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
    xargs -0 -r -P 2 -n 20 clang-format --dry-run -Werror --style=file || return 1
  echo "check_format: ok"
}

check_format || status=1
for check in text mirror headers docs; do
  python3 "$ci/check_$check.py" . || status=1
done
exit "$status"
