# Test guests, the emulated host and the benchmarks: what needs more than a C file a program.
# guest_ELFS: the bare guest for /dev/kvm, freestanding, the same whatever the variant.
guest_ELFS := build/guest/guest.elf
guest_CFLAGS := -std=gnu17 -ffreestanding -O2 -g -mno-red-zone -mgeneral-regs-only -fno-pie -fno-stack-protector \
	-fcf-protection=none -fno-strict-aliasing -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns
guest_OBJS := build/guest/start.o $(patsubst tests/guest/%.c,build/guest/%.o,$(wildcard tests/guest/*.c))
build/guest/%.o: tests/guest/%.c
	@mkdir -p $(@D)
	$(Q)gcc $(guest_CFLAGS) $(WARN) -MMD -MP -c -o $@ $<
build/guest/%.o: tests/guest/%.S tests/guest/layout.h
	@mkdir -p $(@D)
	$(Q)gcc -c -o $@ $<
build/guest/guest.elf: tests/guest/guest.lds $(guest_OBJS)
	$(Q)gcc -no-pie -static -nostdlib -Wl,-T,$< -Wl,--build-id=none -Wl,-z,noexecstack \
		-Wl,-z,max-page-size=4096 -Wl,--no-warn-rwx-segments -o $@ $(guest_OBJS)
integ: $(guest_ELFS)
-include $(wildcard build/guest/*.d)

# ---- benchmarks: each prints one JSON line a case -----------------------------------------------
bench_SRCS := $(wildcard tests/bench/bench_*.c)
bench_BINS := $(bench_SRCS:%.c=$(O)/%)
$(O)/tests/bench/%: $(O)/tests/bench/%.o $(O)/libsupport.a $(O)/libvmm.a $(LIBS)
	$(Q)$(CC) $(SAN) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) $(LDLIBS)
bench: all $(bench_BINS) $(guest_ELFS)
	$(Q)for b in $(bench_BINS); do $$b || exit 1; done
	$(Q)tests/bench/guest.py $(O)/bin/vmm $(guest_ELFS)
