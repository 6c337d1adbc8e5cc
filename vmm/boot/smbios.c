/* SPDX-License-Identifier: MIT */
/* DMTF DSP0134 (SMBIOS 3.x). Structures are put together in a buffer, then copied. */
#include "smbios.h"

#include <errno.h>
#include <string.h>

#include "gmem.h"
#include "hv/bytes.h"
#include "layout.h"

#define SMBIOS_ENTRY_BYTES 24
#define SMBIOS_TABLES (LAYOUT_SMBIOS + 32)
#define SMBIOS_TABLES_MAX 8192
#define SMBIOS_STRING_MAX 255

struct smbios_build {
	uint8_t buf[SMBIOS_TABLES_MAX];
	size_t len;
	uint16_t handle;
	bool overflow;
};

static void smbios_bytes(struct smbios_build *b, const void *p, size_t n)
{
	if (b->overflow || n > sizeof(b->buf) - b->len) {
		b->overflow = true;
		return;
	}
	if (n)
		memcpy(b->buf + b->len, p, n);
	b->len += n;
}

/* The formatted area @body (from offset 4 on), then its strings, then the empty one. */
static void smbios_structure(struct smbios_build *b, uint8_t type, const uint8_t *body, size_t n,
			     const char *const *strings, size_t n_strings)
{
	uint8_t head[4] = { type, (uint8_t)(n + 4) };

	store_le16(head + 2, b->handle++);
	smbios_bytes(b, head, sizeof(head));
	smbios_bytes(b, body, n);
	for (size_t i = 0; i < n_strings; i++) {
		size_t len = strnlen(strings[i], SMBIOS_STRING_MAX);

		/* An empty string would end the set early. */
		smbios_bytes(b, len ? strings[i] : " ", len ? len : 1);
		smbios_bytes(b, "", 1);
	}
	smbios_bytes(b, "\0", n_strings ? 1 : 2);
}

void smbios_uuid(const char *name, uint8_t uuid[16])
{
	/* FNV-1a over 128 bits: stable and well spread; nothing here is a secret. */
	const unsigned __int128 prime = ((unsigned __int128)1 << 88) + 0x13b;
	unsigned __int128 h = ((unsigned __int128)0x6c62272e07bb0142 << 64) + 0x62b821756295c58d;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * prime;
	store_be64(uuid, (uint64_t)(h >> 64));
	store_be64(uuid + 8, (uint64_t)h);
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x80);	/* version 8: custom */
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);	/* variant 10 */
}

static void smbios_bios(struct smbios_build *b)
{
	static const char *const strings[] = { "hv", HV_VERSION };
	uint8_t t[0x1a - 4] = { 0 };

	t[0] = 1;	/* vendor */
	t[1] = 2;	/* version */
	store_le64(t + 6, BIT64(3));	/* characteristics not supported */
	t[15] = 0x10;	/* extension byte 2: virtual machine */
	t[16] = t[17] = t[18] = t[19] = 0xff;
	smbios_structure(b, 0, t, sizeof(t), strings, ARRAY_SIZE(strings));
}

/* Since SMBIOS 2.6 the first three UUID fields are little-endian. */
static void smbios_uuid_field(uint8_t *p, const char *name)
{
	uint8_t u[16];

	smbios_uuid(name, u);
	store_le32(p, load_be32(u));
	store_le16(p + 4, load_be16(u + 4));
	store_le16(p + 6, load_be16(u + 6));
	memcpy(p + 8, u + 8, 8);
}

static void smbios_system(struct smbios_build *b, const char *name)
{
	const char *const strings[] = { "hv", "vmm", HV_VERSION, name };
	uint8_t t[0x1b - 4] = { 1, 2, 3, 4 };

	smbios_uuid_field(t + 4, name);
	t[20] = 6;	/* woken by the power switch */
	smbios_structure(b, 1, t, sizeof(t), strings, ARRAY_SIZE(strings));
}

static void smbios_chassis(struct smbios_build *b, const char *name)
{
	const char *const strings[] = { "hv", name };
	uint8_t t[0x16 - 4] = { 1, 1, 0, 2 };	/* type "other" */

	t[5] = t[6] = t[7] = 3;	/* states: safe */
	t[8] = 3;
	smbios_structure(b, 3, t, sizeof(t), strings, ARRAY_SIZE(strings));
}

static void smbios_oem(struct smbios_build *b, const struct smbios_cfg *cfg)
{
	uint8_t count = (uint8_t)MIN(cfg->n_oem_strings, 255u);

	if (count)
		smbios_structure(b, 11, &count, 1, cfg->oem_strings, count);
}

static void smbios_memory(struct smbios_build *b, uint64_t bytes)
{
	static const char *const strings[] = { "RAM" };
	uint8_t array[0x17 - 4] = { 1, 3, 6 };	/* other location, system memory, multi-bit ECC */
	uint8_t dev[0x28 - 4] = { 0 };
	uint64_t mib = bytes >> 20;
	uint16_t array_handle = b->handle;

	store_le32(array + 3, 0x80000000);
	store_le16(array + 7, 0xfffe);
	store_le16(array + 9, 1);
	store_le64(array + 11, bytes);
	smbios_structure(b, 16, array, sizeof(array), NULL, 0);

	store_le16(dev, array_handle);
	store_le16(dev + 2, 0xfffe);
	store_le16(dev + 4, 64);
	store_le16(dev + 6, 64);
	store_le16(dev + 8, mib < 0x7fff ? (uint16_t)mib : 0x7fff);
	dev[10] = 9;	/* DIMM */
	dev[12] = 1;
	dev[14] = 7;	/* RAM */
	store_le32(dev + 24, mib < 0x7fff ? 0 : (uint32_t)MIN(mib, UINT64_C(0x7fffffff)));
	smbios_structure(b, 17, dev, sizeof(dev), strings, 1);
}

static void smbios_tables(struct smbios_build *b, const struct smbios_cfg *cfg)
{
	static const uint8_t boot_ok[0x0b - 4];

	smbios_bios(b);
	smbios_system(b, cfg->name);
	smbios_chassis(b, cfg->name);
	smbios_oem(b, cfg);
	smbios_memory(b, cfg->memory_bytes);
	smbios_structure(b, 32, boot_ok, sizeof(boot_ok), NULL, 0);
	smbios_structure(b, 127, NULL, 0, NULL, 0);
}

int smbios_write(struct gmem *m, const struct smbios_cfg *cfg, struct err *e)
{
	struct smbios_build b = { .handle = 1 };
	uint8_t entry[SMBIOS_ENTRY_BYTES] = "_SM3_";
	uint8_t sum = 0;
	int r;

	smbios_tables(&b, cfg);
	if (b.overflow)
		return err_set(e, -ENOSPC, "SMBIOS tables are too large: shorten the OEM strings");
	entry[6] = SMBIOS_ENTRY_BYTES;
	entry[7] = 3;
	entry[8] = 2;
	entry[10] = 1;
	store_le32(entry + 12, (uint32_t)b.len);
	store_le64(entry + 16, SMBIOS_TABLES);
	for (size_t i = 0; i < sizeof(entry); i++)
		sum = (uint8_t)(sum + entry[i]);
	entry[5] = (uint8_t)-sum;
	r = gmem_write(m, LAYOUT_SMBIOS, entry, sizeof(entry));
	if (!r)
		r = gmem_write(m, SMBIOS_TABLES, b.buf, b.len);
	return r ? err_set(e, r, "SMBIOS tables") : 0;
}
