/* SPDX-License-Identifier: MIT */
/* The bit of a C library that the guest needs. */
#include "guest.h"

#include <stdarg.h>

extern char _end[];
static uintptr_t heap_next;

void *memcpy(void *dst, const void *src, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n)::"memory");
	return dst;
}

void *memset(void *dst, int c, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

int strncmp(const char *a, const char *b, size_t n)
{
	for (; n && *a && *a == *b; n--, a++, b++)
		;
	return n ? (uint8_t)*a - (uint8_t)*b : 0;
}

int strcmp(const char *a, const char *b)
{
	return strncmp(a, b, SIZE_MAX);
}

void *heap_alloc(size_t bytes, size_t align)
{
	void *p;

	if (!heap_next)
		heap_next = (uintptr_t)_end;
	p = (void *)((heap_next + align - 1) & ~(align - 1));
	heap_next = (uintptr_t)p + bytes;
	return memset(p, 0, bytes);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static int digit(char c, unsigned base)
{
	int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;

	return v < (int)base ? v : -1;
}

uint64_t parse_size(const char **s)
{
	const char *p = *s;
	unsigned base = 10;
	uint64_t v = 0;

	if (p[0] == '0' && p[1] == 'x') {
		base = 16;
		p += 2;
	}
	for (; digit(*p, base) >= 0; p++)
		v = v * base + (unsigned)digit(*p, base);
	switch (*p) {
	case 'K': v <<= 10; p++; break;
	case 'M': v <<= 20; p++; break;
	case 'G': v <<= 30; p++; break;
	}
	*s = p;
	return v;
}

uint64_t next_number(const char **s, uint64_t otherwise)
{
	uint64_t v = otherwise;

	if (**s && **s != ':')
		v = parse_size(s);
	if (**s == ':')
		++*s;
	return v;
}

/* ---- printing ---------------------------------------------------------------------------------- */

struct out {
	char *buf;	/* NULL: the serial port */
	size_t len, cap;
};

static void put(struct out *o, char c)
{
	if (!o->buf)
		serial_put(c);
	else if (o->len + 1 < o->cap)
		o->buf[o->len++] = c;
}

static void put_number(struct out *o, uint64_t v, unsigned base, unsigned width, char pad)
{
	char text[24];
	unsigned n = 0;

	do {
		text[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	for (; width > n; width--)
		put(o, pad);
	while (n)
		put(o, text[--n]);
}

static void put_arg(struct out *o, char conv, unsigned longs, unsigned width, char pad, va_list *ap)
{
	uint64_t v;

	if (conv == 's') {
		for (const char *s = va_arg(*ap, const char *); *s; s++)
			put(o, *s);
		return;
	}
	v = longs ? va_arg(*ap, uint64_t) : conv == 'd' ? (uint64_t)va_arg(*ap, int) : va_arg(*ap, unsigned);
	if (conv == 'c') {
		put(o, (char)v);
		return;
	}
	if (conv == 'd' && (int64_t)v < 0) {
		put(o, '-');
		v = -v;
	}
	put_number(o, v, conv == 'x' ? 16 : 10, width, pad);
}

static void format(struct out *o, const char *f, va_list *ap)
{
	for (; *f; f++) {
		unsigned longs = 0, width = 0;
		char pad = ' ';

		if (*f != '%') {
			put(o, *f);
			continue;
		}
		f++;
		if (*f == '0')
			pad = *f++;
		while (digit(*f, 10) >= 0)
			width = width * 10 + (unsigned)digit(*f++, 10);
		while (*f == 'l' || *f == 'z') {
			longs++;
			f++;
		}
		if (*f == '%')
			put(o, '%');
		else
			put_arg(o, *f, longs, width, pad, ap);
	}
}

void say(const char *fmt, ...)
{
	struct out o = { 0 };
	va_list ap;

	va_start(ap, fmt);
	format(&o, fmt, &ap);
	va_end(ap);
}

const char *why(const char *fmt, ...)
{
	static char text[200];
	struct out o = { .buf = text, .cap = sizeof(text) };
	va_list ap;

	va_start(ap, fmt);
	format(&o, fmt, &ap);
	va_end(ap);
	text[o.len] = 0;
	return text;
}
