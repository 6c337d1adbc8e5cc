/* SPDX-License-Identifier: MIT */
/* Configuration space, BARs and MSI-X of a device that only remembers its accesses. */
#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../../support/vmachine.h"
#include "hv/bytes.h"

#define SLOT 1
#define BAR_LEN 0x4000
#define TABLE_OFF 0x1000
#define PBA_OFF 0x2000
#define VECTORS 3

struct toy {
	struct pci_dev pci;
	uint64_t last_off, last_value;
	unsigned last_len, resets;
};
struct fixture {
	struct vmachine m;
	struct toy *toy;
	unsigned msix;
	int kick;
};

static void toy_read(struct pci_dev *d, unsigned bar, uint64_t off, void *data, unsigned len)
{
	store_le(data, 0x1122334455667788, len);
}

static void toy_write(struct pci_dev *d, unsigned bar, uint64_t off, const void *data,
		      unsigned len)
{
	struct toy *t = container_of(d, struct toy, pci);

	t->last_off = off;
	t->last_value = load_le(data, len);
	t->last_len = len;
}

static void toy_reset(struct pci_dev *d)
{
	container_of(d, struct toy, pci)->resets++;
}

static void toy_free(struct pci_dev *d)
{
	pci_dev_fini(d);
	free(container_of(d, struct toy, pci));
}

static const struct pci_ops toy_ops = { .bar_read = toy_read, .bar_write = toy_write,
					.reset = toy_reset, .free = toy_free };

static struct toy *toy_new(struct vmachine *m, int kick)
{
	static const struct pci_ids ids = { .vendor = 0x1234, .device = 0x5678, .revision = 9,
					    .subsys_vendor = 0xaaaa, .subsys = 0xbbbb,
					    .class_code = 0x020304 };
	struct toy *t = calloc(1, sizeof(*t));

	assert_int_equal(pci_dev_init(&t->pci, &toy_ops, &ids), 0);
	pci_dev_add_bar(&t->pci, 0, BAR_LEN, true);
	pci_dev_add_bar(&t->pci, 2, 0x1000, false);
	assert_int_equal(pci_dev_add_msix(&t->pci, &m->irq, 0, TABLE_OFF, PBA_OFF, VECTORS), 0);
	assert_int_equal(pci_dev_add_ioeventfd(&t->pci, 0, 0x10, kick), 0);
	return t;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = { 0 };

	vm_init(&f->m);
	f->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->toy = toy_new(&f->m, f->kick);
	assert_int_equal(pci_bus_add(&f->m.pci, &f->toy->pci, PCI_SLOT_ANY, &e), 0);
	f->msix = f->toy->pci.msix.cap;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vm_fini(&f->m);
	assert_int_equal(f->m.n_ioev, 0);
	assert_int_equal(f->m.n_routes, 0);
	close(f->kick);
	free(f);
	return 0;
}

static uint32_t cfg(struct fixture *f, unsigned reg, unsigned len)
{
	return (uint32_t)vm_cfg_read(&f->m, SLOT, reg, len);
}

static void set_cfg(struct fixture *f, unsigned reg, uint32_t v, unsigned len)
{
	vm_cfg_write(&f->m, SLOT, reg, v, len);
}

static uint64_t bar0(struct fixture *f)
{
	return cfg(f, PCI_BASE_ADDRESS_0, 4) & ~0xfu;
}

static uint32_t cf8_read(struct fixture *f, uint32_t addr, unsigned port, unsigned len)
{
	uint8_t b[4];

	store_le32(b, addr);
	bus_write(&f->m.pio, 0xcf8, b, 4);
	bus_read(&f->m.pio, port, b, len);
	return (uint32_t)load_le(b, len);
}

static void header_tells_who_it_is(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(cfg(f, PCI_VENDOR_ID, 4), 0x56781234);
	assert_int_equal(cfg(f, PCI_REVISION_ID, 4), 0x02030409);
	assert_int_equal(cfg(f, PCI_SUBSYSTEM_VENDOR_ID, 4), 0xbbbbaaaa);
	assert_int_equal(cfg(f, PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(cfg(f, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(cfg(f, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	assert_int_equal(cfg(f, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(vm_cfg_read(&f->m, 0, PCI_CLASS_DEVICE, 2), 0x0600);
}

static void ports_and_ecam_agree(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(cf8_read(f, 0x80000800, 0xcfc, 4), 0x56781234);
	assert_int_equal(cf8_read(f, 0x80000800, 0xcfe, 2), 0x5678);
	assert_int_equal(cf8_read(f, 0x80000800, 0xcfd, 1), 0x12);
	assert_int_equal(cf8_read(f, 0x80000808, 0xcfc, 4), 0x02030409);
}

static void port_address_is_a_dword_register(void **state)
{
	struct fixture *f = *state;
	uint8_t b[4] = { 1, 2, 3, 4 };

	cf8_read(f, 0x80000803, 0xcfc, 4);
	bus_write(&f->m.pio, 0xcf8, b, 2);	/* not a write of the register */
	bus_read(&f->m.pio, 0xcf8, b, 4);
	assert_int_equal(load_le32(b), 0x80000800);
	bus_read(&f->m.pio, 0xcf8, b, 2);
	assert_int_equal(load_le16(b), 0xffff);
	assert_int_equal(cf8_read(f, 0x00000800, 0xcfc, 4), 0xffffffff);	/* not enabled */
}

static void absent_devices_read_all_ones(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(vm_cfg_read(&f->m, 5, 0, 4), 0xffffffff);
	assert_int_equal(vm_mmio_read(&f->m, LAYOUT_ECAM_BASE + (1 << 15) + (1 << 12), 4),
			 0xffffffff);	/* function 1 */
	assert_int_equal(cf8_read(f, 0x80010800, 0xcfc, 4), 0xffffffff);	/* bus 1 */
}

static void extended_space_is_empty(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(cfg(f, 0x100, 4), 0);
	assert_int_equal(cfg(f, 0xffc, 4), 0);
	set_cfg(f, 0x100, 1, 4);
}

static void read_only_bits_stay(void **state)
{
	struct fixture *f = *state;

	set_cfg(f, PCI_VENDOR_ID, 0, 4);
	set_cfg(f, PCI_REVISION_ID, 0, 4);
	set_cfg(f, PCI_COMMAND, 0xffff, 2);
	set_cfg(f, PCI_INTERRUPT_LINE, 0xffff, 2);
	assert_int_equal(cfg(f, PCI_VENDOR_ID, 4), 0x56781234);
	assert_int_equal(cfg(f, PCI_COMMAND, 2),
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(cfg(f, PCI_INTERRUPT_LINE, 2), 0x00ff);
}

static void bars_are_placed_and_decoded_before_entry(void **state)
{
	struct fixture *f = *state;
	uint64_t b2 = cfg(f, PCI_BASE_ADDRESS_2, 4);

	assert_in_range(bar0(f), LAYOUT_PCI_MMIO_BASE,
			LAYOUT_PCI_MMIO_BASE + LAYOUT_PCI_MMIO_SIZE - 1);
	assert_int_equal(bar0(f) % BAR_LEN, 0);
	assert_int_equal(vm_mmio_read(&f->m, bar0(f), 4), 0x55667788);
	assert_int_equal(vm_mmio_read(&f->m, b2, 8), 0x1122334455667788);
	vm_mmio_write(&f->m, bar0(f) + 0x24, 0xabcd, 2);
	assert_int_equal(f->toy->last_off, 0x24);
	assert_int_equal(f->toy->last_value, 0xabcd);
	assert_int_equal(f->toy->last_len, 2);
}

static void bar_size_is_found_by_all_ones(void **state)
{
	struct fixture *f = *state;
	uint32_t lo = cfg(f, PCI_BASE_ADDRESS_0, 4), b2 = cfg(f, PCI_BASE_ADDRESS_2, 4);

	set_cfg(f, PCI_BASE_ADDRESS_0, UINT32_MAX, 4);
	set_cfg(f, PCI_BASE_ADDRESS_1, UINT32_MAX, 4);
	set_cfg(f, PCI_BASE_ADDRESS_2, UINT32_MAX, 4);
	set_cfg(f, PCI_BASE_ADDRESS_3, UINT32_MAX, 4);
	assert_int_equal(cfg(f, PCI_BASE_ADDRESS_0, 4), (uint32_t)~(BAR_LEN - 1) | 4);
	assert_int_equal(cfg(f, PCI_BASE_ADDRESS_1, 4), UINT32_MAX);
	assert_int_equal(cfg(f, PCI_BASE_ADDRESS_2, 4), 0xfffff000);
	assert_int_equal(cfg(f, PCI_BASE_ADDRESS_3, 4), 0);
	set_cfg(f, PCI_BASE_ADDRESS_0, lo, 4);
	set_cfg(f, PCI_BASE_ADDRESS_1, 0, 4);
	set_cfg(f, PCI_BASE_ADDRESS_2, b2, 4);
	assert_int_equal(vm_mmio_read(&f->m, bar0(f), 4), 0x55667788);
}

static void bar_moves_with_its_ioeventfd(void **state)
{
	struct fixture *f = *state;
	uint64_t old = bar0(f), new = LAYOUT_PCI_MMIO_BASE + MIB(64);

	assert_int_equal(f->m.n_ioev, 1);
	assert_int_equal(f->m.ioev[0].gpa, old + 0x10);
	set_cfg(f, PCI_BASE_ADDRESS_0, (uint32_t)new, 4);
	assert_int_equal(vm_mmio_read(&f->m, old, 4), 0xffffffff);
	assert_int_equal(vm_mmio_read(&f->m, new, 4), 0x55667788);
	assert_int_equal(f->m.n_ioev, 1);
	assert_int_equal(f->m.ioev[0].gpa, new + 0x10);
	set_cfg(f, PCI_BASE_ADDRESS_1, 8, 4);	/* above 4 GiB */
	assert_int_equal(vm_mmio_read(&f->m, new + GIB(32), 4), 0x55667788);
}

static void memory_enable_is_honoured(void **state)
{
	struct fixture *f = *state;

	set_cfg(f, PCI_COMMAND, 0, 2);
	assert_int_equal(vm_mmio_read(&f->m, bar0(f), 4), 0xffffffff);
	assert_int_equal(f->m.n_ioev, 0);
	set_cfg(f, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_int_equal(vm_mmio_read(&f->m, bar0(f), 4), 0x55667788);
	assert_int_equal(f->m.n_ioev, 1);
}

static void bar_over_ram_or_other_bars_is_nowhere(void **state)
{
	struct fixture *f = *state;
	uint64_t b2 = cfg(f, PCI_BASE_ADDRESS_2, 4);

	set_cfg(f, PCI_BASE_ADDRESS_0, 0x100000, 4);
	assert_int_equal(vm_mmio_read(&f->m, 0x100000, 4), 0xffffffff);
	set_cfg(f, PCI_BASE_ADDRESS_0, (uint32_t)LAYOUT_ECAM_BASE, 4);
	assert_int_equal(vm_cfg_read(&f->m, SLOT, 0, 4), 0x56781234);
	set_cfg(f, PCI_BASE_ADDRESS_0, (uint32_t)ALIGN_DOWN(b2, (uint64_t)BAR_LEN), 4);
	assert_int_equal(vm_mmio_read(&f->m, b2, 4), 0x55667788);	/* still the other one's */
}

static void reset_restores_power_on_state(void **state)
{
	struct fixture *f = *state;
	uint64_t old = bar0(f);

	set_cfg(f, PCI_BASE_ADDRESS_0, (uint32_t)(LAYOUT_PCI_MMIO_BASE + MIB(64)), 4);
	set_cfg(f, PCI_COMMAND, 0, 2);
	pci_bus_reset(&f->m.pci);
	assert_int_equal(bar0(f), old);
	assert_int_equal(vm_mmio_read(&f->m, old, 4), 0x55667788);
	assert_int_equal(f->toy->resets, 1);
}

static void slots_run_out(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	struct toy *t;

	for (unsigned i = 2; i < PCI_SLOTS; i++)
		assert_int_equal(pci_bus_add(&f->m.pci, &toy_new(&f->m, f->kick)->pci,
					     PCI_SLOT_ANY, &e), 0);
	t = toy_new(&f->m, f->kick);
	assert_int_not_equal(pci_bus_add(&f->m.pci, &t->pci, PCI_SLOT_ANY, &e), 0);
	assert_int_not_equal(pci_bus_add(&f->m.pci, &t->pci, 3, &e), 0);
	toy_free(&t->pci);
}

/* ---- MSI-X ------------------------------------------------------------------------------------ */

static void set_vector(struct fixture *f, unsigned v, uint32_t data, uint32_t ctrl)
{
	uint64_t entry = bar0(f) + TABLE_OFF + 16 * v;

	vm_mmio_write(&f->m, entry, 0xfee01000, 4);
	vm_mmio_write(&f->m, entry + 4, 0, 4);
	vm_mmio_write(&f->m, entry + 8, data, 4);
	vm_mmio_write(&f->m, entry + 12, ctrl, 4);
}

static uint64_t pba(struct fixture *f)
{
	return vm_mmio_read(&f->m, bar0(f) + PBA_OFF, 8);
}

static void msix_capability_describes_table_and_pba(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(cfg(f, f->msix, 1), PCI_CAP_ID_MSIX);
	assert_int_equal(cfg(f, f->msix + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	assert_int_equal(cfg(f, f->msix + PCI_MSIX_TABLE, 4), TABLE_OFF);
	assert_int_equal(cfg(f, f->msix + PCI_MSIX_PBA, 4), PBA_OFF);
}

static void vectors_start_masked_and_read_back(void **state)
{
	struct fixture *f = *state;
	uint64_t entry = bar0(f) + TABLE_OFF + 16;

	assert_int_equal(vm_mmio_read(&f->m, entry + 12, 4), 1);
	vm_mmio_write(&f->m, entry, 0x11223344fee02000, 8);
	vm_mmio_write(&f->m, entry + 8, UINT64_C(0xffffffff00000077), 8);
	assert_int_equal(vm_mmio_read(&f->m, entry, 8), 0x11223344fee02000);
	assert_int_equal(vm_mmio_read(&f->m, entry + 8, 8), UINT64_C(0x0000000100000077));
	vm_mmio_write(&f->m, entry + 1, 0xff, 1);	/* no byte accesses */
	assert_int_equal(vm_mmio_read(&f->m, entry, 4), 0xfee02000);
}

static void signal_reaches_the_programmed_message(void **state)
{
	struct fixture *f = *state;

	assert_false(msix_signal(&f->toy->pci, 1));	/* not enabled */
	set_cfg(f, f->msix + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 2);
	set_vector(f, 1, 0x41, 0);
	assert_int_equal(f->m.n_routes, 1);
	assert_int_equal(f->m.routes[0].addr, 0xfee01000);
	assert_int_equal(f->m.routes[0].data, 0x41);
	assert_true(msix_signal(&f->toy->pci, 1));
	assert_int_equal(vm_irq_take(&f->m, 0x41), 1);
	assert_false(msix_signal(&f->toy->pci, VECTORS));
}

static void masked_vector_pends_and_fires_on_unmask(void **state)
{
	struct fixture *f = *state;

	set_cfg(f, f->msix + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 2);
	set_vector(f, 2, 0x42, 1);
	assert_true(msix_signal(&f->toy->pci, 2));
	assert_int_equal(pba(f), BIT64(2));
	assert_int_equal(vm_irq_take(&f->m, 0x42), 0);
	set_vector(f, 2, 0x42, 0);
	assert_int_equal(vm_irq_take(&f->m, 0x42), 1);
	assert_int_equal(pba(f), 0);
}

static void function_mask_holds_all_back(void **state)
{
	struct fixture *f = *state;

	set_cfg(f, f->msix + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, 2);
	set_vector(f, 0, 0x40, 0);
	set_vector(f, 1, 0x41, 0);
	msix_signal(&f->toy->pci, 0);
	msix_signal(&f->toy->pci, 1);
	assert_int_equal(pba(f), 3);
	set_cfg(f, f->msix + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 2);
	assert_int_equal(vm_irq_take(&f->m, 0x40), 1);
	assert_int_equal(vm_irq_take(&f->m, 0x41), 1);
}

static void retargeting_a_live_vector_takes_effect(void **state)
{
	struct fixture *f = *state;

	set_cfg(f, f->msix + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 2);
	set_vector(f, 0, 0x40, 0);
	vm_mmio_write(&f->m, bar0(f) + TABLE_OFF + 8, 0x55, 4);
	msix_signal(&f->toy->pci, 0);
	assert_int_equal(vm_irq_take(&f->m, 0x55), 1);
}

static void reset_forgets_vectors_and_pending_bits(void **state)
{
	struct fixture *f = *state;

	set_cfg(f, f->msix + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 2);
	set_vector(f, 0, 0x40, 0);
	msix_signal(&f->toy->pci, 1);	/* masked: pends */
	assert_int_equal(pba(f), 2);
	pci_bus_reset(&f->m.pci);
	assert_int_equal(pba(f), 0);
	assert_int_equal(cfg(f, f->msix + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	assert_int_equal(vm_mmio_read(&f->m, bar0(f) + TABLE_OFF + 12, 4), 1);
	assert_false(msix_signal(&f->toy->pci, 0));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(header_tells_who_it_is),
		TEST(ports_and_ecam_agree),
		TEST(port_address_is_a_dword_register),
		TEST(absent_devices_read_all_ones),
		TEST(extended_space_is_empty),
		TEST(read_only_bits_stay),
		TEST(bars_are_placed_and_decoded_before_entry),
		TEST(bar_size_is_found_by_all_ones),
		TEST(bar_moves_with_its_ioeventfd),
		TEST(memory_enable_is_honoured),
		TEST(bar_over_ram_or_other_bars_is_nowhere),
		TEST(reset_restores_power_on_state),
		TEST(slots_run_out),
		TEST(msix_capability_describes_table_and_pba),
		TEST(vectors_start_masked_and_read_back),
		TEST(signal_reaches_the_programmed_message),
		TEST(masked_vector_pends_and_fires_on_unmask),
		TEST(function_mask_holds_all_back),
		TEST(retargeting_a_live_vector_takes_effect),
		TEST(reset_forgets_vectors_and_pending_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
