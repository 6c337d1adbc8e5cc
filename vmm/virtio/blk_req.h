/* SPDX-License-Identifier: MIT */
/*
 * blk_req.h - reading one virtio-blk request out of a descriptor chain (VIRTIO 1.2, 5.2.6).
 *
 * Pure: no device, no thread; the fuzzer's way in. Requests may be cut into buffers
 * anywhere (2.7.4.1): nothing but the byte order counts.
 */
#ifndef HV_VMM_VIRTIO_BLK_REQ_H
#define HV_VMM_VIRTIO_BLK_REQ_H

#include "hv/iov.h"
#include "virtio/virtqueue.h"

#define SECTOR_LEN 512

struct vblk_header {
	uint32_t type;
	uint64_t sector;
};

/* One range of DISCARD or WRITE_ZEROES, in bytes. */
struct vblk_range {
	uint64_t off, len;
	bool unmap;
};

/**
 * vblk_parse - take header and status byte off the chain
 * @h:      the header, copied
 * @data:   what is left: the readable rest for types that write, else the writable part
 *          without the status byte; cut in place inside @c->iov
 * @n_data: its entries
 * @status: host address of the status byte
 *
 * Return: 0, or -EPROTO if there is no room for a header or a status.
 */
int vblk_parse(struct vq_chain *c, struct vblk_header *h, struct iovec **data, unsigned *n_data,
	       uint64_t *data_len, uint8_t **status);
/** vblk_is_write - do readable buffers carry the data of a request of this type? */
bool vblk_is_write(uint32_t type);
/** vblk_io_range - byte range of a read or write; false if it is not whole sectors of the disk. */
bool vblk_io_range(const struct vblk_header *h, uint64_t len, uint64_t disk_bytes, uint64_t *off);
/**
 * vblk_next_range - copy and check the next segment of a DISCARD or WRITE_ZEROES
 *
 * Return: 0; -EIO (out of range, too long) or -ENOTSUP (flags), as 5.2.6.2 has it.
 */
int vblk_next_range(struct iov_cursor *c, uint32_t type, uint64_t disk_bytes, uint64_t max_bytes,
		    struct vblk_range *out);

#endif
