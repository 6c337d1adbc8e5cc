# Test guests, the emulated host and the benchmarks: what needs more than a C file a program.
# guest_ELFS: bare guests for /dev/kvm, built freestanding.
guest_ELFS :=
