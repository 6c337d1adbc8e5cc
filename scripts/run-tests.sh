#!/bin/bash
# Run test programs one after another; exit 77 means skipped.
# usage: run-tests.sh SUITE PROGRAM...     (T=pattern runs only the matching ones;
#                                           STREAM=1 shows their output as it comes)
# The closing line is "SUITE: N passed, N failed, N skipped".
set -u
suite=$1
shift
pass=0 fail=0 skip=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for t in "$@"; do
    [[ -n ${T:-} && $t != *$T* ]] && continue
    name=${t#*tests/}
    start=$EPOCHREALTIME
    if [[ -n ${STREAM:-} ]]; then
        echo "RUN  $name"
        timeout --foreground "${TEST_TIMEOUT:-300}" "$t" 2>&1 </dev/null | tee "$log"
        rc=${PIPESTATUS[0]}
    else
        timeout --foreground "${TEST_TIMEOUT:-300}" "$t" >"$log" 2>&1 </dev/null
        rc=$?
    fi
    took=$(awk "BEGIN{printf \"%.1f\", $EPOCHREALTIME-$start}")
    case $rc in
    0) pass=$((pass + 1)); echo "PASS $name (${took}s)" ;;
    77) skip=$((skip + 1)); echo "SKIP $name: $(grep -m1 '^skip:' "$log" || tail -n 1 "$log")" ;;
    *) fail=$((fail + 1)); echo "FAIL $name (exit $rc, ${took}s)"; [[ -n ${STREAM:-} ]] || sed 's/^/    /' "$log" ;;
    esac
    # A test program that skips single cases says so, a line each.
    [[ $rc == 0 ]] && grep '^skip:' "$log" | sed "s|^|SKIP-CASE $name: |"
done
echo "$suite: $pass passed, $fail failed, $skip skipped"
[[ $fail == 0 ]]
