#!/usr/bin/env python3
"""Lengths of functions and files (docs/CONTRIBUTING: median <= 20, p90 <= 45, none past 80).

Needs universal-ctags. Prints the figures and what is over; exit status 1 for a function of
over 80 lines or a file of over 800.
"""
import subprocess
import sys

FUNCTION_MAX = 80
FILE_MAX = 800


def main():
    files = subprocess.run(["git", "ls-files", "*.c", "*.h"], capture_output=True, text=True,
                           check=True).stdout.split()
    files = [f for f in files if not f.startswith("tests/")]
    out = subprocess.run(["ctags", "-x", "--c-kinds=f", "--_xformat=%F %n %{end} %N", *files],
                         capture_output=True, text=True, check=True).stdout
    lengths = []
    bad = 0
    for row in out.splitlines():
        path, start, end, name = row.split()
        n = int(end) - int(start) + 1
        lengths.append(n)
        if n > FUNCTION_MAX:
            print(f"{path}:{start}: {name} has {n} lines")
            bad += 1
    for path in files:
        with open(path, encoding="utf-8") as f:
            n = sum(1 for _ in f)
        if n > FILE_MAX:
            print(f"{path}: {n} lines")
            bad += 1
    lengths.sort()
    print(f"functions: {len(lengths)}, median {lengths[len(lengths) // 2]}, "
          f"p90 {lengths[len(lengths) * 9 // 10]}, longest {lengths[-1]}; files: {len(files)}")
    return 1 if bad else 0


sys.exit(main())
