/* SPDX-License-Identifier: MIT */
/*
 * guest.h - what every file of the bare test guest uses: the machine, memory, text.
 *
 * The guest's command line is a list of words, run in order; each says "TEST word: ok" or
 * "TEST word: FAIL: why". See main.c for how one is added.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
#define MIN(a, b) min_u64(a, b)
#define BIT64(n) (UINT64_C(1) << (n))

/* ---- processor -------------------------------------------------------------------------- */
static inline void out8(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port) : "memory");
}
static inline void out16(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port) : "memory");
}
static inline void out32(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port) : "memory");
}
static inline uint8_t in8(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}
static inline uint32_t in32(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}
static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}
static inline void pause_cpu(void)
{
	__asm__ volatile("pause" ::: "memory");
}
static inline void barrier(void)
{
	__asm__ volatile("" ::: "memory");
}
static inline void full_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}
struct cpuid {
	uint32_t a, b, c, d;
};
static inline struct cpuid cpuid(uint32_t leaf, uint32_t sub)
{
	struct cpuid r;

	__asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(sub));
	return r;
}

/* Registers of memory-mapped devices. */
static inline uint8_t mmio_read8(const volatile void *p) { return *(const volatile uint8_t *)p; }
static inline uint16_t mmio_read16(const volatile void *p) { return *(const volatile uint16_t *)p; }
static inline uint32_t mmio_read32(const volatile void *p) { return *(const volatile uint32_t *)p; }
static inline void mmio_write8(volatile void *p, uint8_t v) { *(volatile uint8_t *)p = v; }
static inline void mmio_write16(volatile void *p, uint16_t v) { *(volatile uint16_t *)p = v; }
static inline void mmio_write32(volatile void *p, uint32_t v) { *(volatile uint32_t *)p = v; }

/* ---- time: TSC ticks; "tsc-khz=N" tells their rate, 2.5 GHz unless given ------------------ */
extern uint64_t tsc_khz;
static inline uint64_t deadline_ms(uint64_t ms)
{
	return rdtsc() + ms * tsc_khz;
}
static inline bool expired(uint64_t deadline)
{
	return (int64_t)(rdtsc() - deadline) >= 0;
}
#define PATIENCE_MS 10000	/* for whatever should happen at once */

/* ---- text and memory (lib.c) --------------------------------------------------------------- */
void *memcpy(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
/** say - print to the serial port: %s %c %u %d %x, %l for 64 bits, widths as in %08x. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** why - format a reason for a failed test; one at a time, the buffer is static. */
const char *why(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** parse_size - a number (0x for hex) with K, M or G; *@s is moved behind it. */
uint64_t parse_size(const char **s);
/** next_number - the number at *@s and the ':' behind it; @otherwise if *@s is empty. */
uint64_t next_number(const char **s, uint64_t otherwise);
/** heap_alloc - zeroed memory; it is never freed. */
void *heap_alloc(size_t bytes, size_t align);

/* ---- console (serial.c) --------------------------------------------------------------------- */
void serial_init(void);
void serial_put(char c);
/** serial_get - the next input byte, or -1 after @ms. */
int serial_get(uint64_t ms);

/* ---- how we were started (main.c) ------------------------------------------------------------ */
struct memory_range {
	uint64_t gpa, size;
	uint32_t type;	/* 1: RAM */
	uint32_t reserved;
};
#define MEMORY_RANGES_MAX 64
struct boot_info {
	uint64_t rsdp;
	unsigned n_ranges;
	struct memory_range range[MEMORY_RANGES_MAX];
	char cmdline[4096];
};
extern struct boot_info boot;

/* ---- words (main.c) --------------------------------------------------------------------------- */
struct word {
	const char *name;
	const char *(*run)(const char *arg);	/* NULL if all is well, else what is not */
};
/* WORD - make "@text" or "@text=ARG" on the command line call @fn. */
#define WORD(text, fn) \
	static const struct word word_##fn __attribute__((section(".words"), used)) = { text, fn }

/* ---- ring 0 and interrupts (irq.c) --------------------------------------------------------------- */
void irq_init(void);
/** ring0 - run @fn(@arg) at CPL 0. */
void ring0(void (*fn)(uint64_t), uint64_t arg);
/** irq_enable - let interrupts in, or not. */
void irq_enable(bool on);
extern volatile uint32_t irq_seen[256];	/* how often each vector was handled */
/** cpuid_real - CPUID in ring 0: on some hosts user mode is shown the host's. */
struct cpuid cpuid_real(uint32_t leaf, uint32_t sub);

/* ---- ways out (power.c) ----------------------------------------------------------------------------- */
void power_off(void) __attribute__((noreturn));

#endif
