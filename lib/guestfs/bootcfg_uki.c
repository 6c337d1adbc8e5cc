/* SPDX-License-Identifier: MIT */
/*
 * Unified kernel images on an EFI system partition: \EFI\Linux\NAME.efi, a PE file whose
 * sections are kernel, initrd, command line and os-release (UAPI.5).
 *
 * Kernel and initrd are given as slices of the file; nothing of it is copied.
 */
#include "boot_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"

#define UKI_DIR "/EFI/Linux"
#define PE_SECTIONS_MAX 96u /* what the PE format's loaders accept */
#define PE_SECTION 40u
#define COFF_HEADER 24u /* "PE\0\0" and the file header */
#define MACHINE_AMD64 0x8664
#define TEXT_SECTION_MAX KIB(64)

struct section {
	uint64_t off, len; /* len 0: not there */
};
struct uki {
	struct section kernel, initrd, ucode, cmdline, osrel, uname;
};

static struct section *section_of(struct uki *u, const uint8_t name[8])
{
	const struct {
		const char *name;
		struct section *s;
	} table[] = { { ".linux", &u->kernel }, { ".initrd", &u->initrd },
		      { ".ucode", &u->ucode },	{ ".cmdline", &u->cmdline },
		      { ".osrel", &u->osrel },	{ ".uname", &u->uname } };

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (!strncmp((const char *)name, table[i].name, 8))
			return table[i].s;
	return NULL;
}

/* Virtual size without the padding to the file's alignment, where both are given. */
static int read_section(struct gfs_file *f, struct uki *u, uint64_t off)
{
	uint8_t h[PE_SECTION];
	struct section *s;
	uint64_t len, at;
	int r = gfs_file_pread(f, off, h, sizeof(h));

	if (r)
		return r;
	s = section_of(u, h);
	if (!s || s->len) /* the first of a name: profiles come behind */
		return 0;
	len = MIN(load_le32(h + 8) ? load_le32(h + 8) : UINT32_MAX, load_le32(h + 16));
	at = load_le32(h + 20);
	if (!range_ok(at, len, gfs_file_size(f)))
		return -EUCLEAN;
	*s = (struct section){ at, len };
	return 0;
}

static int uki_parse(struct gfs_file *f, struct uki *u)
{
	uint8_t dos[64], coff[COFF_HEADER];
	uint64_t pe, table;
	unsigned n;
	int r = gfs_file_pread(f, 0, dos, sizeof(dos));

	if (r)
		return r;
	pe = load_le32(dos + 60);
	if (dos[0] != 'M' || dos[1] != 'Z' || gfs_file_pread(f, pe, coff, sizeof(coff)) ||
	    memcmp(coff, "PE\0", 4))
		return -EUCLEAN;
	if (load_le16(coff + 4) != MACHINE_AMD64)
		return -ENOEXEC;
	n = load_le16(coff + 6);
	table = pe + COFF_HEADER + load_le16(coff + 20);
	if (n > PE_SECTIONS_MAX)
		return -EUCLEAN;
	for (unsigned i = 0; !r && i < n; i++)
		r = read_section(f, u, table + (uint64_t)i * PE_SECTION);
	return r;
}

/* A section as one line of text, or NULL. */
static char *section_text(struct gfs_file *f, const struct section *s)
{
	char *text;

	if (!s->len || s->len > TEXT_SECTION_MAX)
		return NULL;
	text = malloc(s->len + 1);
	if (!text || gfs_file_pread(f, s->off, text, s->len)) {
		free(text);
		return NULL;
	}
	text[s->len] = 0;
	return text;
}

/* PRETTY_NAME of os-release, without its quotes. */
static char *pretty_name(char *osrel)
{
	char *line;

	while (osrel && (line = line_next(&osrel))) {
		size_t n = strlen(line);

		if (strncmp(line, "PRETTY_NAME=", 12))
			continue;
		line += 12;
		n -= 12;
		if (n >= 2 && (line[0] == '"' || line[0] == '\'') && line[n - 1] == line[0]) {
			line[n - 1] = 0;
			line++;
		}
		return strdup(line);
	}
	return NULL;
}

static void uki_initrd(struct boot_entry *be, const struct section *s)
{
	if (!s->len || boot_add_initrd(be, be->fs, be->config))
		return;
	be->initrd[be->n_initrd - 1].off = s->off;
	be->initrd[be->n_initrd - 1].len = s->len;
}

static void uki_fill(struct gfs_file *f, const struct uki *u, struct boot_entry *be,
		     const char *name)
{
	CLEANUP_FREE char *osrel = section_text(f, &u->osrel), *uname = section_text(f, &u->uname);
	CLEANUP_FREE char *pretty = pretty_name(osrel);
	char *cmdline = section_text(f, &u->cmdline), *p = cmdline;
	struct text title = { 0 };

	text_adds(&title, pretty ? pretty : name);
	if (uname && *uname) {
		text_adds(&title, " (");
		text_adds(&title, uname);
		text_addc(&title, ')');
	}
	be->title = text_take(&title);
	be->kernel = (struct boot_file){ be->fs, strdup(be->config), u->kernel.off, u->kernel.len };
	uki_initrd(be, &u->ucode); /* microcode goes first, as the stub has it */
	uki_initrd(be, &u->initrd);
	be->cmdline = strdup(cmdline ? line_next(&p) ? cmdline + strspn(cmdline, " \t") : "" : "");
	free(cmdline);
	if (!u->kernel.len)
		boot_problem(be, "%s: no .linux section", be->config);
}

static int uki_add(struct boot_scan *s, struct gfs_fs *fs, const char *name)
{
	struct boot_entry be = { .source = "UKI", .fs = fs };
	struct uki u = { 0 };
	struct gfs_file *f;
	int r;

	if (asprintf(&be.config, "%s/%s", UKI_DIR, name) < 0)
		return -ENOMEM;
	be.id = strdup(name);
	if (gfs_file_open(fs, be.config, &f, NULL)) {
		boot_entry_fini(&be);
		return 0;
	}
	r = uki_parse(f, &u);
	if (r)
		boot_problem(&be, "%s: %s", be.config,
			     r == -ENOEXEC ? "made for another architecture" : "no valid PE file");
	uki_fill(f, &u, &be, name);
	gfs_file_close(f);
	return boot_add(s->list, &be);
}

static bool have(const struct boot_list *l, const struct gfs_fs *fs, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->entry[i].fs == fs && !strcmp(l->entry[i].source, "UKI") &&
		    !strcmp(l->entry[i].id, name))
			return true;
	return false;
}

int bootcfg_uki(struct boot_scan *s, struct gfs_fs *fs)
{
	struct names names = { 0 };
	int r = 0;

	if (fs->info.type != GFS_FAT || names_read(fs, UKI_DIR, "", ".efi", &names))
		return 0;
	names_sort(&names, true);
	for (size_t i = 0; !r && i < names.n; i++)
		if (!have(s->list, fs, names.v[i]))
			r = uki_add(s, fs, names.v[i]);
	names_fini(&names);
	return r;
}
