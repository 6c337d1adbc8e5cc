/* SPDX-License-Identifier: MIT */
/* Clients of RUNTIME: the list of VMs from its directories, orders over qmp.sock. */
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "hv/fd.h"
#include "hv/log.h"
#include "hv/loop.h"
#include "hv/opts.h"
#include "hv/size.h"
#include "rundir.h"
#include "terminal.h"

#define EXIT_USAGE 2
#define STOP_TIMEOUT_DEFAULT_S 30
/* For all of connection, greeting, negotiation and answer. */
#define QMP_TIMEOUT_MS 10000
#define QMP_TIMEOUT_STATE_MS 1000
#define QMP_TIMEOUT_KILL_MS 2000
#define END_TIMEOUT_MS 5000
#define END_GRACE_MS 500	/* its socket is closed: it may be ending already */
#define QMP_LINE_MAX KIB(256)
#define ESCAPE_KEY 0x1d

/* ---- command lines -------------------------------------------------------------------------- */

struct ctl_args {
	bool json, help, verbose, quiet;
	unsigned timeout_s;
	const char *arg[2];
	size_t n;
};

/* 0: go on; else *@status is to be returned. */
static int ctl_parse(int argc, char **argv, struct ctl_args *a, size_t min, size_t max,
		     const char *usage, int *status)
{
	bool wants_json = strstr(usage, "--json"), wants_timeout = strstr(usage, "--timeout");
	struct opt table[6] = {
		{ "help", 0, OPT_FLAG, &a->help, NULL, "this text" },
		{ "verbose", 'v', OPT_FLAG, &a->verbose, NULL, "say what is done" },
		{ "quiet", 'q', OPT_FLAG, &a->quiet, NULL, "errors only, no header over a list" },
	};
	struct err e = { 0 };
	size_t n = 3;
	int r;

	if (wants_json)
		table[n++] = (struct opt){ "json", 0, OPT_FLAG, &a->json, NULL, "one JSON document" };
	if (wants_timeout)
		table[n++] = (struct opt){ "timeout", 0, OPT_UINT, &a->timeout_s, "S",
					   "seconds until it is killed (30)" };
	a->n = max;
	r = opts_parse(table, argc, argv, a->arg, &a->n, &e);
	if (!r && !a->help && a->n < min)
		r = err_set(&e, -EINVAL, "%s: no NAME given (see vmm list)", argv[0]);
	log_init("vmm", a->quiet ? LOG_ERROR : a->verbose ? LOG_INFO : LOG_WARN);
	if (!r && !a->help)
		return 0;
	if (r)
		log_error(NULL, "%s", e.msg);
	else
		printf("usage: vmm %s\n\n", usage);
	if (!r)
		opts_help(table, stdout);
	*status = r ? EXIT_USAGE : 0;
	return 1;
}

static int ctl_fail(const struct err *e)
{
	log_error(NULL, "%s", e->msg);
	return EXIT_FAILURE;
}

/* ---- a conversation over qmp.sock ------------------------------------------------------------- */

struct ctl_qmp {
	int fd;
	int64_t deadline_ms;	/* of CLOCK_MONOTONIC */
	bool late;		/* it has passed without an answer */
	size_t len;
	char buf[QMP_LINE_MAX];
};

static int64_t ctl_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* -ETIMEDOUT: nobody accepted (the queue is full) within @timeout_ms. */
static int ctl_connect(const char *name, const char *file, int timeout_ms, int *out, struct err *e)
{
	struct timeval tv = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char path[RUNDIR_PATH_MAX];
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = rundir_socket(name, file, path, e);

	if (r)
		return r;
	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s: path too long", path);
	strcpy(sa.sun_path, path);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0)
		return err_errno(e, "socket");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return errno == EAGAIN ? err_set(e, -ETIMEDOUT, "%s: no answer", path) :
					 err_errno(e, "%s", path);
	*out = fd_steal(&fd);
	return 0;
}

/* The next line as JSON; NULL at the end, on a timeout, on garbage. */
static json_t *ctl_qmp_line(struct ctl_qmp *q)
{
	struct pollfd p = { .fd = q->fd, .events = POLLIN };
	char *nl;
	json_t *j;
	ssize_t n;

	while (!(nl = memchr(q->buf, '\n', q->len))) {
		int64_t left = q->deadline_ms - ctl_now_ms();

		if (q->len == sizeof(q->buf))
			return NULL;
		q->late = left <= 0 || poll(&p, 1, (int)left) != 1;
		if (q->late)
			return NULL;
		n = read(q->fd, q->buf + q->len, sizeof(q->buf) - q->len);
		if (n <= 0)
			return NULL;
		q->len += (size_t)n;
	}
	j = json_loadb(q->buf, (size_t)(nl - q->buf), 0, NULL);
	q->len -= (size_t)(nl + 1 - q->buf);
	memmove(q->buf, nl + 1, q->len);
	return j;
}

static int ctl_qmp_send(int fd, const char *text, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = send(fd, text + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* Send a request, skip events, give the reply. */
static json_t *ctl_qmp_ask(struct ctl_qmp *q, const char *request)
{
	CLEANUP_FREE char *line = NULL;
	json_t *j;

	/* In one piece: "quit" is carried out, and the socket closed, at its last brace. */
	if (asprintf(&line, "%s\n", request) < 0 || ctl_qmp_send(q->fd, line, strlen(line)))
		return NULL;
	while ((j = ctl_qmp_line(q)) && json_object_get(j, "event"))
		json_decref(j);
	return j;
}

static void ctl_qmp_close(struct ctl_qmp *q)
{
	fd_close(&q->fd);
	free(q);
}

static int ctl_qmp_silent(const struct ctl_qmp *q, const char *name, struct err *e)
{
	return q->late ? err_set(e, -ETIMEDOUT, "%s: no answer on its control socket", name) :
			 err_set(e, -EPIPE, "%s: closed its control socket", name);
}

static int ctl_qmp_open(const char *name, int timeout_ms, struct ctl_qmp **out, struct err *e)
{
	static const char negotiate[] = "{\"execute\":\"qmp_capabilities\"}";
	struct ctl_qmp *q = calloc(1, sizeof(*q));
	json_t *greeting, *reply;
	int r;

	if (!q)
		return err_set(e, -ENOMEM, "out of memory");
	q->deadline_ms = ctl_now_ms() + timeout_ms;
	r = ctl_connect(name, "qmp.sock", timeout_ms, &q->fd, e);
	if (r) {
		free(q);
		return r;
	}
	greeting = ctl_qmp_line(q);
	reply = greeting ? ctl_qmp_ask(q, negotiate) : NULL;
	if (!json_object_get(reply, "return"))
		r = ctl_qmp_silent(q, name, e);
	json_decref(greeting);
	json_decref(reply);
	if (r)
		ctl_qmp_close(q);
	else
		*out = q;
	return r;
}

/*
 * Carry out one command; *@reply is the caller's, an error in it too. Without @reply an
 * error is one of ours. -ETIMEDOUT: the VM has the socket, but does not answer.
 */
static int ctl_command(const char *name, const char *request, int timeout_ms, json_t **reply,
		       struct err *e)
{
	struct ctl_qmp *q = NULL;
	json_t *j, *error;
	int r = ctl_qmp_open(name, timeout_ms, &q, e);

	if (r)
		return r;
	j = ctl_qmp_ask(q, request);
	error = json_object_get(j, "error");
	if (!j)
		r = ctl_qmp_silent(q, name, e);
	else if (error && !reply)
		r = err_set(e, -EPROTO, "%s: %s", name,
			    json_string_value(json_object_get(error, "desc")) ?: "error");
	ctl_qmp_close(q);
	if (reply && j)
		*reply = json_incref(j);
	json_decref(j);
	return r;
}

/* ---- verbs ------------------------------------------------------------------------------------ */

static const char *ctl_state(const char *name, char buf[32])
{
	json_t *reply = NULL;
	const char *s;
	int r = ctl_command(name, "{\"execute\":\"query-status\"}", QMP_TIMEOUT_STATE_MS, &reply, NULL);

	s = json_string_value(json_object_get(json_object_get(reply, "return"), "status"));
	snprintf(buf, 32, "%s", s ? s : r == -ETIMEDOUT ? "stuck" : "starting");
	json_decref(reply);
	return buf;
}

static json_t *ctl_vm_json(const struct rundir_vm *vm)
{
	char state[32];

	return json_pack("{s:s,s:s,s:i,s:i,s:I,s:n,s:I}", "name", vm->name, "state",
			 ctl_state(vm->name, state), "pid", (int)vm->pid, "cpus", (int)vm->cpus,
			 "memory", (json_int_t)vm->memory_bytes, "ip", "uptime",
			 (json_int_t)(time(NULL) - vm->started));
}

static void ctl_print_vm(const struct rundir_vm *vm)
{
	char state[32], size[24];

	printf("%-20s %-10s %8d %5u %10s %9" PRId64 " s\n", vm->name, ctl_state(vm->name, state),
	       (int)vm->pid, vm->cpus, size_format(vm->memory_bytes, size, sizeof(size)),
	       (int64_t)time(NULL) - vm->started);
}

static int ctl_list_one(void *ctx, const struct rundir_vm *vm)
{
	if (ctx)
		json_array_append_new(ctx, ctl_vm_json(vm));
	else
		ctl_print_vm(vm);
	return 0;
}

static int ctl_print_json(json_t *j)
{
	int bad = !j || json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) || puts("") < 0;

	json_decref(j);
	return bad ? EXIT_FAILURE : 0;
}

int ctl_list(int argc, char **argv)
{
	struct ctl_args a = { 0 };
	struct err e = { 0 };
	json_t *all;
	int status, r;

	if (ctl_parse(argc, argv, &a, 0, 0, "list [--json]", &status))
		return status;
	all = a.json ? json_array() : NULL;
	if (!all && !a.quiet)
		printf("%-20s %-10s %8s %5s %10s %11s\n", "NAME", "STATE", "PID", "CPUS", "MEMORY",
		       "UPTIME");
	r = rundir_each(ctl_list_one, all, &e);
	if (r) {
		json_decref(all);
		return ctl_fail(&e);
	}
	return all ? ctl_print_json(all) : 0;
}

int ctl_status(int argc, char **argv)
{
	struct ctl_args a = { 0 };
	struct err e = { 0 };
	struct rundir_vm vm;
	int status;

	if (ctl_parse(argc, argv, &a, 1, 1, "status NAME [--json]", &status))
		return status;
	if (rundir_find(a.arg[0], &vm, &e))
		return ctl_fail(&e);
	if (a.json)
		return ctl_print_json(ctl_vm_json(&vm));
	ctl_print_vm(&vm);
	return 0;
}

static int ctl_order(int argc, char **argv, const char *usage, const char *request)
{
	struct ctl_args a = { 0 };
	struct err e = { 0 };
	struct rundir_vm vm;
	int status;

	if (ctl_parse(argc, argv, &a, 1, 1, usage, &status))
		return status;
	if (rundir_find(a.arg[0], &vm, &e) ||
	    ctl_command(a.arg[0], request, QMP_TIMEOUT_MS, NULL, &e))
		return ctl_fail(&e);
	return 0;
}

int ctl_pause(int argc, char **argv)
{
	return ctl_order(argc, argv, "pause NAME", "{\"execute\":\"stop\"}");
}

int ctl_resume(int argc, char **argv)
{
	return ctl_order(argc, argv, "resume NAME", "{\"execute\":\"cont\"}");
}

/* True if the machine process ended within @ms; so it has if there is no @pidfd of it. */
static bool ctl_wait_end(int pidfd, int ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return pidfd < 0 || poll(&p, 1, ms) == 1;
}

/* -ENOENT: no such VM; *@pidfd is -1 if it has just ended. */
static int ctl_find(const char *name, int *pidfd, struct err *e)
{
	struct rundir_vm vm;
	int r = rundir_find(name, &vm, e);

	if (r)
		return r;
	*pidfd = (int)syscall(SYS_pidfd_open, vm.pid, 0);
	return *pidfd < 0 && errno != ESRCH ? err_errno(e, "%s: pid %d", name, (int)vm.pid) : 0;
}

/* Order it to end, wait; then SIGKILL: a VM whose control loop hangs goes too. */
static int ctl_end(const char *name, int pidfd, struct err *e)
{
	struct rundir_vm vm;
	int r = ctl_command(name, "{\"execute\":\"quit\"}", QMP_TIMEOUT_KILL_MS, NULL, e);

	if (ctl_wait_end(pidfd, r == -ETIMEDOUT ? 0 : r ? END_GRACE_MS : END_TIMEOUT_MS))
		return 0;
	log_info(NULL, "%s: %s: ending its process", name, r ? e->msg : "does not end");
	if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return err_errno(e, "%s", name);
	if (!ctl_wait_end(pidfd, END_TIMEOUT_MS))
		return err_set(e, -ETIMEDOUT, "%s: does not end", name);
	/* A detached VM has nobody who cleans up after it: whoever looks for it does. */
	rundir_find(name, &vm, NULL);
	return 0;
}

int ctl_kill(int argc, char **argv)
{
	struct ctl_args a = { 0 };
	struct err e = { 0 };
	CLEANUP_FD int pidfd = -1;
	int status;

	if (ctl_parse(argc, argv, &a, 1, 1, "kill NAME", &status))
		return status;
	if (ctl_find(a.arg[0], &pidfd, &e) || ctl_end(a.arg[0], pidfd, &e))
		return ctl_fail(&e);
	return 0;
}

int ctl_stop(int argc, char **argv)
{
	struct ctl_args a = { .timeout_s = STOP_TIMEOUT_DEFAULT_S };
	struct err e = { 0 };
	CLEANUP_FD int pidfd = -1;
	int status, r, ms, patience;

	if (ctl_parse(argc, argv, &a, 1, 1, "stop NAME [--timeout S]", &status))
		return status;
	if (ctl_find(a.arg[0], &pidfd, &e))
		return ctl_fail(&e);
	ms = (int)MIN(a.timeout_s, 86400u) * 1000;
	patience = MIN(ms, QMP_TIMEOUT_MS);
	patience = MAX(patience, QMP_TIMEOUT_STATE_MS);
	r = ctl_command(a.arg[0], "{\"execute\":\"system_powerdown\"}", patience, NULL, &e);
	if (ctl_wait_end(pidfd, r ? 0 : ms))
		return 0;
	if (r)
		log_warn(NULL, "%s: killing it", e.msg);
	else
		log_warn(NULL, "%s: did not power off within %u s: killing it", a.arg[0],
			 a.timeout_s);
	return ctl_end(a.arg[0], pidfd, &e) ? ctl_fail(&e) : 0;
}

/* Status 1 if the VM refused, the answer says why. */
static int ctl_qmp_once(const char *name, const char *request)
{
	struct err e = { 0 };
	json_t *reply = NULL;
	bool refused;

	if (ctl_command(name, request, QMP_TIMEOUT_MS, &reply, &e))
		return ctl_fail(&e);
	refused = json_object_get(reply, "error");
	return ctl_print_json(reply) || refused ? EXIT_FAILURE : 0;
}

/* ---- the terminal and a socket ------------------------------------------------------------------ */

/* Both directions until @out ends or the loop is stopped. @fd is borrowed. */
static int ctl_pump(struct loop *loop, struct pump *in, struct pump *out, int fd, struct err *e)
{
	CLEANUP_FD int wr = dup(fd);	/* a descriptor is watched once only */
	int r;

	if (wr < 0)
		return err_errno(e, "socket");
	r = pump_start(in, loop, STDIN_FILENO, wr);
	if (!r)
		r = pump_start(out, loop, fd, STDOUT_FILENO);
	if (!r)
		r = loop_run(loop);
	pump_stop(in);
	pump_stop(out);
	return r ? err_set(e, r, "standard input and output: %s", strerror(-r)) : 0;
}

struct ctl_qmp_ctx {
	struct loop *loop;
	int fd;
};

/* The VM answers what it was asked, then closes, and that ends us. */
static void ctl_qmp_input_end(void *ctx)
{
	shutdown(((struct ctl_qmp_ctx *)ctx)->fd, SHUT_WR);
}

static void ctl_qmp_end(void *ctx)
{
	loop_stop(((struct ctl_qmp_ctx *)ctx)->loop, 0);
}

int ctl_qmp(int argc, char **argv)
{
	struct ctl_args a = { 0 };
	struct err e = { 0 };
	struct rundir_vm vm;
	struct ctl_qmp_ctx c = { .fd = -1 };
	struct pump in = { .on_end = ctl_qmp_input_end, .ctx = &c };
	struct pump out = { .on_end = ctl_qmp_end, .ctx = &c };
	CLEANUP_FD int fd = -1;
	int status, r;

	if (ctl_parse(argc, argv, &a, 1, 2, "qmp NAME [JSON]", &status))
		return status;
	if (rundir_find(a.arg[0], &vm, &e))
		return ctl_fail(&e);
	if (a.n == 2)
		return ctl_qmp_once(a.arg[0], a.arg[1]);
	if (ctl_connect(a.arg[0], "qmp.sock", QMP_TIMEOUT_MS, &fd, &e) || loop_new(&c.loop, &e))
		return ctl_fail(&e);
	c.fd = fd;
	r = ctl_pump(c.loop, &in, &out, fd, &e);
	loop_free(c.loop);
	return r ? ctl_fail(&e) : 0;
}

struct ctl_console_ctx {
	struct loop *loop;
};

static bool ctl_console_keys(void *ctx, const uint8_t *data, size_t len)
{
	struct ctl_console_ctx *c = ctx;

	if (!isatty(STDIN_FILENO) || !memchr(data, ESCAPE_KEY, len))
		return true;
	loop_stop(c->loop, 0);
	return false;
}

static void ctl_console_end(void *ctx)
{
	struct ctl_console_ctx *c = ctx;

	loop_stop(c->loop, 0);
}

int ctl_console(int argc, char **argv)
{
	struct ctl_args a = { 0 };
	struct err e = { 0 };
	struct rundir_vm vm;
	struct ctl_console_ctx c;
	struct pump in = { .filter = ctl_console_keys, .ctx = &c };
	struct pump out = { .on_end = ctl_console_end, .ctx = &c };
	CLEANUP_FD int fd = -1;
	int status, r;

	if (ctl_parse(argc, argv, &a, 1, 1, "console NAME", &status))
		return status;
	if (rundir_find(a.arg[0], &vm, &e) ||
	    ctl_connect(a.arg[0], "console.sock", QMP_TIMEOUT_MS, &fd, &e) || loop_new(&c.loop, &e))
		return ctl_fail(&e);
	terminal_raw();
	r = ctl_pump(c.loop, &in, &out, fd, &e);
	terminal_restore();
	loop_free(c.loop);
	return r ? ctl_fail(&e) : 0;
}
