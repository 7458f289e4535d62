/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer_json.c: any bytes as a tokenizer.json: read, named, encoded with, cut to a
 * skeleton and written again, its decoder fed token by token. What is written must read as the same
 * vocabulary and merges; what a decoder gives must be whole characters. */
#include "base/base.h"
#include "text/decode_steps.h"
#include "text/hf_encode.h"
#include "text/hf_write.h"
#include "text/pre.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same_text(lb_str a, lb_str b) {
    return !a.ptr == !b.ptr && lb_str_eq(a, b);
}

static bool same_tokenizer(const lb_hf_tok *a, const lb_hf_tok *b) {
    if (a->n_ids != b->n_ids || a->n_merges != b->n_merges || a->n_added != b->n_added)
        return false;
    for (u64 i = 0; i < a->n_ids; i++)
        if (!same_text(lb_texts_get(&a->token, i), lb_texts_get(&b->token, i)))
            return false;
    for (u64 i = 0; i < 2 * a->n_merges; i++)
        if (!lb_str_eq(lb_hf_tok_part(a, i / 2, i % 2), lb_hf_tok_part(b, i / 2, i % 2)))
            return false;
    return true;
}

static void write_again(const lb_hf_tok *t, lb_arena *arena) {
    lb_buf text = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &text};
    lb_hf_tok again;
    lb_hf_tok_iter it;
    if (t->kind == LB_HF_UNIGRAM)
        return;
    /* What the reader took the writer takes; only a lone surrogate is no UTF-8 and must be escaped.
     */
    lb_hf_parts p = {.skeleton = t->skeleton,
                     .ascii = true,
                     .token = &t->token,
                     .merges = lb_hf_tok_merges(&it, t)};
    LB_ASSERT(lb_hf_write(&p, &out, NULL) == LB_OK);
    LB_ASSERT(lb_out_end(&out, NULL) == LB_OK);
    LB_ASSERT(lb_hf_tok_parse(&again, lb_buf_str(&text), "again", arena, NULL) == LB_OK);
    LB_ASSERT(same_tokenizer(t, &again));
    lb_hf_tok_deinit(&again);
    lb_buf_deinit(&text);
}

static void decode(const lb_hf_tok *t, lb_err *err) {
    lb_decode_steps *steps = NULL;
    lb_decode_run run;
    lb_buf out = {0};
    if (lb_decode_steps_new(&steps, lb_json_get(t->rest, "decoder"), err) != LB_OK)
        return;
    lb_decode_run_begin(&run, steps);
    lb_status st = LB_OK;
    for (u64 i = 0; i < LB_MIN(t->n_ids, (u64)300) && st == LB_OK; i++) {
        lb_str token = lb_texts_get(&t->token, i);
        if (!token.ptr || !lb_str_is_utf8(token))
            continue;
        st = lb_decode_run_put(&run, token, &out, err);
        LB_ASSERT(lb_str_is_utf8(lb_buf_str(&out)));
    }
    if (st == LB_OK)
        st = lb_decode_run_end(&run, &out, err);
    LB_ASSERT(st != LB_OK || lb_str_is_utf8(lb_buf_str(&out)));
    lb_decode_run_deinit(&run);
    lb_decode_steps_free(&steps);
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
        write_again(&t, &arena);
        (void)lb_pre_detect(&t, lb_json_get(t.rest, "config"), &pre, &err);
        if (lb_hf_enc_init(&e, &t, &err) == LB_OK) {
            (void)lb_hf_encode(&e, sample, true, &ids, &err);
            lb_hf_enc_deinit(&e);
        }
        decode(&t, &err);
        lb_hf_tok_deinit(&t);
    }
    lb_buf_deinit(&ids);
    lb_arena_deinit(&arena);
    return 0;
}
