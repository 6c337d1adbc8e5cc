/* SPDX-License-Identifier: MIT */
/*
 * The launcher. Phases: options → open everything they name (and lock the disks) → fork →
 * serve the machine (gate requests, terminal, signals) → its exit status is ours. Detached,
 * it leaves as soon as the guest runs.
 */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hv/fd.h"
#include "hv/log.h"
#include "hv/loop.h"
#include "hv/opts.h"
#include "launcher_int.h"
#include "link.h"

#define ESCAPE_KEY 0x1d	/* Ctrl-] */
#define KILL_PATIENCE_MS 5000

/* ---- the machine process ------------------------------------------------------------------------ */

/* A detached VM must not hold the caller's pipes open. Its errors stay on stderr until the
 * guest runs. */
static void launcher_leave_terminal(void)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	dup2(null_fd, STDIN_FILENO);
	dup2(null_fd, STDOUT_FILENO);
	fd_close(&null_fd);
}

static void launcher_machine_side(struct launcher *l)
{
	fd_close(&l->link_fd);
	fd_close(&l->console_in);
	fd_close(&l->console_out);
	/* In the foreground the end of the link tells that the launcher is gone: then the machine
	 * writes its disks back and leaves, which a signal on its death would not let it. */
	if (l->cfg.detach)
		launcher_leave_terminal();
}

/* The machine writes it, not the launcher: it may end, and remove all, at any time after. */
static int launcher_write_info(struct launcher *l)
{
	struct err e = { 0 };
	int r = 0;

	if (l->args.rundir.dir_fd >= 0)
		r = rundir_write_info(&l->args.rundir, &l->cfg, getpid(), l->disk_stat,
				      l->cfg.n_disks, &e);
	if (r)
		log_error(NULL, "%s", e.msg);
	return r;
}

static int launcher_fork(struct launcher *l, int (*body)(struct machine_args *), struct err *e)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_errno(e, "socketpair");
	l->link_fd = sv[0];
	l->args.link_fd = sv[1];
	fflush(NULL);
	l->machine = fork();
	if (l->machine < 0)
		return err_errno(e, "fork");
	if (l->machine == 0) {
		launcher_machine_side(l);
		exit(launcher_write_info(l) ? MACHINE_EXIT_FAILED : body(&l->args));
	}
	fd_close(&l->args.link_fd);
	return 0;
}

static int launcher_exit_status(struct launcher *l, int wstatus)
{
	if (WIFEXITED(wstatus))
		return WEXITSTATUS(wstatus);
	/* It could not clean up after itself. */
	machine_unlink_console(&l->args);
	rundir_remove(&l->args.rundir);
	if (!l->killed)
		log_error(NULL, "%s: the machine process was ended by signal %d (%s)", l->cfg.name,
			  WTERMSIG(wstatus), strsignal(WTERMSIG(wstatus)));
	return WTERMSIG(wstatus) == SIGKILL ? MACHINE_EXIT_KILLED : MACHINE_EXIT_FAILED;
}

/* A backing file is locked for writing: by this very VM (often a loop), or by another one. */
static void launcher_busy_backing(const struct launcher *l, const char *path, struct err *e)
{
	struct rundir_vm vm;
	struct stat st;

	if (stat(path, &st) < 0)
		return;
	for (unsigned i = 0; i < l->cfg.n_disks; i++) {
		const struct stat *d = &l->disk_stat[i];

		if (d->st_dev != st.st_dev || d->st_ino != st.st_ino)
			continue;
		err_set(e, -EBUSY,
			"%s: is named as a backing file, but this VM writes it (a loop of backing files?)",
			path);
		return;
	}
	if (rundir_disk_holder(&st, &vm))
		err_set(e, -EBUSY, "%s: is in use by the VM '%s' (pid %d)", path, vm.name,
			(int)vm.pid);
}

static void launcher_open_backing(struct launcher *l, struct link_msg *m)
{
	struct link_msg *reply = calloc(1, sizeof(*reply));
	struct err e = { 0 };
	CLEANUP_FD int fd = -1;

	if (!reply)
		return;
	reply->type = LINK_OPENED;
	reply->code = blk_gate_open(&l->gate, m->path, m->name, &fd, reply->path, &e);
	if (reply->code == -EBUSY)
		launcher_busy_backing(l, reply->path, &e);
	if (reply->code)
		snprintf(reply->path, sizeof(reply->path), "%s", e.msg);
	link_send(l->link_fd, reply, fd);
	free(reply);
}

static void launcher_on_link(void *ctx, uint32_t events)
{
	struct launcher *l = ctx;
	CLEANUP_FREE struct link_msg *m = malloc(sizeof(*m));
	CLEANUP_FD int fd = -1;
	int r = m ? link_recv(l->link_fd, m, &fd) : -ENOMEM;

	(void)events;
	if (r) {
		loop_del(&l->link_src);	/* its exit follows as SIGCHLD */
		return;
	}
	if (m->type == LINK_OPEN_BACKING)
		launcher_open_backing(l, m);
	if (m->type == LINK_UNPACK)
		unpack_job_start(&l->unpack, l->link_fd, fd);
	if (m->type != LINK_RUNNING)
		return;
	l->running = true;
	if (l->cfg.detach)
		loop_stop(l->loop, 0);
}

/* SIGKILL for a machine that is not at its control loop: still parsing, or stuck. */
static void launcher_kill_hard(void *ctx)
{
	struct launcher *l = ctx;

	l->killed = true;
	if (l->machine > 0)
		kill(l->machine, SIGKILL);
}

static void launcher_kill(struct launcher *l)
{
	unpack_job_cancel(&l->unpack);	/* who waits for its kernel heeds nothing else */
	if (!l->running || link_send_type(l->link_fd, LINK_KILL))
		launcher_kill_hard(l);
	else
		loop_timer_arm(&l->kill_timer, KILL_PATIENCE_MS);
}

static void launcher_on_signal(void *ctx, int signo)
{
	struct launcher *l = ctx;
	int wstatus;

	if (signo != SIGCHLD) {
		unpack_job_cancel(&l->unpack);
		if (!l->running || link_send_type(l->link_fd, LINK_STOP))
			launcher_kill_hard(l);
		return;
	}
	unpack_job_reap(&l->unpack);
	if (waitpid(l->machine, &wstatus, WNOHANG) != l->machine)
		return;
	l->machine = 0;
	l->status = launcher_exit_status(l, wstatus);
	loop_stop(l->loop, 0);
}

static bool launcher_filter_keys(void *ctx, const uint8_t *data, size_t len)
{
	struct launcher *l = ctx;

	if (isatty(STDIN_FILENO) && memchr(data, ESCAPE_KEY, len))
		launcher_kill(l);
	return true;
}

/* End of stdin ends the guest's input only. */
static void launcher_on_stdin_end(void *ctx)
{
	struct launcher *l = ctx;

	shutdown(l->console_in, SHUT_WR);
}

static int launcher_relay(struct launcher *l, struct err *e)
{
	int r;

	if (l->console_out < 0)
		return 0;
	terminal_raw();
	l->in.filter = launcher_filter_keys;
	l->in.on_end = launcher_on_stdin_end;
	l->in.ctx = l;
	r = pump_start(&l->in, l->loop, STDIN_FILENO, l->console_in);
	if (!r)
		r = pump_start(&l->out, l->loop, l->console_out, STDOUT_FILENO);
	return r ? err_set(e, r, "terminal: %s", strerror(-r)) : 0;
}

static int launcher_serve(struct launcher *l, struct err *e)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGCHLD);
	r = loop_signals(l->loop, &set, launcher_on_signal, l);
	if (!r)
		r = loop_add(l->loop, &l->link_src, l->link_fd, EPOLLIN, launcher_on_link, l);
	if (!r)
		r = loop_timer_add(l->loop, &l->kill_timer, launcher_kill_hard, l);
	if (r)
		return err_set(e, r, "launcher: %s", strerror(-r));
	launcher_on_signal(l, SIGCHLD);	/* it may have ended before the handler stood */
	r = l->cfg.detach ? 0 : launcher_relay(l, e);
	if (!r)
		loop_run(l->loop);
	return r;
}

static int launcher_finish(struct launcher *l)
{
	if (l->console_out >= 0)
		pump_drain(&l->out, l->console_out, STDOUT_FILENO);
	terminal_restore();
	if (l->machine > 0 && l->cfg.detach) {
		puts(l->cfg.name);
		return 0;
	}
	return l->status;
}

/* ---- entry points -------------------------------------------------------------------------------- */

static void launcher_init(struct launcher *l, uint64_t started_ns)
{
	struct machine_args *a = &l->args;

	*l = (struct launcher){ .link_fd = -1, .console_in = -1, .console_out = -1, .status = 1 };
	memset(a, 0xff, sizeof(*a));	/* every descriptor -1 */
	a->cfg = &l->cfg;
	a->started_ns = started_ns;
	l->gate.policy = BLK_GATE_SAME_DIR;
}

static void launcher_fini(struct launcher *l)
{
	launcher_close_args(l);
	fd_close(&l->link_fd);
	fd_close(&l->console_in);
	fd_close(&l->console_out);
	loop_timer_del(&l->kill_timer);
	loop_free(l->loop);
	rundir_close(&l->args.rundir);
	config_fini(&l->cfg);
}

static int launcher_error(struct launcher *l, int status, const struct err *e)
{
	terminal_restore();
	log_error(NULL, "%s", e->msg);
	if (l->machine <= 0) {
		machine_unlink_console(&l->args);
		rundir_remove(&l->args.rundir);
	}
	return status;
}

static void launcher_set_gate(struct launcher *l, bool lock)
{
	static const enum blk_gate_policy policy[] = { [CONFIG_BACKING_DENY] = BLK_GATE_DENY,
						       [CONFIG_BACKING_SAME_DIR] = BLK_GATE_SAME_DIR,
						       [CONFIG_BACKING_ALLOW] = BLK_GATE_ALLOW };

	l->gate = (struct blk_gate){ .policy = policy[l->cfg.backing],
				     .lock = lock,
				     .option = "--backing allow" };
}

static int launcher_run_opened(struct launcher *l)
{
	struct err e = { 0 };
	int r = launcher_open_all(l, &e);

	if (!r)
		r = loop_new(&l->loop, &e);
	if (!r)
		r = launcher_fork(l, machine_run, &e);
	launcher_close_args(l);
	if (!r)
		r = launcher_serve(l, &e);
	return r ? launcher_error(l, MACHINE_EXIT_FAILED, &e) : launcher_finish(l);
}

int launcher_run(int argc, char **argv, uint64_t started_ns)
{
	static struct launcher l;	/* one a process; machine_args are too large for a stack */
	struct err e = { 0 };
	int status;

	launcher_init(&l, started_ns);
	if (config_parse_run(&l.cfg, argc, argv, &e)) {
		status = launcher_error(&l, MACHINE_EXIT_USAGE, &e);
	} else if (l.cfg.help) {
		config_help_run();
		status = 0;
	} else {
		log_init("vmm", l.cfg.quiet ? LOG_ERROR : l.cfg.verbose ? LOG_INFO : LOG_WARN);
		launcher_set_gate(&l, true);
		status = launcher_run_opened(&l);
	}
	launcher_fini(&l);
	return status;
}

static int machine_boot_entries_text(struct machine_args *a)
{
	return machine_boot_entries(a, false);
}

static int machine_boot_entries_json(struct machine_args *a)
{
	return machine_boot_entries(a, true);
}

static int launcher_list_entries(struct launcher *l, bool json)
{
	struct err e = { 0 };
	int r = launcher_open_disk(l, 0, false, &e);

	if (!r)
		r = loop_new(&l->loop, &e);
	if (!r)
		r = launcher_fork(l, json ? machine_boot_entries_json : machine_boot_entries_text, &e);
	if (!r)
		r = launcher_serve(l, &e);
	return r ? launcher_error(l, MACHINE_EXIT_FAILED, &e) : l->status;
}

int launcher_boot_entries(int argc, char **argv, uint64_t started_ns)
{
	static struct launcher l;
	bool json = false, help = false;
	const char *disk[1];
	size_t n = 1;
	struct err e = { 0 };
	int status;

	launcher_init(&l, started_ns);
	const struct opt table[] = {
		{ "json", 0, OPT_FLAG, &json, NULL, "one JSON document" },
		{ "backing", 0, OPT_CHOICE, &l.cfg.backing, "deny|same-dir|allow",
		  "which files an image may name (same-dir)",
		  .choices = (const char *const[]){ "deny", "same-dir", "allow", NULL } },
		{ "help", 0, OPT_FLAG, &help, NULL, "this text" },
		{ 0 },
	};

	l.cfg.backing = CONFIG_BACKING_SAME_DIR;
	if (opts_parse(table, argc, argv, disk, &n, &e) || (!help && !n)) {
		if (!e.code)
			err_set(&e, -EINVAL, "boot-entries: no DISK given (see --help)");
		status = launcher_error(&l, MACHINE_EXIT_USAGE, &e);
	} else if (help) {
		puts("usage: vmm boot-entries [OPTIONS] DISK\nList what DISK can boot, and why one is the default.\n");
		opts_help(table, stdout);
		status = 0;
	} else {
		launcher_set_gate(&l, false);
		l.cfg.n_disks = 1;
		l.cfg.console = CONSOLE_NONE;
		l.cfg.disk[0] = (struct config_disk){ .path = disk[0], .readonly = true, .queues = 1 };
		status = launcher_list_entries(&l, json);
	}
	launcher_fini(&l);
	return status;
}
