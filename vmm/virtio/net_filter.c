/* SPDX-License-Identifier: MIT */
/* Receive filter of virtio-net: mode bits, address table, VLANs (VIRTIO 1.2, 5.1.6.5). */
#include <linux/if_ether.h>
#include <string.h>

#include "hv/bytes.h"
#include "virtio/net_priv.h"

void vnet_filter_reset(struct vnet_filter *f, const uint8_t mac[6])
{
	pthread_mutex_lock(&f->lock);
	f->promisc = true;
	f->allmulti = f->alluni = f->nomulti = f->nouni = f->nobcast = f->vlan_on = false;
	f->uni_overflow = f->multi_overflow = false;
	f->n_uni = f->n_multi = 0;
	memcpy(f->mac, mac, 6);
	memset(f->vlans, 0, sizeof(f->vlans));
	pthread_mutex_unlock(&f->lock);
}

static bool in_table(const uint8_t (*table)[6], unsigned n, const uint8_t *mac)
{
	for (unsigned i = 0; i < n; i++)
		if (!memcmp(table[i], mac, 6))
			return true;
	return false;
}

static bool vlan_passes(const struct vnet_filter *f, const uint8_t *head, size_t len)
{
	if (!f->vlan_on || len < ETH_HLEN + 4 || load_be16(head + 12) != ETH_P_8021Q)
		return true;
	return bitmap_test(f->vlans, load_be16(head + 14) & 0xfff);
}

bool vnet_filter_pass(const struct vnet_filter *f, const uint8_t *head, size_t len)
{
	static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	if (len < ETH_HLEN || !vlan_passes(f, head, len))
		return false;
	if (f->promisc)
		return true;
	if (!memcmp(head, broadcast, 6))
		return !f->nobcast;
	if (head[0] & 1)
		return !f->nomulti && (f->allmulti || f->multi_overflow ||
				       in_table(f->multi, f->n_multi, head));
	return !f->nouni && (f->alluni || f->uni_overflow || !memcmp(head, f->mac, 6) ||
			     in_table(f->uni, f->n_uni, head));
}
