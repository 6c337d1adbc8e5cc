/* SPDX-License-Identifier: MIT */
/* The runtime directory: names, locks, info files, left-overs. */
#include "rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "hv/fd.h"

#define INFO_MAX KIB(64)
#define NAME_TRIES 10000
#define WANTED_RETRY_MS 50
#define WANTED_RETRIES 20
#define DEFAULT_RETRY_MS 20
#define DEFAULT_RETRIES 5
#define STALE_RETRIES 1000	/* each time somebody else removed the directory meanwhile */

static const char *const rundir_files[] = { "info", "log", "qmp.sock", "console.sock", "lock" };

int rundir_base(char path[RUNDIR_PATH_MAX], struct err *e)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (geteuid() == 0)
		n = snprintf(path, RUNDIR_PATH_MAX, "/run/vmm");
	else if (xdg && *xdg == '/')
		n = snprintf(path, RUNDIR_PATH_MAX, "%s/vmm", xdg);
	else
		return err_set(e, -ENOENT, "XDG_RUNTIME_DIR is not set: log in, or set it to a "
					   "directory of your own");
	if (n < 0 || n >= RUNDIR_PATH_MAX - 100)
		return err_set(e, -ENAMETOOLONG, "%s: too long", path);
	return 0;
}

static int rundir_open_base(bool create, int *out, struct err *e)
{
	char path[RUNDIR_PATH_MAX];
	int r = rundir_base(path, e);

	if (r)
		return r;
	if (create && mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_errno(e, "%s", path);
	*out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *out < 0 ? err_errno(e, "%s", path) : 0;
}

static void rundir_unlink_all(int parent_fd, int dir_fd, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(rundir_files); i++)
		unlinkat(dir_fd, rundir_files[i], 0);
	unlinkat(parent_fd, name, AT_REMOVEDIR);
}

static bool rundir_same(int fd, int at, const char *name)
{
	struct stat by_fd, by_name;

	return fstat(fd, &by_fd) == 0 && fstatat(at, name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 &&
	       by_fd.st_ino == by_name.st_ino && by_fd.st_dev == by_name.st_dev;
}

/*
 * Open RUNTIME/NAME and try its lock, @op is LOCK_SH or LOCK_EX. Returns 1 with the lock
 * held, 0 if somebody's lock is in the way, -errno; 0 and 1 with both descriptors open.
 * -ESTALE: between our open and our lock somebody else removed the lock or the directory.
 */
static int rundir_try_lock(int parent_fd, const char *name, bool create, int op, int *dir_fd,
			   int *lock_fd)
{
	CLEANUP_FD int dir = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	CLEANUP_FD int lock = -1;
	int held = 1;

	if (dir < 0)
		return -errno;
	lock = openat(dir, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);
	if (lock < 0)
		return -errno;
	if (flock(lock, op | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return -errno;
		held = 0;
	}
	if (!rundir_same(lock, dir, "lock") || !rundir_same(dir, parent_fd, name))
		return -ESTALE;
	*dir_fd = fd_steal(&dir);
	*lock_fd = fd_steal(&lock);
	return held;
}

/* The lock is taken, but by a VM that is starting, or by a visitor, for a moment. */
static bool rundir_in_passing(const struct rundir *d)
{
	return faccessat(d->dir_fd, "info", F_OK, 0) < 0 || flock(d->lock_fd, LOCK_SH | LOCK_NB) == 0;
}

/* 0; -EEXIST: a VM lives there; -EAGAIN: perhaps; -ESTALE, -ENOENT: just removed. */
static int rundir_try_name(struct rundir *d, const char *name)
{
	int r;

	if (mkdirat(d->parent_fd, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	r = rundir_try_lock(d->parent_fd, name, true, LOCK_EX, &d->dir_fd, &d->lock_fd);
	if (r == 1) {
		snprintf(d->name, sizeof(d->name), "%s", name);
		return 0;
	}
	if (r == 0)
		r = rundir_in_passing(d) ? -EAGAIN : -EEXIST;
	fd_close(&d->dir_fd);
	fd_close(&d->lock_fd);
	return r;
}

static int rundir_claim_name(struct rundir *d, const char *name)
{
	int r = -ESTALE;

	for (int i = 0; (r == -ESTALE || r == -ENOENT) && i < STALE_RETRIES; i++)
		r = rundir_try_name(d, name);
	return r;
}

static void rundir_pause(long ms)
{
	const struct timespec pause = { .tv_nsec = ms * 1000000L };

	nanosleep(&pause, NULL);
}

/* A killed VM holds its lock until the kernel has taken its memory apart. */
static int rundir_claim_patiently(struct rundir *d, const char *name)
{
	int r = rundir_claim_name(d, name);

	for (int i = 0; (r == -EEXIST || r == -EAGAIN) && i < WANTED_RETRIES; i++) {
		rundir_pause(WANTED_RETRY_MS);
		r = rundir_claim_name(d, name);
	}
	return r == -EAGAIN ? -EEXIST : r;
}

/* The first of @fallback, @fallback-2 … that is free; a visitor does not cost us a name. */
static int rundir_claim_default(struct rundir *d, const char *fallback)
{
	char name[sizeof(d->name)];
	int r = -EEXIST, patience = DEFAULT_RETRIES;

	for (int i = 1; (r == -EEXIST || r == -EAGAIN) && i < NAME_TRIES; i++) {
		if (i == 1)
			snprintf(name, sizeof(name), "%s", fallback);
		else
			snprintf(name, sizeof(name), "%s-%d", fallback, i);
		while ((r = rundir_claim_name(d, name)) == -EAGAIN && patience-- > 0)
			rundir_pause(DEFAULT_RETRY_MS);
	}
	return r;
}

int rundir_claim(struct rundir *d, const char *wanted, const char *fallback, struct err *e)
{
	char base[RUNDIR_PATH_MAX];
	int r;

	*d = (struct rundir){ .dir_fd = -1, .parent_fd = -1, .lock_fd = -1 };
	r = rundir_open_base(true, &d->parent_fd, e);
	if (r)
		return r;
	r = wanted ? rundir_claim_patiently(d, wanted) : rundir_claim_default(d, fallback);
	if (r == -EEXIST && wanted)
		err_set(e, r, "a VM named '%s' is running already", wanted);
	if (r) {
		fd_close(&d->parent_fd);
		return r == -EEXIST && wanted ? r : err_set(e, r, "runtime directory: %s", strerror(-r));
	}
	r = rundir_base(base, e);
	snprintf(d->path, sizeof(d->path), "%.150s/%s", base, d->name);
	return r;
}

int rundir_write_info(const struct rundir *d, const struct config *cfg, pid_t pid,
		      const struct stat *disk, unsigned n, struct err *e)
{
	CLEANUP_FD int fd = openat(d->dir_fd, "info", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	json_t *root, *disks;
	int r;

	if (fd < 0)
		return err_errno(e, "%s/info", d->path);
	disks = json_array();
	for (unsigned i = 0; i < n; i++)
		json_array_append_new(disks, json_pack("{s:I,s:I}", "dev", (json_int_t)disk[i].st_dev,
						       "ino", (json_int_t)disk[i].st_ino));
	root = json_pack("{s:i,s:i,s:I,s:I,s:o}", "pid", (int)pid, "cpus", (int)cfg->cpus, "memory",
			 (json_int_t)cfg->memory_bytes, "started", (json_int_t)time(NULL), "disks",
			 disks);
	r = root && !json_dumpfd(root, fd, JSON_COMPACT) ? 0 : -EIO;
	json_decref(root);
	return r ? err_set(e, r, "%s/info: cannot be written", d->path) : 0;
}

void rundir_log_to(const struct rundir *d, int fd)
{
	CLEANUP_FD int log = openat(d->dir_fd, "log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC,
				    0600);

	if (log >= 0)
		dup2(log, fd);
}

void rundir_remove(struct rundir *d)
{
	if (d->dir_fd >= 0)
		rundir_unlink_all(d->parent_fd, d->dir_fd, d->name);
	rundir_close(d);
}

void rundir_close(struct rundir *d)
{
	fd_close(&d->dir_fd);
	fd_close(&d->lock_fd);
	fd_close(&d->parent_fd);
}

static json_t *rundir_read_info(int dir_fd)
{
	CLEANUP_FD int fd = openat(dir_fd, "info", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	CLEANUP_FREE uint8_t *text = NULL;
	size_t len;

	if (fd < 0 || fd_slurp(fd, INFO_MAX, &text, &len))
		return NULL;
	return json_loadb((char *)text, len, 0, NULL);
}

static void rundir_fill(struct rundir_vm *vm, const char *name, json_t *info)
{
	*vm = (struct rundir_vm){
		.pid = (pid_t)json_integer_value(json_object_get(info, "pid")),
		.cpus = (unsigned)json_integer_value(json_object_get(info, "cpus")),
		.memory_bytes = (uint64_t)json_integer_value(json_object_get(info, "memory")),
		.started = json_integer_value(json_object_get(info, "started")),
	};
	snprintf(vm->name, sizeof(vm->name), "%s", name);
}

typedef int (*rundir_visit_fn)(void *ctx, const char *name, json_t *info);

/*
 * A living VM has the exclusive lock, so the shared one tells, and two visitors do not take
 * each other for a VM. Only who has to remove something asks for the exclusive one.
 */
static int rundir_visit_one(int base_fd, const char *name, rundir_visit_fn fn, void *ctx)
{
	CLEANUP_FD int dir = -1;
	CLEANUP_FD int lock = -1;
	int r = -ESTALE;
	json_t *info;

	for (int i = 0; r == -ESTALE && i < STALE_RETRIES; i++)
		r = rundir_try_lock(base_fd, name, false, LOCK_SH, &dir, &lock);
	/* Nobody lives here. The upgrade lets go first: others may have come and gone between. */
	if (r == 1 && flock(lock, LOCK_EX | LOCK_NB) == 0 && rundir_same(lock, dir, "lock") &&
	    rundir_same(dir, base_fd, name))
		rundir_unlink_all(base_fd, dir, name);
	if (r != 0)
		return 0;
	info = rundir_read_info(dir);
	r = info ? fn(ctx, name, info) : 0;	/* no info yet: still starting */
	json_decref(info);
	return r;
}

static int rundir_visit(rundir_visit_fn fn, void *ctx, struct err *e)
{
	struct dirent *de;
	int fd, r = rundir_open_base(false, &fd, e);
	DIR *dir;

	if (r == -ENOENT)
		return 0;	/* no VM was ever started */
	if (r)
		return r;
	dir = fdopendir(fd);
	if (!dir) {
		fd_close(&fd);
		return err_errno(e, "runtime directory");
	}
	while (!r && (de = readdir(dir)))
		if (de->d_name[0] != '.')
			r = rundir_visit_one(dirfd(dir), de->d_name, fn, ctx);
	closedir(dir);
	return r;
}

struct rundir_each_ctx {
	int (*fn)(void *ctx, const struct rundir_vm *vm);
	void *ctx;
};

static int rundir_each_one(void *ctx, const char *name, json_t *info)
{
	const struct rundir_each_ctx *c = ctx;
	struct rundir_vm vm;

	rundir_fill(&vm, name, info);
	return c->fn(c->ctx, &vm);
}

int rundir_each(int (*fn)(void *ctx, const struct rundir_vm *vm), void *ctx, struct err *e)
{
	struct rundir_each_ctx c = { .fn = fn, .ctx = ctx };

	return rundir_visit(rundir_each_one, &c, e);
}

struct rundir_want {
	const char *name;
	const struct stat *disk;
	struct rundir_vm *out;
};

static int rundir_match(void *ctx, const char *name, json_t *info)
{
	const struct rundir_want *w = ctx;
	json_t *disks = json_object_get(info, "disks"), *d;
	bool found = w->name && !strcmp(w->name, name);
	size_t i;

	json_array_foreach(disks, i, d)
		if (w->disk && json_integer_value(json_object_get(d, "ino")) == (json_int_t)w->disk->st_ino &&
		    json_integer_value(json_object_get(d, "dev")) == (json_int_t)w->disk->st_dev)
			found = true;
	if (found)
		rundir_fill(w->out, name, info);
	return found;
}

int rundir_find(const char *name, struct rundir_vm *out, struct err *e)
{
	struct rundir_want w = { .name = name, .out = out };
	int r = rundir_visit(rundir_match, &w, e);

	if (r == 0)
		return err_set(e, -ENOENT, "no VM named '%s' is running (see vmm list)", name);
	return r < 0 ? r : 0;
}

bool rundir_disk_holder(const struct stat *st, struct rundir_vm *out)
{
	struct rundir_want w = { .disk = st, .out = out };

	return rundir_visit(rundir_match, &w, NULL) == 1;
}

int rundir_socket(const char *name, const char *file, char path[RUNDIR_PATH_MAX], struct err *e)
{
	char base[RUNDIR_PATH_MAX];
	int r = rundir_base(base, e);

	if (!r)
		snprintf(path, RUNDIR_PATH_MAX, "%.120s/%.80s/%.40s", base, name, file);
	return r;
}

int rundir_listen(const struct rundir *d, const char *file, int *out, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int n = snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", d->path, file);
	mode_t old;
	int r;

	if (fd < 0)
		return err_errno(e, "socket");
	if (n < 0 || (size_t)n >= sizeof(sa.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s/%s: too long for a socket", d->path, file);
	unlinkat(d->dir_fd, file, 0);	/* of a killed VM whose name we took over */
	old = umask(0177);
	r = bind(fd, (struct sockaddr *)&sa, sizeof(sa));
	umask(old);
	if (r < 0 || listen(fd, 16) < 0)
		return err_errno(e, "%s", sa.sun_path);
	*out = fd_steal(&fd);
	return 0;
}
