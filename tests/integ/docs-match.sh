#!/bin/bash
# DESCRIPTION: every command, option and disk key of --help is in the man page and the completion
set -u
cd "$(dirname "$0")/../.." || exit 1
vmm=$HV_BUILD/bin/vmm
man=docs/man/vmm.1
bad=0

missing() {
    echo "$1 lacks $2"
    bad=1
}

commands() {
    "$vmm" --help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'
}

options() {
    "$vmm" "$1" --help | grep -oE '^ +(-[a-z], )?--[a-z-]+' | grep -oE -- '-(-[a-z-]+|[a-z])'
}

# What the completion offers for "vmm WORD...".
complete_words() {
    (
        # shellcheck source=/dev/null
        . scripts/completion.bash
        compopt() { :; }
        COMP_WORDS=(vmm "$@") COMP_CWORD=$#
        _vmm
        printf '%s\n' "${COMPREPLY[@]}"
    )
}

# The section of @man about command $1.
man_section() {
    awk -v want=".Ss vmm $1" 'index($0, ".Ss ") == 1 || index($0, ".Sh ") == 1 {
        on = $0 == want || index($0, want " ") == 1 } on' "$man"
}

test_command() {
    local sub=$1 opt section offered
    grep -qE "Cm .*\b$sub\b" "$man" || missing "$man" "command $sub"
    complete_words "" | grep -qx -- "$sub" || missing completion "command $sub"
    section=$(man_section "$sub")
    [[ -n $section ]] || missing "$man" "a section on vmm $sub"
    offered=$(complete_words "$sub" -)
    for opt in $(options "$sub"); do
        grep -qx -- "$opt" <<<"$offered" || missing completion "vmm $sub $opt"
        [[ $opt == --help ]] && continue
        # mdoc: "Fl -name" is --name, "Fl n" is -n.
        grep -qE -- "Fl ${opt#-}( |\$)" <<<"$section" || missing "$man" "vmm $sub $opt"
    done
    # And nothing that is no option any more.
    for opt in $offered; do
        options "$sub" | grep -qx -- "$opt" || missing "vmm $sub --help" "$opt of the completion"
    done
    for opt in $(grep -oE '^\.It .*Fl .*' <<<"$section" | grep -oE 'Fl -[a-z-]+' | cut -c4-); do
        options "$sub" | grep -qx -- "-$opt" || missing "vmm $sub --help" "-$opt of $man"
    done
}

test_disk_keys() {
    local key keys
    keys=$("$vmm" run --help | sed -n 's/.*keys: //p' | tr -d ,)
    [[ -n $keys ]] || missing "vmm run --help" "the disk keys"
    for key in $keys; do
        grep -qE "^\.It Cm $key\b" "$man" || missing "$man" "disk key $key"
        complete_words run --disk x, | grep -qE "^x,$key=?\$" || missing completion "disk key $key"
    done
}

test_commands() {
    local sub n=0
    for sub in $(commands); do
        test_command "$sub"
        n=$((n + 1))
    done
    [[ $n -ge 11 ]] || missing "vmm --help" "the commands"
    echo "$n commands compared"
}

test_commands
test_disk_keys
exit "$bad"
