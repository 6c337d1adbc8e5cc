/* SPDX-License-Identifier: MIT */
/*
 * From the PVH entry to C in user mode.
 *
 * PVH enters in 32-bit protected mode without paging, EBX = hvm_start_info. As little as
 * possible is done at CPL 0 (some hosts interpret it): the page tables are there already,
 * linked in. Everything is mapped user-accessible, and the rest of the guest runs at CPL 3
 * with IOPL 3 and all ports allowed by the TSS. irq.c has the way back into ring 0.
 */
#include "layout.h"

	.section .note.pvh, "a", @note
	.long 4, 4, 18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long entry32

	.text
	.code32
	.global entry32
entry32:
	cld
	movl %ebx, start_info_gpa
	movl $pml4, %eax
	movl %eax, %cr3
	movl %cr4, %eax
	orl $0x20, %eax			/* PAE */
	movl %eax, %cr4
	movl $0xc0000080, %ecx
	xorl %edx, %edx
	movl $0x100, %eax		/* EFER.LME */
	wrmsr
	movl %cr0, %eax
	orl $0x80000001, %eax		/* PG, PE */
	movl %eax, %cr0
	lgdt gdt_pointer
	ljmp $SEL_CODE0, $entry64

	.code64
entry64:
	movl $SEL_DATA0, %eax
	movl %eax, %ss
	movl $boot_stack_top, %esp
	movl $SEL_DATA3, %eax
	movl %eax, %ds
	movl %eax, %es
	movl $SEL_TSS, %eax
	ltr %ax
	lidt idt_pointer
	pushq $SEL_DATA3
	pushq $user_stack_top
	pushq $0x3002			/* IOPL 3, interrupts off */
	pushq $SEL_CODE3
	pushq $guest_main
	iretq

/*
 * Other processors. The code between ap_begin and ap_end is copied to AP_TRAMPOLINE, where
 * they start in real mode after INIT and SIPI.
 */
	.code16
	.global ap_begin, ap_end
ap_begin:
	cli
	movw %cs, %ax
	movw %ax, %ds
	lgdtl ap_gdt_pointer - ap_begin
	movl $1, %eax
	movl %eax, %cr0
	ljmpl $SEL_CODE32, $ap_entry32
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
ap_end:

	.code32
ap_entry32:
	movl $SEL_DATA0, %eax
	movl %eax, %ds
	movl %eax, %ss
	movl $pml4, %eax
	movl %eax, %cr3
	movl $0x20, %eax
	movl %eax, %cr4
	movl $0xc0000080, %ecx
	xorl %edx, %edx
	movl $0x100, %eax
	wrmsr
	movl $0x80000001, %eax
	movl %eax, %cr0
	ljmp $SEL_CODE0, $ap_entry64

	.code64
ap_entry64:
	movl $1, %eax			/* one stack each, in order of arrival */
	lock xaddl %eax, ap_arrived
	movl %eax, %edi
	movl $0xb, %eax			/* user mode may see the host's CPUID */
	xorl %ecx, %ecx
	cpuid
	movl %edx, ap_apic_id(,%rdi,4)
	movl $0xb, %eax
	movl $1, %ecx
	cpuid
	movl %ebx, ap_threads(,%rdi,4)
	movl %edi, %eax
	incl %eax
	shll $AP_STACK_SHIFT, %eax
	movl %eax, %esp
	addl $ap_stacks, %esp
	lidt idt_pointer
	movl %esp, %ecx
	pushq $SEL_DATA3
	pushq %rcx
	pushq $0x3002
	pushq $SEL_CODE3
	pushq $ap_main
	iretq

/* ---- interrupts and exceptions: 256 entries of 16 bytes, each pushes its number ----------- */
	.global interrupt_entries, interrupt_plain
	.balign 16
interrupt_entries:
	.set vector, 0
	.rept 256
	.balign 16
	.if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
	.else
	pushq $0			/* no error code */
	.endif
	pushq $vector
	jmp interrupt_common
	.set vector, vector + 1
	.endr

interrupt_common:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	movq %rsp, %rdi
	cld
	call interrupt_handler
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

	.data
	.balign 16
	gdt:
	.quad 0
	.quad 0x00af9b000000ffff	/* code, CPL 0, 64 bits */
	.quad 0x00cf93000000ffff	/* data, CPL 0 */
	.quad 0x00cf9b000000ffff	/* code, CPL 0, 32 bits */
	.quad 0
	.quad 0x00cff3000000ffff	/* data, CPL 3 */
	.quad 0x00affb000000ffff	/* code, CPL 3, 64 bits */
	.word TSS_LIMIT, TSS_ADDRESS & 0xffff
	.byte TSS_ADDRESS >> 16, 0x89, 0, 0
	.quad 0
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt
	.global idt_pointer
idt_pointer:
	.word 256 * 16 - 1
	.quad idt

/*
 * Page tables. Present, writable, user, accessed, dirty; identity for 4 GiB in 2 MiB pages.
 * memory.c links more behind them for RAM above.
 */
	.section .tables, "aw"
	.balign 4096
	.global pml4, pdpt
pml4:
	.quad pdpt + 0x27
	.fill 511, 8, 0
	.balign 4096
pdpt:
	.set i, 0
	.rept 4
	.quad pd + i * 4096 + 0x27
	.set i, i + 1
	.endr
	.fill 508, 8, 0
pd:
	.set i, 0
	.rept 2048
	.quad i * 0x200000 + 0xe7
	.set i, i + 1
	.endr

	.bss
	.balign 4096
	.global idt
idt:	.skip 4096
	.skip 16384
	.global boot_stack_top
boot_stack_top:
	.skip 65536
user_stack_top:
	.global ap_stacks
ap_stacks:
	.skip AP_MAX << AP_STACK_SHIFT
