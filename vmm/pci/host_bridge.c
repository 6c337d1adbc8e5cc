/* SPDX-License-Identifier: MIT */
/* The bridge at 00:00.0: guests expect one, it does nothing. */
#include <errno.h>
#include <stdlib.h>

#include "pci/pci.h"

#define HOST_BRIDGE_VENDOR 0x1b36	/* Red Hat's ID of a generic PCI Express host bridge */
#define HOST_BRIDGE_DEVICE 0x0008
#define CLASS_HOST_BRIDGE 0x060000

static void host_bridge_free(struct pci_dev *d)
{
	pci_dev_fini(d);
	free(d);
}

static const struct pci_ops host_bridge_ops = { .free = host_bridge_free };

int pci_host_bridge_add(struct pci_bus *b, struct err *e)
{
	static const struct pci_ids ids = { .vendor = HOST_BRIDGE_VENDOR,
					    .device = HOST_BRIDGE_DEVICE,
					    .class_code = CLASS_HOST_BRIDGE };
	struct pci_dev *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_set(e, -ENOMEM, "host bridge: out of memory");
	pci_dev_init(d, &host_bridge_ops, &ids);
	r = pci_bus_add(b, d, 0, e);
	if (r)
		host_bridge_free(d);
	return r;
}
