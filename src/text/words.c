/* SPDX-License-Identifier: Apache-2.0 */
/* words.c: see words.h. */
#include "text/words.h"

#include "text/bpe.h"

lb_status lb_words_init(lb_words *w, const lb_hf_tok *tok, lb_err *err) {
    lb_str unk = tok->kind == LB_HF_WORDPIECE ? LB_STR("[UNK]") : LB_STR("<unk>");
    u64 id;
    *w = (lb_words){.tok = tok, .unk = LB_NO_TOKEN, .prefix = LB_STR("##"), .chars_max = 100};
    if (tok->kind != LB_HF_WORDPIECE && tok->kind != LB_HF_WORDLEVEL)
        return lb_fail(err, LB_E_UNSUPPORTED, "the model is no WordPiece");
    (void)lb_json_as_str(lb_json_get(tok->model, "unk_token"), &unk);
    (void)lb_json_as_str(lb_json_get(tok->model, "continuing_subword_prefix"), &w->prefix);
    (void)lb_json_as_u64(lb_json_get(tok->model, "max_input_chars_per_word"), &w->chars_max);
    if (lb_texts_index_find(&tok->id_of, &tok->token, unk, &id))
        w->unk = (u32)id;
    for (u64 i = 0; i < tok->n_ids; i++)
        if (lb_texts_has(&tok->token, i))
            w->longest = LB_MAX(w->longest, lb_texts_get(&tok->token, i).len);
    return LB_OK;
}

static bool find(const lb_words *w, lb_str text, u64 *id) {
    return text.len <= w->longest && lb_texts_index_find(&w->tok->id_of, &w->tok->token, text, id);
}

static lb_status unknown(const lb_words *w, lb_buf *ids, lb_err *err) {
    if (w->unk == LB_NO_TOKEN)
        return lb_fail(err, LB_E_FORMAT,
                       "a word that the vocabulary has not, and model.unk_token names no token");
    lb_buf_put_u32(ids, w->unk);
    return lb_buf_status(ids, err);
}

static size_t count_chars(lb_str t) {
    size_t n = 0;
    for (size_t i = 0; i < t.len; i++)
        n += ((u8)t.ptr[i] & 0xc0) != 0x80;
    return n;
}

/* The longest token at word[from], as the vocabulary writes it there; false: none. */
static bool longest(const lb_words *w, lb_buf *scratch, lb_str word, size_t from, size_t *end,
                    u64 *id) {
    lb_buf_reset(scratch);
    if (from)
        lb_buf_put_str(scratch, w->prefix);
    size_t head = scratch->len;
    lb_buf_put_str(scratch, lb_str_sub(word, from, LB_MIN(word.len, from + w->longest + 4)));
    if (scratch->oom)
        return false;
    size_t n = LB_MIN(word.len - from, w->longest);
    for (; n; n--) {
        bool inside = from + n < word.len && ((u8)word.ptr[from + n] & 0xc0) == 0x80;
        if (!inside && find(w, (lb_str){(const char *)scratch->ptr, head + n}, id)) {
            *end = from + n;
            return true;
        }
    }
    return false;
}

lb_status lb_words_encode(const lb_words *w, lb_buf *scratch, lb_str word, lb_buf *ids,
                          lb_err *err) {
    u64 id;
    if (!word.len)
        return LB_OK;
    if (w->tok->kind == LB_HF_WORDLEVEL) {
        if (!find(w, word, &id))
            return unknown(w, ids, err);
        lb_buf_put_u32(ids, (u32)id);
        return lb_buf_status(ids, err);
    }
    size_t before = ids->len;
    if (count_chars(word) > w->chars_max)
        return unknown(w, ids, err);
    for (size_t from = 0; from < word.len;) {
        if (!longest(w, scratch, word, from, &from, &id)) {
            LB_TRY(lb_buf_status(scratch, err));
            ids->len = before;
            return unknown(w, ids, err);
        }
        lb_buf_put_u32(ids, (u32)id);
    }
    return lb_buf_status(ids, err);
}
