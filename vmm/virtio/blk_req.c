/* SPDX-License-Identifier: MIT */
#include "virtio/blk_req.h"

#include <errno.h>
#include <linux/virtio_blk.h>

#include "hv/bytes.h"
#include "hv/overflow.h"

bool vblk_is_write(uint32_t type)
{
	return type == VIRTIO_BLK_T_OUT || type == VIRTIO_BLK_T_DISCARD ||
	       type == VIRTIO_BLK_T_WRITE_ZEROES;
}

int vblk_parse(struct vq_chain *c, struct vblk_header *h, struct iovec **data, unsigned *n_data,
	       uint64_t *data_len, uint8_t **status)
{
	struct iov_cursor at = iov_begin(c->iov, c->n_out);
	struct virtio_blk_outhdr raw;
	struct iovec *last;

	if (c->bytes_out < sizeof(raw) || !c->bytes_in)
		return -EPROTO;
	iov_copy_out(&at, &raw, sizeof(raw));
	h->type = le32toh(raw.type);
	h->sector = le64toh(raw.sector);
	/* The status is the last writable byte; entries are never empty. */
	last = &c->iov[c->n_out + c->n_in - 1];
	*status = (uint8_t *)last->iov_base + --last->iov_len;
	if (vblk_is_write(h->type)) {
		*data = c->iov;
		*n_data = c->n_out;
		*data_len = c->bytes_out - sizeof(raw);
		vq_iov_cut_front(data, n_data, sizeof(raw));
	} else {
		*data = c->iov + c->n_out;
		*n_data = last->iov_len ? c->n_in : c->n_in - 1;
		*data_len = c->bytes_in - 1;
	}
	return 0;
}

bool vblk_io_range(const struct vblk_header *h, uint64_t len, uint64_t disk_bytes, uint64_t *off)
{
	return len && len % SECTOR_LEN == 0 && mul_u64(h->sector, SECTOR_LEN, off) &&
	       range_ok(*off, len, disk_bytes);
}

int vblk_next_range(struct iov_cursor *c, uint32_t type, uint64_t disk_bytes, uint64_t max_bytes,
		    struct vblk_range *out)
{
	struct virtio_blk_discard_write_zeroes raw;
	uint32_t flags;

	if (iov_copy_out(c, &raw, sizeof(raw)) != sizeof(raw))
		return -EIO;
	flags = le32toh(raw.flags);
	if (flags & ~(uint32_t)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)
		return -ENOTSUP;
	if (flags && type == VIRTIO_BLK_T_DISCARD)
		return -ENOTSUP;
	out->unmap = flags;
	out->len = (uint64_t)le32toh(raw.num_sectors) * SECTOR_LEN;
	if (!mul_u64(le64toh(raw.sector), SECTOR_LEN, &out->off) || !out->len ||
	    out->len > max_bytes || !range_ok(out->off, out->len, disk_bytes))
		return -EIO;
	return 0;
}
