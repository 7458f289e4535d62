# lbrx: make [SAN=address|thread|fuzz] [CC=clang] [target]; `make help` lists targets.
VERSION := $(shell cat VERSION)
CC ?= cc
SAN ?=
SIMD ?= yes
CONFIG := $(notdir $(CC))$(if $(SAN),-$(SAN))$(if $(filter no,$(SIMD)),-scalar)
B ?= build/$(CONFIG)
UNAME := $(shell uname -s)
CLANG := $(findstring clang,$(shell $(CC) --version 2>/dev/null))
# Not under gcc's sanitizers: gcc 12 warns falsely there.
WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
        -Wundef -Wvla $(CLANG:clang=-Wno-string-conversion) $(if $(RELEASE_TARBALL)$(if $(CLANG),,$(SAN)),,-Werror)
# -O1 finds what -O2 does, in half the time of compiling.
OPT ?= $(if $(SAN),-O1,-O2)
# V=1 shows whole command lines.
Q = $(if $(V),,@echo '  $@';)
CFLAGS_ALL := -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $(OPT) -g -ffp-contract=off -fno-strict-aliasing \
              -fvisibility=hidden $(WARN) -Isrc -DLB_VERSION='"$(VERSION)"' $(CFLAGS)
# -fno-pie: where a program may lie anywhere, a million addresses in the checks' tables are put right at
# every start, and scripts start thousands.
SAN_FLAGS_address := -fsanitize=address,undefined -fno-sanitize-recover=all $(if $(filter Linux,$(UNAME)),-fno-pie)
# UBSAN=trap: what is undefined ends the program with the address sanitizer's report of an illegal instruction: which
# line, not which rule. The places' descriptions, half of the program, are not made, nor read at every start and end.
ifeq ($(UBSAN),trap)
SAN_FLAGS_address += -fsanitize-undefined-trap-on-error
endif
SAN_FLAGS_fuzz := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
# -g1: lines and functions are all that a report names, and a fifth of what -g writes for each program.
SAN_FLAGS := $(if $(SAN),$(or $(SAN_FLAGS_$(SAN)),-fsanitize=$(SAN)) -fno-omit-frame-pointer -g1)
CFLAGS_ALL += $(SAN_FLAGS)
LDFLAGS_ALL := $(SAN_FLAGS) $(if $(filter -fno-pie,$(SAN_FLAGS)),-no-pie)
# gold needs half of bfd's time for them (gcc alone: what clang's sanitizers lay out is bfd's).
ifneq ($(if $(CLANG),,$(filter address thread,$(SAN))),)
LDFLAGS_ALL += $(if $(shell command -v ld.gold 2>/dev/null),-fuse-ld=gold)
endif
ARCH := $(shell $(CC) -dumpmachine 2>/dev/null | cut -d- -f1)
# Static libraries: Homebrew's by path, else by the linker's own search.
ifeq ($(UNAME),Darwin)
BREW := $(shell brew --prefix 2>/dev/null)
CFLAGS_ALL += -I$(BREW)/include
LIBS := $(BREW)/lib/libyaml.a $(BREW)/lib/libpcre2-8.a $(BREW)/lib/libutf8proc.a -lm -lpthread
else
LIBS := -Wl,-Bstatic -lyaml -lpcre2-8 -lutf8proc -Wl,-Bdynamic -lm -lpthread -ldl
endif
LAYERS := base io tensor format kernel device arch plan quant text model merge ops cli
SRC := $(wildcard $(LAYERS:%=src/%/*.c))
# SIMD files are compiled where their instruction set exists; flags come from the file name. SIMD=no: the scalar
# references alone, as on a machine whose instruction sets have no files.
ifeq ($(SIMD),no)
CFLAGS_ALL += -DLB_NO_SIMD
endif
ifeq ($(filter x86_64yes,$(ARCH)$(SIMD)),)
SRC := $(filter-out %_avx2.c %_avxvnni.c %_avx512.c %_avx512vnni.c %_avx512vbmi.c,$(SRC))
endif
ifeq ($(filter aarch64yes arm64yes,$(ARCH)$(SIMD)),)
SRC := $(filter-out %_neon.c %_dotprod.c %_i8mm.c,$(SRC))
endif
# What a sanitizer does not look at is compiled as without one, in that build's folder, which mostly has it already: what
# this processor has no instructions for (and AVX-VNNI's kernels, AVX2's text but for an instruction), and what is linked
# but not run by the programs of the thread sanitizer (THREADS in tests/tests.mk) and by the fuzzers.
PLAIN_CC ?= $(CC)
PLAIN_B := $(if $(SAN),build/$(notdir $(PLAIN_CC)),$(B))
ISA_avx512 := avx512vl
ISA_avx512vnni := avx512_vnni
ISA_avx512vbmi := avx512vbmi
ABSENT := $(if $(filter addressLinux,$(SAN)$(UNAME)),$(foreach isa,avx512 avx512vnni avx512vbmi,\
          $(if $(shell grep -m1 -w $(ISA_$(isa)) /proc/cpuinfo),,$(isa))))
PLAIN_address := $(foreach isa,avxvnni $(ABSENT),src/kernel/%_$(isa).c)
PLAIN_both := src/device/%.c src/model/device_%.c src/cli/cmd_%.c $(patsubst %,src/ops/%.c,diff% extract% generate% graft% pull% report% verify%)
PLAIN_thread := $(PLAIN_both) src/text/jinja_%.c src/text/json_schema%.c src/text/grammar%.c src/ops/convert%.c src/ops/quantize%.c
PLAIN_fuzz := $(PLAIN_both) src/model/%.c
PLAIN := $(if $(SAN),$(filter $(PLAIN_$(SAN)),$(filter-out src/model/logprob.c,$(SRC))))
PLAIN_OBJ := $(PLAIN:src/%.c=$(PLAIN_B)/%.o)
CFLAGS_PLAIN = $(filter-out -DLB_NO_SIMD $(SAN_FLAGS),$(CFLAGS_ALL)) $(if $(SAN),-O2)
OBJ := $(patsubst src/%.c,$(B)/%.o,$(filter-out $(PLAIN),$(SRC))) $(PLAIN_OBJ)
MAIN_OBJ := $(filter %/cli/main.o,$(OBJ))
LIB := $(B)/liblbrx.a

.PHONY: all help lib clean
all: build/lbrx
# The release binary; a sanitizer's or another compiler's stays in its own folder.
build/lbrx: $(B)/lbrx
	@mkdir -p build && cp -f $< $@
$(B)/lbrx: $(MAIN_OBJ) $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
lib: $(LIB)
$(LIB): $(filter-out $(MAIN_OBJ),$(OBJ))
	@rm -f $@ && $(AR) rcs $@ $^
%_avx2.o: CFLAGS_ISA = -mavx2 -mfma -mf16c -mbmi2
%_avxvnni.o: CFLAGS_ISA = -mavxvnni -mavx2 -mfma -mf16c -mbmi2
%_avx512.o: CFLAGS_ISA = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mbmi2
%_avx512vnni.o: CFLAGS_ISA = -mavx512vnni -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mbmi2
%_avx512vbmi.o: CFLAGS_ISA = -mavx512vbmi -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mbmi2
# gcc wants the architecture for its intrinsics; zig, which names processors alone, gets -mcpu=generic.
ARM_BASE ?= -march=armv8.2-a
%_dotprod.o: CFLAGS_ISA = $(ARM_BASE)+dotprod
%_i8mm.o: CFLAGS_ISA = $(ARM_BASE)+dotprod+i8mm
# Kernels under the address sanitizer: what is left out (a pointer that is null, past its object or wraps) is
# looked at where it is accessed, which the address sanitizer does; it made a third of their code. That a variable is
# used behind its block is a fault of a function, not of its data, and the parsers' like are looked at for it: in
# kernels it keeps sums in memory and checks each step of them (a run of a model took five times as long). Those that
# are thousands of accesses in a function are checked by a call each, which compiles in half the time; a kernel that
# many tests run would take twice as long by it. clang's fuzzers run few of any.
ifneq ($(filter address fuzz,$(SAN)),)
$(B)/kernel/%.o $(B)/device/cpu_kernels.o: CFLAGS_ALL += -fno-sanitize=null,object-size,pointer-overflow -fno-sanitize-address-use-after-scope
ifeq ($(SAN),address)
$(patsubst src/%.c,$(B)/%.o,$(filter-out src/kernel/q8_% src/kernel/quant_%,$(filter src/kernel/%,$(SRC)))): CFLAGS_ALL += -O2
endif
BY_CALLS := asan-instrumentation-with-call-threshold=300
ifeq ($(CLANG),)
$(B)/kernel/q8_%.o: CFLAGS_ALL += --param $(BY_CALLS)
else
$(B)/kernel/%.o: CFLAGS_ALL += -mllvm -$(BY_CALLS)
endif
endif
# Products, factorisations and hashes read thousands of bytes for each that they write.
ifeq ($(SAN),thread)
$(B)/kernel/q8_%.o $(B)/kernel/dots_%.o $(B)/kernel/dense_%.o $(B)/base/hash.o: CFLAGS_ALL += -fno-sanitize=thread
endif
# Where every fma of the scalar references is a call, that is half of their time. What a sanitizer looks at runs here.
ifneq ($(if $(filter x86_64Linux,$(ARCH)$(UNAME)),$(filter address thread fuzz,$(SAN))),)
$(B)/kernel/%_ref.o: CFLAGS_ISA = $(if $(shell grep -m1 -w fma /proc/cpuinfo),-mfma)
endif
# What every parser calls and no parser is: counted, it doubles the time of an execution and tells a
# fuzzer nothing.
ifeq ($(SAN),fuzz)
$(B)/kernel/%.o: CFLAGS_ALL += -fno-sanitize=fuzzer-no-link
$(patsubst %,$(B)/base/%.o,mem map hash sha256): CFLAGS_ISA = -fno-sanitize=fuzzer-no-link
$(patsubst %,$(B)/base/%.o,hash_avx2 hash_avx512): CFLAGS_ISA += -fno-sanitize=fuzzer-no-link
# Unrolled over hundreds of registers: clang takes minutes for them under sanitizers (gcc's do see them).
# tests/fuzz.sh lets the scalar ones run, which are instrumented.
$(patsubst src/%.c,$(B)/%.o,$(filter $(foreach isa,avx2 avxvnni avx512 avx512vnni avx512vbmi neon dotprod i8mm,src/kernel/%_$(isa).c),$(SRC))): \
    CFLAGS_ISA += -fno-sanitize=all
endif
$(B)/%.o: src/%.c VERSION
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_ISA) -MMD -MP -c $< -o $@
ifneq ($(PLAIN_B),$(B))
$(PLAIN_B)/%.o: src/%.c VERSION
	@mkdir -p $(@D)
	$(Q)$(PLAIN_CC) $(CFLAGS_PLAIN) $(CFLAGS_ISA) -MMD -MP -c $< -o $@
endif

# The GPU's kernels as a string literal (tools/make_ptx.sh writes the .gz).
GEN := $(PLAIN_B)/gen
TEXTS := $(foreach b,$(sort $(B) $(PLAIN_B)),$(b)/device/cuda_ptx.o $(b)/device/metal_msl.o)
$(TEXTS): CFLAGS_ISA = -I$(GEN)
$(GEN)/device/%_ptx.inc: src/device/kern/%.ptx.gz
	@mkdir -p $(@D)
	$(Q)gzip -dc $< | sed -e 's/[\\"]/\\&/g' -e 's/^/"/' -e 's/$$/\\n"/' >$@
$(filter %_ptx.o,$(TEXTS)): $(addprefix $(GEN)/device/,kernels_ptx.inc kernels_mm_ptx.inc kernels_hopper_ptx.inc)
# The same kernels' text for Metal's compiler, which is on every Mac.
$(GEN)/device/kernels_msl.inc: $(wildcard src/device/kern/*.k src/device/kern/*.h) tools/kernel_text.sh
	@mkdir -p $(@D)
	$(Q)sh tools/kernel_text.sh | sed -e 's/[\\"]/\\&/g' -e 's/^/"/' -e 's/$$/\\n"/' >$@
$(filter %_msl.o,$(TEXTS)): $(GEN)/device/kernels_msl.inc
# The stand-in for NVIDIA's driver (tests/tests.mk), a shared object, takes them as they are here.
$(PLAIN_B)/device/cpu_kernels.o: CFLAGS_ISA = $(if $(filter Linux,$(UNAME)),-fPIC)

include tests/tests.mk
-include $(OBJ:.o=.d)

help:
	@echo 'make            build/lbrx'
	@echo 'make test       the whole suite, offline'
	@echo 'make t-NAME     one program: tests/unit/test_NAME.c, or tests/cli/NAME.sh with make c-NAME'
	@echo 'make check      layers, sizes, names, headers, format, binary'
	@echo 'make check-targets  the library for other systems (Linux with glibc 2.28, macOS), by ziglang'
	@echo 'make checkkern  every kernel against the scalar reference, long form'
	@echo 'make fuzz       every fuzz target for T=60 seconds each; P=gguf for one'
	@echo 'make long       the long forms: fuzzing, kernels, interruption'
	@echo 'make bench      kernels and conversions'
	@echo 'make docs       docs/cli.md and docs/lbrx.1 from the tables of options, the tables of docs/perf/METAL.md'
	@echo 'CC=clang, SAN=address|thread, SIMD=no: with any of them, in a build folder of its own'
clean:
	rm -rf build
