#!/usr/bin/env bash
# Compares the tokenizers of published GGUF vocabularies (Llama 2 and 3, GPT-2, Phi-3, Qwen 2) with what
# their source tokenizers make of awkward texts. llama.cpp has both in its sources, which the Python
# package index has within llama-cpp-python: 77 MB, once. Not part of test.sh.
source "$(dirname "$0")/lib.sh"

need_tools
folder=target/vocabularies
if [ ! -e "$folder/.whole" ]; then
    say "The vocabularies"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps \
        --no-binary llama-cpp-python --dest "$folder" llama-cpp-python==0.3.36
    tar -xzf "$folder"/llama_cpp_python-*.tar.gz -C "$folder" --strip-components=3 --wildcards \
        '*/vendor/llama.cpp/models/*'
    touch "$folder/.whole"
fi
say "The tokens"
cargo run --locked --release --package compute --example vocabularies -- "$folder/models"
