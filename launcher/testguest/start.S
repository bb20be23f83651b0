// Entry points, page tables, descriptor tables, interrupt stubs and the start of other processors.
#define CODE32 0x08
#define DATA 0x10
#define CODE64 0x18
#define TASK 0x20
#define USER_CODE64 0x33
#define USER_DATA 0x3b
#define TASK_RSP0 4
#define INTERRUPTS_ON 0x202
#define STACK_BYTES 16384
#define AP_STACK_BYTES 1024
#define TRAMPOLINE 0x1000
#define CR0_PROTECTED 0x11
#define CR0_PAGING 0x80000011
#define CR4_PAE 0x20
#define EFER 0xc0000080
#define EFER_LONG_MODE 0x100
// For CPL 3 as well.
#define PRESENT_WRITABLE 7
#define LARGE_PAGE 0x87
#define GIB (1 << 30)

// PVH: XEN_ELFNOTE_PHYS32_ENTRY (xen/include/public/elfnote.h). Left out of the build that is entered as Linux is.
#ifndef WITHOUT_PVH
.section .note, "a", @note
  .long 4, 4, 18
  .asciz "Xen"
  .long pvh_entry
#endif

.section .text
.code32
.globl pvh_entry
pvh_entry:  // ebx: hvm_start_info
  cli
  lgdt gdt_pointer
  ljmp $CODE32, $1f
1:movw $DATA, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl $stack_end, %esp
  call enter_long_mode
  ljmp $CODE64, $pvh_long

// Keeps ebx and esp.
enter_long_mode:
  movl $CR4_PAE, %eax
  movl %eax, %cr4
  movl $pml4, %eax
  movl %eax, %cr3
  movl $EFER, %ecx
  movl $EFER_LONG_MODE, %eax
  xorl %edx, %edx
  wrmsr
  movl $CR0_PAGING, %eax
  movl %eax, %cr0
  ret

.code64
pvh_long:
  movl %ebx, %edi
  movl $1, %esi
  jmp start

.globl linux64_entry
linux64_entry:  // rsi: zero page
  cli
  movq %rsi, %rdi
  movl $0, %esi
  movl $pml4, %eax
  movq %rax, %cr3
  lgdt gdt_pointer
  movl $stack_end, %esp
  pushq $CODE64
  pushq $start
  lretq

start:  // rdi: start info or zero page; esi: which
  movw $DATA, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl $stack_end, %esp
  call guest_main
1:hlt
  jmp 1b

// Stubs of 16 bytes each, from vector 0 on. Exceptions with an error code have pushed it by then.
.globl interrupt_stubs
.balign 16
interrupt_stubs:
.set vector, 0
.rept 256
  .balign 16
  .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
  pushq $0
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
  cld
  movq 72(%rsp), %rdi
  movq 80(%rsp), %rsi
  movq 88(%rsp), %rdx
  call interrupt
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

// enter_unprivileged(function): ends with an invalid opcode, whose gate leads to end_unprivileged. Not every KVM that
// emulates a guest's kernel takes INT from CPL 3.
.globl enter_unprivileged, end_unprivileged
enter_unprivileged:
  pushq %rbx
  pushq %rbp
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, kernel_stack
  movq %rsp, TASK_RSP0
  pushq $USER_DATA
  pushq $user_stack_end
  pushq $INTERRUPTS_ON
  pushq $USER_CODE64
  pushq $1f
  iretq
1:call *%rdi
  ud2
end_unprivileged:
  movq kernel_stack, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbp
  popq %rbx
  sti
  ret

// Other processors start here in real mode, at TRAMPOLINE, where a copy is put.
.code16
.globl trampoline, trampoline_end
trampoline:
  cli
  lgdtl %cs:(trampoline_gdt_pointer - trampoline)
  movl $CR0_PROTECTED, %eax
  movl %eax, %cr0
  ljmpl $CODE32, $ap_protected
.balign 4
trampoline_gdt_pointer:
  .word gdt_end - gdt - 1
  .long gdt
trampoline_end:

.code32
ap_protected:
  movw $DATA, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl $1, %ebx
  lock xaddl %ebx, ap_count
  movl %ebx, %esp
  imull $AP_STACK_BYTES, %esp
  addl $(ap_stacks + AP_STACK_BYTES), %esp
  call enter_long_mode
  ljmp $CODE64, $ap_long
.code64
ap_long:
  movl %ebx, %edi
  call ap_main
1:hlt
  jmp 1b

.section .data
.balign 16
gdt:
  .quad 0
  .quad 0x00cf9b000000ffff  // 32-bit code
  .quad 0x00cf93000000ffff  // data
  .quad 0x00af9b000000ffff  // 64-bit code
  .quad 0x00008b0000000067  // task, at address 0, of which only the stack for CPL 0 is used
  .quad 0
  .quad 0x00affb000000ffff  // 64-bit code of CPL 3
  .quad 0x00cff3000000ffff  // data of CPL 3
gdt_end:
gdt_pointer:
  .word gdt_end - gdt - 1
  .quad gdt

// 4 GiB one to one, and 1 GiB from 256 GiB on, where 64-bit BARs are.
.balign 4096
pml4:
  .quad pdpt + PRESENT_WRITABLE
  .fill 511, 8, 0
pdpt:
  .quad directories + PRESENT_WRITABLE
  .quad directories + 4096 + PRESENT_WRITABLE
  .quad directories + 8192 + PRESENT_WRITABLE
  .quad directories + 12288 + PRESENT_WRITABLE
  .fill 252, 8, 0
  .quad directories + 16384 + PRESENT_WRITABLE
  .fill 255, 8, 0
directories:
.set page, 0
.rept 2048
  .quad (page << 21) + LARGE_PAGE
  .set page, page + 1
.endr
.set page, 0
.rept 512
  .quad 256 * GIB + (page << 21) + LARGE_PAGE
  .set page, page + 1
.endr

.section .bss
.balign 16
.globl ap_count
ap_count: .long 0
.balign 8
kernel_stack: .quad 0
.skip STACK_BYTES
user_stack_end:
.balign 16
ap_stacks: .skip 64 * AP_STACK_BYTES
.skip STACK_BYTES
stack_end:
