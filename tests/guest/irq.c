/* SPDX-License-Identifier: MIT */
/*
 * Interrupt and exception entry, and the way back into ring 0: an undefined instruction.
 * ("int $n" from user mode is not carried out on every host that this guest runs on.)
 */
#include "guest.h"

#define VECTOR_UD 6
#define RING0_MAGIC UINT64_C(0x52494e4730)	/* in RCX at an UD2 that means "call ring 0" */
#define LAPIC UINT64_C(0xfee00000)
#define LAPIC_EOI 0xb0
#define GATE_INTERRUPT 0x8e
#define RFLAGS_IF UINT64_C(0x200)

struct gate {
	uint16_t offset_low, selector;
	uint8_t ist, type;
	uint16_t offset_mid;
	uint32_t offset_high, reserved;
};
struct frame {
	uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

extern struct gate idt[256];
extern uint8_t interrupt_entries[], boot_stack_top[];
void interrupt_handler(struct frame *f);

volatile uint32_t irq_seen[256];
static struct frame *ring0_frame;

void interrupt_handler(struct frame *f)
{
	if (f->vector == VECTOR_UD && f->rcx == RING0_MAGIC) {
		ring0_frame = f;
		((void (*)(uint64_t))f->rax)(f->rdi);
		f->rip += 2;
		return;
	}
	irq_seen[f->vector]++;
	if (f->vector < 32) {
		say("FAIL: exception %lu (0x%lx) at 0x%lx flags 0x%lx\n", f->vector, f->error, f->rip, f->rflags);
		power_off();
	}
	mmio_write32((void *)(LAPIC + LAPIC_EOI), 0);
}

void irq_init(void)
{
	/* Not every host keeps IOPL over IRETQ: the bitmap allows all ports as well. */
	memset((void *)TSS_ADDRESS, 0, TSS_LIMIT);
	*(uint8_t *)(TSS_ADDRESS + TSS_LIMIT) = 0xff;
	*(uint16_t *)(TSS_ADDRESS + 102) = 0x68;	/* I/O permission bitmap */
	*(uint64_t *)(TSS_ADDRESS + 4) = (uint64_t)boot_stack_top;	/* RSP0 */
	for (unsigned i = 0; i < 256; i++) {
		uint64_t at = (uint64_t)interrupt_entries + i * 16;

		idt[i] = (struct gate){ .offset_low = (uint16_t)at,
					.selector = SEL_CODE0,
					.type = GATE_INTERRUPT,
					.offset_mid = (uint16_t)(at >> 16) };
	}
	out8(0x21, 0xff);	/* where there are legacy interrupt controllers: not from them */
	out8(0xa1, 0xff);
}

void ring0(void (*fn)(uint64_t), uint64_t arg)
{
	__asm__ volatile("ud2" ::"a"(fn), "D"(arg), "c"(RING0_MAGIC) : "memory");
}

static void set_if(uint64_t on)
{
	ring0_frame->rflags = (ring0_frame->rflags & ~RFLAGS_IF) | (on ? RFLAGS_IF : 0);
}

void irq_enable(bool on)
{
	ring0(set_if, on);
}

static struct cpuid cpuid_args;

static void cpuid_ring0(uint64_t arg)
{
	cpuid_args = cpuid((uint32_t)arg, (uint32_t)(arg >> 32));
}

struct cpuid cpuid_real(uint32_t leaf, uint32_t sub)
{
	ring0(cpuid_ring0, (uint64_t)sub << 32 | leaf);
	return cpuid_args;
}

static void nothing(uint64_t arg)
{
	*(volatile uint64_t *)arg = 0x600d;
}

/* ring0 - there and back. */
static const char *word_ring0(const char *arg)
{
	volatile uint64_t mark = 0;

	(void)arg;
	ring0(nothing, (uint64_t)&mark);
	return mark == 0x600d ? NULL : "came back without having been there";
}
WORD("ring0", word_ring0);
