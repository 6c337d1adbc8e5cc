/* SPDX-License-Identifier: MIT */
/*
 * An interpreter for the part of GRUB's script language that grub.cfg files use:
 * quoting, variables, if, for, while, until, functions, menuentry and submenu.
 *
 * It runs straight over the text: every statement is either executed or, with @run
 * false, only skipped, so that a block's end is found by the same code. Statements,
 * nesting, words and variables are counted; what exceeds a bound, or is no syntax known
 * here, ends the run, and the entries found so far remain.
 */
#include "grub_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/fd.h"

/* How a list of statements ended. */
enum term { T_END, T_BRACE, T_THEN, T_ELIF, T_ELSE, T_FI, T_DO, T_DONE, T_FAIL };

static enum term run_list(struct grub *g, struct grub_range *s, bool run);

/* ---- variables ---------------------------------------------------------------------------- */

static struct grub_var *var_find(const struct grub *g, const char *name)
{
	for (size_t i = 0; i < g->n_vars; i++)
		if (!strcmp(g->var[i].name, name))
			return &g->var[i];
	return NULL;
}

const char *grub_get(const struct grub *g, const char *name)
{
	const struct grub_var *v = var_find(g, name);

	return v ? v->value : NULL;
}

void grub_set(struct grub *g, const char *name, const char *value)
{
	struct grub_var *v = var_find(g, name);
	char *copy = strndup(value, BOOT_CMDLINE_MAX - 1);

	if (!v && g->n_vars < GRUB_VARS_MAX && copy) {
		char *key = strdup(name);

		if (key) {
			v = &g->var[g->n_vars++];
			*v = (struct grub_var){ .name = key };
		}
	}
	if (!v || !copy) {
		free(copy);
		g->failed = true;
		return;
	}
	free(v->value);
	v->value = copy;
}

/* ---- words --------------------------------------------------------------------------------- */

static bool at_end(const struct grub_range *s)
{
	return s->p >= s->end;
}

static void args_free(struct grub_args *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->v[i]);
	a->n = 0;
}

static void args_push(struct grub *g, struct grub_args *a, struct text *t)
{
	if (a->n == GRUB_ARGS_MAX || t->failed) {
		text_fini(t);
		g->failed = true;
		return;
	}
	g->steps += (unsigned)(t->len / 64); /* long words cost as much as statements */
	a->v[a->n] = text_take(t);
	if (a->v[a->n])
		a->n++;
	else
		g->failed = true;
}

/* Blanks and line continuations between words; comments up to the newline. */
static void skip_blanks(struct grub_range *s)
{
	while (!at_end(s)) {
		if (*s->p == ' ' || *s->p == '\t' || *s->p == '\r') {
			s->p++;
		} else if (*s->p == '\\' && s->p + 1 < s->end && s->p[1] == '\n') {
			s->p += 2;
		} else if (*s->p == '#') {
			while (!at_end(s) && *s->p != '\n')
				s->p++;
		} else {
			return;
		}
	}
}

static void skip_separators(struct grub_range *s)
{
	for (skip_blanks(s); !at_end(s) && (*s->p == '\n' || *s->p == ';'); skip_blanks(s))
		s->p++;
}

/* "$name", "${name}", "$1", "$?" at s->p (behind the dollar); "" for what is not set. */
static const char *read_var(struct grub *g, struct grub_range *s)
{
	char name[GRUB_VAR_NAME_MAX];
	size_t n = 0;
	bool braces = !at_end(s) && *s->p == '{';
	const char *v;

	s->p += braces;
	while (!at_end(s) && (isalnum((unsigned char)*s->p) || *s->p == '_' ||
			      (n == 0 && strchr("?#@*", *s->p)))) {
		bool single = !isalpha((unsigned char)*s->p) && *s->p != '_' && n == 0;

		if (n + 1 < sizeof(name))
			name[n++] = *s->p;
		s->p++;
		if (single && !braces)
			break;
	}
	name[n] = 0;
	while (braces && !at_end(s) && *s->p != '\n' && *s->p++ != '}')
		;
	if (!strcmp(name, "?"))
		return g->status ? "1" : "0";
	if (isdigit((unsigned char)name[0])) {
		size_t i = (size_t)strtoul(name, NULL, 10);

		return g->pos && i < g->pos->n ? g->pos->v[i] : "";
	}
	v = grub_get(g, name);
	return v ? v : "";
}

/* An unquoted variable is split at its blanks, as the shell does. */
static void add_split(struct grub *g, struct grub_args *a, struct text *t, const char *v,
		      bool *open)
{
	for (; *v && !g->failed; v++) {
		if (*v != ' ' && *v != '\t' && *v != '\n') {
			text_addc(t, *v);
			*open = true;
		} else if (*open) {
			args_push(g, a, t);
			*open = false;
		}
	}
}

static void read_single_quotes(struct grub_range *s, struct text *t)
{
	for (; !at_end(s) && *s->p != '\''; s->p++)
		text_addc(t, *s->p);
	s->p += !at_end(s);
}

static void read_double_quotes(struct grub *g, struct grub_range *s, struct text *t, bool run)
{
	while (!at_end(s) && *s->p != '"') {
		char c = *s->p++;

		if (c == '\\' && !at_end(s) && strchr("$\"\\\n", *s->p)) {
			c = *s->p++;
			if (c != '\n')
				text_addc(t, c);
		} else if (c == '$' && run) {
			text_adds(t, read_var(g, s));
		} else {
			text_addc(t, c);
		}
	}
	s->p += !at_end(s);
}

static bool ends_word(const struct grub_range *s)
{
	return at_end(s) || strchr(" \t\r\n;", *s->p) != NULL;
}

/* One word into @a: none at all if it is an unquoted empty variable. */
static void read_word(struct grub *g, struct grub_range *s, struct grub_args *a, bool run)
{
	struct text t = { 0 };
	bool open = false;

	while (!ends_word(s) && !g->failed) {
		char c = *s->p++;

		if (c == '\'') {
			read_single_quotes(s, &t);
			open = true;
		} else if (c == '"') {
			read_double_quotes(g, s, &t, run);
			open = true;
		} else if (c == '$' && run) {
			add_split(g, a, &t, read_var(g, s), &open);
		} else if (c == '$') {
			if (!at_end(s) && *s->p == '{')
				read_var(g, s);
			open = true;
		} else {
			if (c == '\\' && !at_end(s))
				c = *s->p++;
			text_addc(&t, c);
			open = true;
		}
	}
	if (open)
		args_push(g, a, &t);
	text_fini(&t);
}

static bool at_brace(const struct grub_range *s, char c)
{
	return !at_end(s) && *s->p == c && (s->p + 1 >= s->end || strchr(" \t\r\n;}", s->p[1]));
}

/* Words up to the statement's end. True if a block follows: s->p is then behind its brace. */
static bool read_words(struct grub *g, struct grub_range *s, struct grub_args *a, bool run)
{
	for (skip_blanks(s); !at_end(s) && !g->failed; skip_blanks(s)) {
		if (*s->p == '\n' || *s->p == ';' || at_brace(s, '}'))
			return false;
		if (at_brace(s, '{')) {
			s->p++;
			return true;
		}
		read_word(g, s, a, run);
	}
	return false;
}

/* ---- statements ----------------------------------------------------------------------------- */

/* The keyword at s->p, consumed, if one of them stands there. */
static bool take_keyword(struct grub_range *s, const char *word)
{
	size_t n = strlen(word);
	struct grub_range rest = { s->p + n, s->end };

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) || !ends_word(&rest))
		return false;
	s->p += n;
	return true;
}

static enum term take_terminator(struct grub_range *s)
{
	static const struct {
		const char *word;
		enum term term;
	} words[] = { { "then", T_THEN }, { "elif", T_ELIF }, { "else", T_ELSE },
		      { "fi", T_FI },	  { "do", T_DO },     { "done", T_DONE } };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (take_keyword(s, words[i].word))
			return words[i].term;
	return T_END;
}

static bool expect(struct grub *g, enum term got, enum term want)
{
	if (got != want)
		g->failed = true;
	return !g->failed;
}

static void run_if(struct grub *g, struct grub_range *s, bool run)
{
	bool taken = false, take;
	enum term t;

	do {
		g->status = 0;
		if (!expect(g, run_list(g, s, run && !taken), T_THEN))
			return;
		take = run && !taken && g->status == 0;
		t = run_list(g, s, take);
		taken |= take;
	} while (t == T_ELIF);
	if (t == T_ELSE)
		t = run_list(g, s, run && !taken);
	expect(g, t, T_FI);
}

static void run_for(struct grub *g, struct grub_range *s, bool run)
{
	struct grub_args a = { .n = 0 };
	struct grub_range body;

	if (read_words(g, s, &a, run) || a.n < 2 || strcmp(a.v[1], "in"))
		g->failed = true;
	skip_separators(s);
	if (!take_keyword(s, "do"))
		g->failed = true;
	body = *s;
	for (size_t i = 2; run && i < a.n && !g->failed && !g->returning; i++) {
		*s = body;
		grub_set(g, a.v[0], a.v[i]);
		expect(g, run_list(g, s, true), T_DONE);
	}
	*s = body; /* skip it once more: also where it did not run, or was left by return */
	if (!g->failed)
		expect(g, run_list(g, s, false), T_DONE);
	args_free(&a);
}

static void run_while(struct grub *g, struct grub_range *s, bool run, bool until)
{
	struct grub_range start = *s;
	bool again;

	do {
		*s = start;
		g->status = 0;
		if (!expect(g, run_list(g, s, run), T_DO))
			return;
		again = run && (g->status == 0) != until && !g->returning;
		expect(g, run_list(g, s, again), T_DONE);
	} while (again && !g->failed);
}

/* Behind an opening brace: the range up to its closing one, which is skipped. */
static struct grub_range skip_block(struct grub *g, struct grub_range *s)
{
	struct grub_range body = *s;

	if (expect(g, run_list(g, s, false), T_BRACE))
		body.end = s->p - 1;
	else
		body.end = body.p;
	return body;
}

static void run_function(struct grub *g, struct grub_range *s, bool run)
{
	struct grub_args a = { .n = 0 };
	struct grub_range body;

	if (!read_words(g, s, &a, run) || (run && a.n != 1)) {
		g->failed = true;
	} else {
		body = skip_block(g, s);
		if (run && !g->failed && g->n_funcs < GRUB_FUNCS_MAX)
			g->func[g->n_funcs++] = (struct grub_func){ strdup(a.v[0]), body };
	}
	args_free(&a);
}

/* "name=value" as a statement of its own. */
static bool run_assignment(struct grub *g, const struct grub_args *a)
{
	char *eq = strchr(a->v[0], '=');
	char name[GRUB_VAR_NAME_MAX];
	size_t n;

	if (a->n != 1 || !eq || eq == a->v[0])
		return false;
	n = (size_t)(eq - a->v[0]);
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)a->v[0][i]) && a->v[0][i] != '_')
			return false;
	if (n >= sizeof(name))
		return false;
	memcpy(name, a->v[0], n);
	name[n] = 0;
	grub_set(g, name, eq + 1);
	g->status = 0;
	return true;
}

static void run_simple(struct grub *g, struct grub_range *s, bool run)
{
	struct grub_args a = { .n = 0 };
	bool block = read_words(g, s, &a, run);
	struct grub_range body = { s->p, s->p };

	if (block)
		body = skip_block(g, s);
	if (run && !g->failed && a.n) {
		if (block)
			grub_menuentry(g, &a, body);
		else if (!run_assignment(g, &a))
			grub_call(g, &a);
	}
	args_free(&a);
}

static void run_statement(struct grub *g, struct grub_range *s, bool run)
{
	if (take_keyword(s, "if"))
		run_if(g, s, run);
	else if (take_keyword(s, "for"))
		run_for(g, s, run);
	else if (take_keyword(s, "while"))
		run_while(g, s, run, false);
	else if (take_keyword(s, "until"))
		run_while(g, s, run, true);
	else if (take_keyword(s, "function"))
		run_function(g, s, run);
	else
		run_simple(g, s, run);
}

static enum term run_list(struct grub *g, struct grub_range *s, bool run)
{
	enum term t = T_END;

	if (++g->depth > GRUB_DEPTH_MAX)
		g->failed = true;
	while (!g->failed) {
		skip_separators(s);
		if (at_end(s))
			break;
		if (at_brace(s, '}')) {
			s->p++;
			t = T_BRACE;
			break;
		}
		t = take_terminator(s);
		if (t != T_END)
			break;
		if (++g->steps > GRUB_STEPS_MAX)
			g->failed = true;
		else
			run_statement(g, s, run && !g->returning);
	}
	g->depth--;
	return g->failed ? T_FAIL : t;
}

void grub_run(struct grub *g, struct grub_range r)
{
	if (run_list(g, &r, true) != T_END)
		g->failed = true;
}

static bool call_function(struct grub *g, const struct grub_args *a)
{
	const struct grub_args *saved = g->pos;
	size_t i = g->n_funcs;

	/* The last definition of a name counts. */
	while (i > 0 && (!g->func[i - 1].name || strcmp(g->func[i - 1].name, a->v[0])))
		i--;
	if (!i)
		return false;
	g->pos = a;
	g->status = 0;
	if (++g->depth < GRUB_DEPTH_MAX)
		grub_run(g, g->func[i - 1].body);
	else
		g->failed = true;
	g->depth--;
	g->pos = saved;
	g->returning = false;
	return true;
}

void grub_call(struct grub *g, const struct grub_args *a)
{
	if (!call_function(g, a) && !grub_builtin(g, a))
		g->status = 0; /* insmod, terminal_output, gfxmode …: nothing that matters here */
}

int grub_run_file(struct grub *g, struct gfs_fs *fs, const char *path)
{
	char *text;
	int r;

	if (g->n_files == GRUB_FILES_MAX || g->depth >= GRUB_DEPTH_MAX)
		return -ELOOP;
	r = boot_read_text(fs, path, &text);
	if (r)
		return r;
	g->file[g->n_files++] = text;
	g->depth++;
	grub_run(g, (struct grub_range){ text, text + strlen(text) });
	g->depth--;
	return 0;
}
