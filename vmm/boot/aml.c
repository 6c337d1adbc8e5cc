/* SPDX-License-Identifier: MIT */
/*
 * The AML encoder. PkgLength is always written in its three-byte form (ACPI 6.4, 20.2.4),
 * so that a block's length can be filled in when it is closed.
 */
#include "aml.h"

#include <string.h>

#include "hv/bytes.h"

#define PKG_LENGTH_BYTES 3

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_EXT = 0x5b,
	OP_EXT_REGION = 0x80,
	OP_EXT_FIELD = 0x81,
	OP_EXT_DEVICE = 0x82,
	OP_STORE = 0x70,
	OP_AND = 0x7b,
	OP_NOTIFY = 0x86,
	OP_IF = 0xa0,
};
#define REGION_SYSTEM_IO 1
#define FIELD_DWORD_NOLOCK_PRESERVE 0x03

void aml_begin(struct aml *a, uint8_t *buf, size_t cap)
{
	*a = (struct aml){ .buf = buf, .cap = cap };
}

bool aml_ok(const struct aml *a)
{
	return !a->overflow && !a->depth;
}

void aml_bytes(struct aml *a, const void *p, size_t n)
{
	if (a->overflow || n > a->cap - a->len) {
		a->overflow = true;
		return;
	}
	memcpy(a->buf + a->len, p, n);
	a->len += n;
}

void aml_byte(struct aml *a, uint8_t b)
{
	aml_bytes(a, &b, 1);
}

static void aml_le(struct aml *a, uint64_t v, unsigned len)
{
	uint8_t b[8];

	store_le(b, v, len);
	aml_bytes(a, b, len);
}

void aml_int(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		aml_byte(a, v ? OP_ONE : OP_ZERO);
	} else if (v <= UINT8_MAX) {
		aml_byte(a, OP_BYTE);
		aml_le(a, v, 1);
	} else if (v <= UINT16_MAX) {
		aml_byte(a, OP_WORD);
		aml_le(a, v, 2);
	} else if (v <= UINT32_MAX) {
		aml_byte(a, OP_DWORD);
		aml_le(a, v, 4);
	} else {
		aml_byte(a, OP_QWORD);
		aml_le(a, v, 8);
	}
}

void aml_string(struct aml *a, const char *s)
{
	aml_byte(a, OP_STRING);
	aml_bytes(a, s, strlen(s) + 1);
}

/* "PNP0A08": three letters of five bits, four hex digits; stored big-endian. */
void aml_eisa_id(struct aml *a, const char *id)
{
	uint32_t v = 0;
	uint8_t be[4];

	for (int i = 0; i < 3; i++)
		v = v << 5 | ((uint32_t)id[i] & 0x1f);
	for (int i = 3; i < 7; i++)
		v = v << 4 | (uint32_t)(id[i] <= '9' ? id[i] - '0' : id[i] - 'A' + 10);
	store_be32(be, v);
	aml_byte(a, OP_DWORD);
	aml_bytes(a, be, 4);
}

static void aml_segment(struct aml *a, const char *seg, size_t n)
{
	char s[4] = { '_', '_', '_', '_' };

	memcpy(s, seg, MIN(n, sizeof(s)));
	aml_bytes(a, s, sizeof(s));
}

void aml_name_ref(struct aml *a, const char *path)
{
	const char *dot;

	if (*path == '\\') {
		aml_byte(a, '\\');
		path++;
	}
	dot = strchr(path, '.');
	if (!dot) {
		aml_segment(a, path, strlen(path));
		return;
	}
	aml_byte(a, 0x2e);	/* DualNamePrefix */
	aml_segment(a, path, (size_t)(dot - path));
	aml_segment(a, dot + 1, strlen(dot + 1));
}

static void aml_open(struct aml *a)
{
	static const uint8_t later[PKG_LENGTH_BYTES];

	assert(a->depth < AML_DEPTH_MAX);
	a->block[a->depth++] = a->len;
	aml_bytes(a, later, sizeof(later));
}

void aml_close(struct aml *a)
{
	size_t at, n;

	assert(a->depth > 0);
	at = a->block[--a->depth];
	if (a->overflow)
		return;
	n = a->len - at;	/* PkgLength counts itself */
	a->buf[at] = (uint8_t)(0x80 | (n & 0xf));
	a->buf[at + 1] = (uint8_t)(n >> 4);
	a->buf[at + 2] = (uint8_t)(n >> 12);
}

void aml_scope(struct aml *a, const char *path)
{
	aml_byte(a, OP_SCOPE);
	aml_open(a);
	aml_name_ref(a, path);
}

void aml_device(struct aml *a, const char *name)
{
	aml_byte(a, OP_EXT);
	aml_byte(a, OP_EXT_DEVICE);
	aml_open(a);
	aml_name_ref(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned args)
{
	aml_byte(a, OP_METHOD);
	aml_open(a);
	aml_name_ref(a, name);
	aml_byte(a, (uint8_t)(args | 0x08));	/* serialized */
}

void aml_package(struct aml *a, unsigned elements)
{
	aml_byte(a, OP_PACKAGE);
	aml_open(a);
	aml_byte(a, (uint8_t)elements);
}

void aml_if_and(struct aml *a, enum aml_local value, uint64_t mask)
{
	aml_byte(a, OP_IF);
	aml_open(a);
	aml_byte(a, OP_AND);
	aml_byte(a, (uint8_t)value);
	aml_int(a, mask);
	aml_byte(a, OP_ZERO);	/* no target */
}

void aml_name(struct aml *a, const char *name)
{
	aml_byte(a, OP_NAME);
	aml_name_ref(a, name);
}

void aml_name_int(struct aml *a, const char *name, uint64_t v)
{
	aml_name(a, name);
	aml_int(a, v);
}

void aml_name_string(struct aml *a, const char *name, const char *s)
{
	aml_name(a, name);
	aml_string(a, s);
}

void aml_name_eisa(struct aml *a, const char *name, const char *id)
{
	aml_name(a, name);
	aml_eisa_id(a, id);
}

void aml_io_region(struct aml *a, const char *name, uint16_t port, uint8_t len)
{
	aml_byte(a, OP_EXT);
	aml_byte(a, OP_EXT_REGION);
	aml_name_ref(a, name);
	aml_byte(a, REGION_SYSTEM_IO);
	aml_int(a, port);
	aml_int(a, len);
}

void aml_dword_field(struct aml *a, const char *region, const char *field)
{
	aml_byte(a, OP_EXT);
	aml_byte(a, OP_EXT_FIELD);
	aml_open(a);
	aml_name_ref(a, region);
	aml_byte(a, FIELD_DWORD_NOLOCK_PRESERVE);
	aml_name_ref(a, field);
	aml_byte(a, 32);	/* bits, a one-byte PkgLength */
	aml_close(a);
}

void aml_store_name_to(struct aml *a, const char *name, enum aml_local to)
{
	aml_byte(a, OP_STORE);
	aml_name_ref(a, name);
	aml_byte(a, (uint8_t)to);
}

void aml_store_local_to(struct aml *a, enum aml_local from, const char *name)
{
	aml_byte(a, OP_STORE);
	aml_byte(a, (uint8_t)from);
	aml_name_ref(a, name);
}

void aml_notify(struct aml *a, const char *object, uint64_t value)
{
	aml_byte(a, OP_NOTIFY);
	aml_name_ref(a, object);
	aml_int(a, value);
}

/* The buffer's size is a word integer, filled in at the end: OP_WORD, two bytes. */
void aml_crs_begin(struct aml *a)
{
	aml_name(a, "_CRS");
	aml_byte(a, OP_BUFFER);
	aml_open(a);
	aml_byte(a, OP_WORD);
	aml_le(a, 0, 2);
}

void aml_crs_end(struct aml *a)
{
	size_t size_at = a->block[a->depth - 1] + PKG_LENGTH_BYTES + 1;

	aml_byte(a, 0x79);	/* end tag, checksum not used */
	aml_byte(a, 0);
	if (!a->overflow)
		store_le16(a->buf + size_at, (uint16_t)(a->len - size_at - 2));
	aml_close(a);
}

void aml_crs_io(struct aml *a, uint16_t port, uint8_t len)
{
	aml_byte(a, 0x47);
	aml_byte(a, 1);	/* 16-bit decode */
	aml_le(a, port, 2);
	aml_le(a, port, 2);
	aml_byte(a, 1);
	aml_byte(a, len);
}

void aml_crs_interrupt(struct aml *a, uint32_t gsi)
{
	aml_byte(a, 0x89);
	aml_le(a, 6, 2);
	aml_byte(a, 0x03);	/* consumer, edge, active high, exclusive */
	aml_byte(a, 1);
	aml_le(a, gsi, 4);
}

void aml_crs_memory_fixed(struct aml *a, uint32_t base, uint32_t len)
{
	aml_byte(a, 0x86);
	aml_le(a, 9, 2);
	aml_byte(a, 1);	/* writable */
	aml_le(a, base, 4);
	aml_le(a, len, 4);
}

void aml_crs_memory_window(struct aml *a, uint32_t base, uint32_t len)
{
	aml_byte(a, 0x87);
	aml_le(a, 23, 2);
	aml_byte(a, 0);		/* memory range */
	aml_byte(a, 0x0c);	/* producer, minimum and maximum fixed */
	aml_byte(a, 1);		/* writable, not cacheable */
	aml_le(a, 0, 4);
	aml_le(a, base, 4);
	aml_le(a, base + len - 1, 4);
	aml_le(a, 0, 4);
	aml_le(a, len, 4);
}

void aml_crs_bus_range(struct aml *a, uint16_t first, uint16_t last)
{
	aml_byte(a, 0x88);
	aml_le(a, 13, 2);
	aml_byte(a, 2);	/* bus numbers */
	aml_byte(a, 0x0c);
	aml_byte(a, 0);
	aml_le(a, 0, 2);
	aml_le(a, first, 2);
	aml_le(a, last, 2);
	aml_le(a, 0, 2);
	aml_le(a, last - first + 1u, 2);
}
