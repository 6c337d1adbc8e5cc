/* SPDX-License-Identifier: MIT */
/* What a VM is made of and what outlives its resets: disks, the NoCloud seed, network cards. */
#include "machine_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/seed.h"
#include "hv/fd.h"
#include "hv/log.h"
#include "link.h"
#include "virtio/tap.h"

#define DOCUMENT_MAX MIB(1)

static int machine_open_disk(struct machine *m, unsigned i, struct err *e)
{
	struct machine_args *a = m->args;
	const struct config_disk *d = &m->cfg->disk[i];
	const struct blk_open o = { .path = d->path,
				    .fd = a->disk_fd[i],
				    .format = (enum blk_format)d->format,
				    .cache = (enum blk_cache)d->cache,
				    .readonly = d->readonly || m->cfg->ephemeral,
				    .no_lock = true,	/* the launcher has locked it */
				    .gate = link_gate,
				    .gate_ctx = &a->link_fd };
	struct blk *base;
	int r = blk_open(&o, &base, e);

	if (r)
		return r;
	a->disk_fd[i] = -1;
	m->disk[i] = base;
	if (!m->cfg->ephemeral || d->readonly)
		return 0;
	r = blk_open_ephemeral(base, a->scratch_fd[i], &m->disk[i], e);
	if (r) {
		m->disk[i] = base;
		return r;
	}
	a->scratch_fd[i] = -1;
	return 0;
}

static int machine_slurp(int fd, const char *path, char **out, struct err *e)
{
	uint8_t *text;
	size_t n;
	int r;

	if (fd < 0)
		return 0;
	r = fd_slurp(fd, DOCUMENT_MAX, &text, &n);
	if (r)
		return err_set(e, r, "%s: %s", path, strerror(-r));
	*out = (char *)text;
	return 0;
}

/* The NoCloud seed becomes the last disk. */
static int machine_seed(struct machine *m, struct err *e)
{
	struct machine_args *a = m->args;
	CLEANUP_FREE char *keys = NULL;
	CLEANUP_FREE char *user_data = NULL;
	struct seed_cfg cfg = { .vm_name = m->cfg->name, .hostname = m->cfg->hostname };
	struct blk_open o = { .path = "cloud-init seed",
			      .fd = a->seed_fd,
			      .format = BLK_FORMAT_RAW,
			      .readonly = true,
			      .no_lock = true };
	unsigned slot = m->parts.n_disks;
	int r;

	if (a->seed_fd < 0)
		return 0;
	r = machine_slurp(a->ssh_key_fd, m->cfg->ssh_key, &keys, e);
	if (!r)
		r = machine_slurp(a->user_data_fd, m->cfg->user_data, &user_data, e);
	if (r)
		return r;
	cfg.ssh_keys = keys;
	cfg.user_data = user_data;
	r = seed_build(a->seed_fd, &cfg, e);
	if (!r)
		r = blk_open(&o, &m->disk[slot], e);
	if (r)
		return r;
	a->seed_fd = -1;
	m->parts.disk[slot] = (struct vm_disk){ .blk = m->disk[slot], .queues = 1, .serial = "cidata" };
	m->parts.n_disks++;
	return 0;
}

int machine_disks(struct machine *m, struct err *e)
{
	for (unsigned i = 0; i < m->cfg->n_disks; i++) {
		const struct config_disk *d = &m->cfg->disk[i];
		int r = machine_open_disk(m, i, e);

		if (r)
			return r;
		m->parts.disk[i] = (struct vm_disk){ .blk = m->disk[i],
						     .queues = d->queues,
						     .serial = d->serial,
						     .discard = d->discard == 0,
						     .writethrough = d->cache == BLK_CACHE_WRITETHROUGH };
		m->parts.n_disks++;
	}
	return machine_seed(m, e);
}

int machine_nets(struct machine *m, struct err *e)
{
	for (unsigned i = 0; i < m->cfg->n_nets; i++) {
		struct vm_net *net = &m->parts.net[i];

		net->queues = m->cfg->net[i].queues;
		net->mtu = (uint16_t)m->cfg->net[i].mtu;
		config_net_mac(m->cfg, i, net->mac);
		for (unsigned q = 0; q < net->queues; q++) {
			int r = tap_adopt(m->args->tap_fd[i][q], &net->offloads, e);

			if (r)
				return err_wrap(e, r, "--net %s", m->cfg->net[i].text);
			net->fds[q] = m->args->tap_fd[i][q];
		}
		m->parts.n_nets++;
	}
	return 0;
}

void machine_unlink_console(const struct machine_args *a)
{
	const char *slash = a->console_dir_fd >= 0 ? strrchr(a->cfg->console_path, '/') : NULL;

	if (a->console_dir_fd >= 0)
		unlinkat(a->console_dir_fd, slash ? slash + 1 : a->cfg->console_path, 0);
}

int machine_close_disks(struct machine *m)
{
	int bad = 0;

	for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
		int r = m->disk[i] ? blk_close(m->disk[i]) : 0;

		if (r) {
			log_error(&m->parts.log, "%s: writing back: %s",
				  i < m->cfg->n_disks ? m->cfg->disk[i].path : "seed", strerror(-r));
			bad = MACHINE_EXIT_FAILED;
		}
	}
	return bad;
}
