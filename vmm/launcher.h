/* SPDX-License-Identifier: MIT */
/*
 * launcher.h - the process the user starts: opens, forks the machine, relays.
 *
 * It parses options and opens what they name; it never parses an image, a kernel or a
 * packet. What an image names it opens only on the machine's request, through the gate.
 */
#ifndef HV_VMM_LAUNCHER_H
#define HV_VMM_LAUNCHER_H

#include <stdint.h>

/** launcher_run - `vmm run`; @argv[0] is "run"; returns the exit status. */
int launcher_run(int argc, char **argv, uint64_t started_ns);
/** launcher_boot_entries - `vmm boot-entries DISK [--json]`. */
int launcher_boot_entries(int argc, char **argv, uint64_t started_ns);

#endif
