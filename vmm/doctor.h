/* SPDX-License-Identifier: MIT */
/* doctor.h - `vmm doctor`: what this host offers, line by line, with the cure. */
#ifndef HV_VMM_DOCTOR_H
#define HV_VMM_DOCTOR_H

/** doctor_main - @argv[0] is "doctor"; 0 if VMs can run here, 1 if something needed is missing. */
int doctor_main(int argc, char **argv);

#endif
