/* SPDX-License-Identifier: MIT */
/*
 * MSI-X (PCI 3.0, 6.8.2): table and PBA in a BAR, a route to KVM for each live vector.
 *
 * A vector is routed while MSI-X is enabled and neither the function nor the vector is
 * masked. Otherwise its irqfd is detached, and what devices signal meanwhile stays in the
 * eventfd's counter: that is the pending bit, and routing again delivers it.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/bytes.h"
#include "hv/overflow.h"
#include "pci/pci_priv.h"

static uint64_t table_len(const struct msix *m)
{
	return (uint64_t)m->n * PCI_MSIX_ENTRY_SIZE;
}

static uint64_t pba_len(const struct msix *m)
{
	return DIV_ROUND_UP(m->n, 64) * UINT64_C(8);
}

int pci_dev_add_msix(struct pci_dev *d, struct irq *irq, unsigned bar, uint64_t table_off,
		     uint64_t pba_off, unsigned n)
{
	struct msix *m = &d->msix;
	uint8_t body[PCI_CAP_MSIX_SIZEOF - 2], wmask[PCI_CAP_MSIX_SIZEOF - 2] = { 0 };
	int cap;

	assert(n && n <= PCI_MSIX_FLAGS_QSIZE + 1);
	store_le16(body, (uint16_t)(n - 1));
	store_le32(body + 2, (uint32_t)table_off | bar);
	store_le32(body + 6, (uint32_t)pba_off | bar);
	store_le16(wmask, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	cap = pci_dev_add_cap(d, PCI_CAP_ID_MSIX, body, wmask, sizeof(body));
	if (cap < 0)
		return cap;
	m->vec = calloc(n, sizeof(*m->vec));
	if (!m->vec)
		return -ENOMEM;
	m->irq = irq;
	m->cap = (unsigned)cap;
	m->bar = bar;
	m->table_off = table_off;
	m->pba_off = pba_off;
	for (; m->n < n; m->n++) {
		int r = irq_msi_init(irq, &m->vec[m->n].msi);

		m->vec[m->n].ctrl = PCI_MSIX_ENTRY_CTRL_MASKBIT;
		if (r) {
			for (unsigned i = 0; i < m->n; i++)
				irq_msi_fini(irq, &m->vec[i].msi);
			free(m->vec);
			*m = (struct msix){ 0 };
			return r;
		}
	}
	return 0;
}

void msix_fini(struct pci_dev *d)
{
	for (unsigned i = 0; i < d->msix.n; i++)
		irq_msi_fini(d->msix.irq, &d->msix.vec[i].msi);
	free(d->msix.vec);
	d->msix.vec = NULL;
	d->msix.n = 0;
}

static void vector_update(struct pci_dev *d, struct msix_vector *v, bool moved)
{
	uint16_t flags = load_le16(d->config + d->msix.cap + PCI_MSIX_FLAGS);
	bool live = flags & PCI_MSIX_FLAGS_ENABLE && !(flags & PCI_MSIX_FLAGS_MASKALL) &&
		    !(v->ctrl & PCI_MSIX_ENTRY_CTRL_MASKBIT);

	if (!live && v->routed) {
		irq_msi_mask(d->msix.irq, &v->msi);
		v->routed = false;
	} else if (live && (!v->routed || moved)) {
		int r = irq_msi_route(d->msix.irq, &v->msi,
				      (uint64_t)v->addr_hi << 32 | v->addr_lo, v->data);

		v->routed = !r;
		if (r)
			log_guest(&d->log, "MSI-X vector cannot be routed: %s", strerror(-r));
	}
}

void msix_update(struct pci_dev *d)
{
	uint16_t flags = load_le16(d->config + d->msix.cap + PCI_MSIX_FLAGS);

	atomic_store(&d->msix.enabled, flags & PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < d->msix.n; i++)
		vector_update(d, &d->msix.vec[i], false);
}

void msix_reset(struct pci_dev *d)
{
	if (!d->msix.n)
		return;
	msix_update(d);	/* configuration space is at power-on: masks all */
	for (unsigned i = 0; i < d->msix.n; i++) {
		struct msix_vector *v = &d->msix.vec[i];
		uint64_t pending;

		v->addr_lo = v->addr_hi = v->data = 0;
		v->ctrl = PCI_MSIX_ENTRY_CTRL_MASKBIT;
		if (irq_msi_pending(&v->msi) && read(v->msi.fd, &pending, sizeof(pending)) < 0)
			continue;
	}
}

bool msix_covers(const struct pci_dev *d, unsigned bar, uint64_t off, unsigned len)
{
	const struct msix *m = &d->msix;

	if (!m->n || bar != m->bar)
		return false;
	return (off >= m->table_off && range_ok(off - m->table_off, len, table_len(m))) ||
	       (off >= m->pba_off && range_ok(off - m->pba_off, len, pba_len(m)));
}

static uint32_t *entry_field(struct msix_vector *v, unsigned off)
{
	switch (off) {
	case PCI_MSIX_ENTRY_LOWER_ADDR: return &v->addr_lo;
	case PCI_MSIX_ENTRY_UPPER_ADDR: return &v->addr_hi;
	case PCI_MSIX_ENTRY_DATA: return &v->data;
	default: return &v->ctrl;
	}
}

static uint64_t pba_word(const struct msix *m, unsigned word)
{
	uint64_t bits = 0;

	for (unsigned i = word * 64; i < m->n && i < (word + 1) * 64; i++)
		if (!m->vec[i].routed && irq_msi_pending(&m->vec[i].msi))
			bits |= BIT64(i % 64);
	return bits;
}

/* Only aligned dwords and qwords are defined (6.8.2); the rest reads 0. */
static bool msix_access_ok(uint64_t off, unsigned len)
{
	return (len == 4 || len == 8) && IS_ALIGNED(off, len);
}

void msix_read(struct pci_dev *d, uint64_t off, void *data, unsigned len)
{
	struct msix *m = &d->msix;
	bool in_table = off >= m->table_off && off - m->table_off < table_len(m);

	memset(data, 0, len);
	if (!msix_access_ok(off, len))
		return;
	pthread_mutex_lock(&d->lock);
	if (in_table) {
		off -= m->table_off;
		for (unsigned i = 0; i < len; i += 4)
			store_le32((uint8_t *)data + i,
				   *entry_field(&m->vec[off / PCI_MSIX_ENTRY_SIZE],
						(unsigned)off % PCI_MSIX_ENTRY_SIZE + i));
	} else {
		off -= m->pba_off;
		store_le(data, pba_word(m, (unsigned)off / 8) >> (off % 8 * 8), len);
	}
	pthread_mutex_unlock(&d->lock);
}

void msix_write(struct pci_dev *d, uint64_t off, const void *data, unsigned len)
{
	struct msix *m = &d->msix;
	struct msix_vector *v;
	bool moved = false;

	if (off < m->table_off || off - m->table_off >= table_len(m) || !msix_access_ok(off, len))
		return;	/* the PBA is read-only */
	off -= m->table_off;
	v = &m->vec[off / PCI_MSIX_ENTRY_SIZE];
	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < len; i += 4) {
		uint32_t *field = entry_field(v, (unsigned)off % PCI_MSIX_ENTRY_SIZE + i);
		uint32_t value = load_le32((const uint8_t *)data + i);

		if (field == &v->ctrl)
			value &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
		else
			moved |= *field != value;
		*field = value;
	}
	vector_update(d, v, moved);
	pthread_mutex_unlock(&d->lock);
}

bool msix_signal(struct pci_dev *d, unsigned vec)
{
	static const uint64_t one = 1;

	if (vec >= d->msix.n || !atomic_load_explicit(&d->msix.enabled, memory_order_acquire))
		return false;
	/* A full counter (EAGAIN) is pending already. */
	if (write(d->msix.vec[vec].msi.fd, &one, sizeof(one)) < 0)
		return errno == EAGAIN;
	return true;
}
