/* SPDX-License-Identifier: MIT */
/*
 * QMP. Requests are JSON objects, cut apart by counting braces outside strings, so that a
 * half message waits and garbage is answered with an error. Every request gets its answer
 * at once; answers go out non-blocking into the socket's buffer, and a client whose buffer
 * is full is dropped.
 */
#include "qmp.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hv/fd.h"

struct qmp_client {
	struct qmp *qmp;
	struct loop_source src;
	uint64_t serial;	/* the lower, the longer it is connected */
	bool negotiated;
	bool busy;	/* its requests are being worked on: it is freed when that is done */
	bool gone;	/* lost meanwhile */
	size_t len;
	char buf[QMP_REQUEST_MAX];
};
struct qmp {
	struct loop *loop;
	struct loop_source listener;
	struct qmp_ops ops;
	uint64_t serial;
	struct qmp_client *client[QMP_CLIENTS_MAX];
};

typedef json_t *(*qmp_fn)(struct qmp *q);
struct qmp_command {
	const char *name;
	qmp_fn fn;
};

static json_t *cmd_query_status(struct qmp *q)
{
	const char *s = q->ops.status(q->ops.ctx);

	return json_pack("{s:s,s:b}", "status", s, "running", !strcmp(s, "running"));
}

static json_t *cmd_query_version(struct qmp *q)
{
	(void)q;
	return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", 0, "minor", 1, "micro", 0,
			 "package", "vmm " HV_VERSION);
}

static json_t *cmd_query_name(struct qmp *q)
{
	return json_pack("{s:s}", "name", q->ops.name);
}

static json_t *cmd_query_kvm(struct qmp *q)
{
	(void)q;
	return json_pack("{s:b,s:b}", "enabled", 1, "present", 1);
}

static json_t *cmd_query_cpus(struct qmp *q)
{
	json_t *a = json_array();

	for (unsigned i = 0; i < q->ops.cpus(q->ops.ctx); i++)
		json_array_append_new(a, json_pack("{s:i,s:s}", "cpu-index", (int)i, "target",
						   "x86_64"));
	return a;
}

static json_t *qmp_done(struct qmp *q, void (*fn)(void *))
{
	fn(q->ops.ctx);
	return json_object();
}

static json_t *cmd_stop(struct qmp *q)
{
	return qmp_done(q, q->ops.stop);
}

static json_t *cmd_cont(struct qmp *q)
{
	return qmp_done(q, q->ops.cont);
}

static json_t *cmd_powerdown(struct qmp *q)
{
	return qmp_done(q, q->ops.system_powerdown);
}

static json_t *cmd_reset(struct qmp *q)
{
	return qmp_done(q, q->ops.system_reset);
}

static json_t *cmd_quit(struct qmp *q)
{
	return qmp_done(q, q->ops.quit);
}

static json_t *cmd_capabilities(struct qmp *q)
{
	(void)q;
	return json_object();
}

static json_t *cmd_query_commands(struct qmp *q);
static const struct qmp_command qmp_commands[] = {
	{ "qmp_capabilities", cmd_capabilities },
	{ "query-commands", cmd_query_commands },
	{ "query-status", cmd_query_status },
	{ "query-version", cmd_query_version },
	{ "query-name", cmd_query_name },
	{ "query-kvm", cmd_query_kvm },
	{ "query-cpus-fast", cmd_query_cpus },
	{ "stop", cmd_stop },
	{ "cont", cmd_cont },
	{ "system_powerdown", cmd_powerdown },
	{ "system_reset", cmd_reset },
	{ "quit", cmd_quit },
};

static json_t *cmd_query_commands(struct qmp *q)
{
	json_t *a = json_array();

	(void)q;
	for (size_t i = 0; i < ARRAY_SIZE(qmp_commands); i++)
		json_array_append_new(a, json_pack("{s:s}", "name", qmp_commands[i].name));
	return a;
}

static void qmp_drop(struct qmp_client *c)
{
	struct qmp *q = c->qmp;

	if (c->busy) {
		c->gone = true;
		return;
	}
	loop_del(&c->src);
	fd_close(&c->src.fd);
	for (size_t i = 0; i < QMP_CLIENTS_MAX; i++)
		if (q->client[i] == c)
			q->client[i] = NULL;
	free(c);
}

/* False: the client is gone. Consumes @msg. */
static bool qmp_send(struct qmp_client *c, json_t *msg)
{
	char *text = msg && !c->gone ? json_dumps(msg, JSON_COMPACT) : NULL;
	size_t n = text ? strlen(text) : 0;
	bool ok = false;

	json_decref(msg);
	if (text) {
		text[n++] = '\n';	/* over the NUL: it is sent by length */
		ok = send(c->src.fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n;
	}
	free(text);
	if (!ok)
		qmp_drop(c);
	return ok;
}

static json_t *qmp_error(const char *class, const char *desc)
{
	return json_pack("{s:{s:s,s:s}}", "error", "class", class, "desc", desc);
}

static json_t *qmp_execute(struct qmp_client *c, json_t *req)
{
	const char *name = json_string_value(json_object_get(req, "execute"));
	bool caps = name && !strcmp(name, "qmp_capabilities");
	json_t *ret;

	if (!name)
		return qmp_error("GenericError", "QMP input lacks member 'execute'");
	if (caps == c->negotiated)
		return qmp_error("CommandNotFound",
				 caps ? "Capabilities negotiation is already complete, command ignored" :
					"Expecting capabilities negotiation with 'qmp_capabilities'");
	for (size_t i = 0; i < ARRAY_SIZE(qmp_commands); i++) {
		if (strcmp(qmp_commands[i].name, name))
			continue;
		c->negotiated = true;
		ret = qmp_commands[i].fn(c->qmp);
		return ret ? json_pack("{s:o}", "return", ret) : NULL;
	}
	return qmp_error("CommandNotFound", "The command has not been found");
}

static bool qmp_handle(struct qmp_client *c, const char *text, size_t len)
{
	json_t *req = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	json_t *reply, *id;

	if (!json_is_object(req)) {
		json_decref(req);
		return qmp_send(c, qmp_error("GenericError", "JSON parse error"));
	}
	reply = qmp_execute(c, req);
	id = json_object_get(req, "id");
	if (reply && id)
		json_object_set(reply, "id", id);
	json_decref(req);
	return qmp_send(c, reply);
}

/* Length of the first whole object in @p, 0 if none is complete yet. */
static size_t qmp_object_end(const char *p, size_t n)
{
	unsigned depth = 0;
	bool string = false;

	for (size_t i = 0; i < n; i++) {
		if (string) {
			if (p[i] == '\\')
				i++;
			else if (p[i] == '"')
				string = false;
			continue;
		}
		if (p[i] == '"')
			string = true;
		else if (p[i] == '{' || p[i] == '[')
			depth++;
		else if ((p[i] == '}' || p[i] == ']') && depth && --depth == 0)
			return i + 1;
		else if (!depth && p[i] == '\n' && i)
			return i + 1;	/* a line without any object: answer it as garbage */
	}
	return 0;
}

static void qmp_consume(struct qmp_client *c)
{
	size_t n, skip;

	for (;;) {
		for (skip = 0; skip < c->len && strchr(" \t\r\n", c->buf[skip]); skip++)
			;
		c->len -= skip;
		memmove(c->buf, c->buf + skip, c->len);
		n = qmp_object_end(c->buf, c->len);
		if (!n)
			break;
		if (!qmp_handle(c, c->buf, n))
			return;
		c->len -= n;
		memmove(c->buf, c->buf + n, c->len);
	}
	if (c->len == sizeof(c->buf))
		qmp_drop(c);	/* a request that long is none of ours */
}

static void qmp_on_client(void *ctx, uint32_t events)
{
	struct qmp_client *c = ctx;
	ssize_t n = read(c->src.fd, c->buf + c->len, sizeof(c->buf) - c->len);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		qmp_drop(c);
		return;
	}
	c->len += (size_t)n;
	c->busy = true;	/* a command may cause an event, and that may find the client gone */
	qmp_consume(c);
	c->busy = false;
	if (c->gone)
		qmp_drop(c);
}

/* True if @a has to go rather than @b: who says nothing first, then who came first. */
static bool qmp_goes_first(const struct qmp_client *a, const struct qmp_client *b)
{
	if (a->negotiated != b->negotiated)
		return b->negotiated;
	return a->serial < b->serial;
}

/*
 * A slot for a new client. Idle connections must not keep the owner from ending the VM: if
 * all slots are taken one of them goes.
 */
static struct qmp_client **qmp_slot(struct qmp *q)
{
	struct qmp_client **victim = &q->client[0];

	for (size_t i = 0; i < QMP_CLIENTS_MAX; i++) {
		if (!q->client[i])
			return &q->client[i];
		if (qmp_goes_first(q->client[i], *victim))
			victim = &q->client[i];
	}
	qmp_drop(*victim);
	return victim;
}

static void qmp_on_connect(void *ctx, uint32_t events)
{
	struct qmp *q = ctx;
	int fd = accept4(q->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct qmp_client *c;

	(void)events;
	if (fd < 0)
		return;
	c = calloc(1, sizeof(*c));
	if (!c || loop_add(q->loop, &c->src, fd, EPOLLIN, qmp_on_client, c)) {
		free(c);
		fd_close(&fd);
		return;
	}
	c->qmp = q;
	c->serial = q->serial++;
	*qmp_slot(q) = c;
	qmp_send(c, json_pack("{s:{s:o,s:[]}}", "QMP", "version", cmd_query_version(q),
			      "capabilities"));
}

int qmp_new(struct loop *loop, int listen_fd, const struct qmp_ops *ops, struct qmp **out,
	    struct err *e)
{
	struct qmp *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return err_set(e, -ENOMEM, "control socket");
	q->loop = loop;
	q->ops = *ops;
	r = loop_add(loop, &q->listener, listen_fd, EPOLLIN, qmp_on_connect, q);
	if (r) {
		free(q);
		return err_set(e, r, "control socket: %s", strerror(-r));
	}
	*out = q;
	return 0;
}

void qmp_event(struct qmp *q, const char *event, json_t *data)
{
	struct timespec now;

	if (!q) {
		json_decref(data);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	for (size_t i = 0; i < QMP_CLIENTS_MAX; i++)
		if (q->client[i] && q->client[i]->negotiated)
			qmp_send(q->client[i],
				 json_pack("{s:s,s:o,s:{s:I,s:I}}", "event", event, "data",
					   data ? json_incref(data) : json_object(), "timestamp",
					   "seconds", (json_int_t)now.tv_sec, "microseconds",
					   (json_int_t)(now.tv_nsec / 1000)));
	json_decref(data);
}

void qmp_free(struct qmp *q)
{
	if (!q)
		return;
	for (size_t i = 0; i < QMP_CLIENTS_MAX; i++)
		if (q->client[i])
			qmp_drop(q->client[i]);
	loop_del(&q->listener);
	free(q);
}
