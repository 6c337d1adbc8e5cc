/* SPDX-License-Identifier: MIT */
/*
 * Interrupt delivery. Two ways to see one: the local APIC's request register, which needs no
 * interrupt to be taken, and a handler in ring 0.
 */
#include "acpi.h"
#include "blk.h"

#define LAPIC UINT64_C(0xfee00000)
#define LAPIC_SVR 0xf0
#define LAPIC_EOI 0xb0
#define LAPIC_ISR 0x100
#define LAPIC_IRR 0x200
#define IOAPIC UINT64_C(0xfec00000)
#define VECTOR_QUEUE 0x41
#define VECTOR_CONFIG 0x42
#define VECTOR_GED 0x43
#define VECTOR_COM1 0x44
#define GSI_COM1 4
#define GSI_GED 9

static bool requested(uint8_t vector)
{
	return mmio_read32((void *)(LAPIC + LAPIC_IRR + vector / 32 * 16)) >> vector % 32 & 1;
}

static bool wait_requested(uint8_t vector, uint64_t ms)
{
	uint64_t end = deadline_ms(ms);

	while (!requested(vector))
		if (expired(end))
			return false;
	return true;
}

static void lapic_on(void)
{
	mmio_write32((void *)(LAPIC + LAPIC_SVR), 0x1ff);
}

/* Interrupts on until @vector was handled. */
static bool take(uint8_t vector, uint64_t ms)
{
	uint64_t end = deadline_ms(ms);
	uint32_t before = irq_seen[vector];

	irq_enable(true);
	while (irq_seen[vector] == before && !expired(end))
		pause_cpu();
	irq_enable(false);
	return irq_seen[vector] != before;
}

static struct virtio dev;

/* A queue of the entropy device with an interrupt, one request answered. */
static const char *one_request(struct vq *q)
{
	static uint8_t data[64];
	struct vq_buf b = { data, sizeof(data) };

	if (!vq_add(q, &b, 0, 1, data))
		return "the queue is full";
	vq_kick(q);
	return vq_wait(q, NULL) ? NULL : "no answer";
}

static const char *msix_device(void)
{
	const char *bad = virtio_find(&dev, VIRTIO_ID_RNG, 0);

	if (!bad)
		bad = virtio_negotiate(&dev, 0);
	if (!bad)
		bad = msix_enable(&dev.pci);
	if (bad)
		return bad;
	msix_set(&dev.pci, 0, VECTOR_CONFIG);
	msix_set(&dev.pci, 1, VECTOR_QUEUE);
	dev.common->msix_config = 0;
	bad = virtio_queue(&dev, 0, 8, 1);
	virtio_ready(&dev);
	return bad;
}

/* msix - a queue's interrupt arrives at the local APIC; masked, it stays pending until unmasked. */
static const char *word_msix(const char *arg)
{
	const char *bad = msix_device();

	(void)arg;
	lapic_on();
	if (!bad)
		bad = one_request(&dev.q[0]);
	if (bad)
		return bad;
	if (!wait_requested(VECTOR_QUEUE, 1000))
		return "no request in the local APIC";
	if (!take(VECTOR_QUEUE, 2000))
		return "it is requested, but never taken";
	if (requested(VECTOR_QUEUE))
		return "still requested after it was taken";
	msix_mask(&dev.pci, 1, true);
	bad = one_request(&dev.q[0]);
	if (bad)
		return bad;
	if (!msix_pending(&dev.pci, 1))
		return "masked: not pending";
	if (requested(VECTOR_QUEUE))
		return "masked: delivered all the same";
	msix_mask(&dev.pci, 1, false);
	if (!wait_requested(VECTOR_QUEUE, 1000))
		return "unmasked: what was pending is lost";
	return take(VECTOR_QUEUE, 2000) ? NULL : "unmasked: never taken";
}
WORD("msix", word_msix);

/* msix-many=N - N requests, an interrupt each. */
static const char *word_msix_many(const char *arg)
{
	const char *bad = msix_device();
	uint64_t n = parse_size(&arg);

	lapic_on();
	for (uint64_t i = 0; i < n && !bad; i++) {
		bad = one_request(&dev.q[0]);
		if (!bad && !take(VECTOR_QUEUE, 2000))
			return why("interrupt %lu is missing", i);
	}
	return bad;
}
WORD("msix-many", word_msix_many);

/* ---- lines of the I/O APIC --------------------------------------------------------------------------- */

static void ioapic_write(uint32_t reg, uint32_t v)
{
	mmio_write32((void *)IOAPIC, reg);
	mmio_write32((void *)(IOAPIC + 0x10), v);
}

static void ioapic_route(unsigned pin, uint8_t vector)
{
	uint32_t self = mmio_read32((void *)(LAPIC + 0x20)) >> 24;

	ioapic_write(0x11 + 2 * pin, self << 24);
	ioapic_write(0x10 + 2 * pin, vector);	/* edge, high, fixed, unmasked */
}

/* irq-serial - the UART's transmitter-empty interrupt, by its I/O APIC pin. */
static const char *word_irq_serial(const char *arg)
{
	bool came;

	(void)arg;
	lapic_on();
	ioapic_route(GSI_COM1, VECTOR_COM1);
	out8(0x3fc, 0x0b);	/* OUT2: the gate of a PC's interrupt line */
	out8(0x3f9, 2);
	came = take(VECTOR_COM1, 1000);
	out8(0x3f9, 0);
	return came ? NULL : "no interrupt";
}
WORD("irq-serial", word_irq_serial);

/* irq-button=SECONDS - the power button as an interrupt of the generic event device. */
static const char *word_irq_button(const char *arg)
{
	lapic_on();
	ioapic_route(GSI_GED, VECTOR_GED);
	say("READY\n");
	if (!take(VECTOR_GED, parse_size(&arg) * 1000))
		return "no interrupt";
	if (!in32(GED_PORT))
		return "an interrupt without an event";
	out32(GED_PORT, ~0u);
	return NULL;
}
WORD("irq-button", word_irq_button);
