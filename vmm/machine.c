/* SPDX-License-Identifier: MIT */
/*
 * The machine process. One turn of its life:
 *
 *   plan (parse disks, find the boot entry) → build → load → attach devices → run
 *        ↑                                                                     │
 *        └───────────────── the guest resets ──────────────────────────────────┘
 *
 * Disks, TAPs and the console stay open over a reset; everything else is made anew. vCPU
 * threads report through an event slot and an eventfd; only the main thread acts.
 */
#include "machine_int.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "boot/plan.h"
#include "hv/fd.h"
#include "hv/guestfs.h"
#include "hv/log.h"
#include "link.h"
#include "qmp.h"

#include <jansson.h>

#define STOP_TIMEOUT_MS 30000
#define CONSOLE_DRAIN_MS 1000
#define STDIO_DRAIN_MS 60000	/* without any progress */

/* What ends one run of the loop. */
enum machine_turn { TURN_EXIT, TURN_RESET };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --verbose: what has been done, with the time since exec. */
static void machine_note(const struct machine *m, const char *what)
{
	log_info(&m->parts.log, "%s (%.1f ms after start)", what,
		 (double)(now_ns() - m->args->started_ns) / 1e6);
}

static int machine_fail(struct machine *m, const struct err *e)
{
	(void)m;
	log_error(NULL, "%s", e->msg);
	return MACHINE_EXIT_FAILED;
}

/* ---- events from vCPU threads ------------------------------------------------------------ */

static void machine_on_vm_event(void *ctx, enum vm_event ev, const char *text)
{
	struct machine *m = ctx;
	uint64_t one = 1;

	pthread_mutex_lock(&m->event_lock);
	m->pending |= BIT32(ev);
	if (text)
		snprintf(m->event_text, sizeof(m->event_text), "%s", text);
	pthread_mutex_unlock(&m->event_lock);
	if (write(m->event_fd, &one, sizeof(one)) < 0)
		return;	/* saturated: pending anyway */
}

/* The first word counts: a reset in the same turn of the loop does not call it back. */
static void machine_end(struct machine *m, int status)
{
	if (!m->ending)
		m->exit_status = status;
	m->ending = true;
	loop_stop(m->loop, TURN_EXIT);
}

static void machine_reset(struct machine *m, bool by_guest)
{
	if (m->ending)
		return;
	qmp_event(m->qmp, "RESET",
		  json_pack("{s:b,s:s}", "guest", by_guest, "reason",
			    by_guest ? "guest-reset" : "host-qmp-system-reset"));
	if (m->cfg->no_reboot) {
		machine_end(m, MACHINE_EXIT_OK);
		return;
	}
	machine_note(m, "guest reset");
	loop_stop(m->loop, TURN_RESET);
}

static void machine_crash(struct machine *m, const char *text)
{
	static const char *const action[] = { "poweroff", "run", "pause" };

	qmp_event(m->qmp, "GUEST_PANICKED",
		  json_pack("{s:s}", "action", action[m->cfg->on_crash]));
	log_error(&m->parts.log, "%s", text);
	switch (m->cfg->on_crash) {
	case CONFIG_CRASH_RESET: machine_reset(m, true); return;
	case CONFIG_CRASH_PAUSE:
		vm_pause(&m->vm);
		m->paused_why = "guest-panicked";
		return;
	}
	machine_end(m, MACHINE_EXIT_CRASHED);
}

static void machine_on_events(void *ctx, uint32_t events)
{
	struct machine *m = ctx;
	uint32_t pending;
	char text[sizeof(m->event_text)];
	uint64_t n;

	(void)events;
	if (read(m->event_fd, &n, sizeof(n)) < 0)
		return;
	pthread_mutex_lock(&m->event_lock);
	pending = m->pending;
	m->pending = 0;
	memcpy(text, m->event_text, sizeof(text));
	pthread_mutex_unlock(&m->event_lock);
	if (pending & BIT32(VM_EVENT_ERROR))
		machine_crash(m, text);
	else if (pending & BIT32(VM_EVENT_PANIC))
		machine_crash(m, "the guest's kernel panicked");
	else if (pending & BIT32(VM_EVENT_POWEROFF))
		machine_end(m, MACHINE_EXIT_OK);
	else if (pending & BIT32(VM_EVENT_RESET))
		machine_reset(m, true);
}

/* ---- orders: launcher, signals, control socket ---------------------------------------------- */

static void machine_stop_expired(void *ctx)
{
	struct machine *m = ctx;

	log_warn(&m->parts.log, "the guest did not power off within %d s: ended", STOP_TIMEOUT_MS / 1000);
	machine_end(m, MACHINE_EXIT_KILLED);
}

static void machine_power_button(void *ctx)
{
	struct machine *m = ctx;

	qmp_event(m->qmp, "POWERDOWN", NULL);
	vm_power_button(&m->vm);
}

static void machine_stop(struct machine *m)
{
	machine_power_button(m);
	if (!m->stopping)
		loop_timer_arm(&m->stop_timer, STOP_TIMEOUT_MS);
	m->stopping = true;
}

static void machine_kill(void *ctx)
{
	machine_end(ctx, MACHINE_EXIT_KILLED);
}

static void machine_pause(void *ctx)
{
	struct machine *m = ctx;

	if (m->paused_why)
		return;
	vm_pause(&m->vm);
	m->paused_why = "paused";
	qmp_event(m->qmp, "STOP", NULL);
}

static void machine_resume(void *ctx)
{
	struct machine *m = ctx;

	if (!m->paused_why)
		return;
	m->paused_why = NULL;
	vm_resume(&m->vm);
	qmp_event(m->qmp, "RESUME", NULL);
}

static void machine_qmp_reset(void *ctx)
{
	machine_reset(ctx, false);
}

static const char *machine_status(void *ctx)
{
	const struct machine *m = ctx;

	return m->paused_why ? m->paused_why : "running";
}

static unsigned machine_cpus(void *ctx)
{
	const struct machine *m = ctx;

	return m->cfg->cpus;
}

static void machine_on_link(void *ctx, uint32_t events)
{
	struct machine *m = ctx;
	CLEANUP_FREE struct link_msg *msg = malloc(sizeof(*msg));
	CLEANUP_FD int fd = -1;
	int r = msg ? link_recv(m->link.fd, msg, &fd) : -ENOMEM;

	(void)events;
	if (!r && msg->type == LINK_STOP) {
		machine_stop(m);
	} else if (!r && msg->type == LINK_KILL) {
		machine_kill(m);
	} else if (r) {
		/* The launcher is gone. Detached that is as it should be; else the end. */
		loop_del(&m->link);
		if (!m->cfg->detach)
			machine_kill(m);
	}
}

static void machine_on_signal(void *ctx, int signo)
{
	(void)signo;
	machine_stop(ctx);
}

static int machine_signals(struct machine *m)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	/* The terminal's signals reach the whole group: the launcher translates them. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTSTP, SIG_IGN);
	return loop_signals(m->loop, &set, machine_on_signal, m);
}

/* ---- set-up ----------------------------------------------------------------------------------- */

static int machine_control(struct machine *m, struct err *e)
{
	const struct qmp_ops ops = { .name = m->cfg->name,
				     .status = machine_status,
				     .stop = machine_pause,
				     .cont = machine_resume,
				     .system_powerdown = machine_power_button,
				     .system_reset = machine_qmp_reset,
				     .quit = machine_kill,
				     .cpus = machine_cpus,
				     .ctx = m };
	int r;

	m->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->event_fd < 0)
		return err_errno(e, "eventfd");
	r = loop_add(m->loop, &m->events, m->event_fd, EPOLLIN, machine_on_events, m);
	if (!r)
		r = loop_add(m->loop, &m->link, m->args->link_fd, EPOLLIN, machine_on_link, m);
	if (!r)
		r = loop_timer_add(m->loop, &m->stop_timer, machine_stop_expired, m);
	if (r)
		return err_set(e, r, "control loop: %s", strerror(-r));
	return m->args->qmp_listen_fd < 0 ?
		       0 :
		       qmp_new(m->loop, m->args->qmp_listen_fd, &ops, &m->qmp, e);
}

static int machine_console(struct machine *m, struct err *e)
{
	const struct console_cfg cfg = { .in_fd = m->args->console_in_fd,
					 .out_fd = m->args->console_out_fd,
					 .listen_fd = m->args->console_listen_fd,
					 .lossy = m->cfg->console == CONSOLE_PTY };
	int r = console_init(&m->console, m->loop, &cfg, e);

	if (r)
		return r;
	m->parts.serial = console_sink(&m->console);
	m->parts.console_in_fd = m->parts.console_out_fd = m->console.hvc_guest_fd;
	return 0;
}

static int machine_setup(struct machine *m, struct err *e)
{
	int r = vcpu_signals_init();

	if (!r)
		r = machine_signals(m);
	if (r)
		return err_set(e, r, "signals: %s", strerror(-r));
	r = machine_disks(m, e);
	if (!r)
		r = machine_nets(m, e);
	if (!r)
		r = machine_console(m, e);
	return r ? r : machine_control(m, e);
}

/* ---- one start of the guest --------------------------------------------------------------------- */

/* What vmm adds to the kernel's command line. */
static const char *machine_arguments(const struct machine *m)
{
	bool seed = m->parts.n_disks > m->cfg->n_disks;

	if (m->cfg->no_kaslr)
		return seed ? "ds=nocloud nokaslr" : "nokaslr";
	return seed ? "ds=nocloud" : NULL;
}

static int machine_plan(struct machine *m, struct boot_plan *p, struct err *e)
{
	const struct config *cfg = m->cfg;
	const struct boot_plan_args args = { .append = cfg->append,
					     .extra = machine_arguments(m),
					     .entry = cfg->boot_entry };
	int r;

	if (cfg->kernel)
		return boot_plan_files(p, m->args->kernel_fd, cfg->kernel, m->args->initrd_fd,
				       cfg->initrd, cfg->n_initrd, &args, e);
	r = boot_plan_disks(p, m->disk, cfg->n_disks, &args, e);
	return r ? err_wrap(e, r, "%s", cfg->disk[0].path) : 0;
}

/* The last console= argument is where the guest wants its input from. */
static bool machine_wants_hvc(const char *cmdline)
{
	const char *last = NULL, *at = cmdline;

	for (; (at = strstr(at, "console=")); at++)
		if (at == cmdline || at[-1] == ' ')
			last = at;
	return last && !strncmp(last, "console=hvc", 11);
}

static int machine_start_guest(struct machine *m, const struct boot_plan *p, struct err *e)
{
	struct kernel_fetched image;
	int r;

	kernel_fetch(&m->fetch, &p->kernel, &m->parts.log, &image);
	CLEANUP_FD int image_fd = image.fd;
	const struct kernel_image unpacked = { .fd = image_fd, .how = image.how };
	const struct kernel_load load = { .kernel = &p->kernel,
					  .initrd = p->initrd,
					  .n_initrd = p->n_initrd,
					  .cmdline = p->cmdline,
					  .image = image_fd >= 0 ? &unpacked : NULL,
					  .log = &m->parts.log };
	m->order = image.order;
	r = vm_build(&m->vm, &m->parts, e);
	if (r)
		return r;
	m->vm_exists = true;
	r = vm_load(&m->vm, &load, e);
	if (!r)
		r = vm_attach(&m->vm, e);
	if (r)
		return r;
	m->console.cfg.input_to_hvc = machine_wants_hvc(p->cmdline);
	console_attach(&m->console, &m->vm.serial);
	return 0;
}

static void machine_end_guest(struct machine *m)
{
	if (!m->vm_exists)
		return;
	vm_fini(&m->vm);
	console_attach(&m->console, NULL);
	m->vm_exists = false;
	m->paused_why = NULL;
	m->pending = 0;
}

/* The first start succeeded. A detached VM's messages go to its own log from here on. */
static void machine_announce(struct machine *m)
{
	if (!m->cfg->n_nets && !m->cfg->net_none && !m->cfg->kernel)
		log_warn(&m->parts.log, "no network: netd does not answer (use --net tap=NAME, or "
					"--net none)");
	link_send_type(m->args->link_fd, LINK_RUNNING);
	if (m->cfg->detach)
		rundir_log_to(&m->args->rundir, STDERR_FILENO);
	m->announced = true;
}

/* What the launcher ordered while its answer about the kernel was awaited. */
static void machine_obey(struct machine *m)
{
	if (m->order == LINK_KILL)
		machine_kill(m);
	else if (m->order == LINK_STOP)
		machine_stop(m);
	m->order = 0;
}

static int machine_boot(struct machine *m, struct err *e)
{
	struct boot_plan p = { 0 };
	int r = machine_plan(m, &p, e);

	if (r)
		return r;
	log_info(&m->parts.log, "booting '%s': %s", p.title, p.cmdline);
	r = machine_start_guest(m, &p, e);
	boot_plan_fini(&p);
	if (!r)
		r = vm_start(&m->vm, e);
	if (r)
		return r;
	machine_note(m, "guest entered");
	if (!m->announced)
		machine_announce(m);
	machine_obey(m);
	return 0;
}

static int machine_live(struct machine *m)
{
	struct err e = { 0 };
	int turn;

	do {
		if (machine_boot(m, &e)) {
			machine_end_guest(m);
			return machine_fail(m, &e);
		}
		turn = loop_run(m->loop);
		machine_end_guest(m);
	} while (turn == TURN_RESET && !m->ending);
	return m->exit_status;
}

/* ---- the end -------------------------------------------------------------------------------------- */

/* A pager or a slow terminal gets time to read the last words, unless the user ended the VM. */
static unsigned machine_patience(const struct machine *m, int status)
{
	return m->cfg->console == CONSOLE_STDIO && status != MACHINE_EXIT_KILLED ? STDIO_DRAIN_MS :
										   CONSOLE_DRAIN_MS;
}

static int machine_teardown(struct machine *m, int status)
{
	int bad = machine_close_disks(m);

	if (m->console.ring) {
		if (!console_drain(&m->console, machine_patience(m, status)))
			log_warn(&m->parts.log, "the end of the console's output was not read");
		console_fini(&m->console);
	}
	kernel_fetch_fini(&m->fetch);
	qmp_free(m->qmp);
	loop_timer_del(&m->stop_timer);
	fd_close(&m->event_fd);
	loop_free(m->loop);
	machine_unlink_console(m->args);
	rundir_remove(&m->args->rundir);
	return status ? status : bad;
}

static int machine_init(struct machine *m, struct machine_args *a, struct err *e)
{
	*m = (struct machine){ .args = a,
			       .cfg = a->cfg,
			       .event_fd = -1,
			       .fetch = { .link_fd = a->link_fd, .kept_fd = -1 } };
	pthread_mutex_init(&m->event_lock, NULL);
	m->parts = (struct vm_parts){ .cfg = a->cfg,
				      .kvm_fd = a->kvm_fd,
				      .urandom_fd = a->urandom_fd,
				      .log = { .vm = a->cfg->name },
				      .event = machine_on_vm_event,
				      .event_ctx = m };
	prctl(PR_SET_NAME, "vmm-machine");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return loop_new(&m->loop, e);
}

int machine_run(struct machine_args *a)
{
	static struct machine m;	/* the process's one VM: too large for a stack */
	struct err e = { 0 };
	int status;

	if (machine_init(&m, a, &e))
		return machine_fail(&m, &e);
	status = machine_setup(&m, &e) ? machine_fail(&m, &e) : machine_live(&m);
	return machine_teardown(&m, status);
}

static int machine_print_entries(const struct boot_list *l, bool json)
{
	json_t *root;

	if (!json) {
		boot_list_print(l, stdout);
		return fflush(stdout) ? MACHINE_EXIT_FAILED : MACHINE_EXIT_OK;
	}
	root = boot_list_json(l);
	if (!root || json_dumpf(root, stdout, JSON_INDENT(2)) || puts("") < 0 || fflush(stdout))
		return MACHINE_EXIT_FAILED;
	json_decref(root);
	return MACHINE_EXIT_OK;
}

int machine_boot_entries(struct machine_args *a, bool json)
{
	static struct machine m;
	struct boot_list list = { 0 };
	struct gfs *gfs = NULL;
	struct err e = { 0 };
	int status, r;

	r = machine_init(&m, a, &e);
	if (!r)
		r = machine_disks(&m, &e);
	if (!r)
		r = gfs_open(m.disk, a->cfg->n_disks, &gfs, &e);
	if (!r)
		r = gfs_boot_entries(gfs, &list, &e);
	if (r && gfs)
		err_wrap(&e, r, "%s", a->cfg->disk[0].path);
	status = r ? machine_fail(&m, &e) : machine_print_entries(&list, json);
	boot_list_free(&list);
	gfs_close(gfs);
	return machine_teardown(&m, status);
}
