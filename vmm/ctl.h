/* SPDX-License-Identifier: MIT */
/* ctl.h - the verbs for running VMs: list, status, stop, kill, pause, resume, console, qmp. */
#ifndef HV_VMM_CTL_H
#define HV_VMM_CTL_H

/* Each is `vmm VERB …` with @argv[0] the verb; returns the exit status. */
int ctl_list(int argc, char **argv);
int ctl_status(int argc, char **argv);
int ctl_stop(int argc, char **argv);
int ctl_kill(int argc, char **argv);
int ctl_pause(int argc, char **argv);
int ctl_resume(int argc, char **argv);
int ctl_console(int argc, char **argv);
int ctl_qmp(int argc, char **argv);

#endif
