#!/bin/bash
# Run test programs; exit 77 means skipped.
# usage: run-tests.sh SUITE PROGRAM...     (T=pattern runs only the matching ones;
#   JOBS=2 runs two at a time; STREAM=1 shows their output as it comes, names in front)
# The closing line is "SUITE: N passed, N failed, N skipped".
set -u
suite=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# run_one INDEX PROGRAM: the verdict in one line on stdout, the exit status in DIR/INDEX.rc
run_one() {
    local t=$2 log=$dir/$1.log name=${2#*tests/} start=$EPOCHREALTIME rc took
    name=${name#tests/}
    if [[ -n ${STREAM:-} ]]; then
        echo "RUN  $name"
        timeout --foreground "${TEST_TIMEOUT:-300}" "$t" 2>&1 </dev/null | tee "$log" |
            sed -u "s|^|[${name##*/}] |"
        rc=${PIPESTATUS[0]}
    else
        timeout --foreground "${TEST_TIMEOUT:-300}" "$t" >"$log" 2>&1 </dev/null
        rc=$?
    fi
    took=$(awk "BEGIN{printf \"%.1f\", $EPOCHREALTIME-$start}")
    echo $rc >"$dir/$1.rc"
    case $rc in
    # A test program that skips single cases says so, a line each.
    0) { echo "PASS $name (${took}s)"; grep '^skip:' "$log" | sed "s|^|SKIP-CASE $name: |"; } ;;
    77) echo "SKIP $name: $(grep -m1 '^skip:' "$log" || tail -n 1 "$log")" ;;
    *) { echo "FAIL $name (exit $rc, ${took}s)"; [[ -n ${STREAM:-} ]] || sed 's/^/    /' "$log"; } ;;
    esac
}

n=0
for t in "$@"; do
    [[ -n ${T:-} && $t != *$T* ]] && continue
    n=$((n + 1))
    while (($(jobs -rp | wc -l) >= ${JOBS:-1})); do wait -n; done
    if ((${JOBS:-1} > 1)); then run_one $n "$t" & else run_one $n "$t"; fi
done
wait
pass=0 fail=0 skip=0
for ((i = 1; i <= n; i++)); do
    case $(cat "$dir/$i.rc" 2>/dev/null) in
    0) pass=$((pass + 1)) ;;
    77) skip=$((skip + 1)) ;;
    *) fail=$((fail + 1)) ;;
    esac
done
echo "$suite: $pass passed, $fail failed, $skip skipped"
[[ $fail == 0 ]]
