/* SPDX-License-Identifier: MIT */
/*
 * Where an unpacked kernel goes. The physical place and the virtual one are random and
 * independent: the kernel's page tables join them. Virtually the kernel may lie anywhere in
 * the GiB from KIMAGE_VIRT_BASE on, not below where it was linked; physically anywhere in
 * the RAM that the entry's page tables cover, off the initrd. With "nokaslr" both are as
 * linked, and the pages come from the file: VMs with the same kernel share what they do not
 * write.
 */
#include "unpacked.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "gmem.h"
#include "hv/log.h"
#include "hv/overflow.h"
#include "kimage.h"
#include "layout.h"

#define UNPACKED_ALIGN_MIN MIB(2)  /* the kernel's page tables map it by 2 MiB pages */
#define UNPACKED_VIRT_BYTES GIB(1) /* KERNEL_IMAGE_SIZE with CONFIG_RANDOMIZE_BASE */

struct unpacked {
	const struct kernel_load *k;
	struct kimage image;
	uint64_t base, bytes; /* as linked: what moves, from pref_address on */
	uint64_t align;
	uint64_t phys_delta, virt_delta;
};

/* Is there an argument that begins with @word (or is it, if @word does not end in '=')? */
static bool unpacked_has_arg(const char *cmdline, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = cmdline; (at = strstr(at, word)); at += n)
		if ((at == cmdline || at[-1] == ' ') &&
		    (word[n - 1] == '=' || at[n] == ' ' || !at[n]))
			return true;
	return false;
}

static int unpacked_check(struct unpacked *u, const struct setup_header *h, struct err *e)
{
	uint64_t end;

	u->base = h->pref_address;
	u->align = h->kernel_alignment;
	if (!IS_POW2(u->align) || u->align < UNPACKED_ALIGN_MIN || u->align > UNPACKED_VIRT_BYTES ||
	    !IS_ALIGNED(u->base, u->align) || u->base < LAYOUT_KERNEL_MIN ||
	    u->image.start < u->base || !add_u64(u->base, UNPACKED_VIRT_BYTES, &end) ||
	    u->image.end > end)
		return err_set(e, -ENOEXEC, "unpacked kernel: not where its header says");
	u->bytes = ALIGN_UP(u->image.end - u->base, UNPACKED_ALIGN_MIN);
	return 0;
}

/* How many aligned places for the kernel are in [@from, @to). */
static uint64_t unpacked_slots(const struct unpacked *u, uint64_t from, uint64_t to)
{
	from = ALIGN_UP(from, u->align);
	return from < to && to - from >= u->bytes ? (to - from - u->bytes) / u->align + 1 : 0;
}

static int unpacked_random(uint64_t below, uint64_t *out, struct err *e)
{
	uint64_t v;

	if (getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v))
		return err_errno(e, "getrandom");
	*out = v % below; /* below is tiny beside 2^64: no bias worth a loop */
	return 0;
}

/* RAM below the initrd, then what is above it. */
static int unpacked_choose_phys(struct unpacked *u, const struct kernel_placed *p, struct err *e)
{
	const struct gmem_table *t = atomic_load(&u->k->mem->table);
	uint64_t ram_end = t->region[0].gpa + t->region[0].size;
	uint64_t low_end = p->initrd_size ? p->initrd_gpa : ram_end;
	uint64_t high = ALIGN_UP(p->initrd_gpa + p->initrd_size, u->align);
	uint64_t n_low = unpacked_slots(u, u->base, low_end), n_high = 0, slot = 0;
	int r;

	if (p->initrd_size)
		n_high = unpacked_slots(u, high, ram_end);
	if (!n_low)
		return err_set(e, -ENOMEM, "unpacked kernel: too little guest memory");
	r = unpacked_random(n_low + n_high, &slot, e);
	if (!r)
		u->phys_delta =
			slot < n_low ? slot * u->align : high - u->base + (slot - n_low) * u->align;
	return r;
}

static int unpacked_choose_virt(struct unpacked *u, struct err *e)
{
	uint64_t slots = unpacked_slots(u, u->base, UNPACKED_VIRT_BYTES), slot = 0;
	int r = slots ? unpacked_random(slots, &slot, e)
		      : err_set(e, -ENOEXEC, "unpacked kernel: too large");

	if (!r)
		u->virt_delta = slot * u->align;
	return r;
}

/* Arguments that cut RAM down would have to be understood to place the kernel inside. */
static int unpacked_choose(struct unpacked *u, const struct kernel_placed *p, struct err *e)
{
	int r = unpacked_choose_virt(u, e);

	if (r || unpacked_has_arg(u->k->cmdline, "mem=") ||
	    unpacked_has_arg(u->k->cmdline, "memmap="))
		return r;
	return unpacked_choose_phys(u, p, e);
}

static void unpacked_note(const struct unpacked *u, bool kaslr, bool map)
{
	char how[64];

	if (kaslr)
		snprintf(how, sizeof(how), "KASLR on, physical +0x%" PRIx64, u->phys_delta);
	else
		snprintf(how, sizeof(how), "KASLR off, %s", map ? "mapped and shared" : "copied");
	log_info(u->k->log, "kernel: unpacked on the host (%s), %s",
		 u->k->image->how, how);
}

static int unpacked_place(struct unpacked *u, bool kaslr, struct err *e)
{
	bool map = !kaslr && !u->k->mem->hugepages;
	int r = kimage_load(&u->image, u->k->mem, u->phys_delta, map, e);

	if (!r && u->virt_delta)
		r = kimage_relocate(&u->image, u->k->mem, u->phys_delta, u->virt_delta, e);
	if (!r)
		unpacked_note(u, kaslr, map);
	return r;
}

int unpacked_load(const struct kernel_load *k, const struct setup_header *h,
		  struct kernel_placed *p, struct unpacked_done *done, struct err *e)
{
	struct unpacked u = { .k = k };
	int r = kimage_open(&u.image, k->image->fd, e);

	if (!r)
		r = unpacked_check(&u, h, e);
	if (r)
		return r;
	p->kernel_end = u.base + u.bytes;
	if (!gmem_ptr(k->mem, u.base, u.bytes))
		return err_set(e, -ENOMEM, "unpacked kernel: too little guest memory");
	r = kernel_place_initrd(k, (uint64_t)h->initrd_addr_max + 1, p, e);
	done->kaslr = kimage_relocatable(&u.image) && !unpacked_has_arg(k->cmdline, "nokaslr");
	if (!r && done->kaslr)
		r = unpacked_choose(&u, p, e);
	if (!r)
		r = unpacked_place(&u, done->kaslr, e);
	done->rip = u.image.h.entry_gpa + u.phys_delta;
	return r;
}
