# shellcheck shell=bash disable=SC2034
# For tests that start real VMs with the bare guest; sourced. After vm_init: $dir is a scratch
# directory (and the working directory), removed at the end with every VM that was started.
VMM=${HV_BUILD:?}/bin/vmm
GUEST=$HV_BUILD/../guest/guest.elf
fail=0 cases=0 dir=''
RUNTIME=/run/vmm

bad() { echo "FAIL: $*"; fail=1; }
skip() { echo "skip: $*"; exit 77; }

vm_cleanup() {
    local p
    for p in $(jobs -p); do kill -9 "$p" 2>/dev/null; done
    for p in "$RUNTIME/t$$-"*; do [[ ! -d $p ]] || "$VMM" kill "${p##*/}" 2>/dev/null; done
    [[ -z $dir ]] || rm -rf "$dir"
}

vm_init() { # TOOL... that the test needs besides
    local t
    [[ -e /dev/kvm ]] || skip "no /dev/kvm"
    [[ -r /dev/kvm && -w /dev/kvm ]] || skip "/dev/kvm cannot be opened"
    for t in "$@"; do command -v "$t" >/dev/null || skip "$t is not installed"; done
    [[ -e $GUEST ]] || { echo "no $GUEST: run make integ"; exit 1; }
    dir=$(mktemp -d)
    trap vm_cleanup EXIT
    cd "$dir" || exit 1
    [[ $EUID == 0 ]] || export XDG_RUNTIME_DIR=$dir
    [[ $EUID == 0 ]] || RUNTIME=$dir/vmm
}

vm_name() { echo "t$$-$((++cases))"; }

# vm WORDS [OPTION...]: run the guest to its end; $out and $rc are its output and status.
vm() {
    local words=$1
    shift
    cases=$((cases + 1))
    out=$(timeout -k 5 "${VM_TIMEOUT:-60}" "$VMM" run -q --name "t$$-$cases" -m "${VM_MEMORY:-64}" \
        -k "$GUEST" -a "$words" "$@" 2>err.txt </dev/null)
    rc=$?
}

# ok WHAT WORDS [OPTION...]: all words have to succeed and vmm to end well and silently.
ok() {
    local what=$1
    shift
    vm "$@"
    if [[ $rc != 0 || $out != *"END failures=0"* || -s err.txt ]]; then
        bad "$what (exit $rc): $1 | ${*:2}"
        grep -E "FAIL|END" <<<"$out" | head -5
        head -5 err.txt
    fi
}

# vm_bg WORDS [OPTION...]: start one; $name, $pid (the launcher), output in $name.out and .err.
vm_bg() {
    local words=$1
    shift
    cases=$((cases + 1))
    name=t$$-$cases
    "$VMM" run -q --name "$name" -m "${VM_MEMORY:-64}" -k "$GUEST" -a "$words" "$@" \
        >"$name.out" 2>"$name.err" </dev/null &
    pid=$!
}

# vm_end STATUS WHAT [SECONDS]: $pid has to end with STATUS, leaving nothing in RUNTIME.
vm_end() {
    local i
    for ((i = 0; i < ${3:-10} * 50; i++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.02
    done
    kill -0 "$pid" 2>/dev/null && { bad "$2: still runs"; kill -9 "$pid"; }
    wait "$pid"
    rc=$?
    [[ $rc == "$1" ]] || bad "$2: exit $rc instead of $1: $(tail -2 "$name.out"; cat "$name.err")"
    vm_gone "$name" "$2"
}

# vm_gone NAME WHAT
vm_gone() {
    local i
    for ((i = 0; i < 100; i++)); do
        [[ -e $RUNTIME/$1 ]] || return 0
        sleep 0.02
    done
    bad "$2: left behind: $RUNTIME/$1: $(ls "$RUNTIME/$1")"
}

# wait_for FILE TEXT [SECONDS]
wait_for() {
    local i
    for ((i = 0; i < ${3:-10} * 50; i++)); do
        grep -q -- "$2" "$1" 2>/dev/null && return 0
        sleep 0.02
    done
    bad "no '$2' in $1: $(tail -3 "$1")"
    return 1
}

vm_done() {
    [[ $fail == 0 ]] && echo "$cases guests run"
    exit $fail
}
