/* SPDX-License-Identifier: MIT */
/*
 * The NoCloud seed: a FAT12 image of one directory with "meta-data" and "user-data", label
 * CIDATA (cloud-init, "NoCloud" data source). Both names are too long for 8.3, so each has
 * VFAT long-name entries. Microsoft's "FAT32 File System Specification" 1.03 has the layout.
 */
#include "seed.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/bytes.h"
#include "hv/fd.h"

#define SECTOR 512
#define CLUSTER_SECTORS 2
#define CLUSTER (CLUSTER_SECTORS * SECTOR)
#define FAT_SECTORS 8	/* 12-bit entries for up to 2,730 clusters */
#define ROOT_ENTRIES 32
#define ROOT_SECTORS (ROOT_ENTRIES * 32 / SECTOR)
#define RESERVED_SECTORS 1
#define CLUSTERS 2600	/* data area of 2.5 MiB */
#define DATA_SECTOR (RESERVED_SECTORS + FAT_SECTORS + ROOT_SECTORS)
#define TOTAL_SECTORS (DATA_SECTOR + CLUSTERS * CLUSTER_SECTORS)
#define DOCUMENT_MAX MIB(1)

#define ATTR_VOLUME 0x08
#define ATTR_LONG_NAME 0x0f
#define ATTR_ARCHIVE 0x20
#define LFN_LAST 0x40
#define FAT_EOC 0xfff
#define DATE_1980 0x21	/* 1 January 1980 */

static_assert(FAT_SECTORS * SECTOR * 2 / 3 >= CLUSTERS + 2, "the FAT holds every cluster");
static_assert(CLUSTERS < 4085, "more would make it FAT16");

struct seed_image {
	uint8_t *p;
	unsigned next_cluster, next_entry;
};

static void seed_boot_sector(uint8_t *b)
{
	memcpy(b, "\xeb\x3c\x90" "HVSEED  ", 11);
	store_le16(b + 11, SECTOR);
	b[13] = CLUSTER_SECTORS;
	store_le16(b + 14, RESERVED_SECTORS);
	b[16] = 1;	/* one FAT */
	store_le16(b + 17, ROOT_ENTRIES);
	store_le16(b + 19, TOTAL_SECTORS);
	b[21] = 0xf8;
	store_le16(b + 22, FAT_SECTORS);
	store_le16(b + 24, 32);
	store_le16(b + 26, 2);
	b[36] = 0x80;
	b[38] = 0x29;	/* serial number, label and type follow */
	store_le32(b + 39, 0x43494441);
	memcpy(b + 43, "CIDATA     FAT12   ", 19);
	b[510] = 0x55;
	b[511] = 0xaa;
}

static void seed_fat_set(struct seed_image *s, unsigned n, unsigned value)
{
	uint8_t *e = s->p + RESERVED_SECTORS * SECTOR + n * 3 / 2;
	unsigned old = load_le16(e);

	store_le16(e, (uint16_t)(n & 1 ? (old & 0xf) | value << 4 : (old & 0xf000) | value));
}

static uint8_t *seed_entry(struct seed_image *s)
{
	return s->p + (RESERVED_SECTORS + FAT_SECTORS) * SECTOR + 32 * s->next_entry++;
}

static uint8_t seed_short_checksum(const char name[11])
{
	uint8_t sum = 0;

	for (int i = 0; i < 11; i++)
		sum = (uint8_t)((sum >> 1) + (sum << 7) + (uint8_t)name[i]);
	return sum;
}

/* One long-name entry holds 13 UTF-16 units; ours are shorter than that. */
static void seed_long_name(uint8_t *e, const char *name, const char short_name[11])
{
	static const uint8_t at[13] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
	size_t n = strlen(name);

	e[0] = LFN_LAST | 1;
	e[11] = ATTR_LONG_NAME;
	e[13] = seed_short_checksum(short_name);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++)
		store_le16(e + at[i], i < n ? (uint16_t)name[i] : i == n ? 0 : 0xffff);
}

static void seed_file(struct seed_image *s, const char *name, const char short_name[12],
		      const char *text)
{
	size_t len = strlen(text), clusters = DIV_ROUND_UP(len, (size_t)CLUSTER);
	unsigned first = s->next_cluster;
	uint8_t *e;

	seed_long_name(seed_entry(s), name, short_name);
	e = seed_entry(s);
	memcpy(e, short_name, 11);
	e[11] = ATTR_ARCHIVE;
	store_le16(e + 24, DATE_1980);
	store_le16(e + 26, (uint16_t)(clusters ? first : 0));
	store_le32(e + 28, (uint32_t)len);
	memcpy(s->p + (DATA_SECTOR + (first - 2) * CLUSTER_SECTORS) * SECTOR, text, len);
	for (size_t i = 0; i < clusters; i++)
		seed_fat_set(s, first + (unsigned)i,
			     i + 1 < clusters ? first + (unsigned)i + 1 : FAT_EOC);
	s->next_cluster += (unsigned)clusters;
}

static void seed_image(uint8_t *p, const char *meta_data, const char *user_data)
{
	struct seed_image s = { .p = p, .next_cluster = 2 };
	uint8_t *label;

	seed_boot_sector(p);
	seed_fat_set(&s, 0, 0xff8);
	seed_fat_set(&s, 1, FAT_EOC);
	label = seed_entry(&s);
	memcpy(label, "CIDATA     ", 11);
	label[11] = ATTR_VOLUME;
	store_le16(label + 24, DATE_1980);
	seed_file(&s, "meta-data", "META-D~1   ", meta_data);
	seed_file(&s, "user-data", "USER-D~1   ", user_data);
}

/* ---- the documents -------------------------------------------------------------------------- */

/* Host names and key lines go into YAML between double quotes. */
static bool seed_plain(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f || s[i] == '"' || s[i] == '\\')
			return false;
	return true;
}

char *seed_meta_data(const struct seed_cfg *cfg)
{
	const char *host = cfg->hostname ? cfg->hostname : cfg->vm_name;
	char *out;

	if (asprintf(&out, "instance-id: \"iid-%s\"\nlocal-hostname: \"%s\"\n", cfg->vm_name, host) < 0)
		return NULL;
	return out;
}

static void seed_write_keys(FILE *out, const char *keys)
{
	while (keys && *keys) {
		size_t n = strcspn(keys, "\n"), len = n;

		while (len && isspace((unsigned char)keys[len - 1]))
			len--;
		if (len && *keys != '#' && seed_plain(keys, len))
			fprintf(out, "  - \"%.*s\"\n", (int)len, keys);
		keys += n + (keys[n] == '\n');
	}
}

char *seed_user_data(const struct seed_cfg *cfg)
{
	char *text = NULL;
	size_t len;
	FILE *out;

	if (cfg->user_data)
		return strdup(cfg->user_data);
	out = open_memstream(&text, &len);
	if (!out)
		return NULL;
	fputs("#cloud-config\n", out);
	if (cfg->hostname)
		fprintf(out, "hostname: \"%s\"\n", cfg->hostname);
	if (cfg->ssh_keys) {
		fputs("ssh_authorized_keys:\n", out);
		seed_write_keys(out, cfg->ssh_keys);
	}
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

/* With the user's own document the key has to travel in the meta-data. */
static char *seed_meta_with_keys(const struct seed_cfg *cfg)
{
	CLEANUP_FREE char *base = seed_meta_data(cfg);
	char *text = NULL;
	size_t len;
	FILE *out = base ? open_memstream(&text, &len) : NULL;

	if (!out)
		return NULL;
	fputs(base, out);
	if (cfg->ssh_keys && cfg->user_data) {
		fputs("public-keys:\n", out);
		seed_write_keys(out, cfg->ssh_keys);
	}
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

static int seed_check(const struct seed_cfg *cfg, struct err *e)
{
	const char *host = cfg->hostname ? cfg->hostname : cfg->vm_name;

	for (const char *p = host; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-._", *p))
			return err_set(e, -EINVAL, "--hostname '%s': letters, digits, '-' and '.' only",
				       host);
	if (!cfg->ssh_keys)
		return 0;
	if (strstr(cfg->ssh_keys, "PRIVATE KEY"))
		return err_set(e, -EINVAL, "--ssh-key: this is a private key; give the .pub file");
	if (!strstr(cfg->ssh_keys, "ssh-") && !strstr(cfg->ssh_keys, "ecdsa-"))
		return err_set(e, -EINVAL, "--ssh-key: no public key in that file");
	return 0;
}

int seed_build(int fd, const struct seed_cfg *cfg, struct err *e)
{
	CLEANUP_FREE char *meta = NULL;
	CLEANUP_FREE char *user = NULL;
	CLEANUP_FREE uint8_t *image = NULL;
	int r = seed_check(cfg, e);

	if (r)
		return r;
	meta = seed_meta_with_keys(cfg);
	user = seed_user_data(cfg);
	image = calloc(TOTAL_SECTORS, SECTOR);
	if (!meta || !user || !image)
		return err_set(e, -ENOMEM, "seed disk");
	if (strlen(meta) > DOCUMENT_MAX || strlen(user) > DOCUMENT_MAX)
		return err_set(e, -ENOSPC, "--user-data: larger than 1 MiB");
	seed_image(image, meta, user);
	r = fd_pwrite_full(fd, image, (size_t)TOTAL_SECTORS * SECTOR, 0);
	return r ? err_set(e, r, "seed disk: %s", strerror(-r)) : 0;
}
