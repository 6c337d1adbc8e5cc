/* SPDX-License-Identifier: MIT */
/*
 * A vCPU gone wild: reads and writes all over configuration space and a device's BAR,
 * guest memory full of the input.
 *
 * Input: records of 8 bytes: where (2 bits of device, space), length, offset, value.
 */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../support/vmachine.h"
#include "hv/bytes.h"
#include "virtio/console.h"
#include "virtio/rng.h"

#define RECORDS_MAX 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_devices(struct vmachine *m, struct iothread *t)
{
	struct virtio_rng_cfg rng = { .fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC), .thread = t };
	struct virtio_console_cfg con = { .in_fd = -1, .out_fd = -1, .thread = t };
	struct virtio_dev *d;

	if (virtio_rng_new(&rng, &d, NULL) || virtio_pci_add(&m->pci, d, &m->gmem, &m->irq, NULL))
		abort();
	close(rng.fd);
	if (virtio_console_new(&con, &d, NULL) ||
	    virtio_pci_add(&m->pci, d, &m->gmem, &m->irq, NULL))
		abort();
}

/* One record: [0] bits 0-1 slot, 2-3 space, 4-5 log2 of length, 6 write; [1..2] offset; [3..6] value. */
static void play(struct vmachine *m, const uint8_t *r)
{
	unsigned slot = r[0] & 3, space = r[0] >> 2 & 3, len = 1u << (r[0] >> 4 & 3);
	uint64_t gpa, value = load_le32(r + 3) | (uint64_t)r[7] << 56;
	uint8_t b[8];

	store_le64(b, value);
	switch (space) {
	case 0: gpa = LAYOUT_ECAM_BASE + (slot << 15) + load_le16(r + 1) % 256; break;
	case 1:
		bus_write(&m->pio, 0xcf8, b, 4);
		gpa = 0xcfc + (r[1] & 3);
		break;
	case 2: gpa = LAYOUT_PCI_MMIO_BASE + (slot & 1) * 0x8000u + load_le16(r + 1) % 64; break;
	default: gpa = LAYOUT_PCI_MMIO_BASE + load_le16(r + 1); break;
	}
	if (r[0] & 64)
		bus_write(space == 1 ? &m->pio : &m->mmio, gpa, b, len);
	else
		bus_read(space == 1 ? &m->pio : &m->mmio, gpa, b, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct iothread_cfg tc = { .name = "io", .no_uring = true };
	static struct vmachine m;
	struct iothread *t;

	vm_init(&m);
	memcpy(m.ram, data, MIN(size, (size_t)4096));
	if (iothread_new(&tc, &t, NULL) || iothread_start(t, NULL))
		abort();
	add_devices(&m, t);
	for (size_t i = 0; i < RECORDS_MAX && (i + 1) * 8 <= size; i++)
		play(&m, data + i * 8);
	pci_bus_quiesce(&m.pci);
	pci_bus_reset(&m.pci);
	if (vm_cfg_read(&m, 1, PCI_VENDOR_ID, 2) != 0x1af4)
		abort();
	pci_bus_quiesce(&m.pci);
	vm_fini(&m);
	iothread_free(t);
	return 0;
}
