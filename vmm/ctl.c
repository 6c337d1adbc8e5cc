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
#define QMP_TIMEOUT_MS 10000
#define QMP_LINE_MAX KIB(256)
#define ESCAPE_KEY 0x1d

/* ---- command lines -------------------------------------------------------------------------- */

struct ctl_args {
	bool json, help;
	unsigned timeout_s;
	const char *arg[2];
	size_t n;
};

/* 0: go on; else *@status is to be returned. */
static int ctl_parse(int argc, char **argv, struct ctl_args *a, size_t min, size_t max,
		     const char *usage, int *status)
{
	bool wants_json = strstr(usage, "--json"), wants_timeout = strstr(usage, "--timeout");
	struct opt table[4] = { { "help", 0, OPT_FLAG, &a->help, NULL, "this text" } };
	struct err e = { 0 };
	size_t n = 1;
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
	size_t len;
	char buf[QMP_LINE_MAX];
};

static int ctl_connect(const char *name, const char *file, int *out, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char path[RUNDIR_PATH_MAX];
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = rundir_socket(name, file, path, e);

	if (r)
		return r;
	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s: path too long", path);
	strcpy(sa.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_errno(e, "%s", path);
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
		if (q->len == sizeof(q->buf) || poll(&p, 1, QMP_TIMEOUT_MS) != 1)
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

/* Send a request, skip events, give the reply. */
static json_t *ctl_qmp_ask(struct ctl_qmp *q, const char *request)
{
	CLEANUP_FREE char *line = NULL;
	json_t *j;

	/* In one piece: "quit" is carried out, and the socket closed, at its last brace. */
	if (asprintf(&line, "%s\n", request) < 0 || fd_write_full(q->fd, line, strlen(line)))
		return NULL;
	while ((j = ctl_qmp_line(q)) && json_object_get(j, "event"))
		json_decref(j);
	return j;
}

static int ctl_qmp_open(const char *name, struct ctl_qmp **out, struct err *e)
{
	struct ctl_qmp *q = calloc(1, sizeof(*q));
	json_t *j;
	int r;

	if (!q)
		return err_set(e, -ENOMEM, "out of memory");
	r = ctl_connect(name, "qmp.sock", &q->fd, e);
	if (r) {
		free(q);
		return r;
	}
	json_decref(ctl_qmp_line(q));	/* the greeting */
	j = ctl_qmp_ask(q, "{\"execute\":\"qmp_capabilities\"}");
	if (!json_object_get(j, "return")) {
		json_decref(j);
		fd_close(&q->fd);
		free(q);
		return err_set(e, -EPROTO, "%s: no answer on its control socket", name);
	}
	json_decref(j);
	*out = q;
	return 0;
}

static void ctl_qmp_close(struct ctl_qmp *q)
{
	fd_close(&q->fd);
	free(q);
}

/* Find the VM and carry out one command; *@reply (may be NULL) is the caller's. */
static int ctl_command(const char *name, const char *request, json_t **reply, struct err *e)
{
	struct rundir_vm vm;
	struct ctl_qmp *q = NULL;
	json_t *j;
	int r = rundir_find(name, &vm, e);

	if (!r)
		r = ctl_qmp_open(name, &q, e);
	if (r)
		return r;
	j = ctl_qmp_ask(q, request);
	ctl_qmp_close(q);
	if (!j)
		return err_set(e, -EPIPE, "%s: no answer on its control socket", name);
	if (reply)
		*reply = json_incref(j);
	json_decref(j);
	return 0;
}

/* ---- verbs ------------------------------------------------------------------------------------ */

static const char *ctl_state(const char *name, char buf[32])
{
	json_t *reply = NULL;
	const char *s;

	ctl_command(name, "{\"execute\":\"query-status\"}", &reply, NULL);
	s = json_string_value(json_object_get(json_object_get(reply, "return"), "status"));
	snprintf(buf, 32, "%s", s ? s : "starting");
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
	if (!all)
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
	int status;

	if (ctl_parse(argc, argv, &a, 1, 1, usage, &status))
		return status;
	return ctl_command(a.arg[0], request, NULL, &e) ? ctl_fail(&e) : 0;
}

int ctl_pause(int argc, char **argv)
{
	return ctl_order(argc, argv, "pause NAME", "{\"execute\":\"stop\"}");
}

int ctl_resume(int argc, char **argv)
{
	return ctl_order(argc, argv, "resume NAME", "{\"execute\":\"cont\"}");
}

/* True if the machine process ended within @ms. */
static bool ctl_wait_end(int pidfd, int ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return pidfd < 0 || poll(&p, 1, ms) == 1;
}

/* Order it to end, wait; then SIGKILL: a VM whose control loop hangs goes too. */
static int ctl_end(const char *name, struct err *e)
{
	struct rundir_vm vm;
	CLEANUP_FD int pidfd = -1;
	int r = rundir_find(name, &vm, e);

	if (r)
		return r;
	pidfd = (int)syscall(SYS_pidfd_open, vm.pid, 0);
	if (!ctl_command(name, "{\"execute\":\"quit\"}", NULL, e) && ctl_wait_end(pidfd, 5000))
		return 0;
	if (pidfd < 0 || syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0)
		return err_errno(e, "%s: pid %d", name, (int)vm.pid);
	return ctl_wait_end(pidfd, 5000) ? 0 : err_set(e, -ETIMEDOUT, "%s: does not end", name);
}

int ctl_kill(int argc, char **argv)
{
	struct ctl_args a = { 0 };
	struct err e = { 0 };
	int status;

	if (ctl_parse(argc, argv, &a, 1, 1, "kill NAME", &status))
		return status;
	return ctl_end(a.arg[0], &e) ? ctl_fail(&e) : 0;
}

int ctl_stop(int argc, char **argv)
{
	struct ctl_args a = { .timeout_s = STOP_TIMEOUT_DEFAULT_S };
	struct err e = { 0 };
	struct rundir_vm vm;
	CLEANUP_FD int pidfd = -1;
	int status;

	if (ctl_parse(argc, argv, &a, 1, 1, "stop NAME [--timeout S]", &status))
		return status;
	if (rundir_find(a.arg[0], &vm, &e))
		return ctl_fail(&e);
	pidfd = (int)syscall(SYS_pidfd_open, vm.pid, 0);
	if (ctl_command(a.arg[0], "{\"execute\":\"system_powerdown\"}", NULL, &e))
		return ctl_fail(&e);
	if (ctl_wait_end(pidfd, (int)MIN(a.timeout_s, 86400u) * 1000))
		return 0;
	log_warn(NULL, "%s: did not power off within %u s: killing it", a.arg[0], a.timeout_s);
	return ctl_end(a.arg[0], &e) ? ctl_fail(&e) : 0;
}

int ctl_qmp(int argc, char **argv)
{
	struct ctl_args a = { 0 };
	struct err e = { 0 };
	json_t *reply = NULL;
	int status;
	struct pump in = { 0 }, out = { 0 };
	struct loop *loop;
	CLEANUP_FD int fd = -1;

	if (ctl_parse(argc, argv, &a, 1, 2, "qmp NAME [JSON]", &status))
		return status;
	if (a.n == 2)
		return ctl_command(a.arg[0], a.arg[1], &reply, &e) ? ctl_fail(&e) :
								     ctl_print_json(reply);
	if (ctl_connect(a.arg[0], "qmp.sock", &fd, &e) || loop_new(&loop, &e))
		return ctl_fail(&e);
	pump_start(&in, loop, STDIN_FILENO, dup(fd));
	pump_start(&out, loop, fd, STDOUT_FILENO);
	loop_run(loop);
	loop_free(loop);
	return 0;
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
	CLEANUP_FD int wr = -1;
	int status;

	if (ctl_parse(argc, argv, &a, 1, 1, "console NAME", &status))
		return status;
	if (rundir_find(a.arg[0], &vm, &e) || ctl_connect(a.arg[0], "console.sock", &fd, &e))
		return ctl_fail(&e);
	wr = dup(fd);
	if (wr < 0 || loop_new(&c.loop, &e))
		return ctl_fail(&e);
	terminal_raw();
	if (!pump_start(&in, c.loop, STDIN_FILENO, wr) && !pump_start(&out, c.loop, fd, STDOUT_FILENO))
		loop_run(c.loop);
	terminal_restore();
	loop_free(c.loop);
	return 0;
}
