/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_sentencepiece.c: any bytes as a tokenizer.model, and as a patch of one. A model that is read
 * can be told by a patch on its own pieces, byte by byte. */
#include "base/base.h"
#include "text/spm.h"
#include "text/tok_keep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void patch(const lb_spm *m, lb_str bytes, lb_arena *arena) {
    lb_gguf_meta meta;
    lb_buf made = {0}, back = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &back}, other = {0};
    lb_texts token = {0};
    lb_tok_arrays a = {.meta = &meta, .arena = arena, .model = LB_STR("llama"), .n = m->n_pieces};
    lb_meta_init(&meta, arena);
    a.token = &token;
    a.type = lb_arena_new(arena, u8, a.n);
    a.score = lb_arena_new(arena, float, a.n);
    if (a.type && a.score) {
        for (u64 i = 0; i < a.n; i++) {
            LB_ASSERT(lb_texts_add(&token, m->pieces[i].text, NULL) == LB_OK);
            a.type[i] = (u8)m->pieces[i].type;
            a.score[i] = m->pieces[i].score;
        }
        LB_ASSERT(lb_spm_patch_make(&a, bytes, &made, NULL) == LB_OK);
        LB_ASSERT(lb_spm_patch_apply(&a, lb_buf_str(&made), &out, NULL) == LB_OK);
        LB_ASSERT(lb_out_end(&out, NULL) == LB_OK);
        LB_ASSERT(lb_str_eq(lb_buf_str(&back), bytes));
        (void)lb_spm_patch_apply(&a, bytes, &other, NULL);
        (void)lb_out_end(&other, NULL);
    }
    lb_texts_deinit(&token);
    lb_buf_deinit(&made);
    lb_buf_deinit(&back);
    lb_meta_deinit(&meta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lb_arena arena = {.max_bytes = 256 * LB_MIB};
    lb_str bytes = {(const char *)data, size};
    lb_spm m;
    lb_err err = {0};
    if (lb_spm_parse(&m, bytes, "fuzz", &arena, &err) == LB_OK)
        patch(&m, bytes, &arena);
    lb_arena_deinit(&arena);
    return 0;
}
