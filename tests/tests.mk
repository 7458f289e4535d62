# Tests: every tests/unit/test_*.c is one program (from the other files there, each takes what it calls);
# checkkern is tests/kern/*.c; every tests/fuzz/fuzz_*.c is a fuzzer and, without one, a program that
# runs its corpus once; tests/cli/*.sh and tests/peers/peer_*.py run the built program.
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))
UNIT_COMMON := $(patsubst tests/unit/%.c,$(B)/tests/%.o,$(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c)))
CFLAGS_TEST := -Itests
$(B)/tests/%.o: tests/unit/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_TEST) -MMD -MP -c $< -o $@
$(B)/tests/runner.o: tests/test.c tests/test.h
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_TEST) -c $< -o $@
# An archive: a program takes what it calls, so one that needs no vocabulary links where pcre2 is absent.
UNIT_LIB := $(B)/tests/common.a
$(UNIT_LIB): $(UNIT_COMMON)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(UNIT): $(B)/tests/%: $(B)/tests/%.o $(B)/tests/runner.o $(UNIT_LIB) $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)
.PRECIOUS: $(B)/tests/%.o $(B)/tests/fuzz/%.o
# test_fault_*: the library's calls of the system go through tests/fault/seam.c (not on macOS, whose
# linker has no --wrap: they skip).
WRAPPED := open open64 close pread pread64 preadv preadv64 pwrite pwrite64 pwritev pwritev64 ftruncate ftruncate64 fsync \
           rename unlink unlinkat rmdir mkdir syscall
FAULT := $(filter $(B)/tests/test_fault_%,$(UNIT))
FAULT_OBJ := $(patsubst tests/fault/%.c,$(B)/tests/fault/%.o,$(wildcard tests/fault/*.c))
CFLAGS_SEAM := -Itests/fault -Itests/unit $(if $(filter Linux,$(UNAME)),-DLB_SEAM)
$(B)/tests/fault/%.o: tests/fault/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_TEST) $(CFLAGS_SEAM) -MMD -MP -c $< -o $@
$(FAULT:%=%.o): CFLAGS_TEST += -Itests/fault -Itests/unit
$(FAULT): $(FAULT_OBJ)
$(FAULT): LDFLAGS_ALL += $(if $(filter Linux,$(UNAME)),$(WRAPPED:%=-Wl,--wrap=%))

KERN_SRC := $(wildcard tests/kern/*.c)
KERN_OBJ := $(KERN_SRC:tests/kern/%.c=$(B)/tests/kern/%.o)
CHECKKERN := $(if $(KERN_SRC),$(B)/checkkern)
KERN_DEP := $(filter $(B)/kernel/% $(PLAIN_B)/kernel/%,$(OBJ)) $(B)/base/cpu.o $(B)/base/error.o $(B)/tensor/dtype.o
$(B)/tests/kern/%.o: tests/kern/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_TEST) -MMD -MP -c $< -o $@
# The kernels of AVX-VNNI once more, in AVX-512's encoding of vpdpbusd with no other part of it: for
# processors that have that one alone. Not under sanitizers, where AVX2's kernels are the same text, nor where nothing
# could run them.
EVEX_RUNS := $(if $(filter Linux,$(UNAME)),$(shell grep -m1 -w avx512_vnni /proc/cpuinfo | grep -ow avx512vl),yes)
ifeq ($(ARCH)$(SAN)$(SIMD)$(if $(EVEX_RUNS),,no),x86_64yes)
KERN_EVEX := $(patsubst src/kernel/%_avxvnni.c,$(B)/tests/kern/%_evex.o,$(wildcard src/kernel/*_avxvnni.c))
$(B)/tests/kern/%_evex.o: src/kernel/%_avxvnni.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -mavx2 -mfma -mf16c -mbmi2 -mavx512vl -mavx512vnni -O1 -g0 -Dlb_kinit_$*_avxvnni=lb_kinit_$*_evex -MMD -MP -c $< -o $@
$(B)/tests/kern/table.o: CFLAGS_TEST += -DKERN_EVEX
KERN_OBJ += $(KERN_EVEX)
endif
$(B)/checkkern: $(KERN_OBJ) $(KERN_DEP)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ -lm

FUZZ_NAMES := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ := $(FUZZ_NAMES:%=$(B)/tests/fuzz_%)
FUZZ_OBJ := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%.o,$(wildcard tests/fuzz/*.c))
$(B)/tests/fuzz/%.o: tests/fuzz/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_TEST) -MMD -MP -c $< -o $@
# With SAN=fuzz libFuzzer brings main; else corpus.c runs every file of tests/fuzz/corpus/<name>.
FUZZ_MAIN := $(if $(filter fuzz,$(SAN)),,$(B)/tests/fuzz/corpus.o)
$(FUZZ): $(B)/tests/%: $(B)/tests/fuzz/%.o $(FUZZ_MAIN) $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(if $(FUZZ_MAIN),,-fsanitize=fuzzer) $(LDFLAGS) -o $@ $^ $(LIBS)

# Programs that scripts use.
TOOL_OBJ := $(patsubst tests/tool/%.c,$(B)/tests/tool/%.o,$(wildcard tests/tool/*.c))
MAKE_MODEL := $(B)/tests/make_model
$(B)/tests/tool/%.o: tests/tool/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_TEST) -Itests/unit -MMD -MP -c $< -o $@
HUB_SERVER := $(B)/tests/hub_server
$(HUB_SERVER): $(B)/tests/tool/hub_server.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
QUANTIZE := $(B)/tests/quantize
$(QUANTIZE): $(B)/tests/tool/quantize.o $(B)/tests/quant_kit.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
IMATRIX_DUMP := $(B)/tests/imatrix_dump
$(IMATRIX_DUMP): $(B)/tests/tool/imatrix_dump.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
QUANT_ERROR := $(B)/tests/quant_error
$(QUANT_ERROR): $(B)/tests/tool/quant_error.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
MERGE_OUTLINE := $(B)/tests/merge_outline
$(MERGE_OUTLINE): $(B)/tests/tool/merge_outline.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
SHIFT := $(B)/tests/shift
$(SHIFT): $(B)/tests/tool/shift.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
LOGITS := $(B)/tests/logits
$(LOGITS): $(B)/tests/tool/logits.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
ENCODE := $(B)/tests/encode
$(ENCODE): $(B)/tests/tool/encode.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
TEMPLATE := $(B)/tests/template
$(TEMPLATE): $(B)/tests/tool/template.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
RECIPE := $(B)/tests/recipe
$(RECIPE): $(B)/tests/tool/recipe.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
SCHEMA := $(B)/tests/schema
$(SCHEMA): $(B)/tests/tool/schema.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
PTY := $(B)/tests/pty
$(PTY): $(B)/tests/tool/pty.o $(B)/tests/vt.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
SAMPLE := $(B)/tests/sample
$(SAMPLE): $(B)/tests/tool/sample.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
MLX_RECIPE := $(B)/tests/mlx_recipe
$(MLX_RECIPE): $(B)/tests/tool/mlx_recipe.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
$(MAKE_MODEL): $(B)/tests/tool/make_model.o $(patsubst tests/unit/%.c,$(B)/tests/%.o,$(wildcard tests/unit/fake_*.c)) $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
DEVICE_BENCH := $(B)/tests/device_bench
$(DEVICE_BENCH): $(B)/tests/tool/device_bench.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
QUANT_PEER := $(B)/tests/quant_peer
$(QUANT_PEER): $(B)/tests/tool/quant_peer.o $(B)/tests/quant_rows.o $(LIB)
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)

# A stand-in for NVIDIA's driver library, in a folder of its own for LD_LIBRARY_PATH. What it takes of the
# library is compiled for it: as a shared object must be, and without a sanitizer, as a driver is; so programs with
# a sanitizer take the stand-ins of those without. A static program opens none.
STUB_B := $(PLAIN_B)
CFLAGS_STUB = $(CFLAGS_PLAIN) -fPIC
STUB_CUDA := $(if $(filter Linux,$(UNAME)),$(if $(filter -static,$(LDFLAGS)),,$(STUB_B)/tests/stub/libcuda.so.1))
STUB_CUDA_SRC := tests/stub/libcuda.c $(wildcard src/device/kernels*.c) $(addprefix src/,device/cpu_fiber.c \
                 base/error.c base/mem.c base/str.c tensor/dtype.c kernel/nn_ref.c)
STUB_KERNELS := $(STUB_B)/device/cpu_kernels.o
-include $(STUB_KERNELS:.o=.d)
$(STUB_B)/tests/stub/libcuda.so.1: $(STUB_CUDA_SRC) $(STUB_KERNELS) $(wildcard src/device/*.h src/device/*.def src/device/kern/*)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_STUB) -shared -Wl,-soname,libcuda.so.1 -Wl,--no-undefined -o $@ $(STUB_CUDA_SRC) $(STUB_KERNELS) -lm -lpthread
# NCCL's stands beside it.
STUB_NCCL := $(if $(STUB_CUDA),$(STUB_B)/tests/stub/libnccl.so.2)
$(STUB_B)/tests/stub/libnccl.so.2: tests/stub/libnccl.c $(STUB_CUDA) src/device/cuda_driver.h
	$(Q)$(CC) $(CFLAGS_STUB) -shared -Wl,-soname,libnccl.so.2 -o $@ tests/stub/libnccl.c $(STUB_CUDA)
$(B)/tests/test_device_cuda $(B)/tests/test_device_model $(B)/tests/test_device_shift $(B)/tests/test_windows: | $(STUB_CUDA) $(STUB_NCCL)
# A stand-in for Metal, which compiles the kernels' text by clang; without clang there is none.
MSL_CLANG ?= clang
STUB_METAL := $(if $(STUB_CUDA),$(if $(shell command -v $(MSL_CLANG) 2>/dev/null),$(STUB_B)/tests/metal/libmetal.so))
STUB_METAL_SRC := $(wildcard tests/metal/*.c) $(addprefix src/,device/cpu_fiber.c base/error.c base/mem.c base/str.c base/os.c)
$(STUB_B)/tests/metal/libmetal.so: $(STUB_METAL_SRC) $(wildcard tests/metal/*.h src/device/*.h src/device/*.def)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_STUB) -DLB_MSL_COMPILER='"$(abspath tests/metal/mslcc.sh)"' -DLB_MSL_CACHE='"$(abspath $(@D))/msl"' \
	    -DLB_MSL_TARGET='"$(if $(filter-out $(shell uname -m),$(ARCH)),$(ARCH)-linux-gnu)"' -shared -Wl,--no-undefined -o $@ $(STUB_METAL_SRC) -lm -lpthread -ldl
$(B)/tests/test_device_metal: | $(STUB_METAL)
# What runs a program for macOS on 64-bit Arm under Linux. Libraries that the stand-in opens find C's in it.
MACHO_RUN := $(B)/tests/macho/run
$(MACHO_RUN): $(wildcard tests/macho/*.c tests/macho/*.h)
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out $(SAN_FLAGS),$(CFLAGS_ALL)) -Wl,--no-as-needed -o $@ $(wildcard tests/macho/*.c) -lm -lpthread -ldl
.PHONY: macho-run
macho-run: $(MACHO_RUN) $(STUB_METAL)

CLI_TESTS := $(wildcard tests/cli/*.sh)
PEER_TESTS := $(wildcard tests/peers/peer_*.py)
PROGRAMS := $(UNIT) $(CHECKKERN) $(FUZZ)
RUN := LB_TEST_STUB_CUDA=$(abspath $(STUB_CUDA)) LB_TEST_STUB_METAL=$(abspath $(STUB_METAL)) LBRX=$(abspath $(B)/lbrx) MAKE_MODEL=$(abspath $(MAKE_MODEL)) HUB_SERVER=$(abspath $(HUB_SERVER)) QUANT_PEER=$(abspath $(QUANT_PEER)) QUANTIZE=$(abspath $(QUANTIZE)) IMATRIX_DUMP=$(abspath $(IMATRIX_DUMP)) MERGE_OUTLINE=$(abspath $(MERGE_OUTLINE)) ENCODE=$(abspath $(ENCODE)) LOGITS=$(abspath $(LOGITS)) SHIFT=$(abspath $(SHIFT)) TEMPLATE=$(abspath $(TEMPLATE)) RECIPE=$(abspath $(RECIPE)) MLX_RECIPE=$(abspath $(MLX_RECIPE)) SAMPLE=$(abspath $(SAMPLE)) SCHEMA=$(abspath $(SCHEMA)) PTY=$(abspath $(PTY)) LB_TEST_GOLDEN=$(abspath tests/golden) LB_TEST_FUZZ=$(abspath tests/fuzz) sh tests/run.sh

.PHONY: tests test unit objects threads check checkkern fuzz long bench docs
tests: $(PROGRAMS) $(STUB_CUDA) $(STUB_NCCL) $(STUB_METAL) $(MAKE_MODEL) $(HUB_SERVER) $(QUANT_PEER) $(QUANTIZE) $(IMATRIX_DUMP) $(MERGE_OUTLINE) $(ENCODE) $(LOGITS) $(SHIFT) $(TEMPLATE) $(RECIPE) $(MLX_RECIPE) $(SAMPLE) $(SCHEMA) $(PTY) $(B)/lbrx
test: tests
	@$(RUN) $(CHECKKERN) $(UNIT) $(FUZZ) $(CLI_TESTS) $(PEER_TESTS)
unit: $(UNIT)
# Everything compiled and nothing linked: for what another compiler has to say. SEEN=fuzz: without what clang compiles
# with the same warnings for the fuzzers (`make SIMD=no fuzz`).
SIMD_OF := $(foreach isa,avx2 avxvnni avx512 avx512vnni avx512vbmi neon dotprod i8mm,%_$(isa).c)
ifeq ($(SEEN),fuzz)
SEEN_SRC := $(filter-out $(filter $(PLAIN_fuzz),$(filter-out src/model/logprob.c,$(SRC))) $(SIMD_OF) \
            $(shell grep -l LB_NO_SIMD $(SRC)) src/cli/main.c,$(SRC))
SEEN_OBJ := $(SEEN_SRC:src/%.c=$(B)/%.o) $(FUZZ:$(B)/tests/%=$(B)/tests/fuzz/%.o)
endif
objects: $(filter-out $(SEEN_OBJ),$(OBJ) $(UNIT:%=%.o) $(UNIT_COMMON) $(B)/tests/runner.o $(FAULT_OBJ) $(KERN_OBJ) \
         $(FUZZ_OBJ) $(TOOL_OBJ))
# What the thread sanitizer is for: the engine, the sink, the pools, the descriptors.
THREADS := $(filter $(B)/tests/test_plan% $(B)/tests/test_sink% $(B)/tests/test_pool% $(B)/tests/test_fds% $(B)/tests/test_thread% $(B)/tests/test_fault% $(B)/tests/test_team%,$(UNIT))
threads: $(THREADS)
test-threads: threads
	@$(RUN) $(THREADS)
# Parsers, for valgrind (set VALGRIND to its command line in the environment of run.sh).
PARSERS := json cur gguf safetensors st folder yaml meta
test-parsers: $(filter $(foreach p,$(PARSERS),$(B)/tests/test_$(p)%),$(UNIT))
	@LB_TEST_NO_TIMING=1 RUNNER="valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite" $(RUN) $^
# On an emulator: the programs that could be linked without the foreign libraries (make -k unit).
# An emulator's own memory would be counted by the test of the budgets: it is left out there, and so
# are calls of the system that fail, which are the host's, and what opens a driver's library, which a static
# program cannot.
test-linked: $(CHECKKERN)
	@[ -n "$(wildcard $(UNIT))" ] || { echo 'test-linked: no program could be linked' >&2; exit 1; }
	@$(RUN) $(CHECKKERN) $(filter-out %/test_plan_figures %/test_device_cuda %/test_device_metal $(FAULT),$(wildcard $(UNIT)))
# One program: make t-<name> runs tests/unit/test_<name>.c, c-<name> tests/cli/<name>.sh
t-%: $(B)/tests/test_%
	LB_TEST_STUB_CUDA=$(abspath $(STUB_CUDA)) LB_TEST_STUB_METAL=$(abspath $(STUB_METAL)) $<
c-%: $(B)/lbrx $(STUB_CUDA) $(STUB_NCCL) $(STUB_METAL) $(MAKE_MODEL) $(HUB_SERVER) $(LOGITS) $(SHIFT) $(SCHEMA) $(PTY)
	LB_TEST_STUB_CUDA=$(abspath $(STUB_CUDA)) LB_TEST_STUB_METAL=$(abspath $(STUB_METAL)) LBRX=$(abspath $<) MAKE_MODEL=$(abspath $(MAKE_MODEL)) HUB_SERVER=$(abspath $(HUB_SERVER)) sh tests/cli/$*.sh

check: $(B)/lbrx
	@sh tools/check.sh $(B)/lbrx
# The whole library for the machines that releases are made for, where ziglang is at hand.
.PHONY: check-targets
check-targets:
	@sh tools/release.sh --check
checkkern: $(B)/checkkern
	$< --long
# The NEON kernels on another machine: a static cross build, run by qemu's user mode.
ARM_CC ?= aarch64-linux-gnu-gcc
QEMU_ARM ?= qemu-aarch64-static
.PHONY: checkkern-arm
checkkern-arm:
	@$(MAKE) --no-print-directory CC=$(ARM_CC) CFLAGS=-static LDFLAGS=-static build/$(ARM_CC)/checkkern
	$(QEMU_ARM) build/$(ARM_CC)/checkkern $(KERNFLAGS)
T ?= 60
FUZZ_B := build/clang-fuzz$(if $(filter no,$(SIMD)),-scalar)
fuzz:
	@$(MAKE) --no-print-directory CC=clang SAN=fuzz PLAIN_CC=$(CC) fuzzers
	@T=$(T) RUNS=$(RUNS) sh tests/fuzz.sh $(or $(P:%=$(FUZZ_B)/tests/fuzz_%),$(FUZZ_NAMES:%=$(FUZZ_B)/tests/fuzz_%))
.PHONY: fuzzers fuzzers-carry test-threads test-parsers test-linked
fuzzers: $(FUZZ)
# For many executions on another machine: without the guidance by comparisons, which costs a third
# of the time, and without debug information; build/fuzzers.tar.gz goes there and tests/fuzz.sh runs
# build/fuzzers/fuzz_*.
fuzzers-carry:
	@$(MAKE) --no-print-directory CC=clang SAN=fuzz PLAIN_CC=$(CC) B=build/clang-fuzz-carry CFLAGS=-fno-sanitize-coverage=trace-cmp fuzzers
	@mkdir -p build/fuzzers
	$(Q)for f in $(FUZZ_NAMES); do strip -g -o build/fuzzers/fuzz_$$f build/clang-fuzz-carry/tests/fuzz_$$f || exit 1; done
	$(Q)tar -C build -czf build/fuzzers.tar.gz fuzzers
long: all
	$(if $(CHECKKERN),$(MAKE) checkkern)
	$(MAKE) fuzz T=0 RUNS=20000000
	LB_TEST_LONG=1 $(MAKE) test
bench: $(B)/lbrx $(CHECKKERN)
	$(if $(CHECKKERN),$(CHECKKERN) --bench)
	for b in bench/*.sh; do [ ! -f $$b ] || LBRX=$(abspath $(B)/lbrx) sh $$b; done
docs: $(B)/lbrx
	$(B)/lbrx help --format=md >docs/cli.md
	$(B)/lbrx help --format=man >docs/lbrx.1
	python3 tools/metal_roofline.py

-include $(wildcard $(B)/tests/*.d $(B)/tests/kern/*.d $(B)/tests/fuzz/*.d $(B)/tests/fault/*.d $(B)/tests/tool/*.d)
