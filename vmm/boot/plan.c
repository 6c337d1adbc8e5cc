/* SPDX-License-Identifier: MIT */
/* From options or discovery to sources that kernel.c can stream. */
#include "plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hv/fd.h"

static int plan_fd_read(void *ctx, uint64_t off, void *buf, size_t len)
{
	return fd_pread_full(*(const int *)ctx, buf, len, off);
}

static int plan_file_read(void *ctx, uint64_t off, void *buf, size_t len)
{
	return gfs_file_pread(ctx, off, buf, len);
}

static int plan_fd_source(struct boot_source *s, int *slot, int fd, const char *name,
			  struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, "%s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s: not a regular file", name);
	*slot = fd;
	*s = (struct boot_source){ .name = name,
				   .size = (uint64_t)st.st_size,
				   .read = plan_fd_read,
				   .ctx = slot };
	return 0;
}

/* "@base @append @extra" without empty parts. */
static char *plan_join(const char *base, const char *append, const char *extra)
{
	const char *part[] = { base, append, extra };
	size_t n = 1;
	char *out;

	for (size_t i = 0; i < ARRAY_SIZE(part); i++)
		n += part[i] ? strlen(part[i]) + 1 : 0;
	out = calloc(1, n);
	for (size_t i = 0; out && i < ARRAY_SIZE(part); i++) {
		if (!part[i] || !*part[i])
			continue;
		if (*out)
			strcat(out, " ");
		strcat(out, part[i]);
	}
	return out;
}

int boot_plan_files(struct boot_plan *p, int kernel_fd, const char *kernel_name,
		    const int *initrd_fd, const char *const *initrd_name, size_t n_initrd,
		    const struct boot_plan_args *args, struct err *e)
{
	int r;

	*p = (struct boot_plan){ 0 };
	r = plan_fd_source(&p->kernel, &p->fd[0], kernel_fd, kernel_name, e);
	for (size_t i = 0; i < n_initrd && !r; i++, p->n_initrd++)
		r = plan_fd_source(&p->initrd[i], &p->fd[i + 1], initrd_fd[i], initrd_name[i], e);
	p->cmdline = plan_join(NULL, args->append, args->extra);
	p->title = strdup(kernel_name);
	if (!r && (!p->cmdline || !p->title))
		r = err_set(e, -ENOMEM, "out of memory");
	if (r)
		boot_plan_fini(p);
	return r;
}

static int plan_open(struct boot_plan *p, const struct boot_file *bf, struct boot_source *s,
		     struct err *e)
{
	struct gfs_file *f;
	int r = boot_file_open(bf, &f, e);

	if (r)
		return r;
	p->file[p->n_files++] = f;
	*s = (struct boot_source){ .name = bf->path,
				   .size = gfs_file_size(f),
				   .read = plan_file_read,
				   .ctx = f };
	return 0;
}

static int plan_take_entry(struct boot_plan *p, const struct boot_entry *entry,
			   const struct boot_plan_args *args, struct err *e)
{
	CLEANUP_FREE char *joined = NULL;
	int r;

	if (entry->problem)
		return err_set(e, -ENOENT, "boot entry '%s': %s", entry->title, entry->problem);
	if (entry->n_initrd > KERNEL_INITRDS_MAX)
		return err_set(e, -E2BIG, "boot entry '%s': too many initrds", entry->title);
	r = plan_open(p, &entry->kernel, &p->kernel, e);
	for (size_t i = 0; i < entry->n_initrd && !r; i++, p->n_initrd++)
		r = plan_open(p, &entry->initrd[i], &p->initrd[i], e);
	if (r)
		return r;
	joined = plan_join(entry->cmdline, args->append, args->extra);
	p->cmdline = joined ? boot_cmdline_serial(joined, NULL) : NULL;
	p->title = strdup(entry->title);
	return p->cmdline && p->title ? 0 : err_set(e, -ENOMEM, "out of memory");
}

int boot_plan_disks(struct boot_plan *p, struct blk **disks, size_t n,
		    const struct boot_plan_args *args, struct err *e)
{
	size_t index;
	int r;

	*p = (struct boot_plan){ 0 };
	r = gfs_open(disks, n, &p->gfs, e);
	if (!r)
		r = gfs_boot_entries(p->gfs, &p->entries, e);
	if (!r)
		r = boot_list_choose(&p->entries, args->entry, &index, e);
	if (!r)
		r = plan_take_entry(p, &p->entries.entry[index], args, e);
	if (r)
		boot_plan_fini(p);
	return r;
}

void boot_plan_fini(struct boot_plan *p)
{
	while (p->n_files)
		gfs_file_close(p->file[--p->n_files]);
	boot_list_free(&p->entries);
	gfs_close(p->gfs);
	free(p->cmdline);
	free(p->title);
	*p = (struct boot_plan){ 0 };
}
