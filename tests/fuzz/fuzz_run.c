/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_run.c: a GGUF file that is opened, loaded and run for some tokens: sizes in metadata and
 * tensors that contradict each other, tables that are too short, experts and groups that are not
 * there. Checked: no crash, and a refusal has a message. */
#include "base/mem.h"
#include "isa.h"
#include "ops/load.h"
#include "ops/open.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY ((u64)256 << 20)

static void expect_message(lb_status st, const lb_err *err) {
    if (st != LB_OK && !err->msg[0])
        abort();
}

static void run_model(const lb_model *m) {
    static const u32 ids[] = {1, 2, 1, 3, 2};
    lb_context *c = NULL;
    lb_err err = {0};
    float *logits = NULL;
    lb_status st = lb_context_new(
        &c, m, &(lb_context_opts){.n_ctx = 8, .n_batch = 3, .threads = 1, .kv_type = LB_F16}, &err);
    expect_message(st, &err);
    if (st == LB_OK)
        logits = lb_alloc((size_t)lb_model_n_vocab(m) * sizeof *logits);
    if (logits) {
        st = lb_context_eval(c, &(lb_batch){.n = 5, .id = ids}, logits, &err);
        expect_message(st, &err);
    }
    lb_free(logits);
    lb_context_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    static lb_kernels kernels;
    char path[64];
    lb_source *s = NULL;
    lb_loaded *l = NULL;
    lb_err err = {0};
    if (fd < 0)
        fd = memfd_create("model.gguf", 0);
    lb_kernels_init(&kernels, isa_of(data, size));
    if (fd < 0 || ftruncate(fd, 0) != 0 || write(fd, data, size) != (ssize_t)size ||
        lseek(fd, 0, SEEK_SET) != 0)
        return 0;
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    lb_mem_limit(lb_mem_used() + MEMORY);
    lb_status st = lb_open(&s, path, &err);
    expect_message(st, &err);
    if (st == LB_OK) {
        st = lb_load(&l, s,
                     &(lb_load_opts){.kernels = &kernels, .threads = 1, .memory_bytes = 64 << 20},
                     &err);
        expect_message(st, &err);
    }
    if (st == LB_OK)
        run_model(lb_loaded_model(l));
    lb_loaded_free(&l);
    lb_source_close(&s);
    lb_mem_limit(0);
    return 0;
}
