# Test guests, the emulated host and the benchmarks: what needs more than a C file a program.
# guest_ELFS: bare guests for /dev/kvm, built freestanding.
guest_ELFS :=

# ---- benchmarks: each prints one JSON line a case -----------------------------------------------
bench_SRCS := $(wildcard tests/bench/bench_*.c)
bench_BINS := $(bench_SRCS:%.c=$(O)/%)
$(O)/tests/bench/%: $(O)/tests/bench/%.o $(O)/libsupport.a $(O)/libvmm.a $(LIBS)
	$(Q)$(CC) $(SAN) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) $(LDLIBS)
bench: $(bench_BINS)
	$(Q)for b in $(bench_BINS); do $$b || exit 1; done
