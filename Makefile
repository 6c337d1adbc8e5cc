# Build of vmm (and, with later work, netd and imgtool). Non-recursive; objects in build/$(VARIANT)/.
#   make            the programs, linked as build/vmm …
#   make check      the three-minute tests: no apt, no root needed, no emulated host
#   make ci         everything, as CI runs it (installs packages)
#   make help       the other targets
VARIANT    ?= release
VARIANT    := $(strip $(VARIANT))
O          := build/$(VARIANT)
Q          := $(if $(V),,@)
CC         ?= gcc
prefix     ?= /usr/local
bindir     ?= $(prefix)/bin
mandir     ?= $(prefix)/share/man
compdir    ?= $(prefix)/share/bash-completion/completions

include rules.mk

.DEFAULT_GOAL := all
.PHONY: all check ci check-machine demo bench fuzz asan tsan tidy format headers-check coverage static \
	install uninstall clean help unit integ corpora deps test-deps

all: $(O)/bin/vmm
	$(Q)[ $(VARIANT) != release ] || ln -sf release/bin/vmm build/vmm

help:
	@sed -n 's/^#   //p' Makefile
	@echo 'demo         README first command: packages, build, a Debian image, boot it'
	@echo 'check-machine real Debian images on the emulated host'
	@echo 'asan tsan    make check under sanitizers    fuzz  libFuzzer, FUZZ_SECONDS=60 a target (clang)'
	@echo 'tidy format headers-check bench coverage static install uninstall clean'

# ---- programs and libraries ----------------------------------------------------------------
$(O)/bin/vmm: $(O)/vmm/main.o $(O)/libvmm.a $(LIBS)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SAN) $(CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) $(LDLIBS)

$(O)/libvmm.a: $(vmm_OBJS)
$(O)/libguestfs.a: $(guestfs_OBJS)
$(O)/libblock.a: $(block_OBJS)
$(O)/libipc.a: $(ipc_OBJS)
$(O)/libsandbox.a: $(sandbox_OBJS)
$(O)/libbase.a: $(base_OBJS)
$(O)/libsupport.a: $(support_OBJS)
$(O)/%.a:
	@mkdir -p $(@D)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(STD) $(WARN) $(SAN) $(HARDEN) $(INC) $(PKG_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---- tests -----------------------------------------------------------------------------------
# One program a test file; each is linked with the whole library side of the project.
$(O)/tests/unit/%: $(O)/tests/unit/%.o $(O)/libsupport.a $(O)/libvmm.a $(LIBS)
	$(Q)$(CC) $(SAN) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) $(LDLIBS) -lcmocka
# Replayed by a main() of our own; under VARIANT=fuzz libFuzzer brings one.
$(O)/tests/fuzz/%: $(O)/tests/fuzz/%.o $(FUZZ_MAIN) $(O)/libsupport.a $(O)/libvmm.a $(LIBS)
	$(Q)$(CC) $(SAN) $(FUZZ_LD) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) $(LDLIBS)
$(O)/tests/tools/%: $(O)/tests/tools/%.o $(O)/libsupport.a $(O)/libvmm.a $(LIBS)
	$(Q)$(CC) $(SAN) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) $(LDLIBS)

unit: $(unit_BINS)
	$(Q)scripts/run-tests.sh unit $(unit_BINS)
corpora: $(fuzz_BINS)
	$(Q)scripts/run-corpora.sh $(O)/tests/fuzz
integ: all $(tool_BINS) $(guest_ELFS)
	$(Q)HV_BUILD=$(CURDIR)/$(O) scripts/run-tests.sh integ $(integ_TESTS)

check: all unit corpora integ
demo:
	$(Q)scripts/install-deps.sh demo
	$(Q)$(MAKE) all
	$(Q)scripts/demo.sh $(O)
ci:
	$(Q)scripts/install-deps.sh test
	$(Q)HV_SLOW=1 $(MAKE) check headers-check tidy
	$(Q)$(MAKE) asan
	$(Q)$(MAKE) unit VARIANT=tsan
	$(Q)T=vm-blk $(MAKE) integ VARIANT=tsan
	$(Q)$(MAKE) check-machine
check-machine: all
	$(Q)scripts/mk-guest.sh build/machine/images grub boot-bls lvm extlinux cloud
	$(Q)scripts/run-machine.sh $(O) $(filter-out tests/machine/demo-login.sh,$(wildcard tests/machine/*-*.sh))
asan: ; $(Q)$(MAKE) check VARIANT=asan
tsan: ; $(Q)$(MAKE) check VARIANT=tsan
ifeq ($(VARIANT),fuzz)
fuzz: $(fuzz_BINS)
	$(Q)scripts/run-fuzz.sh $(O)/tests/fuzz
else
fuzz: ; $(Q)$(MAKE) fuzz VARIANT=fuzz
endif

include tests/tests.mk

# ---- hygiene ----------------------------------------------------------------------------------
headers-check:
	$(Q)for h in $(HEADERS); do \
		$(CC) $(STD) $(WARN) $(INC) -I$$(dirname $$h) $(PKG_CFLAGS) -fsyntax-only -x c $$h || exit 1; \
	done && echo "headers: $(words $(HEADERS)) self-contained"
tidy:
	$(Q)scripts/check-layers.py
	$(Q)scripts/fn-length.py
	$(Q)mandoc -T lint -W warning docs/man/*.[1-9]
	$(Q)shellcheck -x -P SCRIPTDIR -S warning $(SHELL_FILES)
	$(Q)printf '%s\n' $(TIDY_FILES) | xargs -P2 -n8 \
		sh -c 'clang-tidy --quiet "$$@" -- $(STD) $(INC) $(PKG_CFLAGS) 2>/dev/null' clang-tidy
	@echo 'clang-tidy: $(words $(TIDY_FILES)) files'
format:
	$(Q)clang-format -i $(C_FILES)
ifeq ($(VARIANT),coverage)
coverage: unit
	$(Q)scripts/coverage.sh $(O)
else
coverage: ; $(Q)$(MAKE) coverage VARIANT=coverage
endif
static:
	$(Q)$(MAKE) all VARIANT=static
	@echo 'build/static/bin/vmm needs no shared library'

install: all
	install -D -m 755 -s $(O)/bin/vmm $(DESTDIR)$(bindir)/vmm
	for m in docs/man/*.[1-9]; do \
		install -D -m 644 $$m $(DESTDIR)$(mandir)/man$${m##*.}/$${m##*/} || exit 1; done
	install -D -m 644 scripts/completion.bash $(DESTDIR)$(compdir)/vmm
uninstall:
	rm -f $(DESTDIR)$(bindir)/vmm $(DESTDIR)$(compdir)/vmm
	for m in docs/man/*.[1-9]; do rm -f $(DESTDIR)$(mandir)/man$${m##*.}/$${m##*/}; done
clean:
	rm -rf build

.SECONDARY:
-include $(ALL_DEPS)
