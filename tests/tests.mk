# Tests: every tests/unit/test_*.c is one program; checkkern is tests/kern/*.c; fuzzers tests/fuzz/fuzz_*.c.
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))
UNIT_COMMON := $(patsubst tests/unit/%.c,$(B)/tests/%.o,$(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c)))
CFLAGS_TEST := -Itests
$(B)/tests/%.o: tests/unit/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(CFLAGS_TEST) -MMD -MP -c $< -o $@
$(B)/tests/runner.o: tests/test.c tests/test.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(CFLAGS_TEST) -c $< -o $@
$(UNIT): $(B)/tests/%: $(B)/tests/%.o $(B)/tests/runner.o $(UNIT_COMMON) $(LIB)
	$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)
.PRECIOUS: $(B)/tests/%.o

KERN_SRC := $(wildcard tests/kern/*.c)
KERN_DEP := $(patsubst src/%.c,$(B)/%.o,$(filter src/kernel/%,$(SRC))) $(B)/base/cpu.o $(B)/base/error.o $(B)/tensor/dtype.o
$(B)/tests/kern/%.o: tests/kern/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(CFLAGS_TEST) -MMD -MP -c $< -o $@
$(B)/checkkern: $(patsubst tests/kern/%.c,$(B)/tests/kern/%.o,$(KERN_SRC)) $(KERN_DEP)
	$(CC) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $^ -lm

.PHONY: unit
unit: $(UNIT)
# One program: make t-<name> runs tests/unit/test_<name>.c
t-%: $(B)/tests/test_%
	$<
-include $(wildcard $(B)/tests/*.d $(B)/tests/kern/*.d)
