# Flags, variants and object lists; included by the Makefile.
STD       := -std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64
WARN      := -Wall -Wextra -Werror -Wno-missing-field-initializers -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wno-unused-parameter \
	     -Wshadow -Wpointer-arith
INC       := -Iinclude -Ivmm
HARDEN    := -fPIE -fstack-protector-strong -fno-strict-aliasing
HARDEN_LD := -pie -Wl,-z,relro,-z,now -Wl,-z,noexecstack
LDLIBS    := -pthread

PKGS       := ext2fs libcap-ng libseccomp liburing zlib libzstd liblz4 liblzma jansson
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS))
PKG_LIBS   := $(shell pkg-config --libs $(PKGS)) -lcom_err

ifeq ($(VARIANT),release)
CFLAGS ?= -O2 -g
HARDEN += -D_FORTIFY_SOURCE=2
else ifeq ($(VARIANT),asan)
CFLAGS ?= -O1 -g
SAN    := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
else ifeq ($(VARIANT),tsan)
CFLAGS ?= -O1 -g
SAN    := -fsanitize=thread -fno-omit-frame-pointer
export TSAN_OPTIONS := suppressions=$(CURDIR)/tests/support/tsan.supp $(TSAN_OPTIONS)
else ifeq ($(VARIANT),fuzz)
CC     := clang
CFLAGS ?= -O1 -g
SAN    := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
FUZZ_LD := -fsanitize=fuzzer
WARN   += -Wno-gnu-variable-sized-type-not-at-end
else ifeq ($(VARIANT),coverage)
CFLAGS ?= -O0 -g
SAN    := --coverage
else ifeq ($(VARIANT),static)
# Debian's -dev packages have a .a of every library used: nothing stays shared.
CFLAGS ?= -O2 -g
HARDEN += -D_FORTIFY_SOURCE=2
HARDEN_LD := -static-pie $(filter-out -pie,$(HARDEN_LD))
PKG_LIBS := $(shell pkg-config --static --libs $(PKGS))
else
$(error unknown VARIANT '$(VARIANT)')
endif

ifneq ($(VARIANT),fuzz)
FUZZ_MAIN := $(O)/tests/fuzz/replay.o
endif

objs = $(patsubst %.c,$(O)/%.o,$(wildcard $(1)))
base_OBJS    := $(call objs,lib/base/*.c)
block_OBJS   := $(call objs,lib/block/*.c)
guestfs_OBJS := $(call objs,lib/guestfs/*.c)
ipc_OBJS     := $(call objs,lib/ipc/*.c)
sandbox_OBJS := $(call objs,lib/sandbox/*.c)
support_OBJS := $(call objs,tests/support/*.c)
vmm_OBJS     := $(filter-out $(O)/vmm/main.o,$(call objs,vmm/*.c vmm/*/*.c))
# Downwards only: each may use those to its right.
LIBS := $(O)/libguestfs.a $(O)/libblock.a $(O)/libipc.a $(O)/libsandbox.a $(O)/libbase.a

unit_SRCS := $(shell find tests/unit -name 'test_*.c' 2>/dev/null | sort)
unit_BINS := $(unit_SRCS:%.c=$(O)/%)
fuzz_SRCS := $(wildcard tests/fuzz/fuzz_*.c)
fuzz_BINS := $(fuzz_SRCS:%.c=$(O)/%)
tool_SRCS := $(wildcard tests/tools/*.c)
tool_BINS := $(tool_SRCS:%.c=$(O)/%)
integ_TESTS := $(wildcard tests/integ/*.sh)

HEADERS  := $(shell find include lib vmm -name '*.h' | sort)
C_FILES  := $(shell find include lib vmm tests -name '*.[ch]' | sort)
TIDY_FILES := $(filter lib/%.c vmm/%.c,$(C_FILES))
SHELL_FILES := $(shell find scripts tests .ci -name "*.sh" 2>/dev/null | sort) $(wildcard .ci/run scripts/*.bash)
ALL_DEPS := $(shell find $(O) -name '*.d' 2>/dev/null)
