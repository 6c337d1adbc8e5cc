/* SPDX-License-Identifier: MIT */
/* Bounded strings, lines and words, and version order, for the boot configuration readers. */
#include "boot_priv.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

void text_add(struct text *t, const char *s, size_t n)
{
	if (t->failed || n >= TEXT_MAX || t->len + n >= TEXT_MAX) {
		t->failed = true;
		return;
	}
	if (t->len + n + 1 > t->cap) {
		size_t cap = MAX(t->cap * 2, ALIGN_UP(t->len + n + 1, (size_t)64));
		char *p = realloc(t->s, cap);

		if (!p) {
			t->failed = true;
			return;
		}
		t->s = p;
		t->cap = cap;
	}
	memcpy(t->s + t->len, s, n);
	t->len += n;
	t->s[t->len] = 0;
}

void text_adds(struct text *t, const char *s)
{
	text_add(t, s, strlen(s));
}

void text_addc(struct text *t, char c)
{
	text_add(t, &c, 1);
}

void text_word(struct text *t, const char *s)
{
	if (t->len && *s)
		text_addc(t, ' ');
	text_adds(t, s);
}

char *text_take(struct text *t)
{
	char *s = t->s ? t->s : strdup("");

	*t = (struct text){ 0 };
	return s;
}

void text_fini(struct text *t)
{
	free(t->s);
	*t = (struct text){ 0 };
}

char *line_next(char **p)
{
	char *line = *p, *end;

	if (!line || !*line)
		return NULL;
	end = line + strcspn(line, "\n");
	*p = *end ? end + 1 : end;
	while (end > line && isspace((unsigned char)end[-1]))
		end--;
	*end = 0;
	while (isspace((unsigned char)*line))
		line++;
	return line;
}

char *word_next(char **p)
{
	char *word = *p + strspn(*p, " \t");
	size_t n = strcspn(word, " \t");

	if (!n)
		return NULL;
	*p = word + n;
	if (**p)
		*(*p)++ = 0;
	return word;
}

/* ---- versions ------------------------------------------------------------------------------- */

static size_t segment(const char *s, bool digits)
{
	size_t n = 0;

	while (digits ? isdigit((unsigned char)s[n]) : isalpha((unsigned char)s[n]))
		n++;
	return n;
}

static int cmp_digits(const char *a, size_t na, const char *b, size_t nb)
{
	while (na > 1 && *a == '0') {
		a++;
		na--;
	}
	while (nb > 1 && *b == '0') {
		b++;
		nb--;
	}
	if (na != nb)
		return na < nb ? -1 : 1;
	return memcmp(a, b, na);
}

static int cmp_letters(const char *a, size_t na, const char *b, size_t nb)
{
	int r = memcmp(a, b, MIN(na, nb));

	return r ? r : (na > nb) - (na < nb);
}

static const char *skip_marks(const char *s)
{
	while (*s && !isalnum((unsigned char)*s) && *s != '~')
		s++;
	return s;
}

int boot_vercmp(const char *a, const char *b)
{
	for (;;) {
		size_t na, nb;
		bool digits;
		int r;

		a = skip_marks(a);
		b = skip_marks(b);
		if (*a == '~' ||
		    *b == '~') { /* a tilde sorts before everything, the end included */
			if (*a != *b)
				return *a == '~' ? -1 : 1;
			a++;
			b++;
			continue;
		}
		if (!*a || !*b)
			return (*a != 0) - (*b != 0);
		digits = isdigit((unsigned char)*a);
		na = segment(a, digits);
		nb = segment(b, digits);
		if (!nb) /* a number is newer than a word */
			return digits ? 1 : -1;
		r = digits ? cmp_digits(a, na, b, nb) : cmp_letters(a, na, b, nb);
		if (r)
			return r;
		a += na;
		b += nb;
	}
}
