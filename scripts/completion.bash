# bash completion for vmm(1)                                              -*- shell-script -*-

_vmm_names() {
    local base=${XDG_RUNTIME_DIR:-/nonexistent}/vmm dir
    [[ $EUID == 0 ]] && base=/run/vmm
    for dir in "$base"/*/; do
        [[ -e ${dir}info ]] && basename "$dir"
    done
}

_vmm_complete_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_vmm_complete_files() {
    mapfile -t COMPREPLY < <(compgen -f -- "$1")
    compopt -o filenames
}

# PATH[,KEY=VALUE...]: a file name first, then the keys that are left.
_vmm_complete_disk() {
    local done_part=${cur%,*} last=${cur##*,}
    if [[ $cur != *,* ]]; then
        _vmm_complete_files "$cur"
        compopt -o nospace
        return
    fi
    case $last in
    format=*) last=format values="probe raw qcow2" ;;
    cache=*) last=cache values="writeback none writethrough unsafe" ;;
    discard=*) last=discard values="on off" ;;
    *)
        mapfile -t COMPREPLY < <(compgen -P "$done_part," \
            -W "format= readonly cache= queues= serial= discard=" -- "$last")
        compopt -o nospace
        return
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -P "$done_part,$last=" -W "$values" -- "${cur##*=}")
}

_vmm_option_value() {
    local values
    case $prev in
    --disk | -d) _vmm_complete_disk ;;
    --kernel | -k | --initrd | -i | --cdrom | --ssh-key | --user-data) _vmm_complete_files "$cur" ;;
    --backing) _vmm_complete_words "deny same-dir allow" ;;
    --console) _vmm_complete_words "stdio none pty file= unix=" && compopt -o nospace ;;
    --on-crash) _vmm_complete_words "exit reset pause" ;;
    --net) _vmm_complete_words "none tap= fd=" && compopt -o nospace ;;
    --name | -n | --memory | -m | --cpus | -c | --append | -a | --boot-entry | --hostname | --timeout) ;;
    *) return 1 ;;
    esac
}

_vmm() {
    local cur prev words cword options
    # "=" does not break words here: values are completed as they are typed.
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref -n =: cur prev words cword
    else
        cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
        words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
    fi
    COMPREPLY=()
    if [[ $cword == 1 ]]; then
        _vmm_complete_words "run doctor boot-entries list status stop kill pause resume console qmp
            --help --version"
        return
    fi
    if [[ $cur == --*=* ]]; then
        prev=${cur%%=*} cur=${cur#*=}
        _vmm_option_value
        return
    fi
    _vmm_option_value && return
    case ${words[1]} in
    run)
        options="--name --memory --cpus --kernel --initrd --append --boot-entry --no-kaslr --disk
            --backing --cdrom --ephemeral --net --ssh-key --user-data --hostname --console --detach
            --no-reboot --on-crash --hugepages --verbose --quiet --help
            -n -m -c -k -i -a -d -v -q"
        ;;
    boot-entries) options="--json --backing --help" ;;
    doctor) options="--json --help" ;;
    list | status) options="--json --verbose --quiet --help -v -q" ;;
    stop) options="--timeout --verbose --quiet --help -v -q" ;;
    *) options="--verbose --quiet --help -v -q" ;;
    esac
    if [[ $cur == -* ]]; then
        _vmm_complete_words "$options"
        return
    fi
    case ${words[1]} in
    run | boot-entries) _vmm_complete_files "$cur" ;;
    status | stop | kill | pause | resume | console | qmp)
        [[ $cword == 2 ]] && _vmm_complete_words "$(_vmm_names)"
        ;;
    esac
}

complete -F _vmm vmm
