#!/bin/bash
# Line coverage of lib/ and vmm/ after "make unit VARIANT=coverage", with gcov. usage: coverage.sh BUILD
set -euo pipefail
build=$1
find "$build/lib" "$build/vmm" -name '*.gcda' | sort | while read -r data; do
    src=${data#"$build/"}
    src=${src%.gcda}.c
    # "Lines executed:93.10% of 58", the first of which is the file's own.
    gcov -n -o "$(dirname "$data")" "$data" 2>/dev/null |
        awk -v src="$src" '/^File/ { own = index($0, src) } /^Lines executed/ && own {
            sub("Lines executed:", ""); sub("%", ""); print $1, $3, src; exit }'
done | sort -n | awk '
    { printf "%6.1f%% %5d %s\n", $1, $2, $3; hit += $1 * $2 / 100; all += $2 }
    END { if (!all) exit 1; printf "coverage: %.1f%% of %d lines\n", 100 * hit / all, all }'
