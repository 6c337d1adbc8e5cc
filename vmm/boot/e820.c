/* SPDX-License-Identifier: MIT */
/* The memory map: sorted, without overlap. */
#include "e820.h"

#include "gmem.h"
#include "layout.h"

static void e820_add(struct e820 *t, uint64_t from, uint64_t to, uint32_t type)
{
	assert(t->n < E820_MAX);
	if (from < to)
		t->entry[t->n++] = (struct e820_entry){ from, to - from, type };
}

void e820_build(const struct gmem *m, struct e820 *out)
{
	const struct gmem_table *g = atomic_load(&m->table);
	const struct gmem_region *low = &g->region[0];

	out->n = 0;
	e820_add(out, 0, LAYOUT_EBDA, E820_RAM);
	e820_add(out, LAYOUT_EBDA, LAYOUT_KERNEL_MIN, E820_RESERVED);
	e820_add(out, LAYOUT_KERNEL_MIN, low->size, E820_RAM);
	e820_add(out, LAYOUT_ECAM_BASE, LAYOUT_ECAM_BASE + LAYOUT_ECAM_SIZE, E820_RESERVED);
	for (unsigned i = 1; i < g->n; i++)
		e820_add(out, g->region[i].gpa, g->region[i].gpa + g->region[i].size, E820_RAM);
}
