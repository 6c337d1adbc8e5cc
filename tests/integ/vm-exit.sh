#!/bin/bash
# DESCRIPTION: every way a VM ends: exit status, what is left behind, the control verbs
set -u
# shellcheck source=tests/support/vm.sh
. "$(dirname "$0")/../support/vm.sh"
out='' rc=0 name='' pid=''

ends() { # STATUS BOOTS WHAT WORDS [OPTION...]: with that many starts of the guest
    local status=$1 boots=$2 what=$3 n
    shift 3
    qemu-img create -q -f raw count.raw 1M
    vm "$@" -d count.raw
    [[ $rc == "$status" ]] || bad "$what: exit $rc instead of $status: $(cat err.txt)"
    n=$(grep -c "^BOOT" <<<"$out")
    [[ $n == "$boots" ]] || bad "$what: $n starts instead of $boots"
    vm_gone "t$$-$cases" "$what"
}

test_reset() {
    local how
    for how in i8042 acpi triple; do
        ends 0 3 "reset=$how" "boots=0 last-boot=0:3 reset=$how"
        ends 0 1 "reset=$how --no-reboot" "boots=0 last-boot=0:3 reset=$how" --no-reboot
        [[ ! -s err.txt ]] || bad "reset=$how: $(cat err.txt)"
    done
    ends 0 30 "thirty resets" "boots=0 last-boot=0:30 reset=acpi" -c 2
    ends 0 3 "resets with four processors running" "boots=0 smp=4 smp-run last-boot=0:3 reset=acpi" -c 4
    ends 0 1 "power-off" "boots=0"
}

test_panic() {
    ends 3 1 "panic" "boots=0 panic"
    [[ $(wc -l <err.txt) == 1 ]] || bad "panic: stderr: $(cat err.txt)"
    ends 0 2 "panic --on-crash reset" "boots=0 last-boot=0:2 panic" --on-crash reset
    ends 3 1 "panic --on-crash exit" "boots=0 panic" --on-crash exit
    ends 3 1 "KVM internal error" "boots=0 crash"
    grep -q "KVM internal error" err.txt || bad "KVM internal error: stderr: $(cat err.txt)"
    vm_bg "panic" --on-crash pause
    wait_for "$name.err" panicked
    sleep 0.2
    kill -0 "$pid" 2>/dev/null || bad "--on-crash pause: it ended"
    "$VMM" status "$name" | grep -q panicked || bad "--on-crash pause: status: $("$VMM" status "$name")"
    "$VMM" kill "$name" || bad "kill of a paused VM"
    vm_end 4 "--on-crash pause, kill"
}

test_kill() {
    local how
    for how in halt spin; do
        vm_bg "stuck=$how" -c 2
        wait_for "$name.out" STUCK
        "$VMM" kill "$name" || bad "kill of a guest stuck by $how"
        vm_end 4 "stuck=$how, kill"
    done
    vm_bg "stuck=spin"
    wait_for "$name.out" STUCK
    "$VMM" stop "$name" --timeout 1 || bad "stop --timeout 1 of a stuck guest"
    vm_end 4 "stuck, stop --timeout 1"
    "$VMM" kill "$name" 2>err.txt && bad "kill of a VM that is gone"
    [[ $(wc -l <err.txt) == 1 ]] || bad "kill of a VM that is gone: $(cat err.txt)"
}

test_button() {
    vm_bg "button=20"
    wait_for "$name.out" READY
    kill -TERM "$pid"
    vm_end 0 "SIGTERM"
    grep -q "^BUTTON 0x1" "$name.out" || bad "no button event: $(cat "$name.out")"
    vm_bg "button=20 button=20"
    wait_for "$name.out" READY
    "$VMM" qmp "$name" '{"execute":"system_powerdown"}' >/dev/null || bad "qmp system_powerdown"
    wait_for "$name.out" BUTTON
    "$VMM" stop "$name" || bad "stop"
    vm_end 0 "stop"
}

test_stdin_end() {
    local name=t$$-stdin
    (sleep 0.1) | timeout 20 "$VMM" run -q --name "$name" -m 64 -k "$GUEST" -a "sleep=500 say=alive" >o.txt 2>&1
    grep -q "SAY alive" o.txt || bad "end of stdin: $(cat o.txt)"
    timeout 20 "$VMM" run -q --name "$name" -m 64 -k "$GUEST" -a "say=alive" >o.txt 2>&1 <&-
    grep -q "SAY alive" o.txt || bad "closed stdin: $(cat o.txt)"
    # A reader of stdout that goes away does not end the guest either.
    qemu-img create -q -f raw count.raw 1M
    timeout 20 "$VMM" run -q --name "$name" -m 64 -k "$GUEST" -a "flood=500 boots=0" -d count.raw \
        2>err.txt </dev/null | head -1 >/dev/null
    [[ ${PIPESTATUS[0]} == 0 ]] || bad "stdout's reader gone: exit ${PIPESTATUS[0]}"
    [[ $(od -An -tu4 -N4 count.raw | tr -d ' ') == 1 ]] || bad "stdout's reader gone: the guest did not go on"
}

# Ctrl-] on a terminal: exit 4, and the terminal as it was.
test_terminal() {
    python3 - "$VMM" "$GUEST" "t$$-tty" <<'PY' || bad "Ctrl-] on a terminal"
import os, pty, sys, termios, time
vmm, guest, name = sys.argv[1:]
master, slave = pty.openpty()
before = termios.tcgetattr(slave)
def run(words, key, wait):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for fd in (0, 1, 2):
            os.dup2(slave, fd)
        os.execv(vmm, [vmm, "run", "-q", "--name", name, "-m", "64", "-k", guest, "-a", words])
    got = b""
    end = time.time() + 20
    while wait not in got and time.time() < end:
        got += os.read(master, 4096)
    raw = termios.tcgetattr(slave)[3] & termios.ICANON == 0
    os.write(master, key)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    same = termios.tcgetattr(slave) == before
    print(words, "exit", status, "raw", raw, "restored", same)
    return status, raw, same
ok = run("stuck=spin", b"\x1d", b"STUCK") == (4, True, True)
# Ctrl-C is the guest's, not vmm's.
ok = run("serial-echo=2", b"\x03x", b"READY") == (0, True, True) and ok
sys.exit(not ok)
PY
    vm_gone "t$$-tty" "Ctrl-]"
}

test_detach() {
    local n=t$$-det
    cases=$((cases + 1))
    out=$("$VMM" run -q --name "$n" -m 64 -c 2 -k "$GUEST" -a "say=hello button=60" --console none --detach </dev/null 2>err.txt)
    [[ $? == 0 && $out == "$n" ]] || bad "--detach says '$out': $(cat err.txt)"
    "$VMM" list | grep -q "^$n " || bad "list: $("$VMM" list)"
    "$VMM" list --json | python3 -c "import json,sys; sys.exit(not any(v['name']=='$n' and v['cpus']==2 for v in json.load(sys.stdin)))" ||
        bad "list --json: $("$VMM" list --json)"
    "$VMM" status "$n" | grep -q running || bad "status"
    "$VMM" pause "$n" || bad "pause"
    "$VMM" status "$n" | grep -q paused || bad "status when paused: $("$VMM" status "$n")"
    "$VMM" pause "$n" || bad "pause twice"
    "$VMM" resume "$n" || bad "resume"
    "$VMM" status "$n" | grep -q running || bad "status after resume"
    "$VMM" qmp "$n" '{"execute":"query-status"}' | grep -q '"running"' || bad "qmp query-status"
    "$VMM" run -q --name "$n" -m 64 -k "$GUEST" </dev/null >/dev/null 2>err.txt && bad "the name twice"
    [[ $(wc -l <err.txt) == 1 ]] || bad "the name twice: $(cat err.txt)"
    timeout 2 "$VMM" console "$n" </dev/null >con.txt 2>&1
    grep -q "SAY hello" con.txt || bad "console: $(cat con.txt)"
    "$VMM" stop "$n" || bad "stop of a detached VM"
    vm_gone "$n" "detached"
    "$VMM" status "$n" 2>/dev/null && bad "status of a VM that is gone"
}

detached() { # WORDS: start one; $name and $pid (its machine process)
    cases=$((cases + 1))
    name=t$$-det-$cases
    "$VMM" run -q --name "$name" -m 64 -k "$GUEST" -a "$1" --detach </dev/null >/dev/null 2>err.txt ||
        bad "--detach: $(cat err.txt)"
    pid=$(python3 -c "import json; print(json.load(open('$RUNTIME/$name/info'))['pid'])")
}

# Connections that say nothing, more than the VM serves.
crowd() {
    exec python3 - "$RUNTIME/$name/qmp.sock" <<'PY'
import socket, sys, time
s = []
for i in range(40):
    s.append(socket.socket(socket.AF_UNIX))
    s[-1].connect(sys.argv[1])
print("CROWD", flush=True)
time.sleep(60)
PY
}

test_crowd() {
    local verb holder
    for verb in kill stop; do
        detached "stuck=spin"
        crowd >crowd.txt &
        holder=$!
        wait_for crowd.txt CROWD
        "$VMM" status "$name" | grep -q running || bad "status in a crowd: $("$VMM" status "$name")"
        [[ $verb == stop ]] && set -- --timeout 1
        timeout 20 "$VMM" "$verb" "$name" "$@" 2>err.txt || bad "$verb in a crowd: exit $?: $(cat err.txt)"
        vm_gone "$name" "$verb in a crowd"
        kill "$holder"
    done
}

# A machine process that does not answer: said so within a second or two, and killed.
test_stopped() {
    local start
    detached "stuck=spin"
    kill -STOP "$pid"
    "$VMM" status "$name" | grep -q " stuck " || bad "status of a stopped process: $("$VMM" status "$name")"
    start=$SECONDS
    "$VMM" kill "$name" || bad "kill of a stopped process"
    ((SECONDS - start <= 4)) || bad "kill of a stopped process took $((SECONDS - start)) s"
    [[ ! -e $RUNTIME/$name ]] || bad "kill left behind: $RUNTIME/$name"
}

test_qmp() {
    detached "stuck=halt"
    printf '{"execute":"qmp_capabilities"}{"execute":"query-name"}' | timeout 10 "$VMM" qmp "$name" >qmp.txt ||
        bad "qmp at the end of its input: exit $?"
    [[ $(wc -l <qmp.txt) == 3 && $(tail -1 qmp.txt) == *"$name"* ]] || bad "qmp: $(cat qmp.txt)"
    "$VMM" qmp "$name" '{"execute":"no-such-thing"}' >qmp.txt && bad "qmp: exit 0 for an error"
    grep -q CommandNotFound qmp.txt || bad "qmp: error: $(cat qmp.txt)"
    "$VMM" list -q | grep -q "^NAME" && bad "list -q: a header"
    "$VMM" list -v -q | grep -q "^$name " || bad "list -v -q"
    mkfifo qmp.in
    timeout 10 "$VMM" qmp "$name" <>qmp.in >qmp.txt &
    pid=$!
    wait_for qmp.txt QMP
    "$VMM" kill "$name" || bad "kill"
    vm_end 0 "qmp at the VM's end"
}

# The machine process killed, or the launcher: the other one cleans up.
test_processes() {
    local m i
    vm_bg "stuck=spin"
    wait_for "$name.out" STUCK
    m=$(pgrep -P "$pid")
    kill -9 "$m"
    vm_end 4 "machine process killed"
    vm_bg "stuck=spin"
    wait_for "$name.out" STUCK
    m=$(pgrep -P "$pid")
    kill -9 "$pid"
    wait "$pid" 2>/dev/null
    for ((i = 0; i < 100; i++)); do kill -0 "$m" 2>/dev/null || break; sleep 0.02; done
    kill -0 "$m" 2>/dev/null && bad "the machine outlives its launcher"
    "$VMM" list | grep -q "^$name " && bad "a dead VM is listed"
    vm_gone "$name" "launcher killed, then list"
}

vm_init qemu-img python3 pgrep
test_reset
test_panic
test_kill
test_button
test_stdin_end
test_terminal
test_detach
test_crowd
test_stopped
test_qmp
test_processes
vm_done
