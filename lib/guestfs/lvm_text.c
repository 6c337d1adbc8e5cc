/* SPDX-License-Identifier: MIT */
/*
 * Parser for LVM2's text metadata. Nodes lie in one growing array and point into the
 * text, which is cut up in place; nesting and node count are bounded.
 */
#include "lvm_priv.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum node_kind { NODE_SECTION, NODE_STRING, NODE_NUMBER, NODE_LIST };

struct node {
	enum node_kind kind;
	const char *key, *string;
	uint64_t number;
	int first, last, next;
};

struct lvm_text {
	char *text;
	struct node *node;
	unsigned n, cap;
	char *p; /* while parsing */
	bool failed;
};

static int node_new(struct lvm_text *t, int parent, enum node_kind kind, const char *key)
{
	struct node *np;

	if (t->n == LVM_NODES_MAX) {
		t->failed = true;
		return -1;
	}
	if (t->n == t->cap) {
		unsigned cap = MAX(2 * t->cap, 64u);

		np = realloc(t->node, cap * sizeof(*np));
		if (!np) {
			t->failed = true;
			return -1;
		}
		t->node = np;
		t->cap = cap;
	}
	t->node[t->n] =
		(struct node){ .kind = kind, .key = key, .first = -1, .last = -1, .next = -1 };
	if (parent >= 0) {
		if (t->node[parent].last >= 0)
			t->node[t->node[parent].last].next = (int)t->n;
		else
			t->node[parent].first = (int)t->n;
		t->node[parent].last = (int)t->n;
	}
	return (int)t->n++;
}

static void skip_space(struct lvm_text *t)
{
	for (;; t->p++) {
		if (*t->p == '#')
			t->p += strcspn(t->p, "\n");
		if (!isspace((unsigned char)*t->p))
			return;
	}
}

/* A quoted string; backslashes are taken out in place. */
static const char *read_string(struct lvm_text *t)
{
	char *start = ++t->p, *to = start;

	while (*t->p && *t->p != '"') {
		if (*t->p == '\\' && t->p[1])
			t->p++;
		*to++ = *t->p++;
	}
	if (*t->p != '"')
		t->failed = true;
	else
		t->p++;
	*to = 0;
	return start;
}

static void read_scalar(struct lvm_text *t, int parent, const char *key)
{
	int n;

	if (*t->p == '"') {
		n = node_new(t, parent, NODE_STRING, key);
		if (n >= 0)
			t->node[n].string = read_string(t);
		return;
	}
	n = node_new(t, parent, NODE_NUMBER, key);
	if (n < 0)
		return;
	if (!isdigit((unsigned char)*t->p) && *t->p != '-') {
		t->failed = true;
		return;
	}
	/* Negative and fractional numbers stand only where nobody here looks. */
	t->node[n].number = *t->p == '-' ? 0 : strtoull(t->p, NULL, 10);
	t->p += strspn(t->p, "-.0123456789eE+");
}

static void read_list(struct lvm_text *t, int parent, const char *key)
{
	int n = node_new(t, parent, NODE_LIST, key);

	for (t->p++, skip_space(t); !t->failed && *t->p && *t->p != ']'; skip_space(t)) {
		read_scalar(t, n, "");
		skip_space(t);
		if (*t->p == ',')
			t->p++;
		else if (*t->p != ']')
			t->failed = true;
	}
	if (*t->p == ']')
		t->p++;
	else
		t->failed = true;
}

static void read_section(struct lvm_text *t, int node, unsigned depth);

/* "key = value" or "key { … }"; the key is cut off once the next character was seen. */
static void read_item(struct lvm_text *t, int parent, unsigned depth)
{
	char *key = t->p, *end;

	t->p += strcspn(t->p, " \t\r\n={}#[]\"");
	end = t->p;
	skip_space(t);
	if (end == key) {
		t->failed = true;
	} else if (*t->p == '{') {
		int n = node_new(t, parent, NODE_SECTION, key);

		*end = 0;
		t->p++;
		if (n >= 0 && depth < LVM_DEPTH_MAX)
			read_section(t, n, depth + 1);
		else
			t->failed = true;
	} else if (*t->p == '=') {
		t->p++;
		*end = 0;
		skip_space(t);
		if (*t->p == '[')
			read_list(t, parent, key);
		else
			read_scalar(t, parent, key);
	} else {
		t->failed = true;
	}
}

/* Items up to the closing brace, or at the top (depth 0) to the end. */
static void read_section(struct lvm_text *t, int node, unsigned depth)
{
	for (skip_space(t); !t->failed && *t->p && *t->p != '}'; skip_space(t))
		read_item(t, node, depth);
	if (depth && *t->p == '}')
		t->p++;
	else if (depth || *t->p)
		t->failed = true;
}

struct lvm_text *lvm_text_parse(char *text)
{
	struct lvm_text *t = calloc(1, sizeof(*t));
	int root;

	if (!t) {
		free(text);
		return NULL;
	}
	t->text = t->p = text;
	root = node_new(t, -1, NODE_SECTION, "");
	if (root >= 0)
		read_section(t, root, 0);
	if (!t->failed)
		return t;
	lvm_text_free(t);
	return NULL;
}

void lvm_text_free(struct lvm_text *t)
{
	if (!t)
		return;
	free(t->node);
	free(t->text);
	free(t);
}

int lvm_text_first(const struct lvm_text *t, int node)
{
	return node < 0 ? -1 : t->node[node].first;
}

int lvm_text_next(const struct lvm_text *t, int node)
{
	return node < 0 ? -1 : t->node[node].next;
}

int lvm_text_find(const struct lvm_text *t, int node, const char *key)
{
	int n = lvm_text_first(t, node);

	while (n >= 0 && strcmp(t->node[n].key, key))
		n = t->node[n].next;
	return n;
}

bool lvm_text_is_section(const struct lvm_text *t, int node)
{
	return node >= 0 && t->node[node].kind == NODE_SECTION;
}

const char *lvm_text_key(const struct lvm_text *t, int node)
{
	return node < 0 ? "" : t->node[node].key;
}

const char *lvm_text_string(const struct lvm_text *t, int node)
{
	return node >= 0 && t->node[node].kind == NODE_STRING ? t->node[node].string : NULL;
}

bool lvm_text_number(const struct lvm_text *t, int node, uint64_t *out)
{
	if (node < 0 || t->node[node].kind != NODE_NUMBER)
		return false;
	*out = t->node[node].number;
	return true;
}
