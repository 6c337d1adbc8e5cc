/* SPDX-License-Identifier: MIT */
/* Opening TAP queues (launcher) and making them ready for virtio-net (machine process). */
#include "virtio/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "hv/fd.h"

static int tap_attach(int fd, const char *name, short extra)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | extra) };

	memcpy(ifr.ifr_name, name, strlen(name));
	return ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : 0;
}

static int open_queue(const char *name, unsigned n, int *out, struct err *e)
{
	CLEANUP_FD int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	int r;

	if (fd < 0)
		return err_errno(e, "/dev/net/tun");
	/* EINVAL: the TAP is there and differs in multi_queue; for one queue either will do. */
	r = tap_attach(fd, name, IFF_MULTI_QUEUE);
	if (r == -EINVAL && n == 1)
		r = tap_attach(fd, name, 0);
	if (r) {
		err_set(e, r, "TAP '%s': %s", name, strerror(-r));
		if (r == -EPERM)
			err_hint(e, "create it for your user: ip tuntap add %s mode tap user $USER",
				 name);
		if (r == -EINVAL && n > 1)
			err_hint(e, "more than one queue needs a TAP made with multi_queue");
		return r;
	}
	*out = fd_steal(&fd);
	return 0;
}

uint16_t tap_mtu(int fd)
{
	CLEANUP_FD int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { 0 };

	/* TUNGETIFF leaves the name in place and flags where the MTU is put next. */
	if (sock < 0 || ioctl(fd, TUNGETIFF, &ifr) < 0 || ioctl(sock, SIOCGIFMTU, &ifr) < 0)
		return 0;
	return ifr.ifr_mtu > 0 && ifr.ifr_mtu <= UINT16_MAX ? (uint16_t)ifr.ifr_mtu : 0;
}

int tap_open(const char *name, unsigned n, int *fds, struct err *e)
{
	if (!*name || strlen(name) >= IFNAMSIZ)
		return err_set(e, -EINVAL, "TAP '%s': not an interface name", name);
	for (unsigned i = 0; i < n; i++) {
		int r = open_queue(name, n, &fds[i], e);

		if (r) {
			while (i--)
				fd_close(&fds[i]);
			return r;
		}
	}
	return 0;
}

/* What the kernel takes grew over time: the richest set that it accepts. */
static unsigned probe_offloads(int fd)
{
	static const unsigned sets[] = {
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_UFO | TAP_F_USO4 |
			TAP_F_USO6,
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TAP_F_USO4 | TAP_F_USO6,
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_UFO,
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
		TUN_F_CSUM,
	};
	unsigned found = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(sets) && !found; i++)
		if (ioctl(fd, TUNSETOFFLOAD, sets[i]) == 0)
			found = sets[i];
	ioctl(fd, TUNSETOFFLOAD, 0);	/* nothing until a driver says that it can */
	return found;
}

int tap_adopt(int fd, unsigned *offloads, struct err *e)
{
	struct ifreq ifr = { 0 };
	int len = TAP_VNET_HDR_LEN, r;

	if (ioctl(fd, TUNGETIFF, &ifr) < 0)
		return err_errno(e, "file descriptor %d: not a TAP", fd);
	if ((ifr.ifr_flags & (IFF_TAP | IFF_VNET_HDR | IFF_NO_PI)) !=
	    (IFF_TAP | IFF_VNET_HDR | IFF_NO_PI))
		return err_set(e, -EINVAL, "TAP '%.*s': needs IFF_TAP, IFF_NO_PI and IFF_VNET_HDR",
			       IFNAMSIZ, ifr.ifr_name);
	if (ioctl(fd, TUNSETVNETHDRSZ, &len) < 0)
		return err_errno(e, "TAP '%.*s': vnet_hdr of %d bytes", IFNAMSIZ, ifr.ifr_name, len);
	r = fd_set_nonblock(fd, true);
	if (r)
		return err_set(e, r, "TAP '%.*s': %s", IFNAMSIZ, ifr.ifr_name, strerror(-r));
	*offloads = probe_offloads(fd);
	return 0;
}
