#!/usr/bin/env bash
# Installs what a bare Debian 12 machine lacks: packages, and .venv from the pinned requirements.
# Takes under 5 seconds when nothing is missing. --product leaves out what only tests use: chromium,
# and the CUDA libraries that bitsandbytes and the GPU tests load on a machine without a toolkit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

debian_packages=(
  g++ ninja-build git pkg-config python3 python3-venv ca-certificates
  libopenmpi-dev openmpi-bin libhdf5-dev hdf5-tools
  libboost-program-options-dev libboost-context-dev libpcre2-dev
  nlohmann-json3-dev libspdlog-dev libxxhash-dev libzstd-dev
  libgtest-dev libgmock-dev libbenchmark-dev clang-format clang-tidy
)

# Only tests need them: a browser, and letters for it, that draw the page of `inspect --html`.
browser_packages=(chromium fonts-dejavu-core)

want_oracles=1
for argument in "$@"; do
  case $argument in
    --product) want_oracles=0 ;;
    *) echo "ci/setup.sh: unknown option $argument (expected --product)" >&2; exit 2 ;;
  esac
done

if [[ $want_oracles -eq 1 ]]; then debian_packages+=("${browser_packages[@]}"); fi

fail() { echo "ci/setup.sh: $*" >&2; exit 1; }

missing_packages() {
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "${debian_packages[@]}" \
    2>/dev/null | sed -n 's/^ii *//p') || true
  comm -23 <(printf '%s\n' "${debian_packages[@]}" | sort -u) <(sort -u <<<"$installed")
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  [[ ${#missing[@]} -eq 0 ]] && return
  if [[ $(id -u) -ne 0 ]]; then
    echo "ci/setup.sh: ${#missing[@]} Debian packages are missing; as root, run:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  echo "ci/setup.sh: installing ${missing[*]}"
  apt-get update -qq || fail "apt-get update failed"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" || fail "apt-get install of ${missing[*]} failed"
}

has_toolkit() {
  local folder=${DFMOA_TOOLKIT:-/usr/local/cuda}
  [[ -e $folder/lib64/libcudart.so.13 ]] &&
    [[ -e $folder/lib64/libcupti.so.13 || -e $folder/extras/CUPTI/lib64/libcupti.so.13 ]]
}

# The stamp holds the hash of what was asked for, so a changed pin installs again.
install_python() {
  local files=(requirements.txt requirements-dev.txt) python=/usr/bin/python3 stamp wanted
  if ! has_toolkit; then
    files+=(ci/requirements/no_toolkit.txt)
    if [[ $want_oracles -eq 1 ]]; then files+=(ci/requirements/no_toolkit_oracles.txt); fi
  fi
  stamp=.venv/dfmoa_requirements
  wanted=$(sha256sum "${files[@]}")
  # What the tests need includes what the program needs: a fuller stamp is good enough.
  if [[ -x .venv/bin/python && -f $stamp ]] &&
      [[ -z $(comm -23 <(sort <<<"$wanted") <(sort "$stamp")) ]]; then
    return
  fi
  if [[ ! -x .venv/bin/python ]]; then
    "$python" -m venv .venv || fail "$python could not make .venv"
  fi
  echo "ci/setup.sh: installing the pinned Python packages into .venv"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
    "${files[@]/#/--requirement=}" || fail "pip could not install the pinned requirements"
  printf '%s\n' "$wanted" > "$stamp"
}

command -v dpkg-query > /dev/null || fail "dpkg-query was not found, expected Debian 12"
install_packages
install_python
