/* SPDX-License-Identifier: MIT */
/*
 * opts.h - command lines and KEY=VALUE lists by table.
 *
 * One table says what an option is called, what it takes, where the value goes
 * and what --help prints, so that parser, help and completion cannot disagree.
 */
#ifndef HV_OPTS_H
#define HV_OPTS_H

#include <stdio.h>

#include "hv/base.h"
#include "hv/err.h"

enum opt_type {
	OPT_FLAG,   /* bool *: set true */
	OPT_STRING, /* const char **: borrowed from argv */
	OPT_SIZE,   /* uint64_t *: bytes; @unit for bare numbers */
	OPT_UINT,   /* unsigned * */
	OPT_CHOICE, /* int *: index into @choices */
	OPT_CALL,   /* @call with the value; for repeatable options */
};

struct opt {
	const char *name;	/* long name without dashes */
	char letter;		/* short form, 0 for none */
	enum opt_type type;
	void *target;
	const char *arg;	/* what --help calls the value; NULL for flags */
	const char *help;
	uint64_t unit, min, max;	/* OPT_SIZE, OPT_UINT; max 0 means none */
	const char *const *choices;	/* NULL-terminated, OPT_CHOICE */
	int (*call)(void *target, const char *value, struct err *e);
	bool *given;			/* optional: set true when the option was seen */
};

/**
 * opts_parse - read @argv[1..] by @table (ends with a NULL name)
 * @args:  receives the operands in order (borrowed from @argv); "--" ends options
 * @n_args: in: room in @args; out: operands found
 *
 * Long options as --name VALUE or --name=VALUE, short as -n VALUE, -nVALUE; no
 * abbreviations: scripts would break when an option is added.
 *
 * Return: 0; -EINVAL with a line in @e that names the option. --help and
 * --version are ordinary flags of the table.
 */
int opts_parse(const struct opt *table, int argc, char **argv, const char **args, size_t *n_args,
	       struct err *e);
/** opts_help - print the table, two columns, to @out. */
void opts_help(const struct opt *table, FILE *out);
/**
 * opts_list - read "KEY=VALUE,KEY,…" by @table (names are keys)
 * @text: modified in place: commas become NULs. A doubled comma is a literal one.
 *
 * Return: as opts_parse(); @what names the option in messages.
 */
int opts_list(const struct opt *table, char *text, const char *what, struct err *e);

#endif
