/* SPDX-License-Identifier: Apache-2.0 */
/* tok_job.c: what the ways of tok_to_gguf.c have in common. */
#include "text/tok_job.h"
#include <stdio.h>

/* 16 times the largest vocabulary there is (2026). */
#define VOCAB_MAX ((u64)1 << 22)
#define PIECE_SPACE "\xe2\x96\x81" /* U+2581, SentencePiece's space */

lb_status lb_tok_no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer: out of memory");
}

lb_status lb_tok_make_arrays(lb_tok_job *j, u64 n, bool scores, lb_err *err) {
    if (n > VOCAB_MAX)
        return lb_fail(err, LB_E_LIMIT, "a vocabulary of %llu tokens: at most %llu are taken",
                       (unsigned long long)n, (unsigned long long)VOCAB_MAX);
    j->n = n;
    LB_TRY(lb_texts_resize(&j->tokens, n, err));
    j->types = lb_arena_new(&j->f->arena, i32, n);
    j->scores = scores ? lb_arena_new(&j->f->arena, float, n) : NULL;
    if (n && (!j->types || (scores && !j->scores)))
        return lb_tok_no_memory(err);
    return LB_OK;
}

lb_status lb_tok_pad(lb_tok_job *j, u64 id, lb_err *err) {
    char text[32];
    (void)snprintf(text, sizeof text, "[PAD%llu]", (unsigned long long)id);
    return lb_tok_set(j, id, lb_str_c(text), LB_SPM_UNUSED, err);
}

lb_status lb_tok_set(lb_tok_job *j, u64 id, lb_str text, i32 type, lb_err *err) {
    j->types[id] = type;
    return lb_texts_set(&j->tokens, id, text, err);
}

/* Added tokens that the reference holds to be control tokens though they are not marked special. */
bool lb_tok_looks_special(lb_str t) {
    static const char *const names[] = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
    static const struct {
        const char *begin, *end;
    } frames[] = {{"<|", "|>"}, {"<\xef\xbd\x9c", "\xef\xbd\x9c>"}, {"<unused", ">"}};
    for (u32 i = 0; i < LB_LEN(names); i++)
        if (lb_str_eq_c(t, names[i]))
            return true;
    for (u32 i = 0; i < LB_LEN(frames); i++)
        if (lb_str_starts(t, lb_str_c(frames[i].begin)) && lb_str_ends(t, lb_str_c(frames[i].end)))
            return true;
    return false;
}

/* U+2581 -> space: user-defined tokens are matched in text as it comes. */
lb_status lb_tok_with_spaces(lb_tok_job *j, lb_str t, lb_str *out, lb_err *err) {
    size_t pos;
    *out = t;
    if (!lb_str_find(t, LB_STR(PIECE_SPACE), &pos))
        return LB_OK;
    lb_buf b = {0};
    for (size_t i = 0; i < t.len;) {
        if (lb_str_starts(lb_str_sub(t, i, t.len), LB_STR(PIECE_SPACE))) {
            lb_buf_put_u8(&b, ' ');
            i += sizeof PIECE_SPACE - 1;
        } else {
            lb_buf_put_u8(&b, (u8)t.ptr[i++]);
        }
    }
    lb_status st = lb_buf_status(&b, err);
    if (st == LB_OK) {
        *out = lb_arena_str(&j->f->arena, lb_buf_str(&b));
        if (!out->ptr)
            st = lb_tok_no_memory(err);
    }
    lb_buf_deinit(&b);
    return st;
}

/* llama.cpp opens no file where two tokens have one text, or where one is not UTF-8 (JSON's escapes
 * can name half a character). An empty text gets a name of its own there. */
static lb_status check_texts(const lb_texts *tokens, lb_err *err) {
    lb_texts_index seen = {0};
    lb_status st = LB_OK;
    for (u64 i = 0; i < tokens->n && st == LB_OK; i++) {
        lb_str t = lb_texts_get(tokens, i);
        u64 first = i;
        if (!lb_str_is_utf8(t))
            st = lb_fail(err, LB_E_FORMAT, "token %llu of the tokenizer is not UTF-8",
                         (unsigned long long)i);
        else if (t.len)
            st = lb_texts_index_put(&seen, tokens, i, &first, err);
        if (st == LB_OK && first != i)
            st =
                lb_fail(err, LB_E_FORMAT, "tokens %llu and %llu of the tokenizer are both \"%.*s\"",
                        (unsigned long long)first, (unsigned long long)i,
                        (int)LB_MIN(t.len, (size_t)80), t.ptr);
    }
    lb_texts_index_deinit(&seen);
    return st;
}

lb_status lb_tok_put_vocab(lb_tok_job *j, const char *model, lb_str pre, lb_err *err) {
    lb_gguf_meta *m = j->meta;
    LB_TRY(lb_meta_set_str(m, "tokenizer.ggml.model", lb_str_c(model), err));
    if (pre.ptr)
        LB_TRY(lb_meta_set_str(m, "tokenizer.ggml.pre", pre, err));
    if (j->n == 0)
        return lb_fail(err, LB_E_FORMAT, "the vocabulary is empty");
    LB_TRY(check_texts(&j->tokens, err));
    LB_TRY(lb_meta_set_texts(m, "tokenizer.ggml.tokens", &j->tokens, err));
    if (j->scores)
        LB_TRY(lb_meta_set_array(m, "tokenizer.ggml.scores", LB_GGUF_F32, j->n, j->scores, err));
    LB_TRY(lb_meta_set_array(m, "tokenizer.ggml.token_type", LB_GGUF_I32, j->n, j->types, err));
    j->info.kind = model;
    j->info.n_tokens = j->n;
    return LB_OK;
}

lb_str lb_tok_pre(lb_tok_job *j, lb_str otherwise, const char *how) {
    j->info.pre = j->opts->pre.len ? "given" : how;
    return j->opts->pre.len ? j->opts->pre : otherwise;
}

static bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool lb_tok_is_byte(lb_str t) {
    return t.len == 6 && memcmp(t.ptr, "<0x", 3) == 0 && is_hex(t.ptr[3]) && is_hex(t.ptr[4]) &&
           t.ptr[5] == '>';
}
