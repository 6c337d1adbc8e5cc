/* SPDX-License-Identifier: MIT */
/* Table-driven option parsing; the same table makes --help. */
#include "hv/opts.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "hv/size.h"

static const struct opt *opt_by_name(const struct opt *table, const char *name, size_t len)
{
	for (; table->name; table++)
		if (strlen(table->name) == len && !memcmp(table->name, name, len))
			return table;
	return NULL;
}

static const struct opt *opt_by_letter(const struct opt *table, char letter)
{
	for (; table->name; table++)
		if (table->letter == letter)
			return table;
	return NULL;
}

static int opt_out_of_range(const struct opt *o, const char *what, const char *value, struct err *e)
{
	uint64_t max = o->max ? o->max : UINT64_MAX;
	char low[24], high[24];

	if (o->type == OPT_SIZE)
		return err_set(e, -EINVAL, "%s: %s is out of range (%s to %s)", what, value,
			       size_format(o->min, low, sizeof(low)), size_format(max, high, sizeof(high)));
	return err_set(e, -EINVAL, "%s: %s is out of range (%" PRIu64 " to %" PRIu64 ")", what, value,
		       o->min, max);
}

static int opt_store_number(const struct opt *o, const char *what, const char *value, struct err *e)
{
	uint64_t n;
	int r;

	r = o->type == OPT_SIZE ? size_parse(value, o->unit ? o->unit : 1, &n) :
				  u64_parse(value, &n);
	if (r == -ERANGE || (!r && o->type == OPT_UINT && n > UINT32_MAX))
		return err_set(e, -EINVAL, "%s: %s is out of range", what, value);
	if (r)
		return err_set(e, -EINVAL, "%s: '%s' is not a %s", what, value,
			       o->type == OPT_SIZE ? "size (try 512M or 4G)" : "number");
	if (n < o->min || (o->max && n > o->max))
		return opt_out_of_range(o, what, value, e);
	if (o->type == OPT_SIZE)
		*(uint64_t *)o->target = n;
	else
		*(unsigned *)o->target = (unsigned)n;
	return 0;
}

static int opt_store_choice(const struct opt *o, const char *what, const char *value, struct err *e)
{
	char all[128] = "";
	size_t used = 0;

	for (int i = 0; o->choices[i]; i++) {
		if (!strcmp(o->choices[i], value)) {
			*(int *)o->target = i;
			return 0;
		}
		used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i ? ", " : "",
					 o->choices[i]);
		used = MIN(used, sizeof(all) - 1);
	}
	return err_set(e, -EINVAL, "%s: '%s' is not one of %s", what, value, all);
}

static int opt_store(const struct opt *o, const char *what, const char *value, struct err *e)
{
	int r = 0;

	switch (o->type) {
	case OPT_FLAG: *(bool *)o->target = true; break;
	case OPT_STRING: *(const char **)o->target = value; break;
	case OPT_SIZE:
	case OPT_UINT: r = opt_store_number(o, what, value, e); break;
	case OPT_CHOICE: r = opt_store_choice(o, what, value, e); break;
	case OPT_CALL:
		r = o->call(o->target, value, e);
		if (r)
			err_wrap(e, r, "%s", what);
		break;
	}
	if (!r && o->given)
		*o->given = true;
	return r ? -EINVAL : 0;
}

struct opts_cursor {
	int argc;
	char **argv;
	int at;
};

static int opt_take_value(const struct opt *o, const char *what, const char *inlined,
			  struct opts_cursor *c, struct err *e)
{
	if (o->type == OPT_FLAG) {
		if (inlined)
			return err_set(e, -EINVAL, "%s: takes no value", what);
		return opt_store(o, what, NULL, e);
	}
	if (!inlined && c->at < c->argc)
		inlined = c->argv[c->at++];
	if (!inlined)
		return err_set(e, -EINVAL, "%s: needs a value (%s)", what, o->arg ? o->arg : "VALUE");
	return opt_store(o, what, inlined, e);
}

static int opts_long(const struct opt *table, const char *word, struct opts_cursor *c,
		     struct err *e)
{
	const char *eq = strchr(word, '=');
	size_t len = eq ? (size_t)(eq - word) : strlen(word);
	const struct opt *o = opt_by_name(table, word + 2, len - 2);
	char what[64];

	snprintf(what, sizeof(what), "%.*s", (int)len, word);
	if (!o)
		return err_set(e, -EINVAL, "%s: unknown option (see --help)", what);
	return opt_take_value(o, what, eq ? eq + 1 : NULL, c, e);
}

static int opts_short(const struct opt *table, const char *word, struct opts_cursor *c,
		      struct err *e)
{
	for (word++; *word; word++) {
		const struct opt *o = opt_by_letter(table, *word);
		char what[] = { '-', *word, 0 };
		int r;

		if (!o)
			return err_set(e, -EINVAL, "%s: unknown option (see --help)", what);
		if (o->type != OPT_FLAG)
			return opt_take_value(o, what, word[1] ? word + 1 : NULL, c, e);
		r = opt_take_value(o, what, NULL, c, e);
		if (r)
			return r;
	}
	return 0;
}

int opts_parse(const struct opt *table, int argc, char **argv, const char **args, size_t *n_args,
	       struct err *e)
{
	struct opts_cursor c = { .argc = argc, .argv = argv, .at = 1 };
	size_t room = *n_args;
	bool only_args = false;

	*n_args = 0;
	while (c.at < c.argc) {
		const char *word = c.argv[c.at++];
		int r = 0;

		if (!only_args && !strcmp(word, "--")) {
			only_args = true;
		} else if (!only_args && !strncmp(word, "--", 2)) {
			r = opts_long(table, word, &c, e);
		} else if (!only_args && word[0] == '-' && word[1]) {
			r = opts_short(table, word, &c, e);
		} else if (*n_args == room) {
			r = err_set(e, -EINVAL, "'%s': one operand too many (see --help)", word);
		} else {
			args[(*n_args)++] = word;
		}
		if (r)
			return r;
	}
	return 0;
}

void opts_help(const struct opt *table, FILE *out)
{
	for (; table->name; table++) {
		char left[64], letter[] = { '-', table->letter, ',', ' ', 0 };

		if (!table->help)
			continue;
		snprintf(left, sizeof(left), "%s--%s%s%s", table->letter ? letter : "    ",
			 table->name, table->arg ? " " : "", table->arg ? table->arg : "");
		if (strlen(left) > 28)
			fprintf(out, "  %s\n  %-28s  %s\n", left, "", table->help);
		else
			fprintf(out, "  %-28s  %s\n", left, table->help);
	}
}

/* Cut the next item off @text: ends at a single comma; ",," is one literal comma. */
static char *opts_next_item(char **text)
{
	char *item = *text, *from = *text, *to = *text;

	if (!item)
		return NULL;
	for (*text = NULL; *from; from++) {
		if (*from == ',') {
			if (from[1] != ',') {
				*text = from + 1;
				break;
			}
			from++;
		}
		*to++ = *from;
	}
	*to = 0;
	return item;
}

int opts_list(const struct opt *table, char *text, const char *what, struct err *e)
{
	char *item;

	while ((item = opts_next_item(&text))) {
		char *eq = strchr(item, '=');
		const struct opt *o = opt_by_name(table, item, eq ? (size_t)(eq - item) : strlen(item));
		int r;

		if (!o)
			return err_set(e, -EINVAL, "%s: unknown key '%.*s'", what,
				       (int)strcspn(item, "="), item);
		if (o->type == OPT_FLAG && eq)
			return err_set(e, -EINVAL, "%s: '%s' takes no value", what, o->name);
		if (o->type != OPT_FLAG && !eq)
			return err_set(e, -EINVAL, "%s: '%s' needs a value", what, o->name);
		r = opt_store(o, o->name, eq ? eq + 1 : NULL, e);
		if (r)
			return err_wrap(e, r, "%s", what);
	}
	return 0;
}
