#!/bin/bash
# Run each libFuzzer target for FUZZ_SECONDS (60). usage: run-fuzz.sh BINDIR   (T=pattern: some)
# Found inputs are kept in BINDIR/found/NAME; what crashes goes to BINDIR/crash/, and is a failure.
set -u
bin=$1
pass=0 fail=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
mkdir -p "$bin/crash"
for src in tests/fuzz/fuzz_*.c; do
    name=$(basename "$src" .c)
    [[ -n ${T:-} && $name != *$T* ]] && continue
    found=$bin/found/$name
    mkdir -p "$found"
    if "$bin/$name" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=20 -rss_limit_mb=2048 -max_len=65536 \
        -artifact_prefix="$bin/crash/$name-" -print_final_stats=1 \
        "$found" "tests/fuzz/corpus/${name#fuzz_}" >"$log" 2>&1; then
        pass=$((pass + 1))
        echo "PASS $name: $(awk '/number_of_executed_units/ { print $2 }' "$log") inputs"
    else
        fail=$((fail + 1))
        echo "FAIL $name"
        grep -vE '^(INFO|#)' "$log" | tail -n 40
    fi
done
echo "fuzz: $pass passed, $fail failed"
[[ $fail == 0 ]]
