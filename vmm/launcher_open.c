/* SPDX-License-Identifier: MIT */
/* Opening what the command line names: /dev/kvm, disks and their locks, TAPs, files, consoles. */
#include "launcher_int.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "hv/fd.h"
#include "kvm.h"
#include "virtio/tap.h"

#define LOCK_RETRY_MS 50
#define LOCK_RETRIES 20

static int launcher_open_kvm(struct launcher *l, struct err *e)
{
	int r;

	l->args.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (l->args.kvm_fd >= 0)
		return 0;
	r = err_errno(e, "/dev/kvm");
	err_hint(e, "%s", kvm_open_hint(r));
	return r;
}

/* A killed process lets go of its files a little later than of its pid. */
static int launcher_lock(const struct stat *st, int fd, bool write, const char *path, struct err *e)
{
	const struct timespec pause = { .tv_nsec = LOCK_RETRY_MS * 1000000L };
	struct rundir_vm vm;
	int r = blk_lock_fd(fd, write, path, e);

	for (int i = 0; r == -EBUSY && i < LOCK_RETRIES; i++) {
		if (rundir_disk_holder(st, &vm))
			return err_set(e, r, "%s: is in use by the VM '%s' (pid %d)", path, vm.name,
				       (int)vm.pid);
		nanosleep(&pause, NULL);
		r = blk_lock_fd(fd, write, path, e);
	}
	return r;
}

int launcher_open_disk(struct launcher *l, unsigned i, bool lock, struct err *e)
{
	const struct config_disk *d = &l->cfg.disk[i];
	bool write = !d->readonly && !l->cfg.ephemeral;
	int flags = (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
		    (d->cache == BLK_CACHE_NONE ? O_DIRECT : 0);
	struct stat *st = &l->disk_stat[i];
	int fd, r;

	fd = open(d->path, flags);
	if (fd < 0) {
		r = err_errno(e, "%s", d->path);
		if (r == -EROFS || r == -EACCES)
			err_hint(e, "open it with ,readonly or use --ephemeral");
		return r;
	}
	l->args.disk_fd[i] = fd;
	if (fstat(fd, st) < 0)
		return err_errno(e, "%s", d->path);
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return err_set(e, -EINVAL, "%s: is %s, not a disk image", d->path,
			       S_ISDIR(st->st_mode) ? "a directory" : "a special file");
	fd_set_nonblock(fd, false);
	for (unsigned j = 0; j < i; j++)
		if (l->disk_stat[j].st_dev == st->st_dev && l->disk_stat[j].st_ino == st->st_ino)
			return err_set(e, -EBUSY, "%s: given twice on this command line", d->path);
	return lock ? launcher_lock(st, fd, write, d->path, e) : 0;
}

static int launcher_open_scratch(struct launcher *l, unsigned i, struct err *e)
{
	const char *dir = getenv("TMPDIR");
	int fd;

	if (!l->cfg.ephemeral || l->cfg.disk[i].readonly)
		return 0;
	fd = open(dir && *dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = memfd_create("ephemeral", MFD_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "--ephemeral: temporary file");
	l->args.scratch_fd[i] = fd;
	return 0;
}

static int launcher_open_net(struct launcher *l, unsigned i, struct err *e)
{
	struct config_net *n = &l->cfg.net[i];
	int *fds = l->args.tap_fd[i];
	int r;

	if (n->kind == CONFIG_NET_TAP) {
		r = tap_open(n->tap, n->queues, fds, e);
		if (r)
			return err_wrap(e, r, "--net tap=%s", n->tap);
		n->mtu = tap_mtu(fds[0]);
		return 0;
	}
	if (n->queues != 1)
		return err_set(e, -EINVAL, "--net fd=%u: one descriptor has one queue", n->fd);
	fds[0] = fcntl((int)n->fd, F_DUPFD_CLOEXEC, 3);
	if (fds[0] < 0)
		return err_errno(e, "--net fd=%u", n->fd);
	n->mtu = tap_mtu(fds[0]);
	return 0;
}

static int launcher_open_file(const char *path, int *fd, struct err *e)
{
	if (!path)
		return 0;
	/* A FIFO without a writer must not stop us here. */
	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return *fd < 0 ? err_errno(e, "%s", path) : 0;
}

static int launcher_open_boot(struct launcher *l, struct err *e)
{
	struct machine_args *a = &l->args;
	const struct config *c = &l->cfg;
	int r = launcher_open_file(c->kernel, &a->kernel_fd, e);

	for (unsigned i = 0; i < c->n_initrd && !r; i++)
		r = launcher_open_file(c->initrd[i], &a->initrd_fd[i], e);
	if (!r)
		r = launcher_open_file(c->ssh_key, &a->ssh_key_fd, e);
	if (!r)
		r = launcher_open_file(c->user_data, &a->user_data_fd, e);
	if (r || (!c->ssh_key && !c->user_data && !c->hostname))
		return r;
	a->seed_fd = memfd_create("cidata", MFD_CLOEXEC);
	return a->seed_fd < 0 ? err_errno(e, "seed disk") : 0;
}

static int launcher_pair(int *ours, int *machines, struct err *e)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0)
		return err_errno(e, "socketpair");
	*ours = sv[0];
	*machines = sv[1];
	return 0;
}

/* Raw, or the terminal's echo would type the guest's own output back at it. */
static int launcher_pty(struct launcher *l, struct err *e)
{
	int *master = &l->args.console_in_fd, *user = &l->args.console_pty_fd;
	struct termios t;

	*master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*master < 0 || grantpt(*master) < 0 || unlockpt(*master) < 0)
		return err_errno(e, "--console pty");
	*user = open(ptsname(*master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*user < 0 || tcgetattr(*user, &t) < 0)
		return err_errno(e, "--console pty");
	cfmakeraw(&t);
	if (tcsetattr(*user, TCSANOW, &t) < 0)
		return err_errno(e, "--console pty");
	fd_set_nonblock(*master, true);
	fprintf(stderr, "vmm: console on %s\n", ptsname(*master));
	l->args.console_out_fd = *master;
	return 0;
}

/* A socket that nobody listens on is a killed VM's. */
static void launcher_unlink_stale(const struct sockaddr_un *sa)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 &&
	    errno == ECONNREFUSED)
		unlink(sa->sun_path);
}

static int launcher_open_parent(const char *path, int *out, struct err *e)
{
	const char *slash = strrchr(path, '/');
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)];

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
	*out = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return *out < 0 ? err_errno(e, "%s", dir) : 0;
}

static int launcher_console_listen(struct launcher *l, const char *path, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CLEANUP_FD int dir = -1;
	int r;

	if (fd < 0)
		return err_errno(e, "socket");
	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(e, -ENAMETOOLONG, "--console unix=%s: path too long", path);
	strcpy(sa.sun_path, path);
	r = launcher_open_parent(path, &dir, e);
	if (r)
		return r;
	launcher_unlink_stale(&sa);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 4) < 0)
		return err_errno(e, "--console unix=%s", path);
	l->args.console_listen_fd = fd_steal(&fd);
	l->args.console_dir_fd = fd_steal(&dir);
	return 0;
}

static int launcher_open_console(struct launcher *l, struct err *e)
{
	struct machine_args *a = &l->args;
	int r;

	switch (l->cfg.console) {
	case CONSOLE_STDIO:
		r = launcher_pair(&l->console_in, &a->console_in_fd, e);
		return r ? r : launcher_pair(&l->console_out, &a->console_out_fd, e);
	case CONSOLE_PTY: return launcher_pty(l, e);
	case CONSOLE_FILE:
		a->console_out_fd = open(l->cfg.console_path,
					 O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		return a->console_out_fd < 0 ? err_errno(e, "%s", l->cfg.console_path) : 0;
	case CONSOLE_UNIX: return launcher_console_listen(l, l->cfg.console_path, e);
	case CONSOLE_NONE: return rundir_listen(&a->rundir, "console.sock", &a->console_listen_fd, e);
	}
	return 0;
}

/* A name from the disk's or kernel's file name: what is allowed of it, without its suffix. */
static void launcher_default_name(const struct config *c, char name[CONFIG_NAME_MAX + 1])
{
	const char *path = c->n_disks ? c->disk[0].path : c->kernel;
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	const char *dot = strrchr(base, '.'), *end = dot && dot > base ? dot : base + strlen(base);
	size_t n = 0;

	for (; base < end && n < CONFIG_NAME_MAX - 8; base++)
		if (isalnum((unsigned char)*base) || (n && strchr("._-", *base)))
			name[n++] = *base;
	name[n] = 0;
	if (!n)
		strcpy(name, "vm");
}

static int launcher_claim_name(struct launcher *l, struct err *e)
{
	char fallback[CONFIG_NAME_MAX + 1];
	int r;

	launcher_default_name(&l->cfg, fallback);
	r = rundir_claim(&l->args.rundir, l->cfg.name_wanted, fallback, e);
	if (r)
		return r;
	snprintf(l->cfg.name, sizeof(l->cfg.name), "%.*s", CONFIG_NAME_MAX, l->args.rundir.name);
	return rundir_listen(&l->args.rundir, "qmp.sock", &l->args.qmp_listen_fd, e);
}

int launcher_open_all(struct launcher *l, struct err *e)
{
	int r = launcher_open_kvm(l, e);

	for (unsigned i = 0; i < l->cfg.n_disks && !r; i++) {
		r = launcher_open_disk(l, i, true, e);
		if (!r)
			r = launcher_open_scratch(l, i, e);
	}
	if (!r)
		r = launcher_open_boot(l, e);
	if (!r)
		r = launcher_open_file("/dev/urandom", &l->args.urandom_fd, e);
	for (unsigned i = 0; i < l->cfg.n_nets && !r; i++)
		r = launcher_open_net(l, i, e);
	if (!r)
		r = launcher_claim_name(l, e);
	return r ? r : launcher_open_console(l, e);
}

/* What only the machine needs; also what lets it see the end of its sockets. */
void launcher_close_args(struct launcher *l)
{
	struct machine_args *a = &l->args;
	int *one[] = { &a->link_fd,	  &a->kvm_fd,	      &a->urandom_fd,
		       &a->kernel_fd,	  &a->ssh_key_fd,     &a->user_data_fd,
		       &a->seed_fd,	  &a->console_in_fd,  &a->console_out_fd,
		       &a->console_listen_fd, &a->console_pty_fd, &a->qmp_listen_fd };

	if (a->console_in_fd == a->console_out_fd)
		a->console_out_fd = -1;	/* a pty: one descriptor */
	for (size_t i = 0; i < ARRAY_SIZE(one); i++)
		fd_close(one[i]);
	for (unsigned i = 0; i < CONFIG_DISKS_MAX; i++) {
		fd_close(&a->disk_fd[i]);
		fd_close(&a->scratch_fd[i]);
	}
	for (unsigned i = 0; i < CONFIG_INITRDS_MAX; i++)
		fd_close(&a->initrd_fd[i]);
	for (unsigned i = 0; i < CONFIG_NETS_MAX; i++)
		for (unsigned q = 0; q < CONFIG_NET_QUEUES_MAX; q++)
			fd_close(&a->tap_fd[i][q]);
}
