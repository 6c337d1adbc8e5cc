/* SPDX-License-Identifier: MIT */
/* vmm: the table of subcommands. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "doctor.h"
#include "hv/base.h"
#include "hv/log.h"
#include "launcher.h"

#define EXIT_USAGE 2

static uint64_t started_ns;

static int cmd_run(int argc, char **argv)
{
	return launcher_run(argc, argv, started_ns);
}

static int cmd_boot_entries(int argc, char **argv)
{
	return launcher_boot_entries(argc, argv, started_ns);
}

static const struct {
	const char *name;
	int (*fn)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "run", cmd_run, "boot a disk image or a kernel" },
	{ "doctor", doctor_main, "what this host offers, and how to mend what is missing" },
	{ "boot-entries", cmd_boot_entries, "list what a disk image can boot" },
	{ "list", ctl_list, "running VMs" },
	{ "status", ctl_status, "one running VM" },
	{ "stop", ctl_stop, "press the power button, kill after a while" },
	{ "kill", ctl_kill, "end a VM at once" },
	{ "pause", ctl_pause, "halt a VM's vCPUs" },
	{ "resume", ctl_resume, "let them run again" },
	{ "console", ctl_console, "attach to a detached VM's console" },
	{ "qmp", ctl_qmp, "talk to a VM's control socket" },
};

static void usage(FILE *out)
{
	fputs("usage: vmm COMMAND [OPTIONS]\n\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-14s %s\n", commands[i].name, commands[i].help);
	fputs("\n  --help, --version; vmm COMMAND --help for a command's options\n", out);
}

/* Started with some of 0, 1 and 2 closed, the next file opened would become stdin or stdout. */
static void fill_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	struct timespec now;

	fill_standard_fds();
	signal(SIGPIPE, SIG_IGN);	/* a reader of ours that is gone is an error like another */
	clock_gettime(CLOCK_MONOTONIC, &now);
	started_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	log_init("vmm", LOG_WARN);
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help")) {
		usage(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("vmm " HV_VERSION);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].fn(argc - 1, argv + 1);
	log_error(NULL, "'%s': no such command (see vmm --help)", argv[1]);
	return EXIT_USAGE;
}
