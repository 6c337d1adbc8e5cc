#!/bin/bash
# DESCRIPTION: iasl disassembles every ACPI table, and compiles the DSDT it read without an error
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

requires() {
    command -v iasl >/dev/null || { echo "skip: no iasl (acpica-tools)"; exit 77; }
}

fail() {
    echo "$*"
    exit 1
}

test_tables() {
    local cpus=$1 t
    "$HV_BUILD/tests/tools/acpi_dump" "$cpus" "$work" || fail "acpi_dump $cpus"
    for t in facp apic mcfg dsdt; do
        (cd "$work" && iasl -d "$t.dat") >"$work/log" 2>&1 || { cat "$work/log"; fail "iasl -d $t"; }
        # What iasl finds wrong while reading stands in its messages or in the text.
        grep -iE 'invalid|incorrect checksum|error' "$work/log" "$work/$t.dsl" && fail "$t of $cpus CPUs"
    done
}

test_compile() {
    (cd "$work" && iasl -oa -p dsdt2 dsdt.dsl) >"$work/log" 2>&1 || { cat "$work/log"; fail "iasl dsdt"; }
    grep -q ' 0 Errors, 0 Warnings' "$work/log" || { cat "$work/log"; fail "iasl has complaints"; }
}

test_meaning() {
    grep -q 'PNP0A08' "$work/dsdt.dsl" || fail "no PCI root"
    grep -q 'Notify (\\_SB.PWRB, 0x80)' "$work/dsdt.dsl" || fail "no power button event"
    grep -q 'Hardware Reduced (V5) : 1' "$work/facp.dsl" || fail "not hardware-reduced"
    [[ $(grep -c 'Processor x2Apic ID' "$work/apic.dsl") == 45 ]] || fail "x2APIC entries"
}

requires
test_tables 1
test_compile
test_tables 300
test_meaning
