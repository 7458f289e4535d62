/* SPDX-License-Identifier: Apache-2.0 */
/* token_set.c: see token_set.h. Roles: those of the files, else of the class that transformers
 * opens them with; of two roles of one token the first of the list. */
#include "text/token_set.h"
#include "format/gguf_meta.h"
#include "text/bytelevel.h"
#include "text/norm.h"
#include "text/spm.h"
#include "text/tok_rebuild.h"
#include "text/tok_folder.h"
#include "text/tokdata.h"
#include <stdio.h>

#define MARK_BYTES "\xc4\xa0"     /* U+0120, a space in the alphabet of bytes */
#define MARK_PIECE "\xe2\x96\x81" /* U+2581 */

static const char *const roles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};

void lb_token_set_deinit(lb_token_set *t) {
    lb_texts_deinit(&t->key);
    lb_texts_deinit(&t->text);
    lb_texts_index_deinit(&t->id_of);
    lb_buf_deinit(&t->added);
    *t = (lb_token_set){0};
}

/* ---- one token ---- */

lb_status lb_token_set_put(lb_token_set *t, const lb_token *k, lb_err *err) {
    bool is_new = !lb_texts_has(&t->text, k->id);
    LB_TRY(lb_texts_set(&t->text, k->id, k->text, err));
    if (k->role) { /* until the keys are made, only those of roles are there */
        char key[32];
        (void)snprintf(key, sizeof key, "%c%s", LB_TOKEN_ROLE, k->role);
        LB_TRY(lb_texts_set(&t->key, k->id, lb_str_c(key), err));
    }
    t->n_tokens += is_new;
    t->n_ids = LB_MAX(t->n_ids, k->id + 1);
    if (t->added.len < t->n_ids)
        lb_buf_put_zeros(&t->added, (size_t)(t->n_ids - t->added.len));
    LB_TRY(lb_buf_status(&t->added, err));
    t->added.ptr[k->id] |= k->added;
    return LB_OK;
}

/* Which mark the vocabulary has: the more frequent one; without any the bytes'. */
static lb_str mark_of(const lb_token_set *t) {
    u64 n_bytes = 0, n_pieces = 0;
    for (u64 i = 0; i < t->n_ids; i++) {
        lb_str s = lb_texts_get(&t->text, i);
        n_bytes += s.ptr && lb_str_starts(s, LB_STR(MARK_BYTES));
        n_pieces += s.ptr && lb_str_starts(s, LB_STR(MARK_PIECE));
    }
    return n_pieces > n_bytes ? LB_STR(MARK_PIECE) : LB_STR(MARK_BYTES);
}

static lb_status put_key(lb_token_set *t, u64 id, char kind, lb_str rest, lb_err *err) {
    lb_buf b = {0};
    lb_buf_put_u8(&b, (u8)kind);
    lb_buf_put_str(&b, rest);
    lb_status st = lb_buf_status(&b, err);
    if (st == LB_OK)
        st = lb_texts_set(&t->key, id, lb_buf_str(&b), err);
    lb_buf_deinit(&b);
    return st;
}

lb_status lb_token_set_finish(lb_token_set *t, lb_err *err) {
    lb_str mark = mark_of(t);
    t->byte_level = lb_str_eq_c(mark, MARK_BYTES);
    LB_TRY(lb_texts_resize(&t->key, t->n_ids, err));
    for (u64 i = 0; i < t->n_ids; i++) {
        lb_str s = lb_texts_get(&t->text, i);
        if (!s.ptr)
            continue;
        if (lb_str_starts(s, mark))
            LB_TRY(put_key(t, i, LB_TOKEN_WORD, lb_str_sub(s, mark.len, s.len), err));
        else if (!lb_texts_has(&t->key, i))
            LB_TRY(put_key(t, i, LB_TOKEN_PLAIN, s, err));
        LB_TRY(lb_texts_index_put(&t->id_of, &t->key, i, NULL, err));
    }
    return LB_OK;
}

/* ---- Hugging Face's files ---- */

static const char *role_of(const lb_str *texts, lb_str text) {
    for (u32 i = 0; i < LB_LEN(roles); i++)
        if (texts[i].ptr && lb_str_eq(texts[i], text))
            return roles[i];
    return NULL;
}

static lb_status read_roles(lb_tok_folder *f, lb_str *texts, lb_err *err) {
    const lb_tok_default *d = lb_tok_class_defaults(f);
    lb_json *map;
    LB_TRY(lb_tok_folder_map(f, &map, err));
    for (u32 i = 0; i < LB_LEN(roles); i++) {
        const lb_json *v = lb_json_get(map, roles[i]);
        v = v ? v : lb_json_get(f->tok_config, roles[i]);
        texts[i] = LB_STR_NONE;
        if (v) {
            (void)lb_tok_token_text(v, &texts[i]);
            continue;
        }
        for (const lb_tok_default *k = d; k->key; k++)
            if (strcmp(k->key, roles[i]) == 0)
                texts[i] = lb_str_c(k->text);
    }
    return LB_OK;
}

static lb_status take_folder(lb_token_set *t, lb_tok_folder *f, lb_err *err) {
    lb_str texts[LB_LEN(roles)];
    const lb_hf_tok *k = &f->tok;
    LB_TRY(read_roles(f, texts, err));
    for (u64 i = 0; i < k->n_ids; i++) {
        lb_str s = lb_texts_get(&k->token, i);
        if (s.ptr)
            LB_TRY(lb_token_set_put(t, &(lb_token){.id = i, .text = s, .role = role_of(texts, s)},
                                    err));
    }
    for (u64 i = 0; i < k->n_added; i++) {
        const lb_hf_added *a = &k->added[i];
        lb_token one = {
            .id = a->id, .text = a->content, .role = role_of(texts, a->content), .added = true};
        LB_TRY(lb_token_set_put(t, &one, err));
    }
    return lb_token_set_finish(t, err);
}

/* ---- the arrays of a GGUF ---- */

static lb_status take_arrays(lb_token_set *t, const lb_tok_arrays *a, lb_err *err) {
    static const char *const keys[] = {
        "tokenizer.ggml.bos_token_id",     "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.seperator_token_id",
        "tokenizer.ggml.padding_token_id", NULL,
        "tokenizer.ggml.mask_token_id",
    };
    u64 id_of[LB_LEN(roles)];
    for (u32 i = 0; i < LB_LEN(roles); i++)
        if (!keys[i] || !lb_kv_as_u64(lb_meta_find(a->meta, keys[i]), &id_of[i]))
            id_of[i] = UINT64_MAX;
    for (u64 i = 0; i < a->n; i++) {
        lb_token one = {.id = i, .text = lb_tok_text(a, i)};
        if (lb_tok_is_padding(a, i))
            continue;
        for (u32 r = LB_LEN(roles); r-- > 0;)
            one.role = id_of[r] == i ? roles[r] : one.role;
        one.added = a->type[i] == LB_SPM_CONTROL || a->type[i] == LB_SPM_USER_DEFINED ||
                    a->type[i] == LB_SPM_UNKNOWN;
        LB_TRY(lb_token_set_put(t, &one, err));
    }
    return lb_token_set_finish(t, err);
}

static lb_status read_meta(lb_token_set *t, const lb_gguf_meta *meta, lb_err *err) {
    lb_arena arena = {0};
    lb_tok_arrays a;
    lb_status st = lb_tok_arrays_read(&a, meta, &arena, err);
    if (st == LB_OK) {
        st = take_arrays(t, &a, err);
        lb_tok_arrays_deinit(&a);
    }
    lb_arena_deinit(&arena);
    return st;
}

/* A folder without a file that lists the vocabulary as text: by way of GGUF's arrays. */
static lb_status read_other(lb_token_set *t, const lb_source *s, lb_err *err) {
    lb_tok_opts o = {.arch = LB_STR("llama"), .pre = LB_STR("default")};
    lb_arena arena = {0};
    lb_gguf_meta meta;
    lb_tok *tok = NULL;
    lb_meta_init(&meta, &arena);
    lb_status st = lb_tok_open(&tok, s, err);
    if (st == LB_OK)
        st = lb_tok_to_meta(tok, &o, &meta, NULL, err);
    if (st == LB_OK)
        st = read_meta(t, &meta, err);
    lb_tok_close(&tok);
    lb_meta_deinit(&meta);
    lb_arena_deinit(&arena);
    return st;
}

lb_status lb_token_set_read(lb_token_set *t, const lb_source *s, lb_err *err) {
    lb_tok_folder f;
    *t = (lb_token_set){0};
    if (s->gguf)
        return read_meta(t, s->gguf, err);
    LB_TRY(lb_tok_folder_open(&f, s, err));
    bool listed = lb_tok_folder_has(&f, "tokenizer.json") || lb_tok_has_legacy(&f);
    lb_status st = LB_OK;
    if (listed)
        st = lb_tok_folder_tokenizer(&f, true, err);
    if (st == LB_OK && listed)
        st = lb_tok_folder_add_configured(&f, err);
    if (st == LB_OK && listed)
        st = take_folder(t, &f, err);
    lb_tok_folder_close(&f);
    return st == LB_OK && !listed ? read_other(t, s, err) : st;
}

/* ---- looking up ---- */

u64 lb_token_find(const lb_token_set *t, lb_str key) {
    u64 id;
    return lb_texts_index_find(&t->id_of, &t->key, key, &id) ? id : LB_NO_TOKEN_ID;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* "<0xNN>" */
static bool is_byte_piece(lb_str s, u32 *byte) {
    if (s.len != 6 || !lb_str_starts(s, LB_STR("<0x")) || s.ptr[5] != '>')
        return false;
    int hi = hex_digit(s.ptr[3]), lo = hex_digit(s.ptr[4]);
    *byte = (u32)(16 * hi + lo);
    return hi >= 0 && lo >= 0;
}

static u64 find_piece(const lb_token_set *t, u32 byte) {
    char key[8];
    (void)snprintf(key, sizeof key, "%c<0x%02X>", LB_TOKEN_PLAIN, (unsigned)byte);
    return lb_token_find(t, lb_str_c(key));
}

static u64 find_char(const lb_token_set *t, u32 cp) {
    lb_buf b = {0};
    u64 id = LB_NO_TOKEN_ID;
    lb_buf_put_u8(&b, LB_TOKEN_PLAIN);
    lb_utf8_put(&b, cp);
    if (!b.oom)
        id = lb_token_find(t, lb_buf_str(&b));
    lb_buf_deinit(&b);
    return id;
}

u64 lb_token_find_byte(const lb_token_set *t, lb_str key) {
    lb_str s = lb_str_sub(key, 1, key.len);
    size_t pos = 0;
    u32 byte;
    if (key.ptr[0] != LB_TOKEN_PLAIN || !s.len)
        return LB_NO_TOKEN_ID;
    if (is_byte_piece(s, &byte))
        return find_char(t, byte);
    u32 cp = lb_utf8_next(s, &pos);
    return pos == s.len && cp < 256 ? find_piece(t, cp) : LB_NO_TOKEN_ID;
}

static bool is_blank(lb_str s) {
    for (size_t pos = 0; pos < s.len;)
        if (!lb_cp_is_space(lb_utf8_next(s, &pos)))
            return false;
    return true;
}

u64 lb_token_find_prefix(const lb_token_set *t, lb_str key, size_t *len) {
    u64 id = LB_NO_TOKEN_ID;
    if (key.ptr[0] == LB_TOKEN_ROLE)
        return id;
    for (size_t n = *len; n-- > 2 && id == LB_NO_TOKEN_ID;) {
        if (((u8)key.ptr[n] & 0xc0) == 0x80) /* inside a character */
            continue;
        lb_str prefix = lb_str_sub(key, 0, n);
        if (is_blank(lb_str_sub(prefix, 1, n)))
            break;
        id = lb_token_find(t, prefix);
        *len = n;
    }
    return id;
}

/* ---- as text ---- */

static lb_status piece_bytes(lb_str s, lb_buf *out, lb_err *err) {
    lb_str space = LB_STR(MARK_PIECE);
    u32 byte;
    if (is_byte_piece(s, &byte)) {
        lb_buf_put_u8(out, (u8)byte);
        return lb_buf_status(out, err);
    }
    for (size_t i = 0; i < s.len;) {
        bool blank = lb_str_starts(lb_str_sub(s, i, s.len), space);
        lb_buf_put_u8(out, blank ? ' ' : (u8)s.ptr[i]);
        i += blank ? space.len : 1;
    }
    return lb_buf_status(out, err);
}

lb_status lb_token_bytes(const lb_token_set *t, u64 id, lb_buf *out, lb_err *err) {
    lb_str s = lb_texts_get(&t->text, id);
    size_t before = out->len;
    if (t->added.ptr[id]) {
        lb_buf_put_str(out, s);
        return lb_buf_status(out, err);
    }
    if (!t->byte_level)
        return piece_bytes(s, out, err);
    if (!lb_bytelevel_decode(out, s)) { /* in no alphabet: it stands for itself */
        out->len = before;
        lb_buf_put_str(out, s);
    }
    return lb_buf_status(out, err);
}

u64 lb_token_of_byte(const lb_token_set *t, u8 byte) {
    u64 id = t->byte_level ? find_char(t, lb_bytelevel_char(byte)) : find_piece(t, byte);
    if (t->byte_level && byte == ' ')
        id = lb_token_find(t, LB_STR("w")); /* the mark alone */
    return id != LB_NO_TOKEN_ID || byte >= 128 ? id : find_char(t, byte);
}
