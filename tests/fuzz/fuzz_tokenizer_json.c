/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer_json.c: any bytes as a tokenizer.json: read, named, encoded with, cut to a
 * skeleton and written again. What is written must read as the same vocabulary and merges. */
#include "base/base.h"
#include "text/hf_encode.h"
#include "text/hf_write.h"
#include "text/pre.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool collect(void *ctx, lb_str text) {
    lb_buf_put_str(ctx, text);
    return true;
}

static bool same_tokenizer(const lb_hf_tok *a, const lb_hf_tok *b) {
    if (a->n_ids != b->n_ids || a->n_merges != b->n_merges || a->n_added != b->n_added)
        return false;
    for (u64 i = 0; i < a->n_ids; i++)
        if (!a->token[i].ptr != !b->token[i].ptr || !lb_str_eq(a->token[i], b->token[i]))
            return false;
    for (u64 i = 0; i < 2 * a->n_merges; i++)
        if (!lb_str_eq(a->merge[i], b->merge[i]))
            return false;
    return true;
}

static void write_again(const lb_hf_tok *t, lb_str text, lb_arena *arena) {
    lb_buf out = {0};
    lb_hf_tok again;
    lb_hf_parts p = {
        .token = t->token, .n_ids = t->n_ids, .merge = t->merge, .n_merges = t->n_merges};
    lb_hf_sink sink = {collect, &out};
    if (t->kind == LB_HF_UNIGRAM)
        return;
    /* What the reader took the writer takes; only a lone surrogate is no UTF-8 and must be escaped.
     */
    p.ascii = true;
    LB_ASSERT(lb_hf_skeleton(t, text, arena, &p.skeleton, NULL) == LB_OK);
    LB_ASSERT(lb_hf_write(&p, &sink, NULL) == LB_OK);
    LB_ASSERT(lb_hf_tok_parse(&again, lb_buf_str(&out), "again", arena, NULL) == LB_OK);
    LB_ASSERT(same_tokenizer(t, &again));
    lb_hf_tok_deinit(&again);
    lb_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lb_str sample = LB_STR(" We've 123 <|x|>\n\n\t caf\xc3\xa9 e\xcc\x81 \xe4\xbb\x8a");
    lb_arena arena = {.max_bytes = 256 * LB_MIB};
    lb_str text = {(const char *)data, size};
    lb_hf_tok t;
    lb_hf_enc e;
    lb_buf ids = {0};
    lb_err err = {0};
    if (lb_hf_tok_parse(&t, text, "fuzz", &arena, &err) == LB_OK) {
        lb_pre_found pre;
        write_again(&t, text, &arena);
        (void)lb_pre_detect(&t, lb_json_get(t.rest, "config"), &pre, &err);
        if (lb_hf_enc_init(&e, &t, &err) == LB_OK) {
            (void)lb_hf_encode(&e, sample, true, &ids, &err);
            lb_hf_enc_deinit(&e);
        }
        lb_hf_tok_deinit(&t);
    }
    lb_buf_deinit(&ids);
    lb_arena_deinit(&arena);
    return 0;
}
