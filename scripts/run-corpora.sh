#!/bin/bash
# Replay each fuzz target's corpus: tests/fuzz/corpus/NAME/* through BUILD/fuzz_NAME.
# A target without a corpus is a failure: a parser whose inputs nobody kept is untested.
set -u
bin=$1
pass=0 fail=0
for src in tests/fuzz/fuzz_*.c; do
    [[ -e $src ]] || continue
    name=$(basename "$src" .c)
    corpus=tests/fuzz/corpus/${name#fuzz_}
    if [[ ! -d $corpus ]] || ! out=$(timeout 120 "$bin/$name" "$corpus" 2>&1); then
        fail=$((fail + 1)); echo "FAIL $name: ${out:-no corpus in $corpus}"
    else
        pass=$((pass + 1)); echo "PASS $name: $out"
    fi
done
echo "corpora: $pass passed, $fail failed"
[[ $fail == 0 ]]
