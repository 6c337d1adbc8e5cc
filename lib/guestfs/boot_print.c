/* SPDX-License-Identifier: MIT */
/* Boot entries as a table for people and as JSON for programs. */
#include "boot_priv.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* What came from the disk must not move the terminal's cursor. */
static void put_text(FILE *out, const char *s)
{
	for (; *s; s++)
		fputc((unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s, out);
}

static void put_line(FILE *out, const char *what, const struct boot_file *bf, const char *text)
{
	fprintf(out, "     %-9s", what);
	put_text(out, text);
	if (bf && bf->len)
		fprintf(out, " (bytes %llu to %llu)", (unsigned long long)bf->off,
			(unsigned long long)(bf->off + bf->len));
	fputc('\n', out);
}

void boot_list_print(const struct boot_list *l, FILE *out)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct boot_entry *be = &l->entry[i];

		fprintf(out, "%c%3zu  ", i == l->default_index ? '*' : ' ', i + 1);
		put_text(out, be->title);
		fprintf(out, "\n     from     %s on %s", be->source, be->fs->info.where);
		if (be->config[0]) {
			fputs(", ", out);
			put_text(out, be->config);
		}
		fputc('\n', out);
		put_line(out, "kernel", &be->kernel, be->kernel.path);
		for (size_t k = 0; k < be->n_initrd; k++)
			put_line(out, "initrd", &be->initrd[k], be->initrd[k].path);
		put_line(out, "cmdline", NULL, be->cmdline);
		if (be->problem)
			put_line(out, "unusable", NULL, be->problem);
	}
	fprintf(out, "default: %zu (", l->default_index + 1);
	put_text(out, l->why ? l->why : "");
	fputs(")\n", out);
}

/* JSON strings are UTF-8; file names and titles need not be. */
static json_t *text_json(const char *s)
{
	json_t *j = json_string(s);
	struct text t = { 0 };

	if (j)
		return j;
	for (; *s; s++)
		text_addc(&t, (unsigned char)*s < 0x80 ? *s : '?');
	j = json_string(t.s ? t.s : "");
	text_fini(&t);
	return j;
}

static json_t *file_json(const struct boot_file *bf)
{
	json_t *j = json_object();

	json_object_set_new(j, "where", text_json(bf->fs->info.where));
	json_object_set_new(j, "path", text_json(bf->path));
	if (bf->len) {
		json_object_set_new(j, "offset", json_integer((json_int_t)bf->off));
		json_object_set_new(j, "length", json_integer((json_int_t)bf->len));
	}
	return j;
}

static json_t *entry_json(const struct boot_list *l, size_t i)
{
	const struct boot_entry *be = &l->entry[i];
	json_t *j = json_object(), *initrds = json_array();

	for (size_t k = 0; k < be->n_initrd; k++)
		json_array_append_new(initrds, file_json(&be->initrd[k]));
	json_object_set_new(j, "number", json_integer((json_int_t)i + 1));
	json_object_set_new(j, "title", text_json(be->title));
	json_object_set_new(j, "id", text_json(be->id));
	json_object_set_new(j, "source", text_json(be->source));
	json_object_set_new(j, "where", text_json(be->fs->info.where));
	json_object_set_new(j, "config", text_json(be->config));
	json_object_set_new(j, "kernel", file_json(&be->kernel));
	json_object_set_new(j, "initrds", initrds);
	json_object_set_new(j, "cmdline", text_json(be->cmdline));
	json_object_set_new(j, "default", json_boolean(i == l->default_index));
	json_object_set_new(j, "problem", be->problem ? text_json(be->problem) : json_null());
	return j;
}

json_t *boot_list_json(const struct boot_list *l)
{
	json_t *j = json_object(), *entries = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(entries, entry_json(l, i));
	json_object_set_new(j, "entries", entries);
	json_object_set_new(j, "default", json_integer((json_int_t)l->default_index + 1));
	json_object_set_new(j, "why", text_json(l->why ? l->why : ""));
	return j;
}
